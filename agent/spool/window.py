# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""How long a frame may wait for others to share its commit: as short as the card can stand, never beyond the limit.

A commit costs the card some pages whatever is in it. With few frames, committing each at once costs little and a power
cut costs nothing; with many, sharing is what keeps a card alive. Between the two the window is the shortest one with
which a day's writes stay within a budget.
"""

from __future__ import annotations

from math import exp

COMMIT_BYTES = 5_300
"""What one commit writes to the block device, whatever is in it: WAL with synchronous=FULL, pages of 1024, ext4."""
FRAME_BYTES = 155
"""What each frame in it adds, its way into the database file included. Both measured, see tests/bench/spool.py."""
MEMORY_S = 60.0
"""How far the rate of frames is remembered."""
DAY_S = 86_400.0


class CommitWindow:
    """The window of one writer. Times are monotonic seconds.

    Args:
        limit_s: the longest window.
        daily_bytes: that may be written; None: the window is always the limit.
    """

    def __init__(self, limit_s: float, daily_bytes: float | None = None) -> None:
        self._limit_s = limit_s
        self._daily_bytes = daily_bytes
        self._level = 0.0
        self._at_s = 0.0

    def heard(self, now_s: float, frames: int) -> None:
        """Take note of frames."""
        self._level = self._remembered(now_s) + frames
        self._at_s = now_s

    def rate_hz(self, now_s: float) -> float:
        """Return the frames per second of late."""
        return self._remembered(now_s) / MEMORY_S

    def seconds(self, now_s: float) -> float:
        """Return how long the first frame of a group waits, 0 to the limit."""
        if self._daily_bytes is None:
            return self._limit_s
        rate_hz = self.rate_hz(now_s)
        spare = self._daily_bytes / DAY_S - rate_hz * FRAME_BYTES
        if spare <= 0:
            return self._limit_s
        # groups follow each other by the window and the wait for the next first frame
        wanted_s = COMMIT_BYTES / spare - (1 / rate_hz if rate_hz else float("inf"))
        return min(max(wanted_s, 0.0), self._limit_s)

    def _remembered(self, now_s: float) -> float:
        return self._level * exp(-max(now_s - self._at_s, 0.0) / MEMORY_S)
