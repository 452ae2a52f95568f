# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What the commands of gateway and platform share: they end in an exit code, and what went wrong is one line."""

from __future__ import annotations

import argparse
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
    args = parser.parse_args(argv)
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


def complain(program: str, error: Complaint) -> None:
    """Print one line: where, what, what to do, and the code to look for."""
    print(f"{program}: {error}; {error.hint} [{error.code}]", file=sys.stderr)
