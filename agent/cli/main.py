# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The `civigate` command: finds the command, runs it, and turns what went wrong into one line."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from importlib import metadata

from agent.command import complain, execute
from drivers.errors import DriverError

COMMANDS = (
    "run",
    "doctor",
    "status",
    "top",
    "config",
    "identity",
    "enrol",
    "provision",
    "firmware",
    "boards",
    "probe",
    "scan",
    "gnss",
    "filter",
    "uplink",
    "spool",
    "emulate",
    "certificate",
    "demo",
)
"""In the order of the help text; each is a module of this package with `add_parser`."""


def parser() -> argparse.ArgumentParser:
    """Build the parser with every command."""
    top = argparse.ArgumentParser(
        prog="civigate",
        description="The gateway agent: drives a LoRa concentrator, keeps every frame, proves what it delivers.",
        epilog="Try it without hardware: civigate demo",
    )
    top.add_argument("--version", action="version", version=f"civigate {metadata.version('civigate')}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name in COMMANDS:
        importlib.import_module(f"agent.cli.{name}").add_parser(commands)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        0 done; 1 operational failure; 2 usage or configuration; 3 hardware; 4 integrity; 130 interrupted.
    """
    try:
        return execute(parser(), argv)
    except DriverError as error:
        complain("civigate", error)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
