# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The temperature sensor: read when it is there, done without when it is not."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from drivers.emulator import Emulator
from drivers.emulator.header import STTS751_ADDRESS
from drivers.emulator.program import run_program
from drivers.errors import BusError, ChipError
from drivers.linux.i2c import LinuxI2cDevice
from drivers.stts751 import Stts751
from tests.drivers.bench import TestClock

if TYPE_CHECKING:
    from pathlib import Path


class EmulatedDevice:
    """A device on the emulator's I2C bus."""

    def __init__(self, emulator: Emulator, address: int = STTS751_ADDRESS) -> None:
        self._emulator = emulator
        self._address = address

    def read(self, register: int) -> int:
        return self._transfer([bytes((register,)), 1])[0][0]

    def write(self, register: int, value: int) -> None:
        self._transfer([bytes((register, value))])

    def _transfer(self, messages: list[bytes | int]) -> list[bytes]:
        try:
            return self._emulator.i2c(self._address, messages)
        except OSError as error:
            raise BusError("no acknowledgement", op="transfer", where="i2c", hint="", code="CG-I2C-002") from error


@pytest.mark.parametrize("celsius", [-40.25, -0.5, 0.0, 25.0, 84.9375])
def test_it_tells_the_temperature(celsius: float) -> None:
    assert Stts751(EmulatedDevice(Emulator(celsius=celsius)), TestClock()).celsius() == celsius


def test_a_reading_serves_for_a_while_and_a_failing_sensor_is_an_error() -> None:
    clock, emulator = TestClock(), Emulator(celsius=30.0)
    sensor = Stts751(EmulatedDevice(emulator), clock)
    assert sensor.celsius() == 30.0
    emulator.fault("i2c")
    assert sensor.celsius() == 30.0
    clock.sleep(11)
    with pytest.raises(BusError):
        sensor.celsius()


def test_a_board_without_it_and_another_device_in_its_place_are_told_apart() -> None:
    with pytest.raises(BusError):
        Stts751(EmulatedDevice(Emulator(celsius=None)), TestClock())

    class Other(EmulatedDevice):
        def read(self, register: int) -> int:
            return 0x42

    with pytest.raises(ChipError, match="product 0x42 of manufacturer 0x42"):
        Stts751(Other(Emulator()), TestClock())


def test_a_bus_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BusError, match="No such file") as caught:
        LinuxI2cDevice(str(tmp_path / "i2c-1"), 0x39).read(0)
    assert caught.value.code == "CG-I2C-001"
    (tmp_path / "file").write_text("")
    device = LinuxI2cDevice(str(tmp_path / "file"), 0x39)
    with pytest.raises(BusError) as caught:
        device.read(0)
    assert caught.value.code == "CG-I2C-002"


PROGRAM = f"""
from drivers.linux.clock import SystemClock
from drivers.linux.i2c import LinuxI2cDevice
from drivers.stts751 import Stts751
device = LinuxI2cDevice("/dev/i2c-1", {STTS751_ADDRESS})
assert Stts751(device, SystemClock()).celsius() == -7.5
"""


def test_the_kernels_interface_is_spoken_as_the_virtual_device_understands_it() -> None:
    assert run_program(Emulator(celsius=-7.5), [sys.executable, "-c", PROGRAM]) == 0
