# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Devices that the kernel lets a program play: each read of a file is a request of the kernel, each write an answer."""

from __future__ import annotations

import os
import select
import time
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Final

from drivers.errors import BusError

if TYPE_CHECKING:
    from collections.abc import Callable

_JOIN_S: Final = 5.0
_NODE_LIMIT_S: Final = 120.0


def opened(device: Path, *, hint: str, code: str) -> int:
    """Open the kernel's side of a device.

    Raises:
        BusError: the kernel has none, or this user may not use it.
    """
    try:
        return os.open(device, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise BusError(error.strerror or str(error), op="open", where=str(device), hint=hint, code=code) from error


def wait_for_node(folder: Path, pattern: str, hint: str) -> None:
    """Wait until the kernel has made a node, so that who is told "ready" finds it.

    Raises:
        BusError: it does not.
    """
    root, *parts = folder.parts
    where = Path(root).glob
    deadline = time.monotonic() + _NODE_LIMIT_S
    while not any(where("/".join((*parts, pattern)))):
        if time.monotonic() > deadline:
            what = f"does not appear within {_NODE_LIMIT_S:g} s"
            raise BusError(what, op="make", where=str(folder / pattern), hint=hint, code="CG-EMU-011")
        time.sleep(0.05)


class Answering:
    """A thread that answers the kernel until it is closed.

    Args:
        file: open descriptor, from here on this one's.
        longest: of a request, bytes.
        answer: makes the answer to a request; None where none is wanted.
        name: of the thread.
    """

    def __init__(self, file: int, longest: int, answer: Callable[[bytes], bytes | None], *, name: str) -> None:
        self._file = file
        self._longest = longest
        self._answer = answer
        self._wake_read, self._wake_write = os.pipe()
        self._thread = Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Answer no more, and let the device go."""
        os.write(self._wake_write, b"\0")
        self._thread.join(_JOIN_S)
        for file in (self._file, self._wake_read, self._wake_write):
            os.close(file)

    def _serve(self) -> None:
        while True:
            ready, _, _ = select.select([self._file, self._wake_read], [], [])
            if self._wake_read in ready:
                return
            answer = self._answer(os.read(self._file, self._longest))
            if answer is None:
                continue
            try:
                os.write(self._file, answer)
            except FileNotFoundError:
                # Who asked was interrupted and waits for nothing any more [fuse, ENOENT].
                continue
