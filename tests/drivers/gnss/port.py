# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The emulated GNSS receiver on a port in a time that only passes when somebody waits for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING

from drivers.emulator.gnss import GnssSettings, Receiver, gps_seconds
from drivers.errors import BusError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.drivers.bench import TestClock

NS = 1_000_000_000
WAIT_NS = 20_000_000


@dataclass
class Wire:
    """A receiver, and what is wrong with the way to it.

    Attributes:
        now_ns: the emulator's time, on whose whole seconds the pulses are.
        speaks_baud: at any other rate, garbage comes.
        late_ns: from pulse to message.
        stall_ns: by how much reading is late, at most, at random.
        plugged: in.
        paced: as `SerialPort`.
        preface: what it says each second before the time.
        padding: and behind it.
    """

    clock: TestClock
    settings: GnssSettings
    now_ns: Callable[[], int]
    speaks_baud: int = 9600
    late_ns: int = 100_000_000
    stall_ns: int = 0
    plugged: bool = True
    paced: bool = True
    preface: bytes = b""
    padding: bytes = b""
    opened: list[int] = field(default_factory=list)
    written: bytearray = field(default_factory=bytearray)

    def __post_init__(self) -> None:
        assert self.settings.start is not None
        self.begin_s = self.now_ns() // NS
        self.receiver = Receiver(self.settings, begin_s=self.begin_s)
        self.told = self.begin_s
        self.chance = Random(1)
        self.waiting = bytearray()
        self._line = bytearray()
        self._line_ns = 0.0

    def utc_ns(self, at_ns: int) -> int:
        """True UTC of a moment of the emulator's time, without leap seconds in between."""
        assert self.settings.start is not None
        return int(self.settings.start.timestamp()) * NS + at_ns - self.begin_s * NS

    def gps_ns(self, at_ns: int) -> int:
        """True GPS time of a moment of the emulator's time."""
        assert self.settings.start is not None
        return gps_seconds(self.settings.start, self.settings.leap_s) * NS + at_ns - self.begin_s * NS

    def open(self, baud: int) -> Port:
        if not self.plugged:
            raise BusError("does not exist", op="open", where="/dev/gnss", hint="plug it in", code="CG-TTY-001")
        self.opened.append(baud)
        self.run()
        self.waiting.clear()
        self._line.clear()
        return Port(self, baud)

    def run(self) -> None:
        """Let the receiver say what it has to say by now, as fast as the line takes it."""
        while self.told * NS + self.late_ns <= self.now_ns():
            said = self.preface + self.receiver.epoch(self.told) + self.padding
            self._say(said, self.told * NS + self.late_ns)
            self.told += 1
        self._drain(self.now_ns())

    def answer(self, data: bytes) -> None:
        self.written += data
        self._say(self.receiver.feed(data), self.now_ns())

    def _say(self, data: bytes, at_ns: int) -> None:
        self._drain(at_ns)
        self._line += data

    def _drain(self, now_ns: int) -> None:
        size = int((now_ns - self._line_ns) * self.speaks_baud / 10 / NS) if self.paced else len(self._line)
        if size >= len(self._line):
            self._line_ns = now_ns
        else:
            self._line_ns += size * 10 * NS / self.speaks_baud
        self.waiting += self._line[:size]
        del self._line[:size]


class Port:
    """One opening of the port."""

    def __init__(self, wire: Wire, baud: int) -> None:
        self.wire = wire
        self.baud = baud

    @property
    def paced(self) -> bool:
        return self.wire.paced

    def read(self, limit_bytes: int) -> bytes:
        self._check()
        wire = self.wire
        wire.run()
        if not wire.waiting:
            wire.clock.now_ns += WAIT_NS
            wire.run()
        if wire.stall_ns:
            wire.clock.now_ns += wire.chance.randrange(wire.stall_ns)
            wire.run()
        data = bytes(wire.waiting[:limit_bytes])
        del wire.waiting[:limit_bytes]
        if wire.paced and self.baud != wire.speaks_baud:
            return wire.chance.randbytes(len(data))
        return data

    def write(self, data: bytes) -> None:
        self._check()
        if not self.wire.paced or self.baud == self.wire.speaks_baud:
            self.wire.answer(data)

    def set_rate(self, baud: int) -> None:
        self._check()
        self.baud = baud
        self.wire.waiting.clear()

    def close(self) -> None:
        pass

    def _check(self) -> None:
        if not self.wire.plugged:
            raise BusError("is gone", op="read", where="/dev/gnss", hint="check the plug", code="CG-TTY-004")
