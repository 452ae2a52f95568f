# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""`civigate scan`: how loud each channel of the plan is, measured by the SX1261."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from drivers.sx1261 import SpectralScan

SAMPLES: Final = 20_000
PERCENTS: Final = (50, 90, 99)

_EXAMPLES: Final = """examples:
  civigate scan -c /etc/civigate/gateway.toml
      a sixth of a second per channel; do it before the antenna is fixed for good, and again where it will hang
  civigate scan -c gateway.toml --samples 65535 --json

The median is the noise floor: below about -115 dBm a site is quiet. If 99 % is far above it, somebody sends often on
that channel; if the median is, there is interference. Reception is not disturbed; but where the agent runs with the
same SX1261, it measures by itself (noise in the health record), and two at a time disturb each other.
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "scan",
        help="measure the noise on each channel (needs an SX1261)",
        description="Measure how loud each channel of the plan is, with the board's SX1261.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "-c", "--config", type=Path, required=True, metavar="FILE", help="gateway.toml, with sx1261 in [concentrator]"
    )
    parser.add_argument("--samples", type=_samples, default=SAMPLES, metavar="N", help=f"per channel ({SAMPLES})")
    parser.add_argument("--json", action="store_true", help="one JSON object per channel instead of a table")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Scan channel after channel.

    Raises:
        AgentError: the configuration cannot be used, or names no SX1261.
        DriverError: the SX1261 cannot be reached or started.
    """
    from agent import config as configuration
    from agent.errors import ConfigError
    from agent.hardware import default_bus, leads_to_emulator
    from agent.listener import open_sx1261, read_patch
    from drivers.boards import load_board
    from drivers.linux.clock import SystemClock
    from drivers.plans import load_plan
    from drivers.sx1302.survey import channels

    config = configuration.load(args.config)
    at = config.concentrator.sx1261
    if at is None:
        raise ConfigError(
            "names no SX1261",
            where=f"{args.config}: concentrator.sx1261",
            hint='many boards have none; on those that do it is mostly sx1261 = "spi:/dev/spidev0.1"',
            code="CG-CFG-011",
        )
    board, plan = load_board(config.concentrator.board), load_plan(config.concentrator.plan)
    beside = config.concentrator.bus or default_bus(board)
    patch = read_patch(config.firmware_dirs, at, emulated=lambda: leads_to_emulator(beside, board))
    radio = open_sx1261(at, patch, SystemClock(), spi_clock_hz=board.spi_clock_hz, reset=board.sx1261_reset)
    try:
        frequencies = sorted(set(channels(plan).values()))
        radio.start(next(centre_hz for centre_hz in plan.radio_hz if centre_hz is not None))
        for frequency_hz in frequencies:
            scan = radio.scan(frequency_hz, args.samples)
            print(_as_json(frequency_hz, scan) if args.json else _as_line(frequency_hz, scan))
    finally:
        radio.close()
    return 0


def _samples(text: str) -> int:
    number = int(text)
    if not 1 <= number <= 0xFFFF:
        raise argparse.ArgumentTypeError(f"{number} is not from 1 to 65535")
    return number


def _as_json(frequency_hz: int, scan: SpectralScan | None) -> str:
    levels = {f"p{percent}_dbm": scan.percentile_dbm(percent) for percent in PERCENTS} if scan else {}
    counts = {f"{scan.level_dbm(bin_):g}": count for bin_, count in enumerate(scan.counts) if count} if scan else {}
    return json.dumps({"frequency_hz": frequency_hz, "aborted": scan is None, **levels, "counts": counts})


def _as_line(frequency_hz: int, scan: SpectralScan | None) -> str:
    megahertz = f"{frequency_hz / 1e6:.3f} MHz"
    if scan is None:
        return f"{megahertz}: a transmission cut in"
    floor_dbm = scan.percentile_dbm(PERCENTS[0])
    levels = ", ".join(f"{percent} % up to {scan.percentile_dbm(percent):g} dBm" for percent in PERCENTS[1:])
    return f"{megahertz}: noise {floor_dbm:g} dBm; {levels}"
