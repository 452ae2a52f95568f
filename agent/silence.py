# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Is it quiet on the air, or is the radio deaf? Told by how long it has been quiet before.

A gateway on a hill hears something every second, one in a cellar every hour. Each is suspect when it hears nothing
for several times longer than it ever did. What suspicion costs is a restart of two seconds; and as a silence that
turns out to be real becomes the longest known, it is asked about ever more seldom.
"""

from __future__ import annotations

LEARNED_PACKETS = 100
"""Before so many, nothing is known of a place."""
SHORTEST_S = 3600.0
"""No shorter silence is suspect."""
TIMES_LONGEST = 3.0


class Silence:
    """Learns how long a gateway hears nothing, and says when that is too long.

    Args:
        now_s: monotonic seconds.
    """

    def __init__(self, now_s: float) -> None:
        self._last_s = now_s
        self._packets = 0
        self.longest_s = 0.0
        """The longest silence so far, seconds."""

    @property
    def limit_s(self) -> float | None:
        """Silence that would be suspect; None while too little is known."""
        return None if self._packets < LEARNED_PACKETS else max(SHORTEST_S, TIMES_LONGEST * self.longest_s)

    def heard(self, now_s: float, packets: int) -> None:
        """Take note of packets."""
        if packets:
            self._end(now_s)
            self._packets += packets

    def too_long(self, now_s: float) -> bool:
        """Say whether it is suspect that nothing was heard; once for each such stretch."""
        limit_s = self.limit_s
        if limit_s is None or now_s - self._last_s < limit_s:
            return False
        self._end(now_s)
        return True

    def _end(self, now_s: float) -> None:
        self.longest_s = max(self.longest_s, now_s - self._last_s)
        self._last_s = now_s
