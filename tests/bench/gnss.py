# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""GNSS: what listening costs, and what is left of a stream on a bad line, against pyubx2's own reader.

The stream is what a Telit HE910 and a u-blox M8T sent. On the bad line every 300th byte is followed by eight bytes of
noise, among which are `$` and the beginnings of UBX frames. Both sides read the same bytes; ours takes apart what it
needs, pyubx2 everything. When it raises, it is asked to go on.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator
from random import Random
from threading import Event

from pyubx2 import NMEA_PROTOCOL, UBX_PROTOCOL, UBXReader

from agent.gnss import Gnss
from drivers.emulator.gnss import Receiver, parse_settings
from drivers.gnss.framing import Splitter
from drivers.gnss.messages import read
from tests.bench import Row
from tests.drivers.bench import TestClock
from tests.drivers.gnss.test_captures import archive

LISTEN_S = 600
LOOK_S = 0.2
NOISE_EVERY_BYTES = 300
REPEATS = 3


class HostTime(TestClock):
    """A clock that passes when it is told to."""

    boot_id = bytes(16)

    def boottime_us(self) -> int:
        """Return CLOCK_BOOTTIME."""
        return self.now_ns // 1000


class Recorded:
    """A port on which a u-blox receiver tells GPS time, a tenth of a second after each second."""

    paced = True

    def __init__(self, clock: HostTime) -> None:
        self._clock = clock
        receiver = Receiver(parse_settings("start=2026-11-22T00:00:00"))
        receiver.feed(bytes.fromhex("B5620601080001200001010000003294"))
        self._seconds = [receiver.epoch(second) for second in range(LISTEN_S + 2)]
        self._told = 0

    def read(self, limit_bytes: int) -> bytes:
        """Return what has been said since."""
        if self._clock.now_ns < self._told * 1_000_000_000 + 100_000_000:
            return b""
        self._told += 1
        return self._seconds[self._told - 1]

    def write(self, data: bytes) -> None:
        """Take settings."""

    def set_rate(self, baud: int) -> None:
        """Stay."""

    def close(self) -> None:
        """Do nothing."""


def rows() -> list[Row]:
    """Measure listening, reading, and reading on a bad line."""
    nmea, ubx = archive("gpsd")["telit-he910.log"], archive("gpsd")["u-blox-m8t-time.log"]
    clean = nmea + ubx
    bad = _on_a_bad_line(clean)
    ours_s, _ = _best(_ours, clean)
    theirs_s, _ = _best(_theirs, clean)
    _, ours_kept = _best(_ours, bad)
    _, theirs_kept = _best(_theirs, bad)
    kilobytes = len(clean) / 1000
    return [
        Row("gnss", "listening, CPU of the thread", 100 * _listening_s() / LISTEN_S, "% of a core"),
        Row(
            "gnss",
            "reading a stream, CPU",
            1e6 * ours_s / kilobytes,
            "us/kB",
            "pyubx2 UBXReader",
            1e6 * theirs_s / kilobytes,
        ),
        Row("gnss", "bad line, messages kept", ours_kept, "messages", "pyubx2 UBXReader", theirs_kept),
    ]


def _listening_s() -> float:
    clock = HostTime(0)
    gnss = Gnss(lambda _: Recorded(clock), clock, Event(), on_anchor=lambda _: None, baud=9600)
    begin = time.thread_time()
    for _ in range(round(LISTEN_S / LOOK_S)):
        gnss.look()
        clock.sleep(LOOK_S)
    return time.thread_time() - begin


def _on_a_bad_line(data: bytes) -> bytes:
    chance = Random(7)
    noise = (chance.choice((b"$GP", b"\xb5\x62", b"")) + chance.randbytes(6) for _ in iter(int, 1))
    pieces = (data[at : at + NOISE_EVERY_BYTES] for at in range(0, len(data), NOISE_EVERY_BYTES))
    return b"".join(piece + more for piece, more in zip(pieces, noise, strict=False))


def _best(read_: Callable[[bytes], int], data: bytes) -> tuple[float, int]:
    """Return the shortest CPU time, and the number of good messages."""
    times = []
    for _ in range(REPEATS):
        begin = time.thread_time()
        kept = read_(data)
        times.append(time.thread_time() - begin)
    return min(times), kept


def _ours(data: bytes) -> int:
    splitter = Splitter()
    kept = 0
    for at in range(0, len(data), 100):
        for frame in splitter.feed(data[at : at + 100], at, at):
            read(frame)
            kept += 1
    return kept


def _theirs(data: bytes) -> int:
    reader = UBXReader(io.BytesIO(data), protfilter=NMEA_PROTOCOL | UBX_PROTOCOL, quitonerror=0)
    return _count(iter(reader))


def _count(messages: Iterator[tuple[bytes, object]]) -> int:
    kept = 0
    while True:
        try:
            _, message = next(messages)
        except StopIteration:
            return kept
        except Exception:
            continue
        kept += message is not None
