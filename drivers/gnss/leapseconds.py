# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Leap seconds: how far GPS time is ahead of UTC, and until when that is known.

Two sources: the table below, and the list that Debian keeps current with its time zones. Leap seconds are announced
half a year ahead and fall on the end of June or December [IERS Bulletin C]; so behind the end of a table, each of these
days may have brought one. A receiver that tells how many there are is believed.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Final

GPS_EPOCH_UNIX_S: Final = 315_964_800
"""1980-01-06."""

SYSTEM_LIST: Final = Path("/usr/share/zoneinfo/leap-seconds.list")
LIST_LIMIT_BYTES: Final = 1 << 16
NTP_EPOCH_UNIX_S: Final = -2_208_988_800
GPS_BEHIND_TAI_S: Final = 19
LEAP_LIMIT_S: Final = 127
"""More does not fit into what receivers say."""


@dataclass(frozen=True, slots=True)
class LeapSeconds:
    """A table of leap seconds.

    Attributes:
        starts_unix_s: UTC from which on each number holds, ascending, POSIX count.
        gps_ahead_s: GPS ahead of UTC from then on.
        expires_unix_s: what comes after this day had not been announced.
    """

    starts_unix_s: tuple[int, ...]
    gps_ahead_s: tuple[int, ...]
    expires_unix_s: int

    def at_utc(self, unix_s: int) -> int:
        """Return how far GPS is ahead at a UTC; what held first, before the table begins."""
        return self.gps_ahead_s[max(bisect_right(self.starts_unix_s, unix_s) - 1, 0)]

    def at_gps(self, gps_s: int) -> int:
        """Return how far GPS is ahead at a GPS second; in an inserted second, as before it."""
        for start, ahead in zip(reversed(self.starts_unix_s), reversed(self.gps_ahead_s), strict=True):
            if gps_s + GPS_EPOCH_UNIX_S - ahead >= start:
                return ahead
        return self.gps_ahead_s[0]

    def doubt_s(self, unix_s: int) -> int:
        """Return how many leap seconds there may have been at a UTC that the table does not know of."""
        return max(_half_years(unix_s) - _half_years(self.expires_unix_s), 0)


def _half_years(unix_s: int) -> int:
    day = datetime.fromtimestamp(unix_s, UTC)
    return 2 * day.year + (day.month > 6)


def _day(year: int, month: int, day: int) -> int:
    return int(datetime(year, month, day, tzinfo=UTC).timestamp())


_SINCE: Final = (
    *((1980, 1), (1981, 7), (1982, 7), (1983, 7), (1985, 7), (1988, 1), (1990, 1), (1991, 1), (1992, 7), (1993, 7)),
    *((1994, 7), (1996, 1), (1997, 7), (1999, 1), (2006, 1), (2009, 1), (2012, 7), (2015, 7), (2017, 1)),
)
"""Year and month from whose first day on there was one more; none in the first [IERS Bulletin C 1 to 70]."""

BUILT_IN: Final = LeapSeconds(
    tuple(_day(year, month, 1) for year, month in _SINCE), tuple(range(len(_SINCE))), _day(2026, 6, 28)
)


@cache
def known() -> LeapSeconds:
    """Return the table that reaches farther: our own, or the system's."""
    try:
        with SYSTEM_LIST.open("rb") as file:
            system = parse_list(file.read(LIST_LIMIT_BYTES).decode("ascii", "replace"))
    except (OSError, ValueError):
        return BUILT_IN
    return system if system.expires_unix_s > BUILT_IN.expires_unix_s else BUILT_IN


def parse_list(text: str) -> LeapSeconds:
    """Read a table in the form of the IERS: NTP seconds and TAI ahead of UTC on each line, `#@` before the expiry.

    Raises:
        ValueError: it is none.
    """
    expires: int | None = None
    starts, ahead = [BUILT_IN.starts_unix_s[0]], [0]
    for line in text.splitlines():
        if line.startswith("#@"):
            expires = int(line[2:]) + NTP_EPOCH_UNIX_S
        elif line.strip() and not line.startswith("#"):
            ntp_s, tai_s = line.partition("#")[0].split()
            unix_s, gps_s = int(ntp_s) + NTP_EPOCH_UNIX_S, int(tai_s) - GPS_BEHIND_TAI_S
            if unix_s <= starts[-1]:  # before there was GPS
                continue
            if abs(gps_s - ahead[-1]) != 1 or abs(gps_s) > LEAP_LIMIT_S:
                raise ValueError(f"{line.strip()!r}: not one second more or less than before")
            starts.append(unix_s)
            ahead.append(gps_s)
    if expires is None or not starts[-1] < expires < 1 << 33:
        raise ValueError("no date of expiry")
    return LeapSeconds(tuple(starts), tuple(ahead), expires)
