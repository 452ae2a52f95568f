# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Bytes that were popped from the receive FIFO and not kept by anybody yet, in a file that outlives the process.

The ring behind the FIFO holds what was popped until later frames take its place. In busy air that is soon: a process
that is killed with frames in its hands would lose them while the next one starts. So they are noted before they are
decoded: two small writes for a visit that found something, and one when it is known that they were kept.
"""

from __future__ import annotations

import logging
import os
from struct import Struct
from typing import TYPE_CHECKING, Final
from weakref import finalize

if TYPE_CHECKING:
    from pathlib import Path

logger = logging.getLogger(__name__)

LIMIT_BYTES: Final = 5 * 4096
"""More than one visit takes: four looks at a full FIFO, and the frame that the visit before left unfinished."""
_HEAD: Final = Struct("<4sI")
_MAGIC: Final = b"SXF1"


class Popped:
    """The bytes of the last visit.

    Args:
        path: in memory (tmpfs); None where nobody comes back for them, as in a short look at a board.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._file: int | None = None
        self.data = b""
        """What nobody is known to have kept; at first, what an earlier process left."""
        if path is None:
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
            self._close = finalize(self, os.close, self._file)
            self.data = _read(self._file)
        except OSError as error:
            self._failed(error)

    def only(self, data: bytes) -> None:
        """Forget all but `data`: the rest was kept."""
        if data or self.data:
            self.data = b""
            self.add(data)

    def add(self, data: bytes) -> None:
        """Note what was popped just now. Where that fails, the ring may still have it; nothing is raised."""
        begin = _HEAD.size + len(self.data)
        self.data = (self.data + data)[:LIMIT_BYTES]
        if self._file is None:
            return
        try:
            # In this order: the head makes the bytes valid.
            if data:
                os.pwrite(self._file, data, begin)
            os.pwrite(self._file, _HEAD.pack(_MAGIC, len(self.data)), 0)
        except OSError as error:
            self._failed(error)

    def _failed(self, error: OSError) -> None:
        logger.warning("event=popped_not_noted problem=%s", error)
        if self._file is not None:
            self._file = None
            self._close()


def _read(file: int) -> bytes:
    """Return what the file holds; nothing where it is not of this program."""
    head = os.pread(file, _HEAD.size, 0)
    if len(head) < _HEAD.size:
        return b""
    magic, size = _HEAD.unpack(head)
    if magic != _MAGIC or size > LIMIT_BYTES:
        return b""
    return os.pread(file, size, _HEAD.size)
