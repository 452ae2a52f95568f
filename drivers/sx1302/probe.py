# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Find out what is at the other end of a bus, and which lines lead to it.

Looking disturbs nothing: a chip that is receiving goes on. Trying a reset line ends its reception, and drives a GPIO
that may lead to something else on another board.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from drivers.sx1250 import ChipMode, Command
from drivers.sx1302.radios import RADIO_EN, RADIO_RST, SUPPLY_SETTLE_S, SX1250_MODE, TARGETS
from drivers.sx1302.radios import RESET_STEP_S as RADIO_STEP_S
from drivers.sx1302.registers import field
from drivers.sx1302.regmap import RegisterMap
from drivers.sx1302.spi import AddressSpace
from drivers.sx1302.startup import GENERAL, KNOWN_VERSIONS, RECEIVING, VERSION, read_eui

if TYPE_CHECKING:
    from drivers.bus import Clock, OutputLine, SpiBus
    from drivers.sx1302.spi import Target

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


def radios(bus: SpiBus, clock: Clock) -> tuple[str | None, ...]:
    """Say which radios a chip has that has just been reset: "SX1250", or None for one that does not answer as such.

    Raises:
        BusError: the bus fails.
    """
    registers = RegisterMap(AddressSpace(bus))
    registers.prime()
    registers.in_order([[(enable, 1) for enable in RADIO_EN], [(reset, 1) for reset in RADIO_RST]])
    clock.sleep(SUPPLY_SETTLE_S)
    for level in (0, 1):
        registers.apply([(reset, level) for reset in RADIO_RST])
        clock.sleep(RADIO_STEP_S)
    registers.apply([(mode, 1) for mode in SX1250_MODE])
    return tuple(_radio(registers, target) for target in TARGETS)


def _radio(registers: RegisterMap, target: Target) -> str | None:
    status = registers.space.radio(target, bytes((Command.GET_STATUS, 0)))[1]
    return "SX1250" if status >> 4 & 7 in (ChipMode.STANDBY_RC, ChipMode.STANDBY_XOSC) else None


def leads_to_chip(bus: SpiBus, reset: OutputLine | None, power: OutputLine | None, clock: Clock) -> bool:
    """Switch the supply on, pulse the reset line, and say whether that reset a chip on the bus.

    Raises:
        BusError: the bus fails, or a line cannot be driven.
    """
    registers = RegisterMap(AddressSpace(bus))
    before = registers.read(VERSION) in KNOWN_VERSIONS
    if power is not None:
        power.set(active=True)
        clock.sleep(STEP_S)
    if reset is None:
        return not before and registers.read(VERSION) in KNOWN_VERSIONS
    # A supply may be right and the reset line wrong; so the mark is set once the chip has its supply.
    awake = registers.read(VERSION) in KNOWN_VERSIONS
    registers.write_bytes(SCRATCH, bytes((MARK,)))
    for active in (True, False):
        reset.set(active=active)
        clock.sleep(STEP_S)
    if registers.read(VERSION) not in KNOWN_VERSIONS:
        return False
    # A chip that only now answers was held in reset: this is its line.
    return not awake or registers.read_bytes(SCRATCH, 1)[0] != MARK
