# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The pins of the host that lead to the virtual board: GPIO lines and I2C.

Not modelled: inputs from the board, pulls, edges; I2C clock stretching and speed. The temperature sensor is an STTS751
as on Semtech's reference design; its alarm and one-shot functions are plain storage.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

LINES: Final = 54
"""GPIO lines of the Pi's controller."""

STTS751_ADDRESS: Final = 0x39

_TEMPERATURE_HIGH: Final = 0x00
_TEMPERATURE_LOW: Final = 0x02
_IDENTITY: Final = {0xFD: 0x00, 0xFE: 0x53, 0xFF: 0x01}
_WRITABLE: Final = {0x03: 0x00, 0x04: 0x04, 0x05: 0x55, 0x06: 0x00, 0x07: 0x00, 0x08: 0x00, 0x20: 0x55, 0x21: 0x0A}
_I2C_ADDRESSES: Final = 128


class GpioHeader:
    """Output lines, some of which are wired to the board."""

    def __init__(self) -> None:
        self._levels = [False] * LINES
        self._wires: dict[int, Callable[[bool], None]] = {}

    def wire(self, line: int, drive: Callable[[bool], None]) -> None:
        """Lead a line to the board: `drive` is called with its new level."""
        self._check(line)
        self._wires[line] = drive

    def set(self, line: int, *, high: bool) -> None:
        """Drive a line.

        Raises:
            ValueError: there is no such line.
        """
        self._check(line)
        self._levels[line] = high
        drive = self._wires.get(line)
        if drive is not None:
            drive(high)

    def get(self, line: int) -> bool:
        """Return the level of a line.

        Raises:
            ValueError: there is no such line.
        """
        self._check(line)
        return self._levels[line]

    def high(self) -> list[int]:
        """Return the lines that are high."""
        return [line for line, level in enumerate(self._levels) if level]

    @staticmethod
    def _check(line: int) -> None:
        if not 0 <= line < LINES:
            raise ValueError(f"GPIO line {line}: outside 0 to {LINES - 1}")


class Stts751:
    """A temperature sensor with a register pointer.

    Attributes:
        celsius: what it measures, -64 to 127, in steps of 1/256.
        failing: a fault: it does not acknowledge.
    """

    def __init__(self, celsius: float) -> None:
        self.celsius = celsius
        self.failing = False
        self._pointer = 0
        self._registers = dict(_WRITABLE)

    def write(self, data: bytes) -> None:
        """Take a register address, and values from there on."""
        if data:
            self._pointer = data[0]
            for offset, value in enumerate(data[1:]):
                if self._pointer + offset in _WRITABLE:
                    self._registers[self._pointer + offset] = value

    def read(self, length: int) -> bytes:
        """Return registers from the pointer on."""
        return bytes(self._register((self._pointer + offset) & 0xFF) for offset in range(length))

    def _register(self, address: int) -> int:
        raw = round(self.celsius * 256) & 0xFFFF
        if address == _TEMPERATURE_HIGH:
            return raw >> 8
        if address == _TEMPERATURE_LOW:
            return raw & 0xFF
        return _IDENTITY.get(address, self._registers.get(address, 0))


class I2cBus:
    """The header's I2C, with the sensor on it or with nothing."""

    def __init__(self, sensor: Stts751 | None) -> None:
        self.sensor = sensor

    def transfer(self, address: int, messages: Sequence[bytes | int]) -> list[bytes]:
        """Carry out a combined transaction: bytes are written, a number of bytes is read.

        Returns:
            What was read, one item per reading message.

        Raises:
            OSError: nobody acknowledges (EREMOTEIO, as Linux reports it).
            ValueError: no 7-bit address.
        """
        if not 0 <= address < _I2C_ADDRESSES:
            raise ValueError(f"I2C address 0x{address:02X}: beyond 7 bits")
        if address != STTS751_ADDRESS or self.sensor is None or self.sensor.failing:
            raise OSError(errno.EREMOTEIO, "no acknowledgement", f"i2c 0x{address:02X}")
        answers = []
        for message in messages:
            if isinstance(message, int):
                answers.append(self.sensor.read(message))
            else:
                self.sensor.write(message)
        return answers
