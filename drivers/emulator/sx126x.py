# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""A virtual radio of the SX126x command set: modes, status, registers, image calibration. Such is the SX1250.

It exists while its supply is on and its reset is released; otherwise it leaves MISO low. The status byte that goes
out during a command is the one from before the command [trace of HAL 2.1.0].

Not modelled: BUSY and the time a command takes; calibration results; gain, filters, the radio waves. Commands that the
HAL never sends are refused in the status byte, although silicon knows some of them.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

FREQUENCY_REGISTER: Final = 0x088B
"""Four bytes, big-endian: frequency * 2^25 / 32 MHz."""

IMAGE_CALIBRATION_ERROR: Final = 0x0010
_CRYSTAL_HZ: Final = 32_000_000
_STATUS_OK: Final = 0x02
_STATUS_REFUSED: Final = 0x08


class RadioMode(IntEnum):
    """Chip mode as bits 6 to 4 of the status byte tell it."""

    SLEEP = 0
    STANDBY_RC = 2
    STANDBY_XOSC = 3
    FREQUENCY_SYNTHESIS = 4
    RECEIVE = 5
    TRANSMIT = 6


class Opcode(IntEnum):
    """Commands the model executes."""

    CLEAR_DEVICE_ERRORS = 0x07
    WRITE_REGISTER = 0x0D
    GET_DEVICE_ERRORS = 0x17
    READ_REGISTER = 0x1D
    SET_STANDBY = 0x80
    SET_RX = 0x82
    SET_TX = 0x83
    SET_SLEEP = 0x84
    SET_RF_FREQUENCY = 0x86
    CALIBRATE = 0x89
    SET_PACKET_TYPE = 0x8A
    SET_MODULATION_PARAMETERS = 0x8B
    SET_PACKET_PARAMETERS = 0x8C
    SET_TX_PARAMETERS = 0x8E
    SET_BUFFER_BASE_ADDRESS = 0x8F
    SET_PA_CONFIG = 0x95
    CALIBRATE_IMAGE = 0x98
    GET_STATUS = 0xC0
    SET_FREQUENCY_SYNTHESIS = 0xC1


_MODE_AFTER: Final = {
    Opcode.SET_RX: RadioMode.RECEIVE,
    Opcode.SET_TX: RadioMode.TRANSMIT,
    Opcode.SET_SLEEP: RadioMode.SLEEP,
    Opcode.SET_FREQUENCY_SYNTHESIS: RadioMode.FREQUENCY_SYNTHESIS,
}


class Sx126x:
    """One radio.

    Attributes:
        mode: present chip mode.
        registers: the radio's own address space, as far as it was written.
        image_band: the two parameters of the last image calibration.
        fail_image_calibration: a fault: image calibrations end with an error.
        missing: a fault: the part does not answer.
    """

    def __init__(self) -> None:
        self.fail_image_calibration = False
        self.missing = False
        self.mode = RadioMode.STANDBY_RC
        self.registers: dict[int, int] = {}
        self.image_band: tuple[int, int] | None = None
        self._alive = False
        self._errors = 0
        self._command_status = _STATUS_OK

    @property
    def alive(self) -> bool:
        """Whether supply and reset let the radio work."""
        return self._alive and not self.missing

    @property
    def clocking(self) -> bool:
        """Whether its crystal runs, so that it can clock the SX1302."""
        return self.alive and self.mode >= RadioMode.STANDBY_XOSC

    @property
    def receiving(self) -> bool:
        """Whether it is in receive mode."""
        return self.alive and self.mode is RadioMode.RECEIVE

    @property
    def frequency_hz(self) -> float:
        """Centre frequency the synthesiser is set to."""
        word = int.from_bytes(bytes(self.registers.get(FREQUENCY_REGISTER + i, 0) for i in range(4)), "big")
        return word * _CRYSTAL_HZ / (1 << 25)

    def drive(self, *, supplied: bool, running: bool) -> None:
        """Set the supply and the level of the reset pin (high: running)."""
        alive = supplied and running
        if alive and not self._alive:
            self._power_on_reset()
        self._alive = alive

    def transfer(self, command: bytes) -> bytes:
        """Execute one command (opcode and parameters) and return what goes out meanwhile."""
        if not self.alive or not command:
            return bytes(len(command))
        status = (self.mode << 4) | self._command_status
        answer = bytearray([status]) * len(command)
        self._command_status = _STATUS_OK
        try:
            opcode = Opcode(command[0])
        except ValueError:
            if not self._execute_special(command[0], command[1:], answer):
                self._command_status = _STATUS_REFUSED
        else:
            self._execute(opcode, command[1:], answer)
        return bytes(answer)

    def _execute_special(self, opcode: int, parameters: bytes, answer: bytearray) -> bool:  # noqa: ARG002 - for others
        """Execute a command that only some members of the family know; tell whether this one does."""
        return False

    def _load(self, address: int) -> int:
        return self.registers.get(address, 0)

    def _power_on_reset(self) -> None:
        self.mode = RadioMode.STANDBY_RC
        self.registers = {}
        self.image_band = None
        self._errors = 0
        self._command_status = _STATUS_OK

    def _execute(self, opcode: Opcode, parameters: bytes, answer: bytearray) -> None:
        if opcode in _MODE_AFTER:
            self.mode = _MODE_AFTER[opcode]
        elif opcode is Opcode.SET_STANDBY and parameters:
            self.mode = RadioMode.STANDBY_XOSC if parameters[0] & 1 else RadioMode.STANDBY_RC
        elif opcode is Opcode.SET_RF_FREQUENCY and len(parameters) == 4:
            self._store(FREQUENCY_REGISTER, parameters)
        elif opcode is Opcode.WRITE_REGISTER and len(parameters) >= 3:
            self._store(int.from_bytes(parameters[:2], "big"), parameters[2:])
        elif opcode is Opcode.READ_REGISTER and len(parameters) >= 4:
            address = int.from_bytes(parameters[:2], "big")
            for index in range(4, len(answer)):
                answer[index] = self._load((address + index - 4) & 0xFFFF)
        elif opcode is Opcode.CALIBRATE_IMAGE and len(parameters) == 2:
            self.image_band = (parameters[0], parameters[1])
            if self.fail_image_calibration or not 0 < parameters[0] <= parameters[1]:
                self._errors |= IMAGE_CALIBRATION_ERROR
            else:
                self._errors &= ~IMAGE_CALIBRATION_ERROR
        elif opcode is Opcode.GET_DEVICE_ERRORS and len(parameters) == 3:
            answer[2:4] = self._errors.to_bytes(2, "big")
        elif opcode is Opcode.CLEAR_DEVICE_ERRORS:
            self._errors = 0

    def _store(self, address: int, data: bytes) -> None:
        for index, byte in enumerate(data):
            self.registers[(address + index) & 0xFFFF] = byte
