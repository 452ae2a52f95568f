# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What the commands of gateway and platform share: they end in an exit code, and what went wrong is one line.

No terminal and no locale ends them: what it has no sign for is a question mark.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from agent.errors import AgentError

EXIT_INTERRUPTED = 130


@runtime_checkable
class Complaint(Protocol):
    """An error that can be told to a person; str() of it says where and what."""

    hint: str
    code: str


def execute(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> int:
    """Parse the arguments, run the chosen command's `func`, and return its exit code.

    Returns:
        What the command returns; the exit code of the `AgentError` that it raised; 1 when the system refused what no
        command foresaw; 130 when it was interrupted.
    """
    _write(errors="replace")  # what the terminal has no sign for; standard error does so by itself
    args = parser.parse_args(argv)
    if getattr(args, "json", False):
        _write(encoding="utf-8", errors="replace")  # JSON is UTF-8 in every locale [RFC 8259, 8.1]
    try:
        code = int(args.func(args))
        sys.stdout.flush()
    except AgentError as error:
        complain(parser.prog, error)
        return error.exit_code
    except BrokenPipeError:
        # the reader of our output went away (civigate ... | head): nothing to say, and nobody to say it to
        sys.stderr.close()
        return 0
    except OSError as error:
        if isinstance(error, Complaint):
            raise
        # what no command foresaw: output into a full disk, a folder that is not ours
        forbidden = isinstance(error, PermissionError)
        hint = "check that it is there, its permissions, and the space left on its file system"
        unforeseen = AgentError(
            error.strerror or str(error),
            where=str(error.filename or "output"),
            hint="use sudo, or let this user have it" if forbidden else hint,
            code="CG-CLI-001",
        )
        complain(parser.prog, unforeseen)
        return unforeseen.exit_code
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    return code


def in_colour() -> bool:
    """Tell whether output is for a person who wants colour: a terminal that has it, and no NO_COLOR."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and not is_plain()


def is_plain() -> bool:
    """Tell whether the terminal knows nothing but lines of text."""
    return os.environ.get("TERM") in {"dumb", "unknown"}


def _write(*, errors: str, encoding: str | None = None) -> None:
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding=encoding, errors=errors)


def complain(program: str, error: Complaint) -> None:
    """Print one line: where, what, what to do, and the code to look for."""
    print(f"{program}: {error}; {error.hint} [{error.code}]", file=sys.stderr)
