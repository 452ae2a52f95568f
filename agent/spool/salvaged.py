# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What became of a damaged spool."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from agent.spool.bisected import Range


@dataclass(frozen=True, slots=True)
class Salvaged:
    """What became of a damaged spool.

    Attributes:
        aside: the damaged file, as it was.
        frames: rows that were saved.
        damaged: ranges of row numbers, both ends included, of which some could not be read. Rows that had been freed
            before are not told from those that were lost.
        lost: frames in them, as far as the account says, by destination.
        batches: sealed batches that were saved with all they need.
        broken_batches: sealed batches of which something is missing; what is left of them travels again.
        whole_account: whether the account could be read; if not, what was only counted since the last snapshot, or
            all of it, is lost, and it begins anew with what was saved.
    """

    aside: Path
    frames: int
    damaged: tuple[Range, ...]
    lost: dict[str, int]
    batches: int
    broken_batches: int
    whole_account: bool
