# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The `civigate` command: finds the command, runs it, and turns what went wrong into one line."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from importlib import metadata

from agent.errors import AgentError
from drivers.errors import DriverError

COMMANDS = ("run", "config", "identity", "firmware", "boards", "probe", "uplink", "spool", "emulate", "demo")
"""In the order of the help text; each is a module of this package with `add_parser`."""

EXIT_HARDWARE = 3
EXIT_INTERRUPTED = 130


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
    args = parser().parse_args(argv)
    try:
        code = int(args.func(args))
        sys.stdout.flush()
    except (AgentError, DriverError) as error:
        print(f"civigate: {error}; {error.hint} [{error.code}]", file=sys.stderr)
        return error.exit_code if isinstance(error, AgentError) else EXIT_HARDWARE
    except BrokenPipeError:
        # the reader of our output went away (civigate ... | head): nothing to say, and nobody to say it to
        sys.stderr.close()
        return 0
    except OSError as error:
        # what no command foresaw: output into a full disk, a folder that is not ours
        where, reason = error.filename or "output", error.strerror or str(error)
        hint = "check that it is there, its permissions, and the space left on its file system"
        print(f"civigate: {where}: {reason}; {hint} [CG-CLI-001]", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    return code


if __name__ == "__main__":
    sys.exit(main())
