# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""H01 to H06: the chip answers, resets, keeps what it is told, starts again and again, and keeps time."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator

import pytest

from drivers.bus import OutputLine, SpiBus
from drivers.sx1302 import firmware
from drivers.sx1302 import spi as framing
from drivers.sx1302.concentrator import RESET_STEP_S, Concentrator
from drivers.sx1302.counter import WRAP_US
from drivers.sx1302.emulated import is_emulated
from drivers.sx1302.mcu import AGC, PAGE
from drivers.sx1302.registers import ADDRESSES, field, reset_value
from drivers.sx1302.regmap import RegisterMap
from drivers.sx1302.spi import AddressSpace
from drivers.sx1302.startup import KNOWN_VERSIONS, VERSION
from hil_tests.bench.model import LOOK_S, Bench
from hil_tests.bench.roles import SpiDoor
from hil_tests.bench.strategy import State
from hil_tests.conftest import Shelf
from hil_tests.marks import begins, hil, needs
from hil_tests.measured import EMULATED, Measure

SCRATCH = field("RX_TOP_MODEM_SYNC_DELTA_LSB_MODEM_SYNC_DELTA")
WATCHED_US = 500_000
"""Of the counter after its wrap."""
WRAP_LIMIT_S = WRAP_US / 1e6 * 1.1
LENGTHS = sorted({1, 2, 3, 1023, 1024, 1025, 2047, 2048, 2049, 3071, 3072, 3073, 4095, 4096})
"""Around the longest body of one frame, and its multiples."""


@pytest.fixture
def bus(spi: SpiDoor) -> Iterator[SpiBus]:
    opened = spi.open_bus()
    yield opened
    opened.close()


@pytest.fixture
def reset(spi: SpiDoor, shelf: Shelf) -> Iterator[OutputLine]:
    line = spi.open_reset()
    if line is None:
        pytest.skip("the bus resets this chip itself: there is no line")
    yield line
    line.close()
    shelf.clear()


def pulse(line: OutputLine) -> None:
    for active in (True, False):
        line.set(active=active)
        time.sleep(RESET_STEP_S)  # the pulse itself


@hil("H01")
@needs("spi")
@begins(State.BOOTED)
def test_h01_version_and_eui(concentrator: Concentrator, bus: SpiBus, measure: Measure) -> None:
    version = RegisterMap(AddressSpace(bus)).read(VERSION)
    measure.fact("chip version", f"0x{version:02X}")
    if is_emulated(AddressSpace(bus)):
        measure.fact(EMULATED, "yes")  # whatever the bench file says
    assert version in KNOWN_VERSIONS
    measure.fact("EUI", concentrator.eui.hex())
    assert concentrator.eui not in {bytes(8), b"\xff" * 8}


@hil("H01")
@needs("spi")
@begins(State.BOOTED)
@pytest.mark.usefixtures("concentrator")
def test_h01_read_backs(bench: Bench, bus: SpiBus, measure: Measure) -> None:
    registers = RegisterMap(AddressSpace(bus))
    wrong = 0
    for number in range(bench.limits.read_backs):
        pattern = number * 37 & 0xFF
        registers.write(SCRATCH, pattern)
        wrong += registers.read(SCRATCH) != pattern
    measure("read-backs", bench.limits.read_backs, low=1)
    measure("read-backs that differ", wrong, high=0)


@hil("H02")
@needs("spi")
@begins(State.BOOTED)
@pytest.mark.usefixtures("concentrator")
def test_h02_the_reset_line_resets(bus: SpiBus, reset: OutputLine, measure: Measure) -> None:
    registers = RegisterMap(AddressSpace(bus))
    written = SCRATCH.reset ^ 0x5A
    registers.write(SCRATCH, written)
    assert registers.read(SCRATCH) == written
    pulse(reset)
    measure("a written register after the reset", registers.read(SCRATCH), low=SCRATCH.reset, high=SCRATCH.reset)


@hil("H03")
@needs("spi")
@begins(State.BOOTED)
@pytest.mark.usefixtures("concentrator")
def test_h03_reset_values(bus: SpiBus, reset: OutputLine, measure: Measure) -> None:
    pulse(reset)
    differing = RegisterMap(AddressSpace(bus)).prime()
    for address in differing:
        measure.fact(f"register 0x{address:04X}", f"is not 0x{reset_value(address):02X} after a reset")
    measure("register bytes compared", len(ADDRESSES), low=1)
    measure("of these, not at their reset value", len(differing), high=0)


@hil("H04")
@needs("spi")
@begins(State.BOOTED)
def test_h04_bursts_of_all_lengths(
    concentrator: Concentrator, shelf: Shelf, bus: SpiBus, rng: random.Random, measure: Measure
) -> None:
    space = AddressSpace(bus)
    registers = RegisterMap(space)
    concentrator.stop()
    shelf.clear()
    for one, value in ((AGC.clear, 1), (AGC.host_prog, 1), (PAGE, 0)):
        registers.write(one, value)  # its program memory is 8 KiB that the host may write
    lengths = sorted({*LENGTHS, *(rng.randrange(1, 4097) for _ in range(20))})
    wrong = []
    for length in lengths:
        start = AGC.program + rng.randrange(0, firmware.IMAGE_BYTES - length + 1)
        data = rng.randbytes(length)
        space.write(start, data)
        if space.read(start, length) != data:
            wrong.append(length)
    assert framing.BODY_LIMIT_BYTES in lengths
    measure("lengths tried", len(lengths), low=len(LENGTHS))
    measure("of these, with differing bytes", len(wrong), high=0)


@hil("H05")
@needs("spi")
@begins(State.BOOTED)
def test_h05_firmware_and_calibration_twice_in_a_row(concentrator: Concentrator, measure: Measure) -> None:
    eui = concentrator.eui
    concentrator.stop()
    concentrator.start()  # raises what does not load, answer, or calibrate
    assert concentrator.eui == eui
    measure("faults after the second start", sum(concentrator.receive().faults.values()), high=0)


@hil("H06")
@needs("spi")
@begins(State.BOOTED)
@pytest.mark.timeout(WRAP_LIMIT_S * 2)
def test_h06_the_counter_runs_with_the_host_over_its_wrap(
    bench: Bench, spi: SpiDoor, shelf: Shelf, measure: Measure
) -> None:
    """It wraps 134 s after a reset; an emulated one does after two."""
    shelf.clear()
    concentrator = shelf.take(spi)
    first_us = last_us = concentrator.counter_us()
    wrap_us = (first_us // WRAP_US + 1) * WRAP_US
    steps = backwards = 0
    deadline_s = time.monotonic() + WRAP_LIMIT_S
    begin = bracketed(concentrator)
    while last_us < wrap_us + WATCHED_US and time.monotonic() < deadline_s:
        now_us = concentrator.counter_us()
        backwards += now_us < last_us
        steps += now_us > last_us
        last_us = now_us
        time.sleep(LOOK_S)  # the pace of looking, for two minutes on a real one
    end = bracketed(concentrator)
    measure("the counter went back", backwards, high=0)
    measure("the counter went on", steps, low=2)
    measure("after its wrap", (last_us - wrap_us) / 1e6, "s", low=WATCHED_US / 1e6)
    passed_us, counted_us = (end[1] - begin[1]) / 1000, end[0] - begin[0]
    # the host cannot know when within a reading the chip took the counter
    doubt_ppm = (begin[2] + end[2]) / 1000 / passed_us * 1e6
    drift_ppm = max(abs(counted_us - passed_us) / passed_us * 1e6 - doubt_ppm, 0.0)
    measure("drift against the host, beyond doubt", drift_ppm, "ppm", high=bench.limits.counter_error_ppm)


def bracketed(concentrator: Concentrator) -> tuple[int, int, int]:
    """Return the counter, CLOCK_MONOTONIC_RAW in the middle of its reading, and what that took: the best of a few."""
    readings = []
    for _ in range(20):
        before_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW)
        counter_us = concentrator.counter_us()
        after_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW)
        readings.append((counter_us, (before_ns + after_ns) // 2, after_ns - before_ns))
    return min(readings, key=lambda one: one[2])
