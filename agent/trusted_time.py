# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What can be relied upon about the time, on a host whose clock may be years off.

A certificate must be judged by some time, and the clock of a gateway that has just started is none: it may stand where
it stopped, or anywhere. Two things are certain. The time is not before this program was made, and not before the
latest moment that the platform has signed, plus what has passed since (CLOCK_BOOTTIME does not jump). How late it is at
most is known only while the kernel says that its clock is synchronised. So a certificate counts as expired, or as not
yet valid, when that is certain, and not because of a clock that nobody has set.

A platform whose own clock was once years ahead must not lock its gateways out: what it signs is believed only as far as
its certificate reaches, so that the next certificate is good again. Each platform has a time of its own here.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from agent import durable
from agent.batch.model import Anchor
from agent.enrolment.certificate import Validity
from agent.errors import AgentError

MADE = datetime(2026, 11, 1, tzinfo=UTC)
"""A moment before this version was made, brought forward with each release: no true clock shows less."""
FILE_NAME = "time-floor"
KEEP_EVERY_S = 86_400
"""How much later a signed moment must be to be written down: once a day does not wear a card."""
LATEST_BELIEVED = datetime(2100, 1, 1, tzinfo=UTC)

_SECOND_US = 1_000_000
_MADE_US = round(MADE.timestamp()) * _SECOND_US
_LATEST_US = round(LATEST_BELIEVED.timestamp()) * _SECOND_US

_log = logging.getLogger(__name__)


class Clock(Protocol):
    """What is asked of `agent.clock.HostClock`."""

    def boottime_us(self) -> int:
        """Return CLOCK_BOOTTIME, microseconds."""
        ...

    def anchor(self) -> Anchor | None:
        """Return an anchor while the kernel's clock is synchronised, None otherwise."""
        ...


@dataclass(frozen=True, slots=True)
class Bounds:
    """What is certain about UTC now, microseconds since 1970-01-01.

    Attributes:
        earliest_us: it is not earlier.
        latest_us: it is not later; None while nobody knows.
    """

    earliest_us: int
    latest_us: int | None = None

    def expired(self, validity: Validity) -> bool:
        """Tell whether a certificate has certainly expired."""
        return validity.not_after_us < self.earliest_us

    def not_yet_valid(self, validity: Validity) -> bool:
        """Tell whether a certificate is certainly not valid yet."""
        return self.latest_us is not None and validity.not_before_us > self.latest_us


class TrustedTime:
    """The bounds of the time, which every signed message of the platform narrows. Safe to use from several threads.

    Args:
        folder: that keeps the floor over a restart; None to keep nothing. It need not exist.
        clock: of this host.
        utc_us: CLOCK_REALTIME, believed only while the kernel calls it synchronised.
    """

    def __init__(
        self, folder: Path | None, clock: Clock, utc_us: Callable[[], int] = lambda: time.time_ns() // 1000
    ) -> None:
        self._path = None if folder is None else folder / FILE_NAME
        self._clock = clock
        self._utc_us = utc_us
        self._lock = threading.Lock()
        self._certified_us = 0
        self._kept_us = 0 if self._path is None else _read(self._path)
        # the floor when CLOCK_BOOTTIME was zero: it grows with the clock, whenever it was learnt
        self._floor_at_boot_us = max(_MADE_US, self._kept_us) - clock.boottime_us()

    def bounds(self) -> Bounds:
        """Return what is certain now."""
        with self._lock:
            floor_us = self._floor_at_boot_us + self._clock.boottime_us()
        synchronised = None
        with contextlib.suppress(AgentError):
            synchronised = self._clock.anchor()
        if synchronised is None:
            return Bounds(floor_us)
        now_us = max(floor_us, self._utc_us())
        return Bounds(now_us, now_us)

    def certified(self, until_us: int) -> None:
        """Take note of the end of the certificate that the platform has just shown, and that verifies."""
        with self._lock:
            self._certified_us = until_us

    def signed(self, utc_us: int) -> None:
        """Take note of a moment that the platform has signed; verified by the caller."""
        with self._lock:
            if utc_us > min(_LATEST_US, self._certified_us):
                return
            at_boot_us = utc_us - self._clock.boottime_us()
            if at_boot_us <= self._floor_at_boot_us:
                return
            self._floor_at_boot_us = at_boot_us
            if self._path is None or utc_us < self._kept_us + KEEP_EVERY_S * _SECOND_US:
                return
            self._kept_us = utc_us
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            durable.replace(self._path, f"{utc_us}\n".encode(), 0o644)
        except OSError as error:
            _log.warning("event=time_floor_not_kept file=%s problem=%s", self._path, error.strerror)


def _read(path: Path) -> int:
    """Read the floor; 0 where there is none, or none that can be believed."""
    try:
        with path.open(encoding="ascii") as file:
            kept_us = int(file.readline(32))
    except (OSError, ValueError):
        return 0
    return kept_us if 0 <= kept_us <= _LATEST_US else 0
