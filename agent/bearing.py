# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What time it is now, how far that may be off, and who says so: for people; frames get their time from the anchors."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from agent.errors import AgentError
from agent.timeline import BootTimeline

if TYPE_CHECKING:
    from agent.batch.model import Anchor, TimeSource


class Clock(Protocol):
    """What is asked of `agent.clock.HostClock`."""

    def boottime_us(self) -> int:
        """Return CLOCK_BOOTTIME, microseconds."""
        ...

    def anchor(self) -> Anchor | None:
        """Return an anchor while the kernel's clock is synchronised, None otherwise."""
        ...


@dataclass(frozen=True, slots=True)
class Reading:
    """The time at one moment.

    Attributes:
        synchronised: whether the kernel calls its own clock so.
        utc_us: best estimate, microseconds since 1970-01-01; None while nobody has told.
        error_us: the true time is not farther away than this.
        source: "kernel", "gnss" or "platform": the one that bounds it best.
    """

    synchronised: bool = False
    utc_us: int | None = None
    error_us: int | None = None
    source: str | None = None


class Bearing:
    """Remembers of each source the newest anchor and the best one of this boot.

    Args:
        clock: of this host.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._newest: dict[TimeSource, Anchor] = {}
        self._best: dict[TimeSource, Anchor] = {}

    def learn(self, anchor: Anchor) -> None:
        """Take note of an anchor of this boot; any thread."""
        with self._lock:
            self._newest[anchor.source] = anchor
            best = self._best.get(anchor.source)
            if best is None or anchor.uncertainty_us <= best.uncertainty_us:
                self._best[anchor.source] = anchor

    def now(self) -> Reading:
        """Read the time."""
        try:
            kernel = self._clock.anchor()
        except AgentError:
            kernel = None
        with self._lock:
            anchors = {*self._newest.values(), *self._best.values()}
        if kernel is not None:
            anchors.add(kernel)
        found = BootTimeline(anchors).utc(self._clock.boottime_us())
        if found is None:
            return Reading()
        source = None if found.source is None else found.source.name.lower()
        return Reading(kernel is not None, found.utc_us, found.error_us, source)
