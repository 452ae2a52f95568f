# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The spool's state in memory, the connection it belongs to, and what every part of a transaction does with both."""

from __future__ import annotations

import contextlib
import secrets
import sqlite3
from itertools import pairwise

from agent.batch import codec
from agent.batch.errors import RefusedError
from agent.batch.model import GENESIS_HASH, Anchor, TimeSource
from agent.frame import Session
from agent.spool.state import Stream, load
from agent.spool.store import scalar

MAX_BATCH_ANCHORS = 64
KEPT_ANCHORS = 1024
"""For the display of times on the gateway itself."""


class Book:
    """Streams, sessions and pages of one spool.

    Attributes:
        connection: the only one that writes.
        state: as in the file, and as the open transaction has changed it.
        sessions: of the concentrator, by number.
        pending_since: by stream, when the oldest of what is not sealed came, by the writer's clock. Not in the file.
        foreign_answers: receipts and refusals about streams that are not here.
        page_bytes: size of a page.
        headroom_pages: what may still be added before the pages are counted again; negative: count now.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.pending_since: dict[int, float] = {}
        self.foreign_answers = 0
        self._may_grow = True
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
            self.sessions = {
                number: Session(boot_id, number)
                for number, boot_id in self.connection.execute("SELECT number, boot_id FROM session")
            }
        finally:
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
        self.headroom_pages = 0

    def let_grow(self, may_grow: bool) -> None:
        """Say whether the file may grow up to the quota, or has to make do with the pages it has: the disk is full."""
        if may_grow != self._may_grow:
            self._may_grow = may_grow
            self._present_pages = scalar(self.connection, "PRAGMA page_count", int)
            self.headroom_pages = 0

    @property
    def limit_pages(self) -> int:
        """The most pages that the file may have."""
        return self._quota_pages if self._may_grow else self._present_pages

    def know(self, session: Session) -> None:
        """Keep which boot a session belongs to."""
        if session.number not in self.sessions:
            self.connection.execute(
                "INSERT INTO session (number, boot_id) VALUES (?, ?)", (session.number, session.boot_id)
            )
            self.sessions[session.number] = session
            self.state.session = max(self.state.session, session.number)

    def begin_stream(self, destination: str, bit: int) -> Stream:
        """Make a stream for a destination; its frames are those to come."""
        state = self.state
        number = max(state.streams, default=0) + 1
        stream = Stream(
            *(number, destination, bit, secrets.token_bytes(16), True, state.last_row + 1, 0, 1, 1),
            *(GENESIS_HASH, 0, GENESIS_HASH, 0, max(state.next_anchor - KEPT_ANCHORS, 1)),
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
            "INSERT INTO anchor (id, boot_id, boottime_us, utc_us, uncertainty_us, source) VALUES (?, ?, ?, ?, ?, ?)",
            (
                *(self.state.next_anchor, anchor.boot_id, anchor.boottime_us, anchor.utc_us),
                *(anchor.uncertainty_us, int(anchor.source)),
            ),
        )
        self.state.next_anchor += 1
        travelled = min((s.next_anchor for s in self.state.open_streams()), default=self.state.next_anchor)
        oldest = min(travelled, self.state.next_anchor - KEPT_ANCHORS)
        self.connection.execute("DELETE FROM anchor WHERE id < ?", (oldest,))

    def anchors_from(self, first: int) -> tuple[tuple[Anchor, ...], int]:
        """Return the anchors from a number on, thinned out where they are many, and the number of the next to come."""
        anchors = [
            Anchor(boot_id, boottime_us, utc_us, uncertainty_us, TimeSource(source))
            for boot_id, boottime_us, utc_us, uncertainty_us, source in self.connection.execute(
                "SELECT boot_id, boottime_us, utc_us, uncertainty_us, source FROM anchor WHERE id >= ? ORDER BY id",
                (first,),
            )
        ]
        if len(anchors) > MAX_BATCH_ANCHORS:  # evenly, with the first and the last
            last = len(anchors) - 1
            anchors = [anchors[index * last // (MAX_BATCH_ANCHORS - 1)] for index in range(MAX_BATCH_ANCHORS)]
        return tuple(anchors), self.state.next_anchor

    def free(self, first: int, last: int) -> None:
        """Delete the frames of a range that nobody needs any more."""
        if last < first:
            return
        needs: list[tuple[int, int, int]] = []
        for stream in self.state.streams.values():
            if stream.open:
                needs.append((stream.next_row, last, 1 << stream.bit))
            needs.extend((b.first_row, b.last_row, 1 << stream.bit) for b in stream.sealed.values())
        needs = [(max(a, first), min(b, last), bit) for a, b, bit in needs if a <= last and b >= first and a <= b]
        cuts = sorted({first, last + 1, *(a for a, _, _ in needs), *(b + 1 for _, b, _ in needs if b < last)})
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
                self.connection.execute("DELETE FROM frame WHERE seq BETWEEN ? AND ?", (start, stop - 1))
