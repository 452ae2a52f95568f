# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Room that is kept for the day when the disk is full.

On a full file system SQLite can neither delete nor checkpoint, so nothing could free anything. A file that is worth
nothing is given up then; with its room receipts and evictions go through.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

BALLAST_BYTES = 3 << 20
"""Three times the WAL."""
ROOM_BYTES = 3 * BALLAST_BYTES
"""Free space from which on a disk no longer counts as full."""


class Ballast:
    """A file beside the spool that only takes room."""

    def __init__(self, spool: Path) -> None:
        self._path = spool.with_name(spool.name + ".ballast")

    @property
    def roomy(self) -> bool:
        """Whether the file system has room for more than the ballast."""
        try:
            found = os.statvfs(self._path.parent)
        except OSError:
            return False
        return found.f_bavail * found.f_frsize >= ROOM_BYTES

    def take_in(self) -> bool:
        """Take the room, unless it is taken; False when the disk has none to spare."""
        try:
            if self._path.exists() and self._path.stat().st_size == BALLAST_BYTES:
                return True
            if not self.roomy:
                return False
            with self._path.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, BALLAST_BYTES)
        except OSError:
            self.throw_out()
            return False
        return True

    def throw_out(self) -> None:
        """Give the room back."""
        with contextlib.suppress(OSError):  # read-only or gone: then it is not its room that is missing
            self._path.unlink()
