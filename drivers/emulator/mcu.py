# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The two microcontrollers of the virtual concentrator: program memory, release, and what their programs do.

A microcontroller runs from the moment neither MCU_CLEAR nor HOST_PROG is set and the chip is clocked. It then looks
at its memory once: a word with wrong parity sets PARITY_ERROR and it stays silent; an image that is unknown, or
the other microcontroller's, stays silent too (status 0, what users meet as a start that hangs). The program of a
recognised image is a table of handshakes here.

Not modelled: instructions, and therefore time (a real start takes some milliseconds, here the answer is there at
once); programs of the 1.x releases and of SX125x boards beyond the version they report; gain control; the statistics
beyond detections and allocations.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from drivers.emulator.firmware import identify, parity_holds
from drivers.sx1302.firmware import IMAGE_BYTES, Mcu

if TYPE_CHECKING:
    from collections.abc import Callable

    from drivers.emulator.registers import RegisterFile

AGC_CONTROL: Final = 0x5780
ARB_CONTROL: Final = 0x6080
_MCU_CLEAR: Final = 0x04
_HOST_PROG: Final = 0x02
_PARITY_ERROR: Final = 0x01

AGC_STATUS: Final = 0x5781
_MAILBOX_TO_MCU: Final = 0x578C
"""Byte 0; byte n lies n addresses below."""
_MAILBOX_FROM_MCU: Final = 0x5790
_COMMAND: Final = 0x5789
"""Byte 3 of the mailbox: writing it is the command."""

ARB_STATUS: Final = 0x6081
_ARB_CONFIG: Final = 0x6089
_ARB_RESUME: Final = 0x608A
_ARB_DEBUG: Final = 0x608D
_ARB_DEBUG_BYTES: Final = 16

_BOOTED: Final = 0x01
RUNNING: Final = 0x00


class Microcontroller:
    """Memory and release logic that both microcontrollers share.

    Attributes:
        memory: the program memory as the host wrote it.
        alive: a recognised program is running (it may still be waiting for its parameters).
        ready: it has all its parameters and does its work.
        silent: a fault: it never starts.
        on_release: called whenever it is let run, before it does.
    """

    def __init__(self, kind: Mcu, control: int, registers: RegisterFile, complain: Callable[[str], None]) -> None:
        self.kind = kind
        self.memory = bytearray(IMAGE_BYTES)
        self.alive = False
        self.ready = False
        self.silent = False
        self.on_release: Callable[[], None] | None = None
        self._control = control
        self._registers = registers
        self._complain = complain
        self._clocked = False
        self._released = False
        registers.on_write[control] = self._on_control

    @property
    def programmable(self) -> bool:
        """Whether the host owns the program memory."""
        return bool(self._registers.stored[self._control] & _HOST_PROG)

    def reset(self) -> None:
        """Stop; the memory keeps its content, as RAM does."""
        self.alive = self.ready = self._clocked = self._released = False

    def clock(self, *, running: bool) -> None:
        """Give or take the clock; a released program starts with it."""
        self._clocked = running
        self._judge()

    def lose_parity(self) -> None:
        """Notice a parity error while running (a fault)."""
        self._registers.set_bits(self._control, _PARITY_ERROR)

    def _on_control(self, _old: int, _new: int, _value: int) -> None:
        self._judge()

    def _judge(self) -> None:
        control = self._registers.stored[self._control]
        released = self._clocked and not control & (_MCU_CLEAR | _HOST_PROG)
        if released and not self._released:
            self._release()
        elif not released and self._released and control & (_MCU_CLEAR | _HOST_PROG):
            self.alive = self.ready = False
            self._registers.clear_bits(self._control, _PARITY_ERROR)
            self._stopped()
        if released or control & (_MCU_CLEAR | _HOST_PROG):
            self._released = released

    def _release(self) -> None:
        if self.on_release is not None:
            self.on_release()
        image = bytes(self.memory)
        if not parity_holds(image):
            self._registers.set_bits(self._control, _PARITY_ERROR)
            self._complain(f"{self.kind.upper()} released with a parity error in its program")
            return
        program = identify(image)
        if program is None or program.mcu is not self.kind:
            found = "an unknown image" if program is None else f"the {program.mcu.upper()} image"
            self._complain(f"{self.kind.upper()} released with {found}: it stays silent")
            return
        if self.silent:
            return
        self.alive = True
        self._booted(program.version)

    def _booted(self, version: int) -> None:
        raise NotImplementedError

    def _stopped(self) -> None:
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class _Handshake:
    """One exchange with the AGC: the command that is due, how many parameters it echoes, the status after it."""

    command: int
    echoed: int
    status: int


# From boot to running, in the only order the program takes [HAL 2.1.0 sx1302_agc_start, SX1250].
_AGC_HANDSHAKES: Final = (
    _Handshake(0x80, 3, 0x02),  # gains of radio A
    _Handshake(0x20, 3, 0x03),  # gains of radio B
    _Handshake(0x03, 2, 0x04),  # analogue gain range
    _Handshake(0x04, 2, 0x05),  # analogue gain thresholds
    _Handshake(0x05, 2, 0x06),  # decimator attenuation range
    _Handshake(0x06, 3, 0x07),  # decimator attenuation thresholds
    _Handshake(0x07, 2, 0x08),  # channel attenuation range
    _Handshake(0x08, 2, 0x09),  # channel attenuation thresholds
    _Handshake(0x09, 3, 0x0A),  # PA configuration of the SX1250
    _Handshake(0x0A, 1, 0x0B),  # PA start delay
    _Handshake(0x0B, 1, 0x0F),  # listen before talk
    _Handshake(0x0F, 0, RUNNING),
)


class Agc(Microcontroller):
    """The microcontroller that owns the radios; asks for its parameters, then runs.

    Attributes:
        lbt: listen before talk was asked for.
        stuck_status: a fault: the status register reads this whatever happens; None when sound.
    """

    def __init__(self, registers: RegisterFile, complain: Callable[[str], None]) -> None:
        super().__init__(Mcu.AGC, AGC_CONTROL, registers, complain)
        self.lbt = False
        self.stuck_status: int | None = None
        self._step = 0
        registers.on_write[_COMMAND] = self._on_command
        registers.on_write[_MAILBOX_TO_MCU] = self._on_parameter
        registers.on_read[AGC_STATUS] = self._read_status

    def parameter(self, index: int) -> int:
        """Return mailbox byte `index` as the host last wrote it."""
        return self._registers.stored[_MAILBOX_TO_MCU - index]

    def unstick(self) -> None:
        """End the fault of a status that never changes."""
        self.stuck_status = None

    def decided(self, bits: int) -> None:
        """Report a decision of listen before talk in the status register."""
        self._registers.set_bits(AGC_STATUS, bits)

    def _read_status(self) -> int:
        return self._registers.stored[AGC_STATUS] if self.stuck_status is None else self.stuck_status

    def _booted(self, version: int) -> None:
        self._step = 0
        self._registers.stored[_MAILBOX_FROM_MCU] = version
        self._registers.stored[AGC_STATUS] = _BOOTED

    def _stopped(self) -> None:
        self.lbt = False
        self._registers.stored[AGC_STATUS] = 0
        for index in range(4):
            self._registers.stored[_MAILBOX_FROM_MCU - index] = 0

    def _on_command(self, _old: int, _new: int, value: int) -> None:
        if not self.alive or self.ready:
            return
        due = _AGC_HANDSHAKES[self._step]
        if value != due.command:
            self._complain(f"AGC command 0x{value:02X} refused: 0x{due.command:02X} is due")
            return
        for index in range(due.echoed):
            self._registers.stored[_MAILBOX_FROM_MCU - index] = self.parameter(index)
        if due.command == 0x0B:
            self.lbt = bool(self.parameter(0))
        self._registers.stored[AGC_STATUS] = due.status
        self._step += 1
        self.ready = due.status == RUNNING

    def _on_parameter(self, _old: int, _new: int, value: int) -> None:
        # Once it runs, the program looks at the mailbox only to have a listen-before-talk result taken note of.
        if self.ready and self.lbt and value == 0xFF:
            self._registers.stored[AGC_STATUS] = RUNNING


class Arb(Microcontroller):
    """The arbiter that hands detections to modems; boots, waits for one command, then counts."""

    def __init__(self, registers: RegisterFile, complain: Callable[[str], None]) -> None:
        super().__init__(Mcu.ARB, ARB_CONTROL, registers, complain)
        registers.on_write[_ARB_RESUME] = self._on_resume

    @property
    def double_demodulation(self) -> int:
        """Spreading factors (bit 0 is SF5) that are demodulated twice for a fine timestamp."""
        return self._registers.stored[_ARB_CONFIG + 3]

    def demodulated(self, channel: int, sf: int) -> None:
        """Count a detection and an allocation on a multi-SF channel."""
        registers = self._registers.stored
        if sf == registers[_ARB_CONFIG]:
            for counter in (_ARB_DEBUG + channel, _ARB_DEBUG + 8 + channel):
                registers[counter] = (registers[counter] + 1) & 0xFF

    def _booted(self, version: int) -> None:
        self._registers.stored[_ARB_DEBUG] = version
        self._registers.stored[ARB_STATUS] = _BOOTED

    def _stopped(self) -> None:
        self._registers.stored[ARB_STATUS] = 0
        self._registers.stored[_ARB_DEBUG : _ARB_DEBUG + _ARB_DEBUG_BYTES] = bytes(_ARB_DEBUG_BYTES)

    def _on_resume(self, _old: int, _new: int, value: int) -> None:
        if not self.alive or self.ready:
            return
        if value != 1:
            self._complain(f"ARB resume command {value} refused: 1 is due")
            return
        self._registers.stored[_ARB_DEBUG : _ARB_DEBUG + _ARB_DEBUG_BYTES] = bytes(_ARB_DEBUG_BYTES)
        self._registers.stored[ARB_STATUS] = RUNNING
        self.ready = True
