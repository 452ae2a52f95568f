# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The counter runs at 32 MHz from where it was told to start, wraps, and is latched by the PPS."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from drivers.emulator.counter import Counter
from tests.drivers.emulator.bench import Bench

PPS, NOW = 0x6101, 0x6105


def test_the_counter_wraps_at_32_bits() -> None:
    bench = Bench(counter_start_us=(1 << 27) - 500_000)
    bench.write(0x5783, 0x0C)
    bench.transfer("0182ffffff")
    bench.write(0x57C0, 0x05)
    bench.wait_us(400_000)
    assert bench.counter() == ((1 << 27) - 100_000) * 32
    bench.wait_us(400_000)
    assert bench.counter() == 300_000 * 32


def test_one_burst_shows_one_moment(receiving: Bench) -> None:
    receiving.wait_us(1_000_000)
    both = receiving.read(PPS, 8)
    assert both[4:] == receiving.read(NOW, 4)
    assert int.from_bytes(both[4:], "big") - int.from_bytes(both[:4], "big") < 32_000_000


def test_the_pps_is_latched_on_whole_seconds_while_enabled(receiving: Bench) -> None:
    receiving.wait_us(3_000_000 - receiving.now_us % 1_000_000)
    at_edge = receiving.counter()
    receiving.wait_us(999_999)
    assert int.from_bytes(receiving.read(PPS, 4), "big") == at_edge
    receiving.wait_us(1)
    assert int.from_bytes(receiving.read(PPS, 4), "big") == at_edge + 32_000_000
    receiving.write(0x6100, 0)
    receiving.wait_us(5_000_000)
    assert int.from_bytes(receiving.read(PPS, 4), "big") == at_edge + 32_000_000


def test_a_lost_pps_leaves_the_last_one_standing(receiving: Bench) -> None:
    receiving.wait_us(2_000_000)
    last = receiving.read(PPS, 4)
    receiving.chip.counter.set_pps_present(receiving.now_ns, present=False)
    receiving.wait_us(10_000_000)
    assert receiving.read(PPS, 4) == last


def test_a_reset_restarts_the_counter(receiving: Bench) -> None:
    receiving.chip.drive_reset(receiving.now_ns, active=True)
    receiving.chip.drive_reset(receiving.now_ns, active=False)
    receiving.wait_us(1_000_000)
    assert receiving.counter() == 0
    assert receiving.start().counter() < 32 * 2_000_000


@given(
    ppb=st.integers(-20_000, 20_000),
    start_us=st.integers(0, (1 << 27) - 1),
    ticks=st.integers(0, 1 << 44),
)
def test_time_and_ticks_are_inverse(ppb: int, start_us: int, ticks: int) -> None:
    counter = Counter(start_us)
    counter.set_rate_error(0, ppb)
    counter.run(0, running=True)
    target = start_us * 32 + ticks
    at_ns = counter.time_ns(target)
    assert counter.ticks(at_ns) >= target
    assert at_ns == 0 or counter.ticks(at_ns - 1) < target or ticks == 0
