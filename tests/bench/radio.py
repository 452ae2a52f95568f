# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The driver against the vendor's: messages and bytes on SPI, and what the driver costs the host.

The vendor's numbers are those of its software V2.1.0 with the EU868 sample configuration, recorded on a virtual
concentrator: 707 messages and 35.9 kB from reset to reception, 1115 messages with an SX1261, 750 messages per second in
the packet forwarder's idle loop, 5 for a fetch that brings a frame, 66 for a downlink. Our own count is that on the
emulator; what the kernel and the SPI controller take for a message is not in it, and neither is the emulator in the
CPU time.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from drivers.emulator import Model
from drivers.sx1302.fine import FineTimestamps
from drivers.sx1302.transmission import LoraTransmission, Trigger
from tests.bench import Row
from tests.drivers.bench import Bench, packet

if TYPE_CHECKING:
    from collections.abc import Sequence

    from drivers.bus import SpiBus
    from drivers.sx1302.concentrator import Concentrator

VENDOR = "sx1302_hal 2.1.0"
POLL_S = 0.010
IDLE_S = 300
FETCHES = 50
FRAMES_PER_FETCH = 40
PAYLOAD_BYTES = 24


@dataclass
class Meter:
    """A bus that counts, and knows how long the bus behind it took."""

    bus: SpiBus
    messages: int = 0
    sent_bytes: int = 0
    behind_s: float = 0.0

    def transfer(self, frame: bytes) -> bytes:
        """Pass one frame on."""
        self.messages += 1
        self.sent_bytes += len(frame)
        begin = time.thread_time()
        answer = self.bus.transfer(frame)
        self.behind_s += time.thread_time() - begin
        return answer

    def transfer_all(self, frames: Sequence[bytes]) -> list[bytes]:
        """Pass frames on."""
        return [self.transfer(frame) for frame in frames]

    def close(self) -> None:
        """Close the bus behind."""
        self.bus.close()


class Lap:
    """What happened on a meter, and on this thread's clock, since its start."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._messages, self._bytes, self._behind_s = meter.messages, meter.sent_bytes, meter.behind_s
        self._begin = time.thread_time()
        self.messages, self.sent_bytes, self.driver_s = 0, 0, 0.0

    def stop(self) -> Lap:
        """Take the values."""
        self.driver_s = time.thread_time() - self._begin - (self._meter.behind_s - self._behind_s)
        self.messages = self._meter.messages - self._messages
        self.sent_bytes = self._meter.sent_bytes - self._bytes
        return self


def rows() -> list[Row]:
    """Measure start, idling, reception and a downlink."""
    bench = Bench()
    meter = Meter(bench.bus.bus)
    bench.bus.bus = meter
    concentrator = bench.concentrator()

    begin_ns, lap = bench.clock.now_ns, Lap(meter)
    concentrator.start()
    start, waited_s = lap.stop(), (bench.clock.now_ns - begin_ns) / 1e9

    idle = _listen(bench, meter, concentrator)

    single = _receive(bench, meter, concentrator, 1)
    many = _receive(bench, meter, concentrator, FRAMES_PER_FETCH)

    bench.clock.sleep(1.0)
    lap = Lap(meter)
    concentrator.transmit(LoraTransmission(868_100_000, 14, 125_000, 9, 1, bytes(20)), Trigger.IMMEDIATE)
    downlink = lap.stop()

    lap = Lap(meter)
    concentrator.revive()
    repair = lap.stop()

    fine = _idle(Bench(model=Model.SX1303, fine_timestamps=FineTimestamps.ALL_SF))
    frames = FETCHES * FRAMES_PER_FETCH
    return [
        Row("radio", "start, messages", start.messages, "messages", VENDOR, 707),
        Row("radio", "start, on the wire", start.sent_bytes / 1000, "kB", VENDOR, 35.9),
        Row("radio", "start, waits and driver", waited_s + start.driver_s, "s", VENDOR, 2.3),
        Row("radio", "start with an SX1261, messages", _start_with_sx1261(), "messages", VENDOR, 1115),
        Row("radio", "reload of the microcontrollers, messages", repair.messages, "messages"),
        Row("radio", "reload of the microcontrollers, on the wire", repair.sent_bytes / 1000, "kB"),
        Row("radio", "idle, messages", idle.messages / IDLE_S, "messages/s", VENDOR, 750),
        Row("radio", "idle with fine time stamps, messages", fine.messages / IDLE_S, "messages/s", VENDOR, 750),
        Row("radio", "idle, on the wire", idle.sent_bytes / IDLE_S, "bytes/s"),
        Row("radio", "idle, driver's CPU", 100 * idle.driver_s / IDLE_S, "% of a core", "limit", 1.0),
        Row("radio", "a frame alone, messages", single.messages / FETCHES, "messages/frame", VENDOR, 5),
        Row("radio", f"{FRAMES_PER_FETCH} frames at once, messages", many.messages / frames, "messages/frame"),
        Row("radio", "a frame alone, driver's CPU", 1e6 * single.driver_s / FETCHES, "us/frame"),
        Row("radio", f"{FRAMES_PER_FETCH} frames at once, driver's CPU", 1e6 * many.driver_s / frames, "us/frame"),
        Row("radio", "downlink, messages", downlink.messages, "messages", VENDOR, 66),
        Row("radio", "downlink, on the wire", downlink.sent_bytes, "bytes", VENDOR, 301),
        Row("radio", "downlink, driver's CPU", 1000 * downlink.driver_s, "ms"),
    ]


def _listen(bench: Bench, meter: Meter, concentrator: Concentrator) -> Lap:
    lap = Lap(meter)
    for _ in range(round(IDLE_S / POLL_S)):
        concentrator.receive()
        bench.clock.sleep(POLL_S)
    return lap.stop()


def _idle(bench: Bench) -> Lap:
    """Let a concentrator of its own hear nothing."""
    meter = Meter(bench.bus.bus)
    bench.bus.bus = meter
    return _listen(bench, meter, bench.started())


def _start_with_sx1261() -> int:
    """Count the messages of a start to both chips."""
    bench = Bench(sx1261=True)
    bench.concentrator().start()
    assert bench.bus_1261 is not None
    return len(bench.bus.sent) + len(bench.bus_1261.sent)


def _receive(bench: Bench, meter: Meter, concentrator: Concentrator, frames: int) -> Lap:
    """Let the concentrator hear frames, so many at a time."""
    total = Lap(meter).stop()
    for _ in range(FETCHES):
        for number in range(frames):
            bench.emulator.inject(packet(number, size=PAYLOAD_BYTES))
        lap = Lap(meter)
        fetch = concentrator.receive()
        lap.stop()
        assert len(fetch.packets) == frames
        total.messages += lap.messages
        total.sent_bytes += lap.sent_bytes
        total.driver_s += lap.driver_s
        bench.clock.sleep(POLL_S)
    return total
