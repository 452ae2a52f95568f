# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The `civigate-receiver` command: finds the command, runs it, and turns what went wrong into one line."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from importlib import metadata

from agent.command import execute

COMMANDS = (
    "serve",
    "gateways",
    "ca",
    "identity",
    "status",
    "gaps",
    "export",
    "quarantine",
    "verify",
    "import",
    "ledger",
    "config",
)
"""In the order of the help text; each is a module of this package with `add_parser` ("import_batches" for "import")."""


def parser() -> argparse.ArgumentParser:
    """Build the parser with every command."""
    top = argparse.ArgumentParser(
        prog="civigate-receiver",
        description="The platform side: verifies, stores and acknowledges what gateways deliver, and accounts for it.",
        epilog="To begin: civigate-receiver config example > receiver.toml",
    )
    top.add_argument("--version", action="version", version=f"civigate-receiver {metadata.version('civigate')}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name in COMMANDS:
        module = "import_batches" if name == "import" else name
        importlib.import_module(f"receiver.cli.{module}").add_parser(commands)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        0 done; 1 operational failure; 2 usage or configuration; 4 integrity; 130 interrupted.
    """
    return execute(parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
