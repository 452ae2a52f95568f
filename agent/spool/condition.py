# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""How the spool's writer is: each trouble with the disk is a state with a name."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

SLOW_S = 3.0
"""How long a commit may take before that is a state of its own."""


class WriterState(StrEnum):
    """How the writer is."""

    OK = "ok"
    FULL = "full"
    """Quota or disk: nothing can be added and nothing may be evicted."""
    SLOW = "slow"
    """A commit has been waiting for the disk for seconds: a worn or overheated card, or one that hangs."""
    FAILING = "failing"
    """Input or output errors."""
    READ_ONLY = "read-only"
    MISSING = "missing"
    """The file is not there: a card that was pulled, a mount that is gone."""
    UNBALANCED = "unbalanced"
    """The sums do not match: a defect, or damage that no checksum shows. Everything goes on; see the detail."""
    LOCKED = "locked"
    """Another program holds the file."""
    DAMAGED = "damaged"
    """The file itself is broken; what can be read is being saved into a new one. Where that has not helped it stays as
    it is, and everything that can goes on."""
    STOPPED = "stopped"


DAMAGED = "CG-SPL-004"
"""The code of errors that speak of a damaged file."""
INCURABLE = (
    "salvaging has not cured it: what can be read is delivered; then replace the card and report it with the log"
)
_STATES = {
    "CG-SPL-001": WriterState.MISSING,
    "CG-SPL-016": WriterState.MISSING,
    DAMAGED: WriterState.DAMAGED,
    "CG-SPL-005": WriterState.LOCKED,
    "CG-SPL-007": WriterState.READ_ONLY,
    "CG-SPL-008": WriterState.FULL,
    "CG-SPL-009": WriterState.FAILING,
}


def state_of(code: str) -> WriterState:
    """Return the state that an error puts the writer into."""
    return _STATES.get(code, WriterState.FAILING)


@dataclass(frozen=True, slots=True)
class WriterStatus:
    """The writer at one moment.

    Attributes:
        state: how it is.
        detail: the error behind it, one line; empty when all is well.
        queued_frames: frames that are not committed yet.
        oldest_s: age of the oldest of them: what a power cut would cost now.
        committed_frames: since the start.
        commits: since the start.
        failures: commits that the disk refused, since the start.
        shed_frames: frames that found the queue full, since the start.
        journal_failures: records that could not be journaled, since the start.
        crowded: whether the disk has no room to spare: the spool does not grow and evicts sooner.
        commit_window_s: how long a frame waits for others at present.
        slow_commits: commits that took longer than `SLOW_S`, since the start.
        longest_commit_s: the longest that one took, since the start.
        frame_bytes: room that the committed frames took in the file, since the start.
        room_bytes: that is left for frames, below the quota and on the disk; None before the first commit.
        sealing: why nothing is sealed although frames are committed: the key cannot sign; empty when it can.
        used_bytes: of the file, in use; None before the first commit.
    """

    state: WriterState
    detail: str
    queued_frames: int
    oldest_s: float
    committed_frames: int
    commits: int
    failures: int
    shed_frames: int
    journal_failures: int
    crowded: bool
    commit_window_s: float = 0.0
    slow_commits: int = 0
    longest_commit_s: float = 0.0
    frame_bytes: int = 0
    room_bytes: int | None = None
    sealing: str = ""
    used_bytes: int | None = None


def slow_detail(seconds: float, path: Path) -> str:
    """Say that a commit has been waiting for the disk."""
    hint = "nothing to do unless it happens often: then replace the card"
    return f"{path}: a commit has been waiting for the disk for {seconds:.0f} s; {hint} [CG-SPL-040]"
