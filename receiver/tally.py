# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What became of the batches since the start, counted in memory: cheap enough for every batch, read by whoever asks."""

from __future__ import annotations

import bisect
import threading
from collections import Counter
from dataclasses import dataclass, field

from agent.batch.model import Reason

BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the classes of a duration; the last class has none."""


class Durations:
    """How long something took, by classes. Safe to use from several threads."""

    def __init__(self) -> None:
        self._counts = [0] * (len(BOUNDS_S) + 1)
        self._sum_s = 0.0
        self._lock = threading.Lock()

    def add(self, taken_s: float) -> None:
        """Count one duration."""
        with self._lock:
            self._counts[bisect.bisect_left(BOUNDS_S, taken_s)] += 1
            self._sum_s += taken_s

    def read(self) -> tuple[list[tuple[float, int]], float]:
        """Return how many were at most as long as each bound, the last being infinite; and the sum in seconds."""
        with self._lock:
            counts, sum_s = list(self._counts), self._sum_s
        reached, classes = 0, []
        for bound_s, count in zip((*BOUNDS_S, float("inf")), counts, strict=True):
            reached += count
            classes.append((bound_s, reached))
        return classes, sum_s


@dataclass(slots=True)
class Tally:
    """What became of the batches since the start. Safe to use from several threads.

    Attributes:
        accepted: new batches that were committed.
        repeated: batches that had been committed before.
        refusals: batches that were refused, by reason.
        frames: in the accepted ones.
        wire_bytes: of all batches that were answered.
        receipts: signed, also those that a gateway asked for without a batch.
        held_back: what was turned away undecided because somebody asked too often, by the name of the limit.
        verify: from the bytes to a verified batch, or to its refusal.
        commit: from a verified batch to its commit.
    """

    accepted: int = 0
    repeated: int = 0
    frames: int = 0
    wire_bytes: int = 0
    receipts: int = 0
    refusals: Counter[Reason] = field(default_factory=Counter)
    held_back: Counter[str] = field(default_factory=Counter)
    verify: Durations = field(default_factory=Durations)
    commit: Durations = field(default_factory=Durations)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def refused(self) -> int:
        """All batches that were refused."""
        with self._lock:
            return self.refusals.total()

    def accept(self, *, frames: int, wire_bytes: int, repeat: bool) -> None:
        """Count a batch that is committed."""
        with self._lock:
            self.accepted += not repeat
            self.repeated += repeat
            self.frames += 0 if repeat else frames
            self.wire_bytes += wire_bytes

    def refuse(self, reason: Reason, wire_bytes: int) -> None:
        """Count a batch that is refused."""
        with self._lock:
            self.refusals[reason] += 1
            self.wire_bytes += wire_bytes

    def acknowledge(self) -> None:
        """Count a receipt."""
        with self._lock:
            self.receipts += 1

    def hold_back(self, limit: str) -> None:
        """Count something that must come again later."""
        with self._lock:
            self.held_back[limit] += 1
