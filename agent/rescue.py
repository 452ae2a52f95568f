# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""When packets were received that nobody had looked for: what can be known of it, and what cannot.

A packet's stamp is the concentrator's counter of 32 bits, which comes round every 134.2 s. Of a packet that was fetched
at once it is clear which round is meant. Of one that waited in the chip while nobody looked, because the process was
dead or stopped, two things are known: it came after the last look, and the chip stores packets in the order in which
they end. Where that leaves one moment, it is the one. Where it leaves several, none is stated: a guess would be wrong
by minutes while it claims microseconds.

The last look is noted in memory (tmpfs), so that it outlives the process. A look that succeeded is noted within
`NOTE_INTERVAL_US`; an older one is as true, it only leaves more moments open.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from agent.batch.model import UNKNOWN_BOOT
from agent.frame import Session
from drivers.sx1302.counter import DRIFT_LIMIT_PPM, JITTER_LIMIT_US, WRAP_US

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from drivers.sx1302.packet import RxPacket

logger = logging.getLogger(__name__)

UNDATED = Session(UNKNOWN_BOOT, 0)
"""Of packets whose moment cannot be told. Zero comes before all starts of the concentrator, so that nobody takes the
place of these frames in the stream for that of a boot and bounds their time by the boots around it."""
SLACK_US = 6_000_000
"""By how much stamps may be out of order: a stamp may mark the end of a header, whose packet ends seconds later."""
SURE_US = WRAP_US - 2 * SLACK_US
"""After a pause no longer than this each stamp has one meaning."""
NOTE_INTERVAL_US = 1_000_000
FILE_NAME = "radio-look.json"
_LIMIT_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Look:
    """A look into the concentrator that did not fail.

    Attributes:
        at_us: CLOCK_BOOTTIME when it began; what was not found then came later.
        zero_us: CLOCK_BOOTTIME when the chip's counter was 0, give or take whole rounds; None when it was not read.
    """

    at_us: int
    zero_us: int | None = None


class LookNote:
    """The last look of this boot, in a file that outlives the process.

    Args:
        folder: in memory; the file in it is replaced as a whole.
        boot_id: of the kernel, 16 bytes.
    """

    def __init__(self, folder: Path, boot_id: bytes) -> None:
        self._path = folder / FILE_NAME
        self._boot = boot_id.hex()
        self._failed = False

    def read(self) -> Look | None:
        """Return the last look that was noted; None when there is none of this boot, or it cannot be read."""
        try:
            with self._path.open("rb") as file:
                said = json.loads(file.read(_LIMIT_BYTES))
            if said["boot_id"] != self._boot:
                return None
            zero_us = said["zero_us"]
            return Look(int(said["at_us"]), None if zero_us is None else int(zero_us))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, LookupError, TypeError, OverflowError) as error:
            logger.warning("event=radio_look_unreadable file=%s problem=%s", self._path, error)
            return None

    def write(self, look: Look) -> None:
        """Note a look. Where that fails, packets of a long pause cannot be dated; nothing else depends on it."""
        said = {"boot_id": self._boot, "at_us": look.at_us, "zero_us": look.zero_us}
        draft = self._path.with_suffix(".new")
        try:
            draft.write_text(json.dumps(said), encoding="ascii")
            draft.replace(self._path)
        except OSError as error:
            if not self._failed:
                logger.warning("event=radio_look_not_noted file=%s problem=%s", self._path, error)
            self._failed = True
        else:
            self._failed = False


def same_run(look: Look, now: Look) -> bool:
    """Say whether the counter ran on from one look to the other, as far as can be told.

    A chip that was reset in between counts from another moment: what it received before is on no scale that is known.
    """
    if look.zero_us is None or now.zero_us is None:
        return True
    apart_us = (now.zero_us - look.zero_us + WRAP_US // 2) % WRAP_US - WRAP_US // 2
    elapsed_us = now.at_us - look.at_us + NOTE_INTERVAL_US
    return abs(apart_us) <= 2 * JITTER_LIMIT_US + elapsed_us * DRIFT_LIMIT_PPM // 1_000_000


def date(
    packets: Sequence[RxPacket], counter_us: int, now: Look, last: Look | None
) -> tuple[list[RxPacket], list[RxPacket]]:
    """Tell the packets of a fetch whose moment is known, with their counter put right, from those of which it is not.

    Args:
        packets: in the order of the chip; their counters are right but for whole rounds. One that is dated to well
            before the last look had been read then, and is taken as it is.
        counter_us: the counter, unwrapped on the scale of the packets, at the moment of `now`.
        now: this look.
        last: the one before; None when it is not known.
    """
    if last is None or not last.at_us <= now.at_us or not same_run(last, now):
        return [], list(packets)
    pause_us = now.at_us - last.at_us
    low_us = counter_us - pause_us - pause_us * DRIFT_LIMIT_PPM // 1_000_000 - SLACK_US
    earliest: list[int] = []
    after_us = low_us
    for packet in packets:
        at_us = packet.counter_us
        if at_us >= low_us:
            at_us = after_us + (at_us - after_us) % WRAP_US
            after_us = max(low_us, at_us - SLACK_US)
        earliest.append(at_us)
    latest: list[int] = []
    before_us = counter_us
    for packet in reversed(packets):
        at_us = packet.counter_us
        if at_us >= low_us:
            at_us = before_us - (before_us - at_us) % WRAP_US
            before_us = min(counter_us, at_us + SLACK_US)
        latest.append(at_us)
    sure: list[RxPacket] = []
    unsure: list[RxPacket] = []
    for packet, first_us, last_us in zip(packets, earliest, reversed(latest), strict=True):
        if first_us == last_us:
            sure.append(packet if packet.counter_us == first_us else replace(packet, counter_us=first_us))
        else:
            unsure.append(packet)
    return sure, unsure
