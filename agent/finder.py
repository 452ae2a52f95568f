# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Find the concentrator: on which bus it is, what it is, and which board profiles fit.

Looking disturbs nothing. Trying boards drives their reset and power lines, which ends the reception of whoever uses the
chip, and leaves each line of the header an input, as it was found.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from agent.config import Bus
from agent.hardware import lines_of, open_bus
from drivers.boards import Board, GpioLine, board_names, load_board
from drivers.errors import BusError, DriverError
from drivers.linux.clock import SystemClock
from drivers.linux.devices import find_devices
from drivers.linux.gpio import PLAIN_LINES, HeaderLine
from drivers.linux.i2c import LinuxI2cDevice
from drivers.stts751 import answers
from drivers.sx1302.probe import Sighting, leads_to_chip, look, radios

if TYPE_CHECKING:
    from drivers.bus import OutputLine, SpiBus

SPI_CLOCK_HZ: Final = 2_000_000
"""What every board takes."""

Tell = Callable[[str], None]
"""Takes one line on what could not be looked at, for a person."""


@dataclass(frozen=True, slots=True)
class Found:
    """What was found on a bus: None and empty where nothing was.

    Attributes:
        sighting: of the chip.
        boards: names of the profiles that it may be.
        radios: what the two radios are, when boards were tried.
        problem: why nobody could look, for a person.
    """

    sighting: Sighting | None = None
    boards: tuple[str, ...] = ()
    radios: tuple[str | None, ...] = ()
    problem: str = ""

    @property
    def chip(self) -> str | None:
        """Name of the chip; None where none answers."""
        return self.sighting.chip if self.sighting else None


def buses(tell: Tell) -> list[Bus]:
    """List the buses of this machine that may lead to a concentrator."""
    found = []
    for device in find_devices():
        bus = Bus(device.kind, device.path)
        if device.not_asked is None:
            found.append(bus)
        else:
            tell(f"{bus}: {device.not_asked} ({device.detail})")
    return found


def find(bus: Bus, tell: Tell, *, board: str | None = None, try_boards: bool = False) -> Found:
    """Look at one bus.

    Args:
        bus: where.
        tell: gets what is left out, and why.
        board: only this profile: a name, or a path.
        try_boards: drive the lines of the boards that may be there.

    Raises:
        ProfileError: there is no such profile.
    """
    boards = _candidates(bus, board)
    try:
        found = _sight(bus, boards, tell, try_boards=try_boards, named=board is not None)
    except DriverError as error:
        return Found(problem=f"{error}; {error.hint} [{error.code}]")
    # a profile of one's own is found again by its path, not by the name in its file's name
    return replace(found, boards=(board,)) if board is not None and "/" in board and found.boards else found


def alike(names: Sequence[str]) -> bool:
    """Say whether profiles differ in nothing but their names, so that any of them will do."""
    first, *others = (replace(load_board(name), name="", title="", source="") for name in names)
    return all(board == first for board in others)


def gnss_ports(names: Iterable[str]) -> list[str]:
    """Return where receivers on boards of these names usually are."""
    return sorted({port for name in names if (port := load_board(name).gnss_device) is not None})


def _candidates(bus: Bus, named: str | None) -> list[Board]:
    if named is not None:
        return [load_board(named)]
    return [board for board in map(load_board, board_names()) if _may_be_at(board, bus)]


def _sight(bus: Bus, boards: list[Board], tell: Tell, *, try_boards: bool, named: bool) -> Found:
    """Say what is on a bus, and the names of the boards that it may be."""
    opened = open_bus(bus, SPI_CLOCK_HZ)
    try:
        if not try_boards:
            sighting = look(opened)
            return Found(sighting, _names(boards, sighting))
        best = Found()
        for same in _by_wiring(boards):
            if bus.kind == "spi" and not named and (reason := _unsafe(same[0])):
                tell(f"{bus}: {same[0].name} is not tried: {reason}")
                continue
            one = _try(bus, same, opened, tell)
            if one is not None:
                fit = dict.fromkeys((*best.boards, *one.boards))
                best = Found(one.sighting, tuple(fit), one.radios)
        return best if best.sighting else Found(look(opened))
    finally:
        opened.close()


def _names(boards: list[Board], sighting: Sighting) -> tuple[str, ...]:
    return tuple(board.name for board in boards if sighting.chip in (None, board.chip))


def _may_be_at(board: Board, bus: Bus) -> bool:
    if bus.kind == "emulator":
        return True
    return str(bus.path) == (board.usb_device if bus.kind == "usb" else board.spi_device)


def _by_wiring(boards: list[Board]) -> list[list[Board]]:
    """Group boards whose lines are the same, those with the most lines first.

    A board with a power switch also answers to a profile without, once its supply is on; so it is asked first.
    """
    groups: dict[object, list[Board]] = {}
    for board in boards:
        command = board.reset_command or board.power_command
        if command is None or shutil.which(command.command[0]):
            wiring = (board.reset, board.power, board.reset_command, board.power_command)
            groups.setdefault(wiring, []).append(board)
    return sorted(groups.values(), key=lambda same: same[0].power is None)


def _try(bus: Bus, same: list[Board], opened: SpiBus, tell: Tell) -> Found | None:
    """Drive the lines of a group of boards, and say what they lead to; None when to nothing."""
    board, clock = same[0], SystemClock()
    lines = lines_of(bus, board, opened)
    try:
        if not leads_to_chip(opened, *lines, clock):
            return None
        sighting, kinds = look(opened), radios(opened, clock)
        # The chip shall be as its reset left it: the next start does not mind, another program's might.
        leads_to_chip(opened, *lines, clock)
        return Found(sighting, _names(_of_sensor(bus, same), sighting), kinds)
    except DriverError as error:
        tell(f"{bus}: the lines of {board.name} cannot be tried: {error}; {error.hint}")
        return None
    finally:
        for line in lines:
            if line is not None:
                _let_go(line)


def _of_sensor(bus: Bus, same: list[Board]) -> list[Board]:
    """Return the boards whose temperature sensor is where one answers, if one does: many are sold without."""
    sensors = {board.temperature for board in same if board.temperature is not None} if bus.kind == "spi" else set()
    for sensor in sensors:
        with suppress(BusError):
            if answers(LinuxI2cDevice(sensor.i2c_device, sensor.address)):
                return [board for board in same if board.temperature in (None, sensor)]
    return same


def _unsafe(board: Board) -> str:
    """Say why the lines of a board are not for trying; empty when they are."""

    def plain(line: GpioLine | None) -> bool:
        return line is None or line.controller is not None or line.number in PLAIN_LINES

    odd = [line.number for line in (board.reset, board.power) if line is not None and not plain(line)]
    return f"GPIO{odd[0]} is used by a bus, or by the Raspberry Pi itself; name the board with --board" if odd else ""


def _let_go(line: OutputLine) -> None:
    """Leave a line of the header as it was found, an input: on another board it may be an output of something else."""
    if isinstance(line, HeaderLine):
        line.let_go()
    else:
        line.close()
