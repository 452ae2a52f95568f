# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""`civigate probe`: find the concentrator, and the board profile that fits."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from agent.config import Bus
    from drivers.boards import Board
    from drivers.bus import SpiBus
    from drivers.sx1302.probe import Sighting

EXIT_NOTHING: Final = 3
SPI_CLOCK_HZ: Final = 2_000_000
"""What every board takes."""

_EXAMPLES: Final = """examples:
  civigate probe
      looks at every SPI device and USB bridge; disturbs nothing, also not a gateway that is running
  civigate probe --try-boards
      finds out which reset and power lines lead to the chip; ends its reception, and drives the GPIO lines of
      all boards it knows, one after the other: not with other hardware on the header
  civigate probe --bus spi:/dev/spidev0.1
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "probe",
        help="find the concentrator and its board profile",
        description="Find the concentrator: its bus, chip and EUI, and the board profiles that fit.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--bus", metavar="BUS", help="look only here, e.g. spi:/dev/spidev0.0 or usb:/dev/ttyACM0")
    parser.add_argument("--try-boards", action="store_true", help="drive reset and power lines of the known boards")
    parser.add_argument("--json", action="store_true", help="one JSON object per bus instead of lines")
    parser.set_defaults(func=run, refuse=parser.error)


def run(args: argparse.Namespace) -> int:
    """Look at all buses; 0 when a concentrator was found, 3 when not."""
    found = False
    for bus in _buses(args):
        found |= _probe(bus, args)
    if not found and not args.json:
        print("no concentrator answers; with --try-boards, supply and reset of the known boards are tried as well")
    return 0 if found else EXIT_NOTHING


def _buses(args: argparse.Namespace) -> list[Bus]:
    from agent.config import Bus, parse_bus

    if args.bus is not None:
        try:
            return [parse_bus(args.bus)]
        except ValueError as error:
            args.refuse(f"--bus {args.bus}: {error}")
    spi = [Bus("spi", path) for path in sorted(Path("/dev").glob("spidev*"))]
    return spi + [Bus("usb", path) for path in sorted(Path("/dev").glob("ttyACM*"))]


def _probe(bus: Bus, args: argparse.Namespace) -> bool:
    """Look at one bus and print what is there."""
    from drivers.errors import DriverError

    sighting: Sighting | None = None
    problem, profiles = "", list[str]()
    try:
        sighting, profiles = _sight(bus, try_boards=args.try_boards)
    except DriverError as error:
        problem = f"{error}; {error.hint} [{error.code}]"
    chip = sighting.chip if sighting else None
    if args.json:
        said = {
            "bus": str(bus),
            "chip": chip,
            "eui": sighting.eui if sighting else None,
            "receiving": bool(sighting and sighting.receiving),
            "boards": profiles,
            "problem": problem or None,
        }
        print(json.dumps(said))
        return chip is not None
    if problem:
        print(f"{bus}: {problem}")
    elif sighting is None or chip is None:
        version = sighting.version if sighting else 0
        print(f"{bus}: no concentrator (version register reads 0x{version:02X})")
    else:
        print(f"{bus}: {chip}, EUI {sighting.eui}{', receiving' if sighting.receiving else ''}")
        fit = ", ".join(profiles) or "none of the known boards; write a profile of your own"
        print(f"  board profiles that fit: {fit}")
        if profiles:
            print(f'  in gateway.toml, [concentrator]: bus = "{bus}" and board = "{profiles[0]}", or another of these')
    return chip is not None


def _sight(bus: Bus, *, try_boards: bool) -> tuple[Sighting, list[str]]:
    """Say what is on a bus, and the names of the boards that it may be."""
    from agent.radio import open_bus
    from drivers.boards import board_names, load_board
    from drivers.sx1302.probe import look

    boards = [board for board in map(load_board, board_names()) if _may_be_at(board, bus)]
    opened = open_bus(bus, SPI_CLOCK_HZ)
    try:
        if try_boards:
            boards = [board for same in _by_wiring(boards) if _is_wired(bus, same[0], opened) for board in same]
        sighting = look(opened)
    finally:
        opened.close()
    return sighting, [board.name for board in boards if sighting.chip in (None, board.chip)]


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


def _is_wired(bus: Bus, board: Board, opened: SpiBus) -> bool:
    from agent.radio import lines_of
    from drivers.errors import BusError
    from drivers.linux.clock import SystemClock
    from drivers.sx1302.probe import leads_to_chip

    reset, power = lines_of(bus, board, opened)
    try:
        return leads_to_chip(opened, reset, power, SystemClock())
    except BusError as error:
        print(f"{bus}: the lines of {board.name} cannot be tried: {error}; {error.hint}", file=sys.stderr)
        return False
    finally:
        for line in (reset, power):
            if line is not None:
                line.close()
