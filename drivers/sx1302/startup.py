# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The start of the chip, from reset to reception, in the order of the vendor's software.

What the order is known to matter for is kept in order; within a step fields are merged and travel in
bursts, so that a third of the SPI messages does what takes the vendor's software 700 [HAL 2.1.0 lgw_start].
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from drivers.errors import ChipError
from drivers.sx1302 import channelizer, fine, frontend, fsk, multisf, service
from drivers.sx1302.mcu import Microcontrollers
from drivers.sx1302.radios import HOST_RADIO_CTRL, Radios
from drivers.sx1302.registers import field

if TYPE_CHECKING:
    from drivers.boards import Board
    from drivers.bus import Clock
    from drivers.plans import ChannelPlan
    from drivers.sx1302.fine import FineTimestamps
    from drivers.sx1302.firmware import Firmware
    from drivers.sx1302.regmap import RegisterMap

logger = logging.getLogger(__name__)

VERSION = field("COMMON_VERSION_VERSION")
GLOBAL_EN = field("COMMON_GEN_GLOBAL_EN")
GENERAL = GLOBAL_EN
"""Stands for the whole byte of enables, of which it is one."""

CONCENTRATOR_MODEM_ENABLE = field("COMMON_GEN_CONCENTRATOR_MODEM_ENABLE")
MBWSSF_MODEM_ENABLE = field("COMMON_GEN_MBWSSF_MODEM_ENABLE")
FSK_MODEM_ENABLE = field("COMMON_GEN_FSK_MODEM_ENABLE")
OTP_ADDRESS = field("OTP_BYTE_ADDR_ADDR")
OTP_DATA = field("OTP_RD_DATA_RD_DATA")

KNOWN_VERSIONS: Final = (0x10, 0x12)
"""Seen in the field: SX1302, SX1303."""

NO_LINK: Final = (0x00, 0xFF)
"""What a bus reads when nothing answers."""

RECEIVING: Final = 0x0F
"""COMMON_GEN with all modems and the whole chip enabled."""

PAUSED: Final = 0x08
"""COMMON_GEN with the chip enabled and no modem: nothing more comes in, and what came is not yet in safe hands.

No start leaves the chip like this, so whoever finds it so finds a rescue that was cut short."""

EUI_BYTES: Final = 8
"""At the start of the one-time programmable memory."""

MODEL_ADDRESS: Final = 0xD0
"""Of the one-time programmable memory."""

MODEL_SX1303: Final = 3


def check_link(registers: RegisterMap) -> None:
    """Make sure that an SX1302 answers at all.

    Raises:
        BusError: the transfer did not complete.
        ChipError: nothing answers, or something else does.
    """
    version = registers.read(VERSION)
    if version in KNOWN_VERSIONS:
        return
    if version in NO_LINK:
        what = f"reads 0x{version:02X}: nothing answers on SPI"
        hint = (
            "check that the board profile names the right SPI device, reset line and power line, that the board "
            "sits firmly on the header, and that it has power"
        )
        code = "CG-CHIP-001"
    else:
        what = f"reads 0x{version:02X}, which is neither SX1302 nor SX1303"
        hint = "check that the board carries an SX1302 or SX1303, and try a lower spi_clock_hz"
        code = "CG-CHIP-002"
    raise ChipError(what, op="start", where=VERSION.name, hint=hint, code=code, retryable=True)


def check_reset(registers: RegisterMap) -> None:
    """Read all registers into the shadow, and make sure that the chip has indeed been reset.

    Raises:
        BusError: the transfer did not complete.
        ChipError: the chip kept its state over the reset pulse.
    """
    changed = registers.prime()
    if HOST_RADIO_CTRL.address in changed:
        raise ChipError(
            f"{len(changed)} registers are not at their reset value",
            op="start",
            where=HOST_RADIO_CTRL.name,
            hint="the chip was not reset: check number and polarity of the reset line in the board profile",
            code="CG-CHIP-003",
            retryable=True,
        )
    if changed:
        addresses = ",".join(f"0x{address:04X}" for address in changed[:8])
        logger.warning("event=reset_values_differ count=%d addresses=%s", len(changed), addresses)


def bring_up(
    registers: RegisterMap,
    clock: Clock,
    board: Board,
    plan: ChannelPlan,
    firmware: Firmware,
    *,
    fine_timestamps: FineTimestamps | None = None,
    listen_before_talk: bool = False,
) -> None:
    """Take a chip from reset to reception.

    Args:
        registers: of the chip.
        clock: for pauses, waits and their limits.
        board: its properties.
        plan: what to listen to.
        firmware: for the microcontrollers.
        fine_timestamps: which packets get one; None for none.
        listen_before_talk: let the AGC ask the SX1261 before each transmission.

    Raises:
        BusError: a transfer did not complete.
        ChipError: chip, radio or microcontroller answers, but not as it must; or fine time stamps are wanted of an
            SX1302.
        HandshakeTimeoutError: a microcontroller does not reach a state within its limit.
    """
    radio_hz = next(centre_hz for centre_hz in plan.radio_hz if centre_hz is not None)
    check_link(registers)
    check_reset(registers)
    if fine_timestamps is not None:
        check_fine_timestamps(registers)
    registers.write(frontend.GPIO_OUTPUT, 0)
    radios = Radios(registers, clock, board, plan)
    radios.calibrate()
    radios.receive()
    radios.hand_over()
    registers.in_order(
        [
            frontend.legacy_timestamp_settings() if fine_timestamps is None else fine.settings(),
            frontend.pin_settings(),
            frontend.radio_path_settings(),
            channelizer.settings(plan),
            multisf.correlator_settings(plan),
            multisf.modem_settings(radio_hz),
        ]
    )
    if plan.service:
        registers.apply(service.settings(plan.service, radio_hz))
        registers.apply(service.enable_settings())
    if plan.fsk:
        registers.apply(fsk.settings(plan.fsk))
    registers.apply(multisf.sync_word_settings(public=plan.public))
    registers.apply(service.sync_word_settings(plan.service, public=plan.public))
    start_modems(registers, clock, firmware, fine_timestamps=fine_timestamps, listen_before_talk=listen_before_talk)
    registers.in_order([frontend.transmit_path_settings(), frontend.pps_settings()])
    registers.write(frontend.GPIO_OUTPUT, frontend.CONFIGURATION_DONE)


def start_modems(
    registers: RegisterMap,
    clock: Clock,
    firmware: Firmware,
    *,
    fine_timestamps: FineTimestamps | None,
    listen_before_talk: bool,
) -> None:
    """Enable the modems, then load and start the microcontrollers, in this order.

    Raises:
        BusError: a transfer did not complete.
        ChipError: a program memory does not keep its contents, or a microcontroller answers wrongly.
        HandshakeTimeoutError: a microcontroller does not reach a state within its limit.
    """
    for enable in (CONCENTRATOR_MODEM_ENABLE, MBWSSF_MODEM_ENABLE, FSK_MODEM_ENABLE, GLOBAL_EN):
        registers.write(enable, 1)
    doubled = 0 if fine_timestamps is None else fine_timestamps.double_demodulation
    Microcontrollers(registers, clock).start(
        firmware, double_demodulation=doubled, listen_before_talk=listen_before_talk
    )


def check_fine_timestamps(registers: RegisterMap) -> None:
    """Make sure that the chip can tell fine time stamps.

    Raises:
        BusError: a transfer did not complete.
        ChipError: it is an SX1302.
    """
    model = _read_otp(registers, MODEL_ADDRESS)
    if model != MODEL_SX1303:
        raise ChipError(
            f"model {model} is no SX1303 and tells no fine time stamps",
            op="start",
            where="OTP",
            hint='set fine_timestamps = "off" in [concentrator]',
            code="CG-CHIP-012",
        )


def pause_reception(registers: RegisterMap) -> None:
    """Disable all modems; the FIFO keeps what it has.

    Raises:
        BusError: the transfer did not complete.
    """
    registers.write_bytes(GENERAL, bytes((PAUSED,)))


def stop_reception(registers: RegisterMap) -> None:
    """Disable all modems and the whole chip: says that nobody needs what the FIFO has.

    Raises:
        BusError: the transfer did not complete.
    """
    registers.write_bytes(GENERAL, b"\x00")


def read_eui(registers: RegisterMap) -> bytes:
    """Return the chip's 64-bit identifier, most significant byte first.

    Raises:
        BusError: a transfer did not complete.
    """
    return bytes(_read_otp(registers, address) for address in range(EUI_BYTES))


def _read_otp(registers: RegisterMap, address: int) -> int:
    registers.write(OTP_ADDRESS, address)
    return registers.read(OTP_DATA)
