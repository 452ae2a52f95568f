# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""`civigate probe`: find the concentrator, and the board profile that fits."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from agent.config import Bus
    from agent.finder import Found

EXIT_NOTHING: Final = 3

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
    from agent import finder

    found: dict[Bus, Found] = {}
    for bus in _buses(args):
        found[bus] = one = finder.find(bus, _tell, board=args.board, try_boards=args.try_boards)
        print(json.dumps(_as_json(bus, one)) if args.json else "\n".join(_lines(bus, one)))
    there = {bus: one for bus, one in found.items() if one.chip is not None}
    if not there and not args.json:
        print("no concentrator answers; with --try-boards, supply and reset of the known boards are tried as well")
    if args.write is not None:
        _write(args.write, there)
    return 0 if there else EXIT_NOTHING


def _buses(args: argparse.Namespace) -> list[Bus]:
    from agent import finder
    from agent.config import parse_bus

    if args.bus is not None:
        try:
            return [parse_bus(args.bus)]
        except ValueError as error:
            args.refuse(f"--bus {args.bus}: {error}")
    return finder.buses(_ignore if args.json else print)


def _ignore(_line: str) -> None:
    pass


def _tell(line: str) -> None:
    print(line, file=sys.stderr)


def _write(path: Path, found: dict[Bus, Found]) -> None:
    """Put bus and board into the configuration.

    Raises:
        AgentError: there is not exactly one of both, or the file cannot be changed.
    """
    from agent.errors import AgentError
    from agent.finder import alike
    from agent.tomledit import set_values

    choices = [(bus, board) for bus, one in found.items() for board in one.boards]
    if not choices or len({bus for bus, _ in choices}) > 1 or not alike([board for _, board in choices]):
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


def _as_json(bus: Bus, one: Found) -> dict[str, object]:
    return {
        "bus": str(bus),
        "chip": one.chip,
        "eui": one.sighting.eui if one.sighting else None,
        "receiving": bool(one.sighting and one.sighting.receiving),
        "radios": list(one.radios),
        "boards": list(one.boards) if one.chip else [],
        "problem": one.problem or None,
    }


def _lines(bus: Bus, one: Found) -> list[str]:
    from agent.finder import alike, gnss_ports

    if one.problem:
        return [f"{bus}: {one.problem}"]
    if one.sighting is None or one.chip is None:
        version = one.sighting.version if one.sighting else 0
        return [f"{bus}: no concentrator (version register reads 0x{version:02X})"]
    radios = "".join(f", radio {'AB'[n]} {kind or 'is no SX1250'}" for n, kind in enumerate(one.radios))
    said = [f"{bus}: {one.chip}, EUI {one.sighting.eui}{', receiving' if one.sighting.receiving else ''}{radios}"]
    fit = ", ".join(one.boards) or "none of the known boards; write a profile of your own (civigate boards)"
    said.append(f"  board profiles that fit: {fit}")
    if one.boards and alike(one.boards):
        said.append(f'  in gateway.toml, [concentrator]: bus = "{bus}" and board = "{one.boards[0]}"')
    elif one.boards:
        tell = "" if one.radios else "; --try-boards finds out which lines lead to it"
        said.append(f'  in gateway.toml, [concentrator]: bus = "{bus}", and as board the one that is yours{tell}')
    ports = gnss_ports(one.boards)
    if ports:
        said.append(
            f"  it may have a GNSS receiver, usually at {' or '.join(ports)}: try civigate gnss --device {ports[0]}"
        )
    return said
