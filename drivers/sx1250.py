# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The SX1250 radio front end: calibration and continuous reception.

It is reached through the SX1302's SPI multiplexer and only until the AGC takes over. Its BUSY line is not
wired, so each command waits out the longest processing time instead [HAL 2.1.0 loragw_sx1250.c]. Register
names are ours where the vendor gives none.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Final

from drivers.errors import ChipError

if TYPE_CHECKING:
    from drivers.bus import Clock
    from drivers.sx1302.spi import AddressSpace, Target

CRYSTAL_HZ: Final = 32_000_000
COMMAND_GAP_S: Final = 0.001
"""Before each command, in place of polling BUSY."""

SETTLE_S: Final = 0.010
"""After changing the standby mode and after calibrating."""


class Command(IntEnum):
    """Opcodes, as in the SX1261/2 family."""

    CALIBRATE = 0x89
    CALIBRATE_IMAGE = 0x98
    GET_DEVICE_ERRORS = 0x17
    GET_STATUS = 0xC0
    SET_RF_FREQUENCY = 0x86
    SET_RX = 0x82
    SET_STANDBY = 0x80
    WRITE_REGISTER = 0x0D


class ChipMode(IntEnum):
    """Bits 6 to 4 of the status byte."""

    STANDBY_RC = 2
    STANDBY_XOSC = 3
    FREQUENCY_SYNTHESIS = 4
    RX = 5
    TX = 6


STANDBY_RC: Final = 0x00
STANDBY_XOSC: Final = 0x01
CALIBRATE_ALL_BLOCKS: Final = 0x7F
RX_CONTINUOUS: Final = bytes((0xFF, 0xFF, 0xFF))
IMAGE_CALIBRATION_ERROR: Final = 1 << 4
"""In the low byte of the device errors."""

REG_MAX_BITRATE: Final = 0x06A1
"""Three bytes; 01 00 00 shortens the way from TX to frequency synthesis."""

REG_DIO_OUTPUT_ENABLE: Final = 0x0580
REG_DIO_DRIVE_STRENGTH: Final = 0x0582
REG_DIO_INPUT_ENABLE: Final = 0x0583
REG_DIO_PULL_UP: Final = 0x0584
REG_DIO_PULL_DOWN: Final = 0x0585
REG_FPGA_MODE_RX: Final = 0x0587
REG_FREQUENCY_OFFSET: Final = 0x088F
REG_RX_GAIN: Final = 0x08B6
REG_SINGLE_INPUT: Final = 0x08E2

_DIGITAL_INTERFACE: Final = (
    (REG_MAX_BITRATE, 0x01),
    (REG_MAX_BITRATE + 1, 0x00),
    (REG_MAX_BITRATE + 2, 0x00),
    (REG_DIO_DRIVE_STRENGTH, 0x00),
    (REG_DIO_INPUT_ENABLE, 0x00),
    (REG_DIO_PULL_UP, 0x00),
    (REG_DIO_PULL_DOWN, 0x00),
    (REG_DIO_OUTPUT_ENABLE, 0x00),
    (REG_RX_GAIN, 0x2A),
)
"""Registers that make the radio stream samples to the SX1302, with a fixed gain until the AGC takes over."""

SINGLE_INPUT_VALUE: Final = 0x0D
FPGA_MODE_RX_VALUE: Final = 0x0B

IMAGE_CALIBRATION: Final = (
    (430_000_000, 440_000_000, bytes((0x6B, 0x6F))),
    (470_000_000, 510_000_000, bytes((0x75, 0x81))),
    (779_000_000, 787_000_000, bytes((0xC1, 0xC5))),
    (863_000_000, 870_000_000, bytes((0xD7, 0xDB))),
    (902_000_000, 928_000_000, bytes((0xE1, 0xE9))),
)
"""Band edges in Hz, both exclusive, and the parameters of CalibrateImage [HAL 2.1.0]."""

_SILENT_HINT = "the radio does not answer: check reset line, its polarity and the power line in the board profile"
_STUCK_HINT = "switch the board off and on; if it stays, the radio or its supply is damaged"


def frequency_register(frequency_hz: int) -> int:
    """Return the 32-bit word of SetRfFrequency: steps of 32 MHz / 2^25, truncated."""
    return (frequency_hz << 25) // CRYSTAL_HZ


def image_calibration(frequency_hz: int) -> bytes | None:
    """Return the parameters of CalibrateImage for a centre frequency; None where there are none."""
    for low_hz, high_hz, parameters in IMAGE_CALIBRATION:
        if low_hz < frequency_hz < high_hz:
            return parameters
    return None


class Sx1250:
    """One radio of a concentrator.

    Args:
        space: the way to it.
        target: which of the two it is.
        clock: for the pauses between commands.
    """

    def __init__(self, space: AddressSpace, target: Target, clock: Clock) -> None:
        self._space = space
        self._target = target
        self._clock = clock

    @property
    def name(self) -> str:
        """The radio, as errors call it."""
        return f"SX1250 {self._target.name[-1]}"

    def status(self) -> int:
        """Return the status byte.

        Raises:
            BusError: the transfer did not complete.
        """
        return self._command(Command.GET_STATUS, b"\x00")[1]

    def calibrate_image(self, frequency_hz: int) -> None:
        """Calibrate the image rejection for the band of `frequency_hz`.

        Raises:
            BusError: the transfer did not complete.
            ChipError: there is no calibration for that frequency, or the radio reports that it failed.
        """
        parameters = image_calibration(frequency_hz)
        if parameters is None:
            bands = ", ".join(f"{low // 10**6}-{high // 10**6}" for low, high, _ in IMAGE_CALIBRATION)
            what = f"no image calibration for {frequency_hz} Hz"
            raise self._error("calibrate", what, f"use a centre inside {bands} MHz", "CG-RADIO-001")
        self.status()
        self._command(Command.CALIBRATE_IMAGE, parameters)
        self._clock.sleep(SETTLE_S)
        errors = self._command(Command.GET_DEVICE_ERRORS, bytes(3))[3]
        if errors & IMAGE_CALIBRATION_ERROR:
            what = f"image calibration failed, device errors 0x{errors:02X}"
            raise self._error("calibrate", what, _STUCK_HINT, "CG-RADIO-002")

    def receive(self, frequency_hz: int, *, single_input: bool) -> None:
        """Tune to `frequency_hz` and receive until reset; from here on the radio can clock the SX1302.

        Raises:
            BusError: the transfer did not complete.
            ChipError: the radio does not go into standby.
        """
        self._standby(STANDBY_RC, ChipMode.STANDBY_RC)
        self._command(Command.CALIBRATE, bytes((CALIBRATE_ALL_BLOCKS,)))
        self._clock.sleep(SETTLE_S)
        self._standby(STANDBY_XOSC, ChipMode.STANDBY_XOSC)
        for register, value in _DIGITAL_INTERFACE:
            self._write(register, bytes((value,)))
        self._command(Command.SET_RF_FREQUENCY, frequency_register(frequency_hz).to_bytes(4, "big"))
        self._write(REG_FREQUENCY_OFFSET, bytes(3))
        self._command(Command.SET_RX, RX_CONTINUOUS)
        if single_input:
            self._write(REG_SINGLE_INPUT, bytes((SINGLE_INPUT_VALUE,)))
        self._write(REG_FPGA_MODE_RX, bytes((FPGA_MODE_RX_VALUE,)))

    def _standby(self, kind: int, expected: ChipMode) -> None:
        self._command(Command.SET_STANDBY, bytes((kind,)))
        self._clock.sleep(SETTLE_S)
        status = self.status()
        mode = status >> 4 & 0x7
        if mode != expected:
            what = f"status 0x{status:02X} instead of mode {expected.name}"
            silent = status in (0x00, 0xFF)
            raise self._error("start radio", what, _SILENT_HINT if silent else _STUCK_HINT, "CG-RADIO-003")

    def _write(self, register: int, data: bytes) -> None:
        self._command(Command.WRITE_REGISTER, register.to_bytes(2, "big") + data)

    def _command(self, command: Command, parameters: bytes) -> bytes:
        self._clock.sleep(COMMAND_GAP_S)
        return self._space.radio(self._target, bytes((command,)) + parameters)

    def _error(self, op: str, what: str, hint: str, code: str) -> ChipError:
        return ChipError(what, op=op, where=self.name, hint=hint, code=code)
