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
        try:
            process = subprocess.Popen(list(command), env=preload.environment(spi_socket, library_path))
        except FileNotFoundError:
            return _NOT_FOUND
        except PermissionError:
            return _NOT_EXECUTABLE
        return _wait(process)


def _wait(process: subprocess.Popen[bytes]) -> int:
    def forward(number: int, _frame: FrameType | None) -> None:
        process.send_signal(number)

    before = {number: signal.signal(number, forward) for number in _FORWARDED}
    try:
        code = process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return code if code >= 0 else _SIGNALLED - code
