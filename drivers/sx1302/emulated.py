# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""How an emulated chip is told from a real one: it says so, at an address where a real one has nothing.

That is the same whichever way leads to it: in process, over a socket, over USB, or as /dev/spidev0.0 of a program that
`civigate emulate` runs. So stand-ins for the firmware may go to it, and never to anything else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from drivers.errors import FirmwareError

if TYPE_CHECKING:
    from drivers.sx1302.firmware import Firmware
    from drivers.sx1302.spi import AddressSpace

MARK_ADDRESS: Final = 0x7FF0
"""No register of the SX1302 is beyond 0x61FF [HAL 2.1.0 loragw_reg.c]."""

MARK: Final = b"civigate"


def is_emulated(space: AddressSpace) -> bool:
    """Say whether the chip on a bus is an emulated one; one SPI message.

    Raises:
        BusError: the transfer did not complete.
    """
    return space.read(MARK_ADDRESS, len(MARK)) == MARK


def refuse_synthetic(space: AddressSpace, firmware: Firmware) -> None:
    """Let no firmware for the emulator near a real chip; asks the chip only if the firmware is of that kind.

    Raises:
        FirmwareError: it is, and the chip is a real one.
        BusError: the transfer did not complete.
    """
    if (firmware.agc_id.synthetic or firmware.arb_id.synthetic) and not is_emulated(space):
        raise FirmwareError(
            "is for the emulator, and this chip is a real one",
            op="start",
            where="firmware",
            hint="run: civigate firmware import PATH, where PATH is a copy of Semtech's sx1302_hal V2.1.0",
            code="CG-FW-014",
        )
