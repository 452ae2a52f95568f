# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The chip's PPS latch, on the emulator: pulses are on the whole seconds of its own time."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from drivers.sx1302.counter import TICKS_PER_US
from tests.drivers.bench import Bench

if TYPE_CHECKING:
    from drivers.sx1302.concentrator import Concentrator
    from drivers.sx1302.pps import Pulse


def _pulses(bench: Bench, concentrator: Concentrator, seconds: float) -> list[Pulse]:
    found = []
    for _ in range(round(seconds / 0.1)):
        bench.clock.sleep(0.1)
        pulse = concentrator.receive().pulse
        if pulse is not None:
            found.append(pulse)
    return found


def test_each_pulse_comes_once_with_its_counter_and_its_moment() -> None:
    bench = Bench(counter_start_us=(1 << 27) - 5_000_000)
    concentrator = bench.started()
    pulses = _pulses(bench, concentrator, 20)
    assert len(pulses) >= 17
    for one, other in pairwise(pulses):
        seconds = round((other.host_ns - one.host_ns) / 1e9)
        assert seconds in {1, 2}
        assert other.counter_ticks - one.counter_ticks == seconds * 1_000_000 * TICKS_PER_US
    emulator_ahead_ns = bench.emulator.now_us() * 1000 - bench.clock.now_ns
    for pulse in pulses:
        off_ns = (pulse.host_ns + emulator_ahead_ns + 500_000_000) % 1_000_000_000 - 500_000_000
        assert abs(off_ns) <= pulse.host_error_ns < 200_000


def test_a_latch_that_stands_still_gives_no_pulse_even_when_the_counter_has_come_round() -> None:
    bench = Bench()
    concentrator = bench.started()
    assert _pulses(bench, concentrator, 3)
    bench.emulator.fault("pps_lost")
    _pulses(bench, concentrator, 1.2)
    assert _pulses(bench, concentrator, 300) == []
    bench.emulator.clear_faults()
    assert len(_pulses(bench, concentrator, 5)) >= 3


def test_what_the_latch_held_when_the_chip_started_is_no_pulse() -> None:
    bench = Bench()
    bench.emulator.fault("pps_lost")
    concentrator = bench.started()
    assert _pulses(bench, concentrator, 300) == []
