# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""How fast and when a destination's batches may travel: a rate for the backlog, quiet hours, a data plan per month.

What is heard now goes first and at once. The backlog goes beside it at its own rate, so that catching up after an
outage leaves the link to others; it rests in quiet hours, and stops when a tenth of the data plan is left, which
belongs to what is heard now. When the plan is used up everything waits in the spool, where it is safe.

Months and hours need the time of day. It is taken from the platform's signed receipts alone; before the first one
there are no quiet hours, and what is used counts for the month that was known last.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent import durable
from agent.uplink.port import BootClock, Traffic

if TYPE_CHECKING:
    from agent.batch.model import Anchor

logger = logging.getLogger(__name__)

BURST_S = 2.0
"""What the backlog did not use of its rate it may make up for, so many seconds of it."""
LIVE_SHARE = 0.1
"""Of the data plan, kept for what is heard now."""
LEASES = 100
"""The data plan is taken in so many parts, each noted before it is used: a power cut costs one of them at most."""
LOOK_AGAIN_S = 3600.0
"""A lane that waits for a month of which nobody knows the end is looked at again so often."""

_SECOND_US = 1_000_000
_DAY_MINUTES = 24 * 60
_MONTHS = 12


@dataclass(frozen=True, slots=True)
class QuietHours:
    """A stretch of every day, by the gateway's time zone; it may reach over midnight.

    Attributes:
        first: minute of the day at which it begins, 0 to 1439.
        end: minute at which it is over, 0 to 1439, another one.
    """

    first: int
    end: int

    @classmethod
    def parse(cls, text: str) -> QuietHours:
        """Read "06:30-22:00".

        Raises:
            ValueError: it is none.
        """
        first, dash, end = text.partition("-")
        if not dash:
            raise ValueError("no - between two times of day")
        hours = cls(_minute(first), _minute(end))
        if hours.first == hours.end:
            raise ValueError("it ends when it begins")
        return hours

    def left(self, minute: float) -> float:
        """Return how many minutes of it are left at a minute of the day, 0 outside of it."""
        since, length = (minute - self.first) % _DAY_MINUTES, (self.end - self.first) % _DAY_MINUTES
        return length - since if since < length else 0.0

    def __str__(self) -> str:
        return "-".join(f"{minute // 60:02d}:{minute % 60:02d}" for minute in (self.first, self.end))


@dataclass(frozen=True, slots=True)
class Rules:
    """What a destination may cost.

    Attributes:
        backlog_bytes_per_s: mean rate of the backlog, None for as fast as the link.
        plan_bytes: data plan for a calendar month (UTC), both directions, None for none.
        quiet: hours in which the backlog rests.
    """

    backlog_bytes_per_s: float | None = None
    plan_bytes: int | None = None
    quiet: tuple[QuietHours, ...] = ()

    @property
    def bind(self) -> bool:
        """Whether there is any rule."""
        return self != Rules()


class Usage:
    """The bytes of the data plan that are used, on disk: what is there is never less than what was used.

    Args:
        path: the file, made when it is not there.
        plan_bytes: of a month, above 0.
    """

    def __init__(self, path: Path, plan_bytes: int) -> None:
        self._path = path
        self._lease_bytes = max(1, plan_bytes // LEASES)
        self.month: str | None = None
        self.used_bytes = 0
        self._read()
        self._leased_bytes = self.used_bytes

    def add(self, count: int) -> None:
        """Count bytes."""
        self.used_bytes += count
        if self.used_bytes > self._leased_bytes:
            self._lease(self.used_bytes + self._lease_bytes)

    def now_in(self, month: str) -> None:
        """Begin a new month, unless it is the present one."""
        if month == self.month:
            return
        # Bytes of before the first receipt of a gateway's life belong to the month in which it came.
        self.used_bytes = self.used_bytes if self.month is None else 0
        self.month = month
        self._lease(self.used_bytes + self._lease_bytes)

    def settle(self) -> None:
        """Note exactly what is used; at a clean end."""
        if self._leased_bytes != self.used_bytes:
            self._lease(self.used_bytes)

    def _read(self) -> None:
        try:
            found: Any = json.loads(self._path.read_bytes()[:4096])
            self.month, self.used_bytes = _checked(found)
        except FileNotFoundError:
            return
        except (OSError, ValueError) as error:
            logger.warning("event=data_plan_unreadable file=%s problem=%s; it is counted from 0", self._path, error)

    def _lease(self, leased: int) -> None:
        self._leased_bytes = leased
        text = json.dumps({"month": self.month, "bytes": leased})
        try:
            self._path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
            durable.replace(self._path, text.encode(), 0o600)
        except OSError as error:
            logger.warning("event=data_plan_not_kept file=%s problem=%s", self._path, error)


def _checked(found: object) -> tuple[str | None, int]:
    if not isinstance(found, dict):
        raise ValueError("not what was written")  # noqa: TRY004 - one error for all that a damaged file may hold
    month, used = found.get("month"), found.get("bytes")
    if not (month is None or isinstance(month, str)) or not isinstance(used, int) or used < 0:
        raise ValueError("not what was written")
    return month, used


@dataclass(frozen=True, slots=True)
class Gates:
    """When each lane may send.

    Attributes:
        backlog_from_us: CLOCK_BOOTTIME from which the backlog may.
        live_from_us: the same for what is heard now.
        why: for a person, what holds a lane at this moment; None when nothing does, or only the rate.
    """

    backlog_from_us: int
    live_from_us: int
    why: str | None = None


class Pace:
    """Say when the batches of one destination may travel.

    Args:
        rules: some.
        clock: of this boot.
        usage_path: where the use of the data plan is kept.
    """

    def __init__(self, rules: Rules, clock: BootClock, usage_path: Path) -> None:
        self._rules = rules
        self._clock = clock
        self._usage = None if rules.plan_bytes is None else Usage(usage_path, rules.plan_bytes)
        self._utc_minus_boot_us: int | None = None
        self._spent_until_us = 0
        self._counted = Traffic()

    def learn(self, anchor: Anchor) -> None:
        """Take the time of day from a receipt."""
        self._utc_minus_boot_us = anchor.utc_us - anchor.boottime_us

    def carried(self, traffic: Traffic) -> None:
        """Take note of what the transport has carried since the start, of everything."""
        if self._usage is not None:
            new = traffic.up_bytes + traffic.down_bytes - self._counted.up_bytes - self._counted.down_bytes
            if new > 0:
                self._usage.add(new)
        self._counted = traffic

    def backlog_sent(self, count: int) -> None:
        """Take note of a batch of the backlog, in bytes."""
        rate = self._rules.backlog_bytes_per_s
        if rate is not None:
            now_us = self._clock.boottime_us()
            earliest_us = now_us - round(BURST_S * _SECOND_US)
            self._spent_until_us = max(self._spent_until_us, earliest_us) + round(count / rate * _SECOND_US)

    def close(self) -> None:
        """Note what is used of the data plan."""
        if self._usage is not None:
            self._usage.settle()

    def gates(self) -> Gates:
        """Say when each lane may send, as things are now."""
        now_us = self._clock.boottime_us()
        now = self._utc(now_us)
        plan = self._plan_gates(now_us, now)
        if plan is not None:
            return plan
        rest_us, hours = self._quiet(now_us, now)
        why = None if hours is None else f"quiet hours {hours}: the backlog waits"
        return Gates(max(self._spent_until_us, rest_us), 0, why)

    def _utc(self, now_us: int) -> datetime | None:
        if self._utc_minus_boot_us is None:
            return None
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=now_us + self._utc_minus_boot_us)

    def _plan_gates(self, now_us: int, now: datetime | None) -> Gates | None:
        plan_bytes = self._rules.plan_bytes
        if self._usage is None or plan_bytes is None:
            return None
        if now is not None:
            self._usage.now_in(f"{now:%Y-%m}")
        used = self._usage.used_bytes
        if used < plan_bytes * (1 - LIVE_SHARE):
            return None
        end = None if now is None else datetime(now.year + now.month // _MONTHS, now.month % _MONTHS + 1, 1, tzinfo=UTC)
        left_s = LOOK_AGAIN_S if now is None or end is None else (end - now).total_seconds()
        from_us = now_us + round(left_s * _SECOND_US)
        until = "the next month" if end is None else f"{end:%Y-%m-%d}"
        if used < plan_bytes:
            why = f"{used / plan_bytes:.0%} of the data plan is used: the backlog waits until {until}"
            return Gates(from_us, 0, why)
        why = f"the data plan of {plan_bytes / 1e6:g} MB is used up: everything waits until {until}"
        return Gates(from_us, from_us, why)

    def _quiet(self, now_us: int, now: datetime | None) -> tuple[int, QuietHours | None]:
        if now is None or not self._rules.quiet:
            return 0, None
        local = now.astimezone()
        minute = local.hour * 60 + local.minute + local.second / 60 + local.microsecond / 60e6
        left, hours = max(((hours.left(minute), hours) for hours in self._rules.quiet), key=lambda pair: pair[0])
        return (now_us + round(left * 60 * _SECOND_US), hours) if left else (0, None)


def _minute(text: str) -> int:
    hour, colon, minute = text.strip().partition(":")
    if not (colon and hour.isascii() and hour.isdigit() and minute.isascii() and minute.isdigit() and len(minute) == 2):
        raise ValueError("not a time of day like 06:30")
    if int(hour) > 23 or int(minute) > 59:
        raise ValueError("not a time of day")
    return int(hour) * 60 + int(minute)
