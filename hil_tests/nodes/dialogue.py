# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Lines out, lines in, over a serial port that may be pulled at any moment."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from drivers.bus import SerialPort
from drivers.errors import BusError
from hil_tests.bench.roles import BenchError

READ_BYTES: Final = 4096
MAX_LINE: Final = 2048
"""Longer than any answer to 255 bytes in hexadecimal."""
QUIET_S: Final = 0.02


class Dialogue:
    """A conversation with a module.

    Args:
        open_port: opens its port.
        role: of the bench, for errors.
    """

    def __init__(self, open_port: Callable[[], SerialPort], role: str) -> None:
        self._role = role
        try:
            self._port = open_port()
        except BusError as error:
            raise BenchError(f"{error}", role=role, hint=error.hint) from error
        self._rest = b""
        self._lines: list[str] = []

    def say(self, line: str) -> None:
        """Send a line.

        Raises:
            BenchError: the port is gone.
        """
        try:
            self._port.write(line.encode("ascii") + b"\r\n")
        except BusError as error:
            raise self._gone(error) from error

    def hear(self, deadline: float) -> str | None:
        """Return the next line that is not empty, without its end; None when none comes by a time.monotonic().

        Raises:
            BenchError: the port is gone.
        """
        while not self._lines:
            if time.monotonic() > deadline:
                return None
            self._fetch()
        return self._lines.pop(0)

    def settle(self) -> list[str]:
        """Return what still comes until it is quiet: late answers to something else."""
        late = []
        while (line := self.hear(time.monotonic() + QUIET_S)) is not None:
            late.append(line)
        return late

    def close(self) -> None:
        """Release the port."""
        self._port.close()

    def _fetch(self) -> None:
        try:
            self._rest += self._port.read(READ_BYTES)
        except BusError as error:
            raise self._gone(error) from error
        *whole, self._rest = self._rest.replace(b"\r", b"\n").split(b"\n")
        if len(self._rest) > MAX_LINE:
            self._rest = b""  # no line of a module is so long: another rate, or another device
        self._lines += [text for line in whole if (text := line.decode("ascii", errors="replace").strip())]

    def _gone(self, error: BusError) -> BenchError:
        return BenchError(f"the port is gone ({error.where})", role=self._role, hint="check its plug and cable")
