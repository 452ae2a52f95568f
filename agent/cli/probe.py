# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""`civigate probe`: find the concentrator, and the board profile that fits."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.config import Bus
    from drivers.boards import Board, GpioLine
    from drivers.bus import OutputLine, SpiBus
    from drivers.sx1302.probe import Sighting

EXIT_NOTHING: Final = 3
SPI_CLOCK_HZ: Final = 2_000_000
"""What every board takes."""

_EXAMPLES: Final = """examples:
  civigate probe
      looks at every SPI device and USB bridge; disturbs nothing, also not a gateway that is running
  civigate probe --try-boards
      finds out which reset and power lines lead to the chip, and asks its radios; ends its reception, and drives GPIO
      lines, each of which is an input again afterwards: not with other hardware on the header
  civigate probe --try-boards --write /etc/civigate/gateway.toml
      puts bus and board into the configuration; where several profiles fit, --board chooses
  civigate probe --bus spi:/dev/spidev0.1
"""


@dataclass(frozen=True, slots=True)
class _Found:
    """What was found on a bus: None and empty where nothing was."""

    sighting: Sighting | None = None
    boards: tuple[str, ...] = ()
    radios: tuple[str | None, ...] = ()
    problem: str = ""

    @property
    def chip(self) -> str | None:
        return self.sighting.chip if self.sighting else None


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "probe",
        help="find the concentrator and its board profile",
        description="Find the concentrator: its bus, chip, EUI and radios, and the board profiles that fit.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--bus", metavar="BUS", help="look only here, e.g. spi:/dev/spidev0.0 or usb:/dev/ttyACM0")
    parser.add_argument("--try-boards", action="store_true", help="drive reset and power lines of the known boards")
    parser.add_argument("--board", metavar="NAME", help="try, and write, this profile alone: a name, or a path")
    parser.add_argument(
        "--write", type=Path, metavar="FILE", help="put what was found into this gateway.toml, made if there is none"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object per bus instead of lines")
    parser.set_defaults(func=run, refuse=parser.error)


def run(args: argparse.Namespace) -> int:
    """Look at all buses; 0 when a concentrator was found, 3 when not.

    Raises:
        ProfileError: the board that was named is none.
        AgentError: it is not certain what to write, or it cannot be written.
    """
    found: dict[Bus, _Found] = {}
    for bus in _buses(args):
        found[bus] = one = _probe(bus, args)
        print(json.dumps(_as_json(bus, one)) if args.json else "\n".join(_lines(bus, one)))
    there = {bus: one for bus, one in found.items() if one.chip is not None}
    if not there and not args.json:
        print("no concentrator answers; with --try-boards, supply and reset of the known boards are tried as well")
    if args.write is not None:
        _write(args.write, there)
    return 0 if there else EXIT_NOTHING


def _buses(args: argparse.Namespace) -> list[Bus]:
    from agent.config import Bus, parse_bus
    from drivers.linux.devices import find_devices

    if args.bus is not None:
        try:
            return [parse_bus(args.bus)]
        except ValueError as error:
            args.refuse(f"--bus {args.bus}: {error}")
    buses = []
    for device in find_devices():
        bus = Bus(device.kind, device.path)
        if device.not_asked is None:
            buses.append(bus)
        elif not args.json:
            print(f"{bus}: {device.not_asked} ({device.detail})")
    return buses


def _probe(bus: Bus, args: argparse.Namespace) -> _Found:
    from drivers.errors import DriverError

    boards = _candidates(bus, args)
    try:
        return _sight(bus, boards, try_boards=args.try_boards, named=args.board is not None)
    except DriverError as error:
        return _Found(problem=f"{error}; {error.hint} [{error.code}]")


def _candidates(bus: Bus, args: argparse.Namespace) -> list[Board]:
    from drivers.boards import board_names, load_board

    if args.board is not None:
        return [load_board(args.board)]
    return [board for board in map(load_board, board_names()) if _may_be_at(board, bus)]


def _sight(bus: Bus, boards: list[Board], *, try_boards: bool, named: bool) -> _Found:
    """Say what is on a bus, and the names of the boards that it may be."""
    from agent.radio import open_bus
    from drivers.sx1302.probe import look

    opened = open_bus(bus, SPI_CLOCK_HZ)
    try:
        if not try_boards:
            sighting = look(opened)
            return _Found(sighting, _names(boards, sighting))
        best = _Found()
        for same in _by_wiring(boards):
            if bus.kind == "spi" and not named and (reason := _unsafe(same[0])):
                print(f"{bus}: {same[0].name} is not tried: {reason}", file=sys.stderr)
                continue
            one = _try(bus, same, opened)
            if one is not None:
                fit = dict.fromkeys((*best.boards, *one.boards))
                best = _Found(one.sighting, tuple(fit), one.radios)
        return best if best.sighting else _Found(look(opened))
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


def _try(bus: Bus, same: list[Board], opened: SpiBus) -> _Found | None:
    """Drive the lines of a group of boards, and say what they lead to; None when to nothing."""
    from agent.radio import lines_of
    from drivers.errors import DriverError
    from drivers.linux.clock import SystemClock
    from drivers.sx1302.probe import leads_to_chip, look, radios

    board, clock = same[0], SystemClock()
    lines = lines_of(bus, board, opened)
    try:
        if not leads_to_chip(opened, *lines, clock):
            return None
        sighting, kinds = look(opened), radios(opened, clock)
        # The chip shall be as its reset left it: the next start does not mind, another program's might.
        leads_to_chip(opened, *lines, clock)
        return _Found(sighting, _names(_of_sensor(bus, same), sighting), kinds)
    except DriverError as error:
        print(f"{bus}: the lines of {board.name} cannot be tried: {error}; {error.hint}", file=sys.stderr)
        return None
    finally:
        for line in lines:
            if line is not None:
                _let_go(line)


def _of_sensor(bus: Bus, same: list[Board]) -> list[Board]:
    """Return the boards whose temperature sensor is where one answers, if one does: many are sold without."""
    from drivers.errors import BusError
    from drivers.linux.i2c import LinuxI2cDevice
    from drivers.stts751 import answers

    sensors = {board.temperature for board in same if board.temperature is not None} if bus.kind == "spi" else set()
    for sensor in sensors:
        with suppress(BusError):
            if answers(LinuxI2cDevice(sensor.i2c_device, sensor.address)):
                return [board for board in same if board.temperature in (None, sensor)]
    return same


def _unsafe(board: Board) -> str:
    """Say why the lines of a board are not for trying; empty when they are."""
    from drivers.linux.gpio import PLAIN_LINES

    def plain(line: GpioLine | None) -> bool:
        return line is None or line.controller is not None or line.number in PLAIN_LINES

    odd = [line.number for line in (board.reset, board.power) if line is not None and not plain(line)]
    return f"GPIO{odd[0]} is used by a bus, or by the Raspberry Pi itself; name the board with --board" if odd else ""


def _let_go(line: OutputLine) -> None:
    """Leave a line of the header as it was found, an input: on another board it may be an output of something else."""
    from drivers.linux.gpio import HeaderLine

    if isinstance(line, HeaderLine):
        line.let_go()
    else:
        line.close()


def _write(path: Path, found: dict[Bus, _Found]) -> None:
    """Put bus and board into the configuration.

    Raises:
        AgentError: there is not exactly one of both, or the file cannot be changed.
    """
    from agent.errors import AgentError
    from agent.tomledit import set_values

    choices = [(bus, board) for bus, one in found.items() for board in one.boards]
    if not choices or len({bus for bus, _ in choices}) > 1 or not _same([board for _, board in choices]):
        said = ", ".join(f"{bus} {board}" for bus, board in choices) or "none"
        raise AgentError(
            f"not written: {len(choices)} profiles fit ({said})",
            where=str(path),
            hint="choose with --bus and --board; civigate boards show NAME says what a profile is",
            code="CG-PROBE-001",
        )
    bus, board = choices[0]
    set_values(path, "concentrator", {"bus": str(bus), "board": board})
    print(f'written to {path}: bus = "{bus}", board = "{board}"', file=sys.stderr)


def _same(names: list[str]) -> bool:
    """Say whether profiles differ in nothing but their names, so that any of them will do."""
    from drivers.boards import load_board

    first, *others = (replace(load_board(name), name="", title="", source="") for name in names)
    return all(board == first for board in others)


def _as_json(bus: Bus, one: _Found) -> dict[str, object]:
    return {
        "bus": str(bus),
        "chip": one.chip,
        "eui": one.sighting.eui if one.sighting else None,
        "receiving": bool(one.sighting and one.sighting.receiving),
        "radios": list(one.radios),
        "boards": list(one.boards) if one.chip else [],
        "problem": one.problem or None,
    }


def _lines(bus: Bus, one: _Found) -> list[str]:
    if one.problem:
        return [f"{bus}: {one.problem}"]
    if one.sighting is None or one.chip is None:
        version = one.sighting.version if one.sighting else 0
        return [f"{bus}: no concentrator (version register reads 0x{version:02X})"]
    radios = "".join(f", radio {'AB'[n]} {kind or 'is no SX1250'}" for n, kind in enumerate(one.radios))
    said = [f"{bus}: {one.chip}, EUI {one.sighting.eui}{', receiving' if one.sighting.receiving else ''}{radios}"]
    fit = ", ".join(one.boards) or "none of the known boards; write a profile of your own (civigate boards)"
    said.append(f"  board profiles that fit: {fit}")
    if one.boards and _same(list(one.boards)):
        said.append(f'  in gateway.toml, [concentrator]: bus = "{bus}" and board = "{one.boards[0]}"')
    elif one.boards:
        tell = "" if one.radios else "; --try-boards finds out which lines lead to it"
        said.append(f'  in gateway.toml, [concentrator]: bus = "{bus}", and as board the one that is yours{tell}')
    ports = _gnss_ports(one.boards)
    if ports:
        said.append(
            f"  it may have a GNSS receiver, usually at {' or '.join(ports)}: try civigate gnss --device {ports[0]}"
        )
    return said


def _gnss_ports(names: Iterable[str]) -> list[str]:
    """Return where receivers on boards of these names usually are."""
    from drivers.boards import load_board

    return sorted({port for name in names if (port := load_board(name).gnss_device) is not None})
