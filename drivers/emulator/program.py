# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Running a program on the virtual concentrator, with its exit code and signals passed through."""

from __future__ import annotations

import signal
import subprocess
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

from drivers.emulator import preload
from drivers.emulator.remote import Server

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

    from drivers.emulator.emulator import Emulator

_NOT_FOUND: Final = 127
_NOT_EXECUTABLE: Final = 126
_SIGNALLED: Final = 128
"""A program that a signal ended counts as this plus the signal's number, as in a shell."""

_FORWARDED: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


def run_program(
    emulator: Emulator,
    command: Sequence[str],
    *,
    spi_socket: Path | None = None,
    control_socket: Path | None = None,
) -> int:
    """Run a program whose devices are the emulator's, and return its exit code.

    To be called from the main thread: signals that would end this process are passed on to the program.

    Args:
        emulator: the virtual concentrator.
        command: the program and its arguments.
        spi_socket: where to serve the bus besides; None for a place of its own.
        control_socket: where to serve the control channel; None for none that others know of.

    Raises:
        BusError: the library cannot be built, or a socket cannot be made.
    """
    library_path = preload.library()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="civigate-emulate-")))
        spi_socket = spi_socket or folder / "spi"
        stack.enter_context(Server(emulator, spi_socket, control_socket or folder / "control"))
        signals = stack.enter_context(_SignalRelay())
        try:
            process = subprocess.Popen(list(command), env=preload.environment(spi_socket, library_path))
        except FileNotFoundError:
            return _NOT_FOUND
        except PermissionError:
            return _NOT_EXECUTABLE
        signals.pass_to(process)
        code = process.wait()
        return code if code >= 0 else _SIGNALLED - code


class _SignalRelay:
    """Catches signals from before a program is started, so that none ends us in between, and passes them on."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._early: list[int] = []
        self._before = {number: signal.signal(number, self._handle) for number in _FORWARDED}

    def __enter__(self) -> _SignalRelay:
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def pass_to(self, process: subprocess.Popen[bytes]) -> None:
        """Name the program; it gets what has come already."""
        self._process = process
        for number in self._early:
            process.send_signal(number)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self._process is None:
            self._early.append(number)
        else:
            self._process.send_signal(number)
