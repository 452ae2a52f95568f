# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""`civigate boards`: which concentrator boards and channel plans come with civigate, and what is in a profile."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from drivers.boards import Board, GpioLine
    from drivers.plans import ChannelPlan, TransmitBand

_EXAMPLES: Final = """examples:
  civigate boards
  civigate boards show rak_2287
  civigate boards plans
  civigate boards plan eu868
  civigate boards show ./my_board.toml --json

In gateway.toml, [concentrator] board and plan name one of these, or the path of one's own.
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command and its verbs."""
    parser = subparsers.add_parser(
        "boards",
        help="list boards and channel plans",
        description="The concentrator boards and channel plans that civigate knows.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(func=_boards, json=False)
    verbs = parser.add_subparsers(title="verbs", metavar="VERB")
    for name, run, text, argument in (
        ("list", _boards, "list the boards (the default)", None),
        ("show", _board, "show a board", "NAME or path of a board profile"),
        ("plans", _plans, "list the channel plans", None),
        ("plan", _plan, "show a channel plan", "NAME or path of a channel plan"),
    ):
        verb = verbs.add_parser(name, help=text)
        if argument is not None:
            verb.add_argument("name", metavar="NAME", help=argument)
        verb.add_argument("--json", action="store_true", help="JSON instead of lines")
        verb.set_defaults(func=run)


def _boards(args: argparse.Namespace) -> int:
    from drivers.boards import known_boards

    boards = known_boards()
    if args.json:
        print(json.dumps([asdict(board) for board in boards]))
        return 0
    width = max(len(board.name) for board in boards)
    for board in boards:
        refused = "" if board.refusal is None else f" (not supported: {board.refusal})"
        print(f"{board.name:{width}}  {board.title}{refused}")
    return 0


def _board(args: argparse.Namespace) -> int:
    from drivers.boards import load_board

    board = load_board(args.name)
    print(json.dumps(asdict(board)) if args.json else "\n".join(_lines(board)))
    return 0


def _plans(args: argparse.Namespace) -> int:
    from drivers.plans import load_plan, plan_names

    plans = [load_plan(name) for name in plan_names()]
    if args.json:
        print(json.dumps([{"name": plan.name, "title": plan.title} for plan in plans]))
        return 0
    width = max(len(plan.name) for plan in plans)
    for plan in plans:
        print(f"{plan.name:{width}}  {plan.title}")
    return 0


def _plan(args: argparse.Namespace) -> int:
    from drivers.plans import load_plan

    plan = load_plan(args.name)
    print(json.dumps(asdict(plan)) if args.json else "\n".join(_plan_lines(plan)))
    return 0


def _lines(board: Board) -> list[str]:
    found = [f"{board.name}: {board.title}", f"chip           {board.chip}"]
    if board.spi_device is not None:
        found.append(f"SPI            {board.spi_device}, {board.spi_clock_hz / 1e6:g} MHz")
    if board.usb_device is not None:
        found.append(f"USB            {board.usb_device}")
    for name, line, command in (
        ("reset", board.reset, board.reset_command),
        ("power", board.power, board.power_command),
    ):
        if command is not None:
            found.append(f"{name:<14} command {' '.join(command.command)}, {_polarity(command.active_high)}")
        else:
            found.append(f"{name:<14} {_gpio(line)}")
    if board.sx1261_reset is not None:
        found.append(f"SX1261 reset   {_gpio(board.sx1261_reset)}")
    if board.gnss_device is not None:
        found.append(f"GNSS receiver  usually at {board.gnss_device}")
    if board.temperature is not None:
        found.append(f"thermometer    {board.temperature.i2c_device}, address 0x{board.temperature.address:02X}")
    found.append(f"clock from     radio {'AB'[board.clock_radio]}")
    found.append(f"RSSI offset    {board.rssi_offset_db:g} dB")
    if board.transmit_gains:
        low, high = board.transmit_gains[0].power_dbm, board.transmit_gains[-1].power_dbm
        found.append(f"transmits      {low} to {high} dBm on radio {'AB'[board.transmit_radio]}")
    else:
        found.append("transmits      no: its power steps are not known")
    return [*found, f"source         {board.source}"]


def _gpio(line: GpioLine | None) -> str:
    if line is None:
        return "none"
    name = f"GPIO{line.number}" if line.controller is None else f"line {line.number} of {line.controller}"
    return f"{name}, {_polarity(line.active_high)}"


def _polarity(active_high: bool) -> str:
    return f"active {'high' if active_high else 'low'}"


def _plan_lines(plan: ChannelPlan) -> list[str]:
    found = [f"{plan.name}: {plan.title}"]
    for radio, centre_hz in zip("AB", plan.radio_hz, strict=True):
        found.append(f"radio {radio}        " + ("off" if centre_hz is None else f"{centre_hz / 1e6:.4f} MHz"))
    sf = f"SF{plan.spreading_factors[0]} to SF{plan.spreading_factors[-1]}, 125 kHz"
    found += [f"listens        {channel.frequency_hz / 1e6:.4f} MHz, {sf}" for channel in plan.multi_sf]
    if plan.service is not None:
        service = plan.service
        how = f"SF{service.spreading_factor}, {service.bandwidth_hz // 1000} kHz"
        found.append(f"listens        {service.frequency_hz / 1e6:.4f} MHz, {how}")
    if plan.fsk is not None:
        found.append(f"listens        {plan.fsk.frequency_hz / 1e6:.4f} MHz, FSK {plan.fsk.bitrate_bps} bit/s")
    for band in plan.transmit:
        found.append(f"may transmit   {_conditions(band)}")
    if plan.transmit_source is not None:
        found.append(f"as written in  {plan.transmit_source}")
    return [*found, f"source         {plan.source}"]


def _conditions(band: TransmitBand) -> str:
    said = [f"{band.low_hz / 1e6:g} to {band.high_hz / 1e6:g} MHz, {band.limit_dbm:g} dBm EIRP"]
    if band.duty_cycle < 1:
        said.append(f"{band.duty_cycle * 100:g} % of each hour")
    if band.longest_ms is not None:
        said.append(f"{band.longest_ms} ms at a time")
    if band.pause_ms:
        said.append(f"{band.pause_ms} ms of pause")
    if band.narrowest_hz:
        said.append(f"from {band.narrowest_hz / 1000:g} kHz wide")
    if band.widest_hz is not None:
        said.append(f"up to {band.widest_hz / 1000:g} kHz wide")
    if band.listening is not None:
        said.append(f"after {band.listening.duration_us / 1000:g} ms below {band.listening.threshold_dbm:g} dBm")
    return ", ".join(said)
