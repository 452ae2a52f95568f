# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Output lines that only a program of the board's vendor can drive."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Final

from drivers.errors import BusError

if TYPE_CHECKING:
    from drivers.boards import CommandLine

LIMIT_S: Final = 5.0
"""Longest that such a program may take; they write one file."""


class ProgramLine:
    """An output that is driven by running a program.

    Args:
        line: the program, and the polarity.
    """

    def __init__(self, line: CommandLine) -> None:
        self._line = line

    def set(self, *, active: bool) -> None:
        """Drive the line to its active or inactive level.

        Raises:
            BusError: the program is not there, fails, or does not come to an end.
        """
        command = [*self._line.command, str(int(active == self._line.active_high))]
        try:
            subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=True, timeout=LIMIT_S)
        except (OSError, subprocess.SubprocessError) as error:
            raise BusError(
                str(error),
                op="drive",
                where=" ".join(command),
                hint="the board profile names a program of the gateway's vendor: is this that vendor's gateway?",
                code="CG-GPIO-004",
            ) from error

    def close(self) -> None:
        """Do nothing: the line keeps its level."""
