# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Arguments that several commands share."""

from __future__ import annotations

import argparse
from pathlib import Path

DEFAULT_CONFIG = Path("/etc/civigate/receiver.toml")


def add_config(parser: argparse.ArgumentParser) -> None:
    """Add the path of the configuration."""
    parser.add_argument(
        "-c", "--config", type=Path, default=DEFAULT_CONFIG, metavar="FILE", help=f"configuration ({DEFAULT_CONFIG})"
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add the choice of JSON output."""
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")
