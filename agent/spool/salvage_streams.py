# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The streams of a damaged spool in a new one: what was sealed goes on, the rest begins anew, losses are declared."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence

from agent.batch.model import HOUR_US, Account, Loss
from agent.spool import signing
from agent.spool.answers import hand_over, inherit_stones, take_off
from agent.spool.bisected import TRIES, Range
from agent.spool.book import Book
from agent.spool.hidden import ROWS_PER_PAGE
from agent.spool.intake import hour_of
from agent.spool.room import add_stone
from agent.spool.salvage_batches import BatchRescue
from agent.spool.salvaged import Salvaged
from agent.spool.state import EARLIER, State, Stream, add_notes, save
from agent.spool.store import scalar

UNKNOWN_END = 100_000
"""Row numbers that are left out where the end of the frames cannot be read: none may be used twice."""


class Rescue(BatchRescue):
    """One run over one damaged file."""

    def run(self, destinations: Sequence[str], spool_id: bytes | None) -> Salvaged:
        """Fill the new file, in one transaction.

        Args:
            destinations: as configured, for the case that the spool does not tell.
            spool_id: the same.

        Raises:
            sqlite3.DatabaseError: there is nothing of a spool in it.
        """
        known = self._state()
        book = Book(self._target)
        self._target.execute("BEGIN IMMEDIATE")
        book.sessions = self._sessions = self._read_sessions(known)
        last_row = max(self._copy_frames(known), known.last_row if known else 0)
        self._copy_sessions()
        if known is not None:
            self._settled = known.last_row
            self._gapless = known.last_row + 1
            self._torn = last_row - self._settled - self._count(self._settled + 1, last_row) + self._end_lost
            before = {stream.id: stream.unsealed for stream in known.streams.values()}
            add_notes(self._target, known)
            self._noted = {stream.id: stream.unsealed - before[stream.id] for stream in known.streams.values()}
        self._newest = last_row
        if self._end_lost:
            last_row += UNKNOWN_END
        book.state.spool_id = spool_id or book.state.spool_id
        self._copy_place(book, known, last_row)
        streams = list(known.streams.values()) if known else self._streams(destinations)
        if known is None and not self._saved and not self._seen_streams:
            raise sqlite3.DatabaseError("nothing in it is of a spool")
        self._known_streams = streams
        self._first = self._target.execute("SELECT min(seq) FROM frame").fetchone()[0] or self._newest + 1
        if known is None and sum(stream.open for stream in streams) == 1:
            self._gapless = self._first
        self._gaps = self._missing()  # before frames are given another place
        for stream in streams:
            book.state.streams[stream.id] = stream
            self._copy_batches(book, stream, known)
        lost: dict[str, int] = {}
        for old in [stream for stream in streams if stream.open]:
            lost[old.destination] = self._begin_anew(book, old, known)
        self._copy_anchors(book)
        book.free(1, book.state.last_row)  # what nobody waits for, and was out of the way of those who delete it
        for stream in book.state.streams.values():
            stream.dirty.update(stream.hours)  # nothing of it is in this file yet
        save(self._target, book.state)
        self._target.execute("COMMIT")
        whole = known is not None and not self._torn
        return Salvaged(self._aside, self._saved, self._gaps, lost, self._whole, self._broken, whole)

    def _streams_of(self, bit: int) -> list[Stream]:
        return [stream for stream in self._known_streams if stream.bit == bit]

    def _begin_anew(self, book: Book, old: Stream, known: State | None) -> int:
        """Close a stream, which goes on with what it has sealed; begin the one for the rest. Return what is lost."""
        new = book.begin_stream(old.destination, old.bit)
        new.filters = list(old.filters)
        if known is not None:
            new.next_row, new.unsealed = old.next_row, old.unsealed
            inherit_stones(new, old)
        else:
            new.next_row = max((batch.last_row for batch in old.sealed.values()), default=0) + 1
            self._move_orphans(book, old, new.next_row - 1)
        found: Counter[int] = Counter()
        for session, boottime_us, frames in self._target.execute(
            "SELECT session, min(boottime_us), count(*) FROM frame WHERE seq >= ? AND route & ? "
            "GROUP BY session, boottime_us / ?",
            (new.next_row, 1 << old.bit, HOUR_US),
        ).fetchall():
            heard_in = hour_of(self._sessions[session].boot_id, boottime_us)
            found[book.state.hour_id(heard_in) if known else book.know_hour(heard_in)] += frames
        if known is None:
            for hour, frames in found.items():
                new.count(hour, Account(heard=frames, spooled=frames))
            new.unsealed = found.total()
            parked = sum(batch.frames for batch in book.state.quarantined(old))
            if parked:
                new.count(EARLIER, Account(heard=parked, spooled=parked, quarantined=parked))
        else:
            hand_over(old, new)
            signing.inherit(new, old)
        old.open, old.unsealed, old.tombstones = False, 0, {}
        return self._declare(old, new, found) if known is not None else self._declare_unknown(new)

    def _declare(self, old: Stream, new: Stream, found: Counter[int]) -> int:
        """Bring the account in line with what is there."""
        newer = scalar(
            self._target,
            "SELECT count(*) FROM frame WHERE seq BETWEEN ? AND ? AND route & ?",
            int,
            *(max(self._settled + 1, new.next_row), self._newest, 1 << new.bit),
        )
        of_the_snapshot = new.unsealed - self._noted.get(old.id, 0)
        # of what is newer there is no account but the notes on the rows themselves; they may have been for others
        due = max(of_the_snapshot - (found.total() - newer), 0) + self._torn
        for hour, frames in found.items():
            more = frames - new.waiting_in(hour)
            if self._torn and more > 0:  # their note is lost
                new.count(hour, Account(heard=more, spooled=more))
                new.unsealed += more
        lost = new.unsealed - found.total()
        if due > lost:
            new.count(EARLIER, Account(heard=due - lost, spooled=due - lost))
            new.unsealed += due - lost
            lost = due
        if lost <= 0:
            return 0
        missing = {hour: new.waiting_in(hour) - found[hour] for hour in new.hours}
        left = lost
        for hour in sorted(missing, key=lambda hour: -missing[hour]):
            part = min(max(missing[hour], 0), left)
            left -= part
            if part:
                new.count(hour, Account(evicted=part))
        if left:
            new.count(EARLIER, Account(evicted=left))
        add_stone(new, Loss.DAMAGED, lost)
        new.unsealed -= lost
        return lost

    def _declare_unknown(self, new: Stream) -> int:
        """Declare every number that could not be read and is in no batch that waits; it may have been for others."""
        held = sorted(
            (batch.first_row, batch.last_row)
            for stream in self._streams_of(new.bit)
            for batch in stream.sealed.values()
        )
        first = min([self._first, *(low for low, _ in held)])
        lost = self._end_lost
        if self._gapless is None and (self._hidden or self._frames.damaged):
            # frames that were delivered to others make holes, too; the pages that were hit can hold so many
            there = self._count(first, self._newest)
            lost += min(self._newest + 1 - first - there, ROWS_PER_PAGE * (self._wrecks + 1))
        for low, high in self._gaps if self._gapless is not None else ():
            if low < first:  # what was delivered is not told from what was lost
                lost += min(first - low, ROWS_PER_PAGE * self._wrecks)
            lost += sum(stop - start + 1 for start, stop in _outside(max(low, first), high, held))
        if lost:
            new.count(EARLIER, Account(heard=lost, spooled=lost, evicted=lost))
            add_stone(new, Loss.DAMAGED, lost)
        return lost

    def _move_orphans(self, book: Book, old: Stream, last_row: int) -> None:
        """See to frames before the last sealed batch that no sealed batch has.

        Where no batch is missing they were delivered, and are here for others. Otherwise they may be of a batch that is
        gone: they travel again, perhaps for the second time. What is for this destination alone would not be here if
        it had been delivered.
        """
        seen = self._numbers[old.id]
        edge, before = 1, self._between.get(old.id, (0, 0))[0]
        for number, batch in sorted(old.sealed.items(), key=lambda item: item[1].first_row):
            low, high = edge, min(batch.first_row - 1, last_row)
            unknown = not isinstance(before, int) or number - before > TRIES
            if unknown or not seen.issuperset(range(before + 1, number)):
                self._move_up(book, low, high, old.bit)
            else:
                self._move_up(book, low, high, old.bit, alone=True)
                take_off(book, low, high, old.bit)
            edge, before = batch.last_row + 1, number


def _outside(low: int, high: int, held: Sequence[Range]) -> Iterator[Range]:
    """Yield what of a range lies in none of others, which are ascending."""
    for first, last in held:
        if low <= min(first - 1, high):
            yield low, min(first - 1, high)
        low = max(low, last + 1)
    if low <= high:
        yield low, high
