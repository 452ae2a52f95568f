# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The spool's state in memory, the connection it belongs to, and what every part of a transaction does with both."""

from __future__ import annotations

import contextlib
import secrets
import sqlite3
import zlib
from collections.abc import Iterable
from itertools import pairwise

from agent.batch import codec
from agent.batch.errors import RefusedError
from agent.batch.model import GENESIS_HASH, MAX_NUMBER, Anchor, TimeSource
from agent.frame import Session
from agent.spool.intake import UNKNOWN_HOUR, Hour
from agent.spool.state import EARLIER, Hours, State, Stream, load
from agent.spool.store import scalar

MAX_BATCH_ANCHORS = 64
KEPT_ANCHORS = 1024
"""For the display of times on the gateway itself."""
KEPT_HOURS = 24 * 14
"""That are told apart although all that was heard in them is settled."""
MAX_HOURS_APART = 24 * 120
"""That are told apart at all, however much of them waits."""


SESSIONS = "SELECT number, boot_id, row_crc32 FROM session ORDER BY number"
ANCHORS = (
    "SELECT id, boot_id, boottime_us, utc_us, uncertainty_us, source, row_crc32 FROM anchor WHERE id >= ? ORDER BY id"
)


def session_checksum(number: int, boot_id: bytes) -> int:
    """Return the CRC-32 over a row of table session."""
    return zlib.crc32(boot_id, number & 0xFFFFFFFF)


def read_sessions(rows: Iterable[tuple[int, bytes, int]]) -> dict[int, Session]:
    """Return the sessions of the result of `SESSIONS`, without damaged ones: their frames count as damaged."""
    return {
        number: Session(boot_id, number)
        for number, boot_id, crc in rows
        if isinstance(boot_id, bytes) and session_checksum(number, boot_id) == crc
    }


def anchor_checksum(number: int, anchor: Anchor) -> int:
    """Return the CRC-32 over a row of table anchor."""
    return zlib.crc32(repr((number, *_anchor_columns(anchor))).encode())


def read_anchors(rows: Iterable[tuple[int, bytes, int, int, int, int, int]]) -> list[Anchor]:
    """Return the anchors of the result of `ANCHORS`, without damaged ones."""
    anchors = []
    for number, boot_id, boottime_us, utc_us, uncertainty_us, source, crc in rows:
        with contextlib.suppress(ValueError):
            anchor = Anchor(boot_id, boottime_us, utc_us, uncertainty_us, TimeSource(source))
            if anchor_checksum(number, anchor) == crc:
                anchors.append(anchor)
    return anchors


def _anchor_columns(anchor: Anchor) -> tuple[bytes, int, int, int, int]:
    return (anchor.boot_id, anchor.boottime_us, anchor.utc_us, anchor.uncertainty_us, int(anchor.source))


def needed_rows(state: State) -> list[tuple[int, int, int]]:
    """Return which frames still have to be kept: (first, last, bit of the stream that needs them)."""
    needs = []
    for stream in state.streams.values():
        if stream.open:
            needs.append((stream.next_row, MAX_NUMBER, 1 << stream.bit))
        needs.extend((b.first_row, b.last_row, 1 << stream.bit) for b in stream.sealed.values())
    return needs


class Book:
    """Streams, sessions and pages of one spool.

    Attributes:
        connection: the only one that writes.
        state: as in the file, and as the open transaction has changed it.
        sessions: of the concentrator, by number.
        pending_since: by stream, when the oldest of what is not sealed came, by the writer's clock. Not in the file.
        foreign_answers: receipts and refusals about streams that are not here.
        page_bytes: size of a page.
        shares: of the quota, by destination; one that is not configured has none.
        searched: keys of batches of which frames are missing, and the file was said to be damaged for them once.
        new_hours: whether hours were added since this was last set to False; a snapshot has to follow.
        headroom_pages: what may still be added before the pages are counted again; negative: count now.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.pending_since: dict[int, float] = {}
        self.foreign_answers = 0
        self.new_hours = False
        self.searched: set[int] = set()
        self.shares: dict[str, int] = {}
        self._growth_pages: int | None = None
        self.attach(connection)

    def attach(self, connection: sqlite3.Connection) -> None:
        """Read everything over a new connection.

        Raises:
            sqlite3.Error: the file cannot be read.
        """
        self.connection = connection
        self.page_bytes = scalar(connection, "PRAGMA page_size", int)
        self._quota_pages = scalar(connection, "PRAGMA max_page_count", int)
        self._present_pages = scalar(connection, "PRAGMA page_count", int)
        self.reload()

    def reload(self) -> None:
        """Read everything again: what was changed in memory is forgotten.

        Raises:
            sqlite3.Error: the file cannot be read.
        """
        self.connection.execute("BEGIN")
        try:
            self.state = load(self.connection)
            self.sessions = read_sessions(self.connection.execute(SESSIONS))
        finally:
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
        self.headroom_pages = 0

    def let_grow(self, by_bytes: int | None) -> None:
        """Say by how much the file may grow from now on; None: up to the quota. The same again changes nothing."""
        pages = None if by_bytes is None else by_bytes // self.page_bytes
        if pages != self._growth_pages:
            self._growth_pages = pages
            self._present_pages = scalar(self.connection, "PRAGMA page_count", int)
            self.headroom_pages = 0

    def know_searched(self) -> None:
        """Take note that the whole file was searched: frames that are missing in a batch now are lost."""
        self.searched = {stream.key(number) for stream in self.state.streams.values() for number in stream.sealed}

    @property
    def limit_pages(self) -> int:
        """The most pages that the file may have."""
        if self._growth_pages is None:
            return self._quota_pages
        return min(self._present_pages + self._growth_pages, self._quota_pages)

    def know(self, session: Session) -> None:
        """Keep which boot a session belongs to."""
        if session.number not in self.sessions:
            # where a damaged row stands, the right one takes its place
            self.connection.execute(
                "REPLACE INTO session (number, boot_id, row_crc32) VALUES (?, ?, ?)",
                (session.number, session.boot_id, session_checksum(session.number, session.boot_id)),
            )
            self.sessions[session.number] = session
            self.state.session = max(self.state.session, session.number)

    def hour(self, number: int) -> int:
        """Return an hour under which to count; `EARLIER` for one that is not told apart any more."""
        return number if number in self.state.hours.values() else EARLIER

    def hours(self, hours: Hours) -> Hours:
        """Return frames by the hours that are still told apart."""
        return tuple((self.hour(number), frames) for number, frames in hours)

    def know_hour(self, hour: Hour) -> int:
        """Return the id of an hour that something was heard in; when it is a new one, sum up the oldest."""
        if hour == UNKNOWN_HOUR:
            return EARLIER
        hours = self.state.hours
        if hour not in hours:
            number = max(hours.values(), default=EARLIER) + 1
            self.connection.execute(
                "INSERT INTO hour (id, boot_id, hour) VALUES (?, ?, ?)", (number, hour.boot_id, hour.hour)
            )
            hours[hour] = number
            self._sum_up()
            self.new_hours = True
        return hours[hour]

    def _sum_up(self) -> None:
        """Put old hours together of which nothing waits any more."""
        hours = self.state.hours
        streams = self.state.streams.values()
        for hour, number in sorted(hours.items(), key=lambda item: item[1])[:-KEPT_HOURS]:
            busy = any(number in s.unsent or s.waiting_in(number) or s.account_in(number).quarantined for s in streams)
            if busy and len(hours) <= MAX_HOURS_APART:
                continue
            del hours[hour]
            self.connection.execute("DELETE FROM hour WHERE id = ?", (number,))
            for stream in streams:
                stream.sum_up(number)

    def begin_stream(self, destination: str, bit: int) -> Stream:
        """Make a stream for a destination; its frames are those to come."""
        state = self.state
        number = max(state.streams, default=0) + 1
        stream = Stream(
            *(number, destination, bit, secrets.token_bytes(16), True, state.last_row + 1, 0, 1, 1),
            *(GENESIS_HASH, 0, GENESIS_HASH, max(state.next_anchor - KEPT_ANCHORS, 1)),
        )
        state.streams[number] = stream
        return stream

    def hash_of(self, stream: Stream, number: int) -> bytes | None:
        """Return what names a batch; the batch behind it is believed before its own header, which may be damaged."""
        if number == stream.through:
            return stream.through_hash
        if number == stream.next_number - 1:
            return stream.last_hash
        found = self.connection.execute(
            "SELECT signed_header FROM batch WHERE id = ?", (stream.key(number + 1),)
        ).fetchone()
        if found is not None:
            with contextlib.suppress(RefusedError):
                return codec.read_header(found[0]).previous_hash
        found = self.connection.execute(
            "SELECT signed_header FROM batch WHERE id = ?", (stream.key(number),)
        ).fetchone()
        return None if found is None else codec.header_hash(found[0])

    def keep_anchor(self, anchor: Anchor) -> None:
        """Keep a clock anchor until it has travelled, and some longer for people."""
        self.connection.execute(
            "INSERT INTO anchor (id, boot_id, boottime_us, utc_us, uncertainty_us, source, row_crc32) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            (self.state.next_anchor, *_anchor_columns(anchor), anchor_checksum(self.state.next_anchor, anchor)),
        )
        self.state.next_anchor += 1
        travelled = min((s.next_anchor for s in self.state.open_streams()), default=self.state.next_anchor)
        oldest = min(travelled, self.state.next_anchor - KEPT_ANCHORS)
        self.connection.execute("DELETE FROM anchor WHERE id < ?", (oldest,))

    def anchors_from(self, first: int) -> tuple[tuple[Anchor, ...], int]:
        """Return the anchors from a number on, thinned out where they are many, and the number of the next to come."""
        anchors = read_anchors(self.connection.execute(ANCHORS, (first,)))
        if len(anchors) > MAX_BATCH_ANCHORS:  # evenly, with the first and the last
            last = len(anchors) - 1
            anchors = [anchors[index * last // (MAX_BATCH_ANCHORS - 1)] for index in range(MAX_BATCH_ANCHORS)]
        return tuple(anchors), self.state.next_anchor

    def free(self, first: int, last: int, expected: int = 0) -> None:
        """Delete the frames of a range that nobody needs any more.

        Args:
            first: of them.
            last: of them.
            expected: how many there are at least.

        Raises:
            sqlite3.DatabaseError: some stand where the way through the file does not lead; they would stay for good.
        """
        if last < first:
            return
        needs = [
            (max(a, first), min(b, last), bit)
            for a, b, bit in needed_rows(self.state)
            if a <= last and b >= first and a <= b
        ]
        cuts = sorted({first, last + 1, *(a for a, _, _ in needs), *(b + 1 for _, b, _ in needs if b < last)})
        deleted = 0
        for start, stop in pairwise(cuts):
            needed = 0
            for a, b, bit in needs:
                if a <= start and stop - 1 <= b:
                    needed |= bit
            if needed:
                self.connection.execute(
                    "DELETE FROM frame WHERE seq BETWEEN ? AND ? AND route & ? = 0", (start, stop - 1, needed)
                )
            else:
                gone = self.connection.execute("DELETE FROM frame WHERE seq BETWEEN ? AND ?", (start, stop - 1))
                deleted += gone.rowcount
        # without an index every page is read: rows that were lost are no reason to complain, hidden ones are
        hidden = "SELECT 1 FROM frame WHERE +seq BETWEEN ? AND ? LIMIT 1"
        if not needs and deleted < expected and self.connection.execute(hidden, (first, last)).fetchone():
            raise sqlite3.DatabaseError(f"frames {first} to {last}: only {deleted} of {expected} are to be found")
