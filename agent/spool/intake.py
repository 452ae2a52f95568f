# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What the radio hands to the spool: frames with the destinations they are for, and the counts that go with them."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import NamedTuple

from agent.batch.model import HOUR_US, UNKNOWN_BOOT, Account
from agent.frame import Frame

MAX_DESTINATIONS = 16
"""Bits of a route."""


@dataclass(frozen=True, slots=True)
class RoutedFrame:
    """A frame and where it goes.

    Attributes:
        frame: what was received.
        route: bit i is set when the frame is for destination i, in the order of the configuration; never 0.
    """

    frame: Frame
    route: int


class Hour(NamedTuple):
    """An hour of a boot, by CLOCK_BOOTTIME: nothing is counted by a clock that can jump.

    Attributes:
        boot_id: the kernel's boot id, 16 bytes.
        hour: CLOCK_BOOTTIME divided by `HOUR_US`.
    """

    boot_id: bytes
    hour: int


UNKNOWN_HOUR = Hour(UNKNOWN_BOOT, 0)
"""What is not known by hour, or no longer."""


def hour_of(boot_id: bytes, boottime_us: int) -> Hour:
    """Return the hour of a moment."""
    return Hour(boot_id, boottime_us // HOUR_US)


class Fingerprint(NamedTuple):
    """What tells one packet of a concentrator session from all others, whatever became of it.

    Attributes:
        counter: low 32 bits of the concentrator's counter, microseconds. The upper bits are not the chip's: a process
            that takes over a running chip has to guess them.
        size: of the payload, bytes.
        checksum: CRC-32 of the payload.
    """

    counter: int
    size: int
    checksum: int


def fingerprint(counter_us: int, payload: bytes) -> Fingerprint:
    """Return the fingerprint of a packet, `counter_us` being its end by the concentrator's counter."""
    return Fingerprint(counter_us & 0xFFFFFFFF, len(payload), zlib.crc32(payload))


@dataclass(frozen=True, slots=True)
class Heard:
    """The outcome of one look at the radio: it is kept as a whole or not at all.

    Attributes:
        frames: what to store, oldest first, all of one concentrator session.
        tallies: where the packets went, one delta per destination in the order of the configuration; `heard`,
            `bad_crc`, `filtered`, `duplicate`, `spooled` and `overrun` count, `spooled` being the frames routed there.
        seen: fingerprints of every packet of this look, also of those that are only counted.
        hour: of the look, for all that is only counted. A frame counts in its own hour.
        elsewhere: tallies for destinations that are not configured any more, by name. Their frames are not here.
    """

    frames: tuple[RoutedFrame, ...]
    tallies: tuple[Account, ...]
    seen: tuple[Fingerprint, ...] = ()
    hour: Hour = UNKNOWN_HOUR
    elsewhere: tuple[tuple[str, Account], ...] = ()

    @property
    def counted_in(self) -> Hour:
        """The hour of the look; that of its first frame when nobody has told."""
        if self.hour == UNKNOWN_HOUR and self.frames:
            frame = self.frames[0].frame
            return hour_of(frame.session.boot_id, frame.boottime_us)
        return self.hour
