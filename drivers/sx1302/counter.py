# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The concentrator's clock: a 32-bit counter at 32 MHz, made into 64 bits of microseconds.

The counter wraps every 134 s. How often it wrapped is told by the host's monotonic clock and not by luck
with polling, so that a process that was stopped for an hour still knows; and a counter that is not where
the host's clock says it must be has been restarted (brown-out, reset), which must never look like a wrap.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from drivers.sx1302.registers import field

if TYPE_CHECKING:
    from drivers.bus import Clock
    from drivers.sx1302.spi import AddressSpace

TICKS_PER_US: Final = 32
WRAP_US: Final = 1 << 27
"""The 32-bit counter in microseconds: 134.217728 s."""

PPS_MSB = field("TIMESTAMP_TIMESTAMP_PPS_MSB2_TIMESTAMP_PPS")
"""First of eight bytes: the counter latched at the last PPS, then the counter now, both big-endian."""

READING_BYTES: Final = 8
NOW_OFFSET: Final = 4

DRIFT_LIMIT_PPM: Final = 100
"""Farthest that concentrator and host may run apart: both crystals at their worst, and NTP slewing on top."""

JITTER_LIMIT_US: Final = 50_000
"""What remains unexplained between a counter reading and the host time beside it."""


@dataclass(frozen=True, slots=True)
class CounterSample:
    """The counter at a moment of the host.

    Attributes:
        counter_us: unwrapped, microseconds since the chip's start.
        host_ns: CLOCK_MONOTONIC_RAW in the middle of the reading.
        bracket_us: how long the reading took; the counter was sampled within it.
    """

    counter_us: int
    host_ns: int
    bracket_us: int = 0


@dataclass(frozen=True, slots=True)
class CounterReading:
    """What the chip said, and when the host heard it.

    Attributes:
        ticks: the 32 MHz counter, 32 bits.
        pps_ticks: the same counter at the last PPS, 32 bits.
        host_ns: CLOCK_MONOTONIC_RAW in the middle of the reading.
        bracket_us: how long the reading took.
    """

    ticks: int
    pps_ticks: int
    host_ns: int
    bracket_us: int


def first_sample(reading: CounterReading) -> CounterSample:
    """Start unwrapping: nothing is known of earlier wraps, the counter counts from the chip's start."""
    return CounterSample(reading.ticks // TICKS_PER_US, reading.host_ns, reading.bracket_us)


def next_sample(last: CounterSample, reading: CounterReading) -> CounterSample | None:
    """Unwrap a reading, given the one before.

    Returns:
        The sample; None when the counter is not where it must be: the chip was restarted behind our back.
    """
    elapsed_us = (reading.host_ns - last.host_ns) // 1000
    expected_us = last.counter_us + elapsed_us
    low_us = reading.ticks // TICKS_PER_US
    wraps = (expected_us - low_us + WRAP_US // 2) // WRAP_US
    counter_us = wraps * WRAP_US + low_us
    tolerance_us = JITTER_LIMIT_US + last.bracket_us + reading.bracket_us + elapsed_us * DRIFT_LIMIT_PPM // 1_000_000
    if abs(counter_us - expected_us) > tolerance_us or counter_us < last.counter_us:
        return None
    return CounterSample(counter_us, reading.host_ns, reading.bracket_us)


def before(sample: CounterSample, ticks: int) -> int:
    """Unwrap a 32-bit time stamp that lies at most one wrap before a sample.

    Args:
        sample: taken after the event that the stamp belongs to.
        ticks: the chip's stamp of the event.

    Returns:
        Microseconds since the chip's start; negative when the event were before it.
    """
    return sample.counter_us - (sample.counter_us - ticks // TICKS_PER_US) % WRAP_US


def before_ticks(sample: CounterSample, ticks: int) -> int:
    """Unwrap a 32-bit time stamp as `before` does, and keep its resolution of 31.25 ns."""
    latest = sample.counter_us * TICKS_PER_US + TICKS_PER_US - 1
    return latest - (latest - ticks) % (1 << 32)


def read_counter(space: AddressSpace, clock: Clock) -> CounterReading:
    """Read the counter and its latch.

    The chip may change a byte in the middle of a burst, so the burst is read twice; when the leading byte
    of either value changed between the two, a third reading decides [HAL 2.1.0 timestamp_counter_get].

    Raises:
        BusError: a transfer did not complete.
    """
    begin_ns = clock.monotonic_ns()
    first, second = space.read_twice(PPS_MSB.address, READING_BYTES)
    if first[0] != second[0] or first[NOW_OFFSET] != second[NOW_OFFSET]:
        begin_ns = clock.monotonic_ns()
        first = space.read(PPS_MSB.address, READING_BYTES)
    end_ns = clock.monotonic_ns()
    return CounterReading(
        ticks=int.from_bytes(first[NOW_OFFSET:], "big"),
        pps_ticks=int.from_bytes(first[:NOW_OFFSET], "big"),
        host_ns=(begin_ns + end_ns) // 2,
        bracket_us=(end_ns - begin_ns) // 1000,
    )
