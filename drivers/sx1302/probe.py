# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Find out what is at the other end of a bus, and which lines lead to it.

Looking disturbs nothing: a chip that is receiving goes on. Trying a reset line ends its reception, and drives a GPIO
that may lead to something else on another board.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from drivers.sx1302.registers import field
from drivers.sx1302.regmap import RegisterMap
from drivers.sx1302.spi import AddressSpace
from drivers.sx1302.startup import GENERAL, KNOWN_VERSIONS, RECEIVING, VERSION, read_eui

if TYPE_CHECKING:
    from drivers.bus import Clock, OutputLine, SpiBus

CHIP_BY_VERSION: Final = dict(zip(KNOWN_VERSIONS, ("SX1302", "SX1303"), strict=True))
SCRATCH = field("RX_TOP_RX_BUFFER_IRQ_CTRL_LSB_RX_BUFFER_IRQ_THRESHOLD")
"""A register that nothing uses, for a mark that a reset wipes out."""

MARK: Final = 0x5A
STEP_S: Final = 0.100


@dataclass(frozen=True, slots=True)
class Sighting:
    """What answers on a bus.

    Attributes:
        version: of the version register.
        chip: "SX1302" or "SX1303"; None when something else answers, or nothing.
        eui: of the chip, as 16 hexadecimal digits; None without a chip.
        receiving: the chip is at work: some program started it.
    """

    version: int
    chip: str | None
    eui: str | None
    receiving: bool


def look(bus: SpiBus) -> Sighting:
    """Say what answers; disturbs nothing.

    Raises:
        BusError: the bus fails.
    """
    registers = RegisterMap(AddressSpace(bus))
    version = registers.read(VERSION)
    chip = CHIP_BY_VERSION.get(version)
    if chip is None:
        return Sighting(version, None, None, receiving=False)
    receiving = registers.read_bytes(GENERAL, 1)[0] == RECEIVING
    return Sighting(version, chip, read_eui(registers).hex(), receiving)


def leads_to_chip(bus: SpiBus, reset: OutputLine | None, power: OutputLine | None, clock: Clock) -> bool:
    """Switch the supply on, pulse the reset line, and say whether that reset a chip on the bus.

    Raises:
        BusError: the bus fails, or a line cannot be driven.
    """
    registers = RegisterMap(AddressSpace(bus))
    before = registers.read(VERSION)
    registers.write_bytes(SCRATCH, bytes((MARK,)))
    if power is not None:
        power.set(active=True)
        clock.sleep(STEP_S)
    if reset is not None:
        for active in (True, False):
            reset.set(active=active)
            clock.sleep(STEP_S)
    if registers.read(VERSION) not in KNOWN_VERSIONS:
        return False
    # A chip that only now answers was without supply or held in reset: these are its lines.
    return before not in KNOWN_VERSIONS or registers.read_bytes(SCRATCH, 1)[0] != MARK
