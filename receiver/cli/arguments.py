# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Arguments that several commands share."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from pathlib import Path

from agent.lorawan import parse_eui
from receiver.ledger.port import parse_dev_addr

DEFAULT_CONFIG = Path("/etc/civigate/receiver.toml")


def add_config(parser: argparse.ArgumentParser) -> None:
    """Add the path of the configuration."""
    parser.add_argument(
        "-c", "--config", type=Path, default=DEFAULT_CONFIG, metavar="FILE", help=f"configuration ({DEFAULT_CONFIG})"
    )


def add_period(parser: argparse.ArgumentParser) -> None:
    """Add --since and --until, UTC in microseconds since 1970-01-01."""
    when = "ISO 8601, UTC if it does not say otherwise: 2026-11-23 or 2026-11-23T06:30"
    parser.add_argument("--since", type=moment, metavar="TIME", help=when)
    parser.add_argument("--until", type=moment, metavar="TIME", help="up to, and without, this moment")


def moment(text: str) -> int:
    """Read a moment."""
    try:
        read = datetime.fromisoformat(text)
        return round((read if read.tzinfo else read.replace(tzinfo=UTC)).timestamp() * 1_000_000)
    except (ValueError, OverflowError) as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time such as 2026-11-23T06:30") from error


def eui(text: str) -> bytes:
    """Read an EUI-64."""
    try:
        return parse_eui(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not an EUI: {error}") from error


def dev_addr(text: str) -> tuple[int, int]:
    """Read a DevAddr, or a prefix of them: the lowest and the highest."""
    try:
        return parse_dev_addr(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not like 26011bda or 26000000/7") from error


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add the choice of JSON output."""
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")
