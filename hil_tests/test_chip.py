# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""H01, H05, H06: the chip answers, starts again and again, and keeps time."""

from __future__ import annotations

import time

import pytest

from drivers.sx1302.concentrator import Concentrator
from drivers.sx1302.registers import field
from drivers.sx1302.regmap import RegisterMap
from drivers.sx1302.spi import AddressSpace
from hil_tests.bench import Bench

READ_BACKS = 1000
SCRATCH = field("RX_TOP_MODEM_SYNC_DELTA_LSB_MODEM_SYNC_DELTA")


def test_h01_a_thousand_read_backs_without_an_error(bench: Bench) -> None:
    if bench.bus is None:
        pytest.skip(f"bench {bench.name} gives no bus beside the driver")
    bus = bench.bus()
    registers = RegisterMap(AddressSpace(bus))
    for number in range(READ_BACKS):
        pattern = number * 37 & 0xFF
        registers.write(SCRATCH, pattern)
        assert registers.read(SCRATCH) == pattern, f"read-back {number}"
    bus.close()


def test_h01_the_eui_is_no_empty_memory(concentrator: Concentrator) -> None:
    assert concentrator.eui not in {bytes(8), b"\xff" * 8}


def test_h05_firmware_loads_and_radios_calibrate_twice_in_a_row(concentrator: Concentrator) -> None:
    eui = concentrator.eui
    concentrator.stop()
    concentrator.start()
    assert concentrator.eui == eui
    assert concentrator.receive().faults == {}


def test_h06_the_counter_runs_with_the_host(bench: Bench, concentrator: Concentrator) -> None:
    began_ns, began_us = time.monotonic_ns(), concentrator.counter_us()
    while time.monotonic_ns() - began_ns < 500_000_000:
        assert concentrator.counter_us() >= began_us
    before_ns = time.monotonic_ns()
    counted_us = concentrator.counter_us() - began_us
    # the host cannot know when between two of its readings the chip took the counter
    slack_us = (time.monotonic_ns() - before_ns) / 1000 + 1000
    passed_us = (before_ns - began_ns) / 1000
    assert abs(counted_us - passed_us) <= passed_us * bench.limits.counter_error_ppm / 1e6 + slack_us
