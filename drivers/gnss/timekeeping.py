# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Which second a receiver means, and whether to believe it.

Believed is only what comes with a fix: before, receivers guess, from a clock of their own or from what their makers
thought was a good beginning. GPS time (NAV-TIMEGPS) goes before UTC (RMC), because leap seconds do not touch it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from drivers.gnss.leapseconds import GPS_EPOCH_UNIX_S, LeapSeconds, known
from drivers.gnss.messages import FixMode, GpsTime, Message, Position, UtcTime
from drivers.gnss.reference import NS_PER_S
from drivers.gnss.synchroniser import SecondMark

if TYPE_CHECKING:
    from drivers.gnss.framing import Frame

ERA_S: Final = 1024 * 604_800
"""The satellites number the weeks with ten bits; old receivers are a multiple of this behind."""
RELEASED_UNIX_S: Final = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp())
"""No earlier time is possible."""
CORRECTED_LIMIT_S: Final = 10 * 31_556_952
"""A time that had to be corrected by eras is not believed beyond this: rather somebody guesses."""

ACCURACY_LIMIT_NS: Final = 1_000
"""A receiver with a fix is much better; one that runs on its own crystal is worse within seconds."""
NMEA_ACCURACY_NS: Final = 1_000
"""Taken for pulses of receivers that do not tell; data sheets promise 30 to 100."""
RECENT_NS: Final = 5 * NS_PER_S
"""What was said longer ago does not count any more."""

ALMANAC_S: Final = 900
"""Within 12.5 minutes each satellite has sent how many leap seconds there are; before, a receiver may only guess."""
GUESSED_LEAP_S: Final = 2
"""By so many leap seconds an old receiver may be wrong until then: those since 2015."""


@dataclass(frozen=True, slots=True)
class Sight:
    """What the receiver sees of the sky, as of its last word.

    Attributes:
        at_ns: CLOCK_MONOTONIC of it; None before the first.
        fix: whether it has one.
        dimensions: of the fix, 2 or 3; 0 for none or not told.
        satellites: used.
        hdop: horizontal dilution of precision; None if not told.
        latitude_deg: north is positive; None without a fix.
        longitude_deg: east is positive.
        altitude_m: above mean sea level.
    """

    at_ns: int | None = None
    fix: bool = False
    dimensions: int = 0
    satellites: int = 0
    hdop: float | None = None
    latitude_deg: float | None = None
    longitude_deg: float | None = None
    altitude_m: float | None = None


class Timekeeper:
    """Turns messages into seconds.

    Args:
        leap_seconds: the table to use; None for the best one that is there.
        not_before_unix_s: no time before this is possible.

    Attributes:
        sight: what the receiver sees.
        implausible: times that were refused although they came with a fix.
    """

    def __init__(self, leap_seconds: LeapSeconds | None = None, *, not_before_unix_s: int = RELEASED_UNIX_S) -> None:
        self._table = leap_seconds or known()
        self._not_before_s = not_before_unix_s
        self.sight = Sight()
        self.implausible = 0
        self._fix_by: dict[type[Message], tuple[bool, int]] = {}
        """What RMC and GGA said of the fix, and when."""
        self._gps_time_ns: int | None = None
        """When a GPS time was last believed."""
        self._fix_since_ns: int | None = None
        self._fix_until_ns = 0
        self._learned: tuple[int, int] | None = None
        """A UTC from which on a number of leap seconds holds that the receiver told."""

    def take(self, message: Message, frame: Frame) -> SecondMark | None:
        """Note a message; return the second that it names, if it is to be believed."""
        now_ns = frame.after_ns
        match message:
            case Position():
                self._note_fix(Position, message.fix, now_ns)
                self.sight = replace(
                    self.sight,
                    at_ns=now_ns,
                    satellites=message.satellites,
                    hdop=message.hdop,
                    latitude_deg=message.latitude_deg,
                    longitude_deg=message.longitude_deg,
                    altitude_m=message.altitude_m,
                )
            case FixMode():
                self.sight = replace(self.sight, at_ns=now_ns, dimensions=message.dimensions)
            case UtcTime():
                self._note_fix(UtcTime, message.fix, now_ns)
                return self._utc(message, frame)
            case GpsTime():
                return self._gps(message, frame)
        return None

    def _note_fix(self, kind: type[Message], fix: bool, now_ns: int) -> None:
        self._fix_by[kind] = (fix, now_ns)
        fix = self._has_fix(now_ns)
        self.sight = replace(self.sight, at_ns=now_ns, fix=fix)
        if fix:
            if self._fix_since_ns is None or now_ns - self._fix_until_ns > RECENT_NS:
                self._fix_since_ns = now_ns
            self._fix_until_ns = now_ns

    def _has_fix(self, now_ns: int) -> bool:
        """Return whether all that spoke of the fix lately say that there is one; True if nothing did."""
        return all(fix for fix, at_ns in self._fix_by.values() if now_ns - at_ns <= RECENT_NS)

    def _gps(self, message: GpsTime, frame: Frame) -> SecondMark | None:
        if message.gps_s is None or message.accuracy_ns > ACCURACY_LIMIT_NS or not self._has_fix(frame.after_ns):
            return None
        gps_s = self._in_era(message.gps_s, self._not_before_s - GPS_EPOCH_UNIX_S)
        if gps_s is None:
            return None
        self._gps_time_ns = frame.after_ns
        leap_s = message.leap_s
        doubt_s = 0
        if leap_s is None:
            leap_s = self._table.at_gps(gps_s)
            doubt_s = self._table.doubt_s(gps_s + GPS_EPOCH_UNIX_S)
        else:
            self._learned = (gps_s + GPS_EPOCH_UNIX_S - leap_s, leap_s)
        return SecondMark(
            gps_s, leap_s, frame.before_ns, frame.after_ns, message.accuracy_ns, message.part_ns, 0, doubt_s
        )

    def _utc(self, message: UtcTime, frame: Frame) -> SecondMark | None:
        if self._gps_time_ns is not None and frame.after_ns - self._gps_time_ns <= RECENT_NS:
            return None
        if message.unix_s is None or not self._has_fix(frame.after_ns):
            return None
        unix_s = self._in_era(message.unix_s, self._not_before_s)
        if unix_s is None:
            return None
        # The midnight behind a leap second has the same number as the leap second, and one second more between.
        leap_s, doubt_s = self._leap(unix_s - 1 if message.inserted else unix_s)
        if message.inserted:
            self._learned = (unix_s, leap_s + 1)
        utc_doubt_s = GUESSED_LEAP_S
        if self._fix_since_ns is not None and frame.after_ns - self._fix_since_ns >= ALMANAC_S * NS_PER_S:
            utc_doubt_s = 0
        return SecondMark(
            unix_s - GPS_EPOCH_UNIX_S + leap_s,
            leap_s,
            frame.before_ns,
            frame.after_ns,
            NMEA_ACCURACY_NS,
            message.part_ns,
            utc_doubt_s + doubt_s,
            utc_doubt_s,
        )

    def _leap(self, unix_s: int) -> tuple[int, int]:
        """Return how far GPS is ahead at a UTC, and by how many seconds that may be wrong."""
        if self._learned is not None and unix_s >= self._learned[0]:
            return self._learned[1], 0
        return self._table.at_utc(unix_s), self._table.doubt_s(unix_s)

    def _in_era(self, told_s: int, not_before_s: int) -> int | None:
        """Correct a time by whole eras; None if it is not possible."""
        eras = max(-(-(not_before_s - told_s) // ERA_S), 0)
        limit_s = CORRECTED_LIMIT_S if eras else ERA_S
        right_s = told_s + eras * ERA_S
        if right_s >= not_before_s + limit_s:
            self.implausible += 1
            return None
        return right_s
