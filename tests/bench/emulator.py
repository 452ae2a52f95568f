# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The virtual concentrator's cost: whether one core emulates busy air in real time, in process and under a program.

The host's side is what the vendor's packet forwarder does: 750 messages per second whether or not there is something to
read, and whatever waits fetched in one burst every 10 ms. Under a program, that is a small one on the real `spidev`;
its own interpreter's time is in that of a message.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Thread
from typing import TYPE_CHECKING

from drivers.emulator import AirPacket, Emulator
from drivers.emulator.program import run_program
from tests.bench import Row
from tests.drivers.bench import TestClock
from tests.drivers.emulator.bench import marks
from tests.drivers.emulator.bench import rows as recorded

if TYPE_CHECKING:
    from drivers.bus import SpiBus

ONE_CORE = 100.0
IN_PROCESS_HZ = 1000
IN_PROCESS_S = 10
PRELOADED_HZ = 200
PRELOADED_S = 5
PAYLOAD_BYTES = 24
POLL_S = 0.010
POLL_MESSAGES = 7
"""Besides the fetch; with it the 7.5 messages that the forwarder makes of 10 ms."""

FILL_LEVEL = bytes.fromhex("0058c800 0000")
COUNTER = bytes.fromhex("00610500 00000000")

CLIENT = """
import json, sys, time
import spidev
from tests.bench.emulator import COUNTER, FILL_LEVEL, POLL_MESSAGES, POLL_S, PRELOADED_S, start_messages
spi = spidev.SpiDev()
spi.open(0, 0)
for message in start_messages():
    spi.xfer2(message)
print(json.dumps("running"), file=open(sys.argv[1], "w"), flush=True)
fetched, messages, busy_s, end = 0, 0, 0.0, time.monotonic() + PRELOADED_S
while (begin := time.monotonic()) < end:
    waiting = int.from_bytes(bytes(spi.xfer2(FILL_LEVEL)[4:6]), "big")
    for _ in range(POLL_MESSAGES - 1):
        spi.xfer2(COUNTER)
    busy_s += time.monotonic() - begin
    messages += POLL_MESSAGES
    if waiting:
        fetched += len(spi.xfer2(b"\\0\\x40\\0\\0" + bytes(min(waiting, 4092)))) - 4
    time.sleep(max(begin + POLL_S - time.monotonic(), 0))
json.dump({"fetched": fetched, "message_s": busy_s / messages}, open(sys.argv[1], "w"))
"""


def start_messages() -> list[bytes]:
    """Return what the vendor's forwarder sent from reset to reception."""
    running = marks("pktfwd_eu868")["running"]
    return [row.mosi for row in recorded("pktfwd_eu868") if row.number <= running]


def rows() -> list[Row]:
    """Measure a message, 1000 frames a second in process, and 200 through the preloaded library."""
    return _in_process() + _preloaded()


def _in_process() -> list[Row]:
    clock = TestClock()
    emulator = Emulator(monotonic_ns=clock.monotonic_ns)
    bus = emulator.bus()
    for message in start_messages():
        bus.transfer(message)
        clock.sleep(0.001)

    begin = time.process_time()
    for _ in range(50_000):
        bus.transfer(COUNTER)
    message_s = (time.process_time() - begin) / 50_000

    frames = IN_PROCESS_HZ * IN_PROCESS_S
    packets = [packet(number) for number in range(frames)]
    each = round(IN_PROCESS_HZ * POLL_S)
    begin = time.process_time()
    for first in range(0, frames, each):
        now_us = emulator.now_us()
        emulator.inject_many([(packets[first + at], now_us + 20_000 + 1000 * at) for at in range(each)])
        _poll(bus)
        clock.sleep(POLL_S)
    core = 100 * (time.process_time() - begin) / IN_PROCESS_S
    clock.sleep(1.0)
    _poll(bus)
    return [
        Row("emulator", "in process, a message", 1e6 * message_s, "us"),
        Row("emulator", f"in process, {IN_PROCESS_HZ} frames/s", core, "% of a core", "one core", ONE_CORE),
        Row("emulator", "in process, frames that were read", _read_share(emulator), "% of what was sent"),
    ]


def _poll(bus: SpiBus) -> None:
    waiting = int.from_bytes(bus.transfer(FILL_LEVEL)[4:6], "big")
    for _ in range(POLL_MESSAGES - 1):
        bus.transfer(COUNTER)
    if waiting:
        bus.transfer(b"\0\x40\0\0" + bytes(waiting))


def _preloaded() -> list[Row]:
    emulator, done = Emulator(), Event()
    with TemporaryDirectory(prefix="civigate-bench-") as folder:
        report = Path(folder) / "report"
        air = Thread(target=_transmit, args=(emulator, report, done))
        air.start()
        begin = time.process_time()
        code = run_program(emulator, [sys.executable, "-c", CLIENT, str(report)])
        used_s = time.process_time() - begin
        done.set()
        air.join()
        if code != 0:
            raise RuntimeError(f"the program on the emulator ended with {code}")
        told = json.loads(report.read_text())
    return [
        Row("emulator", "under a program, a message", 1e6 * told["message_s"], "us"),
        Row(
            "emulator",
            f"under a program, {PRELOADED_HZ} frames/s",
            100 * used_s / PRELOADED_S,
            "% of a core",
            "one core",
            ONE_CORE,
        ),
        Row("emulator", "under a program, frames that were read", _read_share(emulator), "% of what was sent"),
    ]


def _transmit(emulator: Emulator, report: Path, done: Event) -> None:
    while not report.exists() and not done.wait(0.01):
        pass
    begin = time.monotonic()
    # The last ones leave the program time to fetch them.
    for number in range(PRELOADED_HZ * (PRELOADED_S - 1)):
        if done.wait(max(begin + number / PRELOADED_HZ - time.monotonic(), 0)):
            return
        emulator.inject(packet(number))


def _read_share(emulator: Emulator) -> float:
    entries, _ = emulator.rxlog(limit=IN_PROCESS_HZ * IN_PROCESS_S)
    return 100 * sum(entry.read for entry in entries) / len(entries)


def packet(number: int) -> AirPacket:
    """Return an uplink on one of the channels that are received."""
    frequency_hz = (868_100_000, 868_300_000, 868_500_000, 867_100_000)[number % 4]
    return AirPacket(frequency_hz, number.to_bytes(4, "big") + bytes(PAYLOAD_BYTES - 4), sf=7 + number % 6)
