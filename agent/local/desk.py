# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Where the radio's thread tells what it heard, for people: counted, and shown to whoever follows."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from agent.local.feed import Feed
from agent.local.sighting import sightings
from agent.local.tally import Heard, Tally

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from agent.spool.intake import RoutedFrame
    from drivers.sx1302.packet import RxPacket

logger = logging.getLogger(__name__)


class Desk:
    """Takes receptions.

    Args:
        boottime_us: CLOCK_BOOTTIME.
    """

    def __init__(self, boottime_us: Callable[[], int]) -> None:
        self._boottime_us = boottime_us
        self._tally = Tally(boottime_us())
        self._number = 0
        self._broken = False
        self.feed = Feed()

    def take(self, packets: Sequence[RxPacket], kept: Sequence[RoutedFrame], zero_us: int) -> None:
        """Take what one look at the radio brought; called by its thread, which nothing here may hold up or end.

        Args:
            packets: oldest first.
            kept: the frames that were made of some of them, in the same order.
            zero_us: CLOCK_BOOTTIME when the concentrator's counter was 0.
        """
        if self._broken:
            return
        try:
            seen = tuple(sightings(packets, kept, zero_us, self._number + 1))
            self._number += len(packets)
            now_us = self._boottime_us()
            for one in seen:
                self._tally.take(one, now_us)
            self.feed.add(seen)
        except Exception:  # what is shown to people is not worth a frame
            self._broken = True
            logger.exception("event=desk_defect what=receptions are not shown until the next start")

    def heard(self) -> Heard:
        """Return what was heard lately; any thread may ask."""
        return self._tally.heard(self._boottime_us())
