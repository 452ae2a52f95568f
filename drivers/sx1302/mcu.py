# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Step 12 of the start: load the chip's two microcontrollers, and talk them into work.

The AGC owns the radios' gain and switching, the ARB hands detections to modems. Both boot, report a
version, and wait for their parameters, one mailbox message per state. The vendor's software waits without a
limit, so that a dead microcontroller hangs the process for ever; here each wait ends, and says in which
state [HAL 2.1.0 sx1302_agc_start, sx1302_arb_start].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from drivers.errors import ChipError, HandshakeTimeoutError
from drivers.sx1302.emulated import refuse_synthetic
from drivers.sx1302.registers import field

if TYPE_CHECKING:
    from drivers.bus import Clock
    from drivers.sx1302.firmware import Firmware
    from drivers.sx1302.registers import Field
    from drivers.sx1302.regmap import RegisterMap

PAGE = field("COMMON_PAGE_PAGE")

HANDSHAKE_LIMIT_S: Final = 1.0
"""Longest wait for one state; a healthy start takes milliseconds in all."""

POLL_S: Final = 0.001


@dataclass(frozen=True, slots=True)
class Port:
    """Where a microcontroller is controlled.

    Attributes:
        name: as errors call it.
        program: first address of its program memory, 8192 bytes.
        clear: holds it in reset.
        host_prog: opens the program memory to the host.
        parity_error: set when it met a word with wrong parity.
        status: state of its program.
    """

    name: str
    program: int
    clear: Field
    host_prog: Field
    parity_error: Field
    status: Field


AGC: Final = Port(
    "AGC",
    0x0000,
    field("AGC_MCU_CTRL_MCU_CLEAR"),
    field("AGC_MCU_CTRL_HOST_PROG"),
    field("AGC_MCU_CTRL_PARITY_ERROR"),
    field("AGC_MCU_MCU_AGC_STATUS_MCU_AGC_STATUS"),
)
ARB: Final = Port(
    "ARB",
    0x2000,
    field("ARB_MCU_CTRL_MCU_CLEAR"),
    field("ARB_MCU_CTRL_HOST_PROG"),
    field("ARB_MCU_CTRL_PARITY_ERROR"),
    field("ARB_MCU_MCU_ARB_STATUS_MCU_ARB_STATUS"),
)

MAILBOX_COMMAND = field("AGC_MCU_MCU_MAIL_BOX_WR_DATA_BYTE3_MCU_MAIL_BOX_WR_DATA")
MAILBOX_PARAMETERS = tuple(field(f"AGC_MCU_MCU_MAIL_BOX_WR_DATA_BYTE{byte}_MCU_MAIL_BOX_WR_DATA") for byte in range(3))
"""Bytes 0, 1 and 2; byte 0 has the highest of three consecutive addresses."""

MAILBOX_ECHO = field("AGC_MCU_MCU_MAIL_BOX_RD_DATA_BYTE2_MCU_MAIL_BOX_RD_DATA")
"""First of three consecutive bytes 2, 1, 0."""

ARB_VERSION = field("ARB_MCU_ARB_DEBUG_STS_0_ARB_DEBUG_STS_0")
ARB_STATISTICS_SF = field("ARB_MCU_ARB_DEBUG_CFG_0_ARB_DEBUG_CFG_0")
ARB_RESUME = field("ARB_MCU_ARB_DEBUG_CFG_1_ARB_DEBUG_CFG_1")
ARB_DOUBLE_DETECT_FILTER = field("ARB_MCU_ARB_DEBUG_CFG_2_ARB_DEBUG_CFG_2")
ARB_DOUBLE_DEMODULATION = field("ARB_MCU_ARB_DEBUG_CFG_3_ARB_DEBUG_CFG_3")

BOOTED: Final = 0x01
RUNNING: Final = 0x00


@dataclass(frozen=True, slots=True)
class AgcStep:
    """One exchange with the AGC.

    Attributes:
        what: the parameters, in words.
        command: written last; makes the AGC take the parameters.
        parameters: mailbox bytes 0, 1 and 2, as many as the step has; the AGC echoes them.
        next_status: the state it goes to.
    """

    what: str
    command: int
    parameters: tuple[int, ...]
    next_status: int


GAIN_AUTOMATIC: Final = 0xFF
PA_START_DELAY: Final = 8
"""In 100 us."""

AGC_DIALOGUE: Final = (
    AgcStep("gains of radio A, half duplex", 0x80, (GAIN_AUTOMATIC, GAIN_AUTOMATIC, 0), 0x02),
    AgcStep("gains of radio B, half duplex", 0x20, (GAIN_AUTOMATIC, GAIN_AUTOMATIC, 0), 0x03),
    AgcStep("analog gain limits", 0x03, (1, 13), 0x04),
    AgcStep("analog thresholds", 0x04, (3, 12), 0x05),
    AgcStep("decimator attenuation limits", 0x05, (4, 15), 0x06),
    AgcStep("decimator thresholds", 0x06, (40, 80, 90), 0x07),
    AgcStep("channel attenuation limits", 0x07, (4, 14), 0x08),
    AgcStep("channel thresholds", 0x08, (52, 132), 0x09),
    AgcStep("power amplifier: device, hpMax, duty cycle", 0x09, (0, 7, 4), 0x0A),
    AgcStep("power amplifier start delay", 0x0A, (PA_START_DELAY,), 0x0B),
    AgcStep("listen before talk", 0x0B, (0,), 0x0F),
    AgcStep("go", 0x0F, (), RUNNING),
)
"""The start of an AGC with SX1250 radios, state by state; the values are the vendor's [HAL 2.1.0]."""

LISTEN_BEFORE_TALK: Final = 0x0B
"""The command whose parameter depends on what is wanted."""

STATISTICS_SF: Final = 7
DOUBLE_DETECT_FILTER: Final = 3

_LOAD_HINT = "long or loose SPI wires and a weak 3.3 V supply do this; try a lower spi_clock_hz in the board profile"
_DEAD_HINT = (
    "the microcontroller does not run: check the 3.3 V supply and that the board profile names the right "
    "clock_radio, then switch the board off and on"
)


class Microcontrollers:
    """Loads and starts AGC and ARB.

    Args:
        registers: of the SX1302.
        clock: for waits and their limits.
    """

    def __init__(self, registers: RegisterMap, clock: Clock) -> None:
        self._registers = registers
        self._clock = clock

    def start(self, firmware: Firmware, *, double_demodulation: int = 0, listen_before_talk: bool = False) -> None:
        """Load and start the AGC, then the ARB; the modems must have been enabled before.

        Args:
            firmware: the pair of images.
            double_demodulation: spreading factors that take two modems, for a fine time stamp; bit 0 is SF5.
            listen_before_talk: let the AGC ask the SX1261 before each transmission.

        Raises:
            BusError: a transfer did not complete.
            ChipError: a program memory does not keep its contents, or a microcontroller answers wrongly.
            HandshakeTimeoutError: a microcontroller does not reach a state within its limit.
            FirmwareError: the images are stand-ins for the emulator, and the chip is a real one.
        """
        refuse_synthetic(self._registers.space, firmware)
        self._load(AGC, firmware.agc)
        self._start_agc(firmware.agc_id.version, listen_before_talk=listen_before_talk)
        self._load(ARB, firmware.arb)
        self._start_arb(firmware.arb_id.version, double_demodulation)

    def _load(self, port: Port, image: bytes) -> None:
        registers = self._registers
        registers.write(port.clear, 1)
        registers.write(port.host_prog, 1)
        registers.write(PAGE, 0)
        registers.space.write(port.program, image)
        kept = registers.space.read(port.program, len(image))
        if kept != image:
            wrong = sum(a != b for a, b in zip(kept, image, strict=True))
            what = f"{wrong} of {len(image)} bytes read back differently"
            raise self._error(port, "load firmware", what, _LOAD_HINT, "CG-MCU-001")
        registers.write(port.host_prog, 0)
        registers.write(port.clear, 0)
        if registers.read(port.parity_error):
            what = "parity error in the program memory"
            raise self._error(port, "start", what, _LOAD_HINT, "CG-MCU-002")

    def _start_agc(self, version: int, *, listen_before_talk: bool) -> None:
        registers = self._registers
        self._wait(AGC, BOOTED, "boot")
        self._check_version(AGC, self._echo()[0], version)
        for step in AGC_DIALOGUE:
            sent = step.parameters
            if step.command == LISTEN_BEFORE_TALK:
                sent = (int(listen_before_talk),)
            if sent:
                registers.write_bytes(MAILBOX_PARAMETERS[len(sent) - 1], bytes(reversed(sent)))
            registers.write(MAILBOX_COMMAND, step.command)
            self._wait(AGC, step.next_status, step.what)
            if sent and (echo := self._echo()[: len(sent)]) != sent:
                what = f"{step.what}: sent {sent}, echoed {echo}"
                raise self._error(AGC, "start", what, _LOAD_HINT, "CG-MCU-004")

    def _echo(self) -> tuple[int, ...]:
        """Mailbox bytes 0, 1 and 2 as the AGC wrote them."""
        return tuple(reversed(self._registers.read_bytes(MAILBOX_ECHO, 3)))

    def _start_arb(self, version: int, double_demodulation: int) -> None:
        registers = self._registers
        self._wait(ARB, BOOTED, "boot")
        self._check_version(ARB, registers.read(ARB_VERSION), version)
        registers.write(ARB_STATISTICS_SF, STATISTICS_SF)
        registers.write(ARB_DOUBLE_DEMODULATION, double_demodulation)
        registers.write(ARB_DOUBLE_DETECT_FILTER, DOUBLE_DETECT_FILTER)
        registers.write(ARB_RESUME, 1)
        self._wait(ARB, RUNNING, "resume")

    def _wait(self, port: Port, status: int, what: str) -> None:
        """Poll until the microcontroller reaches a state, at most HANDSHAKE_LIMIT_S."""
        deadline_ns = self._clock.monotonic_ns() + round(HANDSHAKE_LIMIT_S * 1e9)
        while (found := self._registers.read(port.status)) != status:
            if self._clock.monotonic_ns() >= deadline_ns:
                raise HandshakeTimeoutError(
                    f"{what}: status 0x{found:02X} instead of 0x{status:02X} for {HANDSHAKE_LIMIT_S:g} s",
                    op="start",
                    where=f"{port.name} ({port.status.name})",
                    hint=_DEAD_HINT,
                    code="CG-MCU-005",
                    retryable=True,
                )
            self._clock.sleep(POLL_S)

    def _check_version(self, port: Port, found: int, expected: int) -> None:
        if found != expected:
            what = f"reports version {found}, its image is version {expected}"
            raise self._error(port, "start", what, _LOAD_HINT, "CG-MCU-003")

    @staticmethod
    def _error(port: Port, op: str, what: str, hint: str, code: str) -> ChipError:
        return ChipError(what, op=op, where=port.name, hint=hint, code=code, retryable=True)
