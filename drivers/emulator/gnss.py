# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""A GNSS receiver on a serial port, in step with the pulses that the virtual concentrator latches.

At each PPS, a tenth of a second later, it tells the time of that pulse: NMEA RMC and GGA, and UBX NAV-TIMEGPS once that
has been asked for by CFG-MSG, as a u-blox 7 or 8 does [u-blox 8 / M8 receiver description, CFG-MSG, NAV-TIMEGPS; NMEA
0183 2.3, 4.1]. That NAV-TIMEGPS stands between the two is assumed: Semtech's packet forwarder, tried with a u-blox 7,
takes UTC from the RMC before it, and reads blocks of eight bytes, so that the last message of a second would be one of
the next. Its time begins anywhere; the pulses are on the whole seconds of the emulator's time, not on those of the
host's clock.

Not modelled: other sentences and messages, the port's speed (9600 baud take 0.2 s for a second's messages, here
they are there at once), movement, pulses that stay away without a fix, settings other than CFG-MSG.
"""

from __future__ import annotations

import os
import select
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from random import Random
from threading import Thread
from typing import TYPE_CHECKING, Final

from drivers.emulator.terminal import Terminal

if TYPE_CHECKING:
    from pathlib import Path

    from drivers.emulator.emulator import Emulator

GPS_EPOCH_UNIX_S: Final = 315_964_800
"""1980-01-06."""

WEEK_S: Final = 604_800
ERA_WEEKS: Final = 1024
"""The satellites send ten bits of the week's number."""

TALKERS: Final = ("GP", "GN", "GA", "GL", "BD", "GB")
RMC_FIELDS: Final = (13, 14)

UBX_SYNC: Final = b"\xb5\x62"
NAV_TIMEGPS: Final = (0x01, 0x20)
CFG_MSG: Final = (0x06, 0x01)
_ACK_CLASS: Final = 0x05
_CFG_CLASS: Final = 0x06
_RMC: Final = (0xF0, 0x04)
_GGA: Final = (0xF0, 0x00)
_UART1: Final = 1
_UBX_LONGEST: Final = 512
_ALL_VALID: Final = 0x07
_ACCURACY_NS: Final = 21
NEVER_S: Final = 1 << 40
_DELAY_US: Final = 100_000
_US_PER_S: Final = 1_000_000
_JOIN_S: Final = 5.0
_YEARS: Final = (1981, 2100)


@dataclass(frozen=True, slots=True)
class GnssSettings:
    """What the receiver is like, and what goes wrong with it.

    Attributes:
        start: UTC when it is switched on; None for what the host's clock has.
        leap_s: GPS ahead of UTC at the beginning.
        leap_day: a day that ends with a leap second; None for none.
        fix_after_s: no fix during the first seconds of the receiver; `NEVER_S` for none at all.
        rollover: eras of 1024 weeks by which the dates are behind, as with receivers that are too old.
        rmc_fields: 13, or 14 as since NMEA 4.1.
        talker: GP, or GN and others for receivers of several systems.
        ubx: understands UBX; False for a receiver of another make.
        noise: share of messages that are damaged, the same ones each time.
    """

    start: datetime | None = None
    leap_s: int = 18
    leap_day: date | None = None
    fix_after_s: int = 0
    rollover: int = 0
    rmc_fields: int = 13
    talker: str = "GP"
    ubx: bool = True
    noise: float = 0.0


def parse_settings(text: str) -> GnssSettings:
    """Return the settings that a text like `rmc=14,fix=never,start=2019-04-06T23:59:30` asks for.

    Raises:
        ValueError: an unknown name or value; the message says which.
    """
    settings = GnssSettings()
    for item in filter(None, text.split(",")):
        name, _, value = item.partition("=")
        if name not in _OPTIONS:
            raise ValueError(f"{name!r}: expected one of {', '.join(_OPTIONS)}")
        expected, change = _OPTIONS[name]
        try:
            settings = change(settings, value)
        except ValueError:
            raise ValueError(f"{item!r}: expected {expected}") from None
    return settings


def gps_seconds(utc: datetime, leap_s: int) -> int:
    """Return GPS time for a UTC that is not a leap second."""
    return int(utc.timestamp()) - GPS_EPOCH_UNIX_S + leap_s


class Receiver:
    """The receiver without its port: bytes in, bytes out.

    Args:
        settings: what it is like.
        begin_s: the emulator's second in which it is switched on.
    """

    def __init__(self, settings: GnssSettings, *, begin_s: int = 0) -> None:
        self._settings = settings
        self._begin_gps = gps_seconds(settings.start or datetime.now(UTC), settings.leap_s)
        self._begin_s = begin_s
        self._rates = {_RMC: 1, _GGA: 1, NAV_TIMEGPS: 0}
        self._buffer = bytearray()
        self._chance = Random(0)  # noqa: S311 - repeatable on purpose
        self._leap_gps: int | None = None
        if settings.leap_day is not None:
            midnight = datetime.combine(settings.leap_day, datetime.min.time(), UTC) + timedelta(days=1)
            at = gps_seconds(midnight, settings.leap_s)
            self._leap_gps = at if at >= self._begin_gps else None

    def epoch(self, second: int) -> bytes:
        """Return what it says about the pulse on a second of the emulator's time."""
        fixed = second - self._begin_s >= self._settings.fix_after_s
        gps = self._begin_gps + second - self._begin_s
        day, clock = self._utc(gps)
        messages = []
        if self._due(_RMC, second):
            messages.append(self._rmc(day, clock) if fixed else self._sentence("RMC", self._padded(("", "V"))))
        if self._due(NAV_TIMEGPS, second):
            messages.append(ubx(*NAV_TIMEGPS, self._timegps(gps) if fixed else bytes(16)))
        if self._due(_GGA, second):
            messages.append(self._gga(clock) if fixed else self._sentence("GGA", (*[""] * 5, "0", *[""] * 8)))
        return b"".join(map(self._disturb, messages))

    def _due(self, kind: tuple[int, int], second: int) -> bool:
        return bool(self._rates[kind]) and second % self._rates[kind] == 0

    def feed(self, data: bytes) -> bytes:
        """Take bytes from the host, and return the answers."""
        answers = bytearray()
        self._buffer += data
        while (at := self._buffer.find(UBX_SYNC)) >= 0:
            del self._buffer[:at]
            size = int.from_bytes(self._buffer[4:6], "little")
            if len(self._buffer) >= 6 and size > _UBX_LONGEST:
                del self._buffer[:2]
                continue
            end = 8 + size
            if len(self._buffer) < max(end, 8):
                break
            frame = bytes(self._buffer[:end])
            sound = frame == ubx(frame[2], frame[3], frame[6:-2])
            del self._buffer[: end if sound else 2]
            if sound and self._settings.ubx:
                answers += self._carry_out((frame[2], frame[3]), frame[6:-2])
        del self._buffer[: max(len(self._buffer) - _UBX_LONGEST - 8, 0)]
        return bytes(answers)

    def _carry_out(self, kind: tuple[int, int], payload: bytes) -> bytes:
        if kind[0] != _CFG_CLASS:
            return b""
        done = kind == CFG_MSG and len(payload) in {3, 8} and (payload[0], payload[1]) in self._rates
        if done:
            # Rates for DDC, UART1, UART2, USB, SPI; or one, for the port on which it came.
            rate = payload[2] if len(payload) == 3 else payload[2 + _UART1]
            self._rates[payload[0], payload[1]] = rate
        return ubx(_ACK_CLASS, int(done), bytes(kind))

    def _utc(self, gps: int) -> tuple[date, str]:
        leap_s, extra = self._settings.leap_s, 0
        if self._leap_gps is not None and gps >= self._leap_gps:
            leap_s += 1
            # The leap second itself has the number 60.
            extra = int(gps == self._leap_gps)
        utc = datetime.fromtimestamp(gps + GPS_EPOCH_UNIX_S - leap_s, UTC)
        day = utc.date() - timedelta(weeks=self._settings.rollover * ERA_WEEKS)
        return day, f"{utc:%H%M}{utc.second + extra:02}.00"

    def _rmc(self, day: date, clock: str) -> bytes:
        place = ("4711.5230", "N", "00841.9034", "E")
        return self._sentence("RMC", self._padded((clock, "A", *place, "0.01", "", f"{day:%d%m%y}", "", "", "A")))

    def _padded(self, values: tuple[str, ...]) -> tuple[str, ...]:
        """Return all fields of an RMC; without a fix, mode N."""
        values += ("",) * (11 - len(values)) + ("N",) * (len(values) < 12)
        return values + (("V",) if self._settings.rmc_fields == RMC_FIELDS[1] else ())

    def _gga(self, clock: str) -> bytes:
        place = ("4711.5230", "N", "00841.9034", "E")
        return self._sentence("GGA", (clock, *place, "1", "08", "1.01", "499.6", "M", "48.0", "M", "", ""))

    def _sentence(self, name: str, values: tuple[str, ...]) -> bytes:
        body = ",".join((self._settings.talker + name, *values))
        check = 0
        for byte in body.encode():
            check ^= byte
        return f"${body}*{check:02X}\r\n".encode()

    def _timegps(self, gps: int) -> bytes:
        leap_s = self._settings.leap_s + (self._leap_gps is not None and gps > self._leap_gps)
        week, tow_s = divmod(gps, WEEK_S)
        week -= self._settings.rollover * ERA_WEEKS
        head = (tow_s * 1000).to_bytes(4, "little") + bytes(4) + week.to_bytes(2, "little", signed=True)
        return head + bytes((leap_s, _ALL_VALID)) + _ACCURACY_NS.to_bytes(4, "little")

    def _disturb(self, message: bytes) -> bytes:
        if self._chance.random() >= self._settings.noise:
            return message
        at = self._chance.randrange(len(message))
        how = self._chance.randrange(3)
        if how == 0:
            return message[:at]
        if how == 1:
            return message[:at] + bytes((message[at] ^ 1 << self._chance.randrange(8),)) + message[at + 1 :]
        return self._chance.randbytes(at) + message


def ubx(group: int, kind: int, payload: bytes) -> bytes:
    """Return a UBX frame."""
    body = bytes((group, kind)) + len(payload).to_bytes(2, "little") + payload
    first = second = 0
    for byte in body:
        first = (first + byte) & 0xFF
        second = (second + first) & 0xFF
    return UBX_SYNC + body + bytes((first, second))


class GnssPort:
    """A pseudo-terminal with the receiver at its other end.

    Args:
        emulator: gives the time.
        link: path that will lead to the terminal.
        settings: of the receiver.

    Raises:
        BusError: the link cannot be made.
    """

    def __init__(self, emulator: Emulator, link: Path, settings: GnssSettings) -> None:
        self._emulator = emulator
        now_s = emulator.now_us() // _US_PER_S
        self._receiver = Receiver(settings, begin_s=now_s)
        self._terminal = Terminal(link)
        self._wake_read, self._wake_write = os.pipe()
        self._thread = Thread(target=self._run, name="gnss", daemon=True)
        self._thread.start()

    def __enter__(self) -> GnssPort:
        return self

    def __exit__(self, *_: object) -> None:
        os.write(self._wake_write, b"\0")
        self._thread.join(_JOIN_S)
        self._terminal.close()
        os.close(self._wake_read)
        os.close(self._wake_write)

    def _run(self) -> None:
        told = self._emulator.now_us() // _US_PER_S
        while True:
            wait_us = (told + 1) * _US_PER_S + _DELAY_US - self._emulator.now_us()
            ready, _, _ = select.select([self._wake_read, self._terminal.master], [], [], max(wait_us, 0) / _US_PER_S)
            if self._wake_read in ready:
                return
            if ready:
                self._terminal.write(self._receiver.feed(self._terminal.read()))
            second = (self._emulator.now_us() - _DELAY_US) // _US_PER_S
            if second > told:
                self._terminal.write(self._receiver.epoch(second), fresh=True)
                told = second


def _choice(value: str, *choices: str) -> str:
    if value not in choices:
        raise ValueError(value)
    return value


def _whole(value: str, low: int, high: int) -> int:
    if not value.isdecimal() or not low <= int(value) <= high:
        raise ValueError(value)
    return int(value)


def _share(value: str) -> float:
    share = float(value)
    if not 0 <= share <= 1:
        raise ValueError(value)
    return share


def _utc_time(value: str) -> datetime:
    at = datetime.fromisoformat(value)
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    if not _YEARS[0] <= at.year <= _YEARS[1]:
        raise ValueError(value)
    return at


def _day(value: str) -> date:
    return _utc_time(value + "T00:00:00").date()


_OPTIONS: Final[dict[str, tuple[str, Callable[[GnssSettings, str], GnssSettings]]]] = {
    "start": ("a UTC time like 2019-04-06T23:59:30", lambda s, v: replace(s, start=_utc_time(v))),
    "leap": ("seconds, 0 to 100", lambda s, v: replace(s, leap_s=_whole(v, 0, 100))),
    "leap-day": ("a day like 2016-12-31", lambda s, v: replace(s, leap_day=_day(v))),
    "fix": (
        "seconds until there is one, or never",
        lambda s, v: replace(s, fix_after_s=NEVER_S if v == "never" else _whole(v, 0, 86_400)),
    ),
    "rollover": ("eras of 1024 weeks, 0 to 2", lambda s, v: replace(s, rollover=_whole(v, 0, 2))),
    "rmc": ("13 or 14", lambda s, v: replace(s, rmc_fields=_whole(v, *RMC_FIELDS))),
    "talker": (f"one of {', '.join(TALKERS)}", lambda s, v: replace(s, talker=_choice(v, *TALKERS))),
    "ubx": ("yes or no", lambda s, v: replace(s, ubx=_choice(v, "yes", "no") == "yes")),
    "noise": ("a share, 0 to 1", lambda s, v: replace(s, noise=_share(v))),
}
