# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What the frames say, as far as time and health need it: RMC, GGA, GSA; NAV-TIMEGPS and the answers to settings.

Fields are taken apart by pynmeagps and pyubx2 [NMEA 0183 2.3 to 4.11; u-blox 8 / M8 receiver description]. Both give
what they find; whether it can be true is checked here. Importing this module costs some megabytes, so it is done by
those who have a receiver.
"""

from __future__ import annotations

import logging
import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from pynmeagps import NMEAReader
from pyubx2 import UBXReader

from drivers.gnss.framing import Frame, Protocol
from drivers.gnss.reference import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

logger = logging.getLogger(__name__)

WEEK_S: Final = 604_800
EARLY_NS: Final = 5_000_000

_MEASURED_MODES: Final = frozenset(("", "A", "D", "F", "P", "R"))
"""Mode indicators of positions that satellites gave; before NMEA 2.3 there is none. Not: N none, E estimated, M typed
in, S simulated."""
_MEASURED_QUALITIES: Final = frozenset((1, 2, 3, 4, 5, 9))
"""Likewise, in GGA: 0 is none, 6 estimated, 7 typed in, 8 simulated; some receivers use 9 for augmented ones."""
_TIME: Final = re.compile(r"(\d\d)(\d\d)(\d\d)(?:\.(\d{1,9}))?")
_DATE: Final = re.compile(r"(\d\d)(\d\d)(\d\d)")
_FIRST_YEAR: Final = 80
"""Of the two digits: GPS began in 1980."""
_MODES: Final = {1: 0, 2: 2, 3: 3}


@dataclass(frozen=True, slots=True)
class UtcTime:
    """RMC: a UTC, and whether there is a fix.

    Attributes:
        unix_s: whole seconds since 1970-01-01, POSIX count; None without date and time. As the receiver says it: after
            a rollover of the week's number, 1024 weeks too early.
        part_ns: of the second.
        inserted: it is a leap second, 23:59:60; `unix_s` is that of the midnight behind it.
        fix: whether it is from satellites.
    """

    unix_s: int | None
    part_ns: int
    inserted: bool
    fix: bool


@dataclass(frozen=True, slots=True)
class GpsTime:
    """UBX NAV-TIMEGPS: a GPS time.

    Attributes:
        gps_s: whole seconds since 1980-01-06; None when time or week are not valid. After a rollover, too early.
        part_ns: of the second; from -5000000 on, because fixes at its beginning may be a little early.
        accuracy_ns: as the receiver estimates it.
        leap_s: GPS ahead of UTC; None when it is not known.
    """

    gps_s: int | None
    part_ns: int
    accuracy_ns: int
    leap_s: int | None


@dataclass(frozen=True, slots=True)
class Position:
    """GGA: where the antenna is, and how well that is known.

    Attributes:
        fix: whether it is from satellites.
        satellites: used.
        hdop: horizontal dilution of precision; None if not told.
        latitude_deg: north is positive; None without a fix.
        longitude_deg: east is positive.
        altitude_m: above mean sea level.
    """

    fix: bool
    satellites: int
    hdop: float | None
    latitude_deg: float | None
    longitude_deg: float | None
    altitude_m: float | None


@dataclass(frozen=True, slots=True)
class FixMode:
    """GSA: the dimensions of the fix, 0 (none), 2 or 3."""

    dimensions: int


@dataclass(frozen=True, slots=True)
class Answer:
    """UBX ACK: the receiver's answer to a setting.

    Attributes:
        kind: class and id of the setting.
        accepted: whether it was carried out.
    """

    kind: tuple[int, int]
    accepted: bool


Message = UtcTime | GpsTime | Position | FixMode | Answer


def read(frame: Frame) -> Message | None:
    """Return what a frame says; None when it is of no interest, or cannot be understood."""
    readers = _NMEA if frame.protocol is Protocol.NMEA else _UBX
    reader = readers.get(frame.data[3:6] if frame.protocol is Protocol.NMEA else frame.data[2:4])
    if reader is None:
        return None
    try:
        return reader(frame.data)
    except Exception as error:  # the parsers raise what they like at bytes that nobody foresaw
        logger.debug("event=gnss_unreadable error=%s frame=%s", type(error).__name__, frame.data[:16].hex())
        return None


def _rmc(data: bytes) -> UtcTime:
    message = NMEAReader.parse(data)
    fix = message.status == "A" and getattr(message, "posMode", "") in _MEASURED_MODES
    fields = data[1:].split(b",")
    time, day = _TIME.fullmatch(fields[1].decode()), _DATE.fullmatch(fields[9].decode())
    if time is None or day is None:
        return UtcTime(None, 0, inserted=False, fix=fix)
    hour, minute, second = (int(part) for part in time.groups()[:3])
    date, month, year = (int(part) for part in day.groups())
    inserted = (hour, minute, second) == (23, 59, 60)
    begin = datetime(year + (1900 if year >= _FIRST_YEAR else 2000), month, date, hour, minute, tzinfo=UTC)
    if second > 59 and not inserted:
        raise ValueError(second)
    unix_s = int((begin + timedelta(seconds=second)).timestamp())
    return UtcTime(unix_s, int((time[4] or "0").ljust(9, "0")), inserted, fix)


def _gga(data: bytes) -> Position:
    message = NMEAReader.parse(data)
    fix = int(message.quality or 0) in _MEASURED_QUALITIES
    latitude, longitude = _within(message.lat, 90), _within(message.lon, 180)
    if not fix or latitude is None or longitude is None:
        latitude = longitude = None
    altitude = None if latitude is None else _within(message.alt, 20_000)
    satellites = int(message.numSV or 0)
    return Position(fix, min(max(satellites, 0), 99), _within(message.HDOP, 100), latitude, longitude, altitude)


def _gsa(data: bytes) -> FixMode:
    return FixMode(_MODES[int(NMEAReader.parse(data).navMode or 1)])


def _timegps(data: bytes) -> GpsTime:
    message = UBXReader.parse(data)
    leap_s = message.leapS if message.leapSValid else None
    if not (message.towValid and message.weekValid):
        return GpsTime(None, 0, message.tAcc, leap_s)
    # Fixes are taken by the receiver's own clock, which is some milliseconds off at most.
    total_ns = (message.week * WEEK_S * 1000 + message.iTOW) * 1_000_000 + message.fTOW
    gps_s = (total_ns + EARLY_NS) // NS_PER_S
    return GpsTime(gps_s, total_ns - gps_s * NS_PER_S, message.tAcc, leap_s)


def _ack(data: bytes) -> Answer:
    message = UBXReader.parse(data)
    return Answer((message.clsID, message.msgID), data[3] == 1)


def _within(value: object, limit: float) -> float | None:
    """Return a number whose size is at most the limit; None for all else, for one an empty field."""
    if isinstance(value, int | float) and math.isfinite(value) and abs(value) <= limit:
        return float(value)
    return None


_NMEA: Final[Mapping[bytes, Callable[[bytes], Message]]] = {b"RMC": _rmc, b"GGA": _gga, b"GSA": _gsa}
_UBX: Final[Mapping[bytes, Callable[[bytes], Message]]] = {b"\x01\x20": _timegps, b"\x05\x00": _ack, b"\x05\x01": _ack}
