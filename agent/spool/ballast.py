# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Room that is kept for the day when the disk is full.

On a full file system SQLite can neither delete nor checkpoint, so nothing could free anything. A file that is worth
nothing is given up then; with its room receipts and evictions go through, and some frames before one is evicted.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

BALLAST_BYTES = 3 << 20
"""Twice the WAL, and what follows."""
GROWTH_BYTES = 1 << 20
"""What of it is for frames, once it is given up: a young spool has no pages yet that it could use again, and would
give up all that waits in it."""
ROOM_BYTES = 3 * BALLAST_BYTES
"""Free space from which on a disk no longer counts as full."""


PATIENT_REFUSALS = 5
"""Commits in a row without room, after which it is believed although the file system says otherwise."""


class Ballast:
    """A file beside the spool that only takes room, and what follows from having it or not.

    Args:
        spool: path of the database.

    Attributes:
        growth_bytes: by how much the spool may grow from the moment this changes; None: up to its quota.
    """

    def __init__(self, spool: Path) -> None:
        self._path = spool.with_name(spool.name + ".ballast")
        self._hidden_bound = False
        self.growth_bytes = None if self._take_in() else GROWTH_BYTES

    @property
    def crowded(self) -> bool:
        """Whether the disk has no room to spare."""
        return self.growth_bytes is not None

    def look(self, refusals: int) -> None:
        """Give up the room, or take it back.

        Args:
            refusals: commits in a row that found no room.
        """
        if not refusals:
            if self.crowded and self._take_in():
                self.growth_bytes = None
            return
        roomy = self._roomy()
        if not self.crowded:
            if not roomy or refusals > PATIENT_REFUSALS:
                self._hidden_bound = roomy  # of a quota that statvfs does not know
                self._throw_out()
                self.growth_bytes = GROWTH_BYTES
        elif roomy and not self._hidden_bound and self._take_in():
            self.growth_bytes = None
        else:
            self.growth_bytes = 0  # somebody else has taken that room

    def _roomy(self) -> bool:
        """Say whether the file system has room for more than the ballast."""
        try:
            found = os.statvfs(self._path.parent)
        except OSError:
            return False
        return found.f_bavail * found.f_frsize >= ROOM_BYTES

    def _take_in(self) -> bool:
        """Take the room, unless it is taken; False when the disk has none to spare."""
        try:
            if self._path.exists() and self._path.stat().st_size == BALLAST_BYTES:
                return True
            if not self._roomy():
                return False
            with self._path.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, BALLAST_BYTES)
        except OSError:
            self._throw_out()
            return False
        return True

    def _throw_out(self) -> None:
        """Give the room back."""
        with contextlib.suppress(OSError):  # read-only or gone: then it is not its room that is missing
            self._path.unlink()
