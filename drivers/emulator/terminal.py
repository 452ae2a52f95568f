# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""A pseudo-terminal under a name of the user's choice, as programs find a serial port.

The program's side is held open by us as well, so that it survives its users.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import sys
import termios
import tty
from typing import TYPE_CHECKING, Final

from drivers.errors import BusError

if TYPE_CHECKING:
    from pathlib import Path

READ_LIMIT_BYTES: Final = 8192
_WRITE_LIMIT_S: Final = 1.0


class Terminal:
    """One pseudo-terminal.

    Args:
        link: path that will lead to it; a dangling or older link is replaced.

    Attributes:
        master: descriptor of our side, not blocking.

    Raises:
        BusError: the link cannot be made.
    """

    def __init__(self, link: Path) -> None:
        self._link = link
        self._untouched = 0
        self.master, self._slave = os.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self.master, False)
        try:
            if link.is_symlink():
                link.unlink()
            link.symlink_to(os.ttyname(self._slave))
        except OSError as error:
            self.close()
            raise BusError(
                error.strerror or str(error),
                op="link",
                where=str(link),
                hint="the folder must exist and be writable, and no file be in the link's place",
                code="CG-EMU-006",
            ) from error

    def read(self) -> bytes:
        """Return what the program has written; empty when it has not."""
        try:
            return os.read(self.master, READ_LIMIT_BYTES)
        except BlockingIOError:
            return b""

    def write(self, data: bytes, *, fresh: bool = False) -> None:
        """Write for the program to read; what does not fit is lost, as on a wire.

        Args:
            data: bytes.
            fresh: throw away first what is there if nothing was read since the last fresh writing: nobody hears old
                news from a serial port. What a program that is reading has left stays whole.
        """
        if fresh:
            if 0 < self._untouched <= self.unread:
                termios.tcflush(self._slave, termios.TCIFLUSH)
            self._untouched = self.unread + len(data)
        with contextlib.suppress(BlockingIOError):
            os.write(self.master, data)

    def write_all(self, data: bytes) -> None:
        """Write for the program to read, and wait for room; what finds none for a second is lost."""
        while data:
            _, writable, _ = select.select([], [self.master], [], _WRITE_LIMIT_S)
            if not writable:
                return
            data = data[os.write(self.master, data) :]

    @property
    def unread(self) -> int:
        """How many bytes the program has not read yet; it loses them when the terminal closes."""
        return int.from_bytes(fcntl.ioctl(self._slave, termios.FIONREAD, bytes(4)), sys.byteorder)

    def close(self) -> None:
        """Remove terminal and link."""
        with contextlib.suppress(OSError):
            if self._link.is_symlink() and str(self._link.readlink()) == os.ttyname(self._slave):
                self._link.unlink()
        os.close(self.master)
        os.close(self._slave)
