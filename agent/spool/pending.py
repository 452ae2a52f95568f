# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What was heard and is not committed yet: a bounded queue in memory, each entry of it in the journal as well.

What finds no room is shed, and counted with the next that is taken.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING

from agent.batch.model import Account
from agent.spool.intake import Heard, Hour
from agent.spool.orders import Entry, entry_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from agent.spool.journal import Journal
    from agent.spool.row import Fields
    from agent.spool.window import CommitWindow

log = logging.getLogger(__name__)

QUEUE_FRAMES = 20_000
"""Frames, and looks at the radio, that wait for the disk at most; some 20 MB."""
TRANSACTION_FRAMES = 4096
"""After a stall the queue is committed in pieces of this size."""


class Pending:
    """The queue of one writer, whose lock its callers hold.

    Args:
        journal: outlives the process.
        window: how long the first frame of a group waits for others.
    """

    def __init__(self, journal: Journal, window: CommitWindow) -> None:
        self.journal = journal
        self.window = window
        self.frames = 0
        """That wait."""
        self._queue: deque[Entry] = deque()
        self._since: deque[float] = deque()
        self._shed: dict[Hour, tuple[Account, ...]] = {}

    @property
    def entries(self) -> int:
        """Looks at the radio that wait."""
        return len(self._queue)

    def replay(self, records: Iterable[tuple[int, Heard]]) -> None:
        """Queue what an earlier process has left in the journal."""
        for number, heard in records:
            self._enqueue(entry_of(number, heard))
        if self._queue:
            log.info("event=journal_replayed records=%d frames=%d", len(self._queue), self.frames)

    def has_room(self, frames: int) -> bool:
        """Say whether an entry of so many frames can be taken."""
        return self.frames + frames <= QUEUE_FRAMES and len(self._queue) < QUEUE_FRAMES and not self.journal.full

    def take(self, heard: Heard, packed: tuple[bytes, ...], fields: tuple[Fields, ...]) -> None:
        """Write what was heard into the journal, and queue it; `packed` and `fields` are as in `Entry`."""
        self._tell_shed()
        self._enqueue(Entry(self.journal.append(heard, packed), heard, packed, fields))

    def shed(self, heard: Heard) -> None:
        """Give up what was heard, all but its account."""
        hour = heard.counted_in
        before = self._shed.get(hour, (Account(),) * len(heard.tallies))
        self._shed[hour] = tuple(known + _as_overrun(tally) for known, tally in zip(before, heard.tallies, strict=True))

    def oldest_s(self, now_s: float) -> float:
        """Return the age of what has waited the longest."""
        return now_s - self._since[0] if self._since else 0.0

    def due_s(self, now_s: float) -> float | None:
        """Return when the next group is to be committed, monotonic seconds; None when nothing waits."""
        return self._since[0] + self.window.seconds(now_s) if self._since else None

    def group(self) -> list[Entry]:
        """Look up the next group, of about `TRANSACTION_FRAMES`; it stays in the queue until it is committed."""
        group: list[Entry] = []
        frames = 0
        for entry in self._queue:
            if group and frames + len(entry.packed) > TRANSACTION_FRAMES:
                break
            group.append(entry)
            frames += len(entry.packed)
        return group

    def committed(self, group: Sequence[Entry]) -> None:
        """Forget a group that is on the disk, here and in the journal."""
        for entry in group:
            self._queue.popleft()
            self._since.popleft()
            self.frames -= len(entry.packed)
        if group:
            self.journal.committed(group[-1].number)
            if self.journal.vanished:
                self.journal.write_anew((entry.number, entry.heard, entry.packed) for entry in self._queue)
        if not self.journal.full:
            self._tell_shed()  # there is room again: now, not when the next frame comes

    def _enqueue(self, entry: Entry) -> None:
        now_s = time.monotonic()
        self._queue.append(entry)
        self._since.append(now_s)
        self.frames += len(entry.packed)
        self.window.heard(now_s, len(entry.packed))

    def _tell_shed(self) -> None:
        """Have counted what was shed, each hour as its own look at the radio."""
        for hour, tallies in self._shed.items():
            told = Heard((), tallies, hour=hour)
            self._enqueue(Entry(self.journal.append(told, ()), told, ()))
        self._shed.clear()


def _as_overrun(tally: Account) -> Account:
    """Return how frames are counted that were heard but found the queue full."""
    return replace(tally, heard=tally.heard - tally.spooled, spooled=0, overrun=tally.overrun + tally.spooled)
