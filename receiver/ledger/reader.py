# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The reading side of the SQLite ledger; several processes may read while one writes."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

from receiver.ledger import queries
from receiver.ledger.database import open_reader, translated
from receiver.ledger.port import AlarmRow, Column, RegisteredKey, SignedLink, StreamState, StreamSummary, Withdrawn

MAX_READERS = 8
"""Reading connections that are kept open between queries."""


class LedgerReader:
    """Queries on one ledger file (`receiver.ledger.port.Queries`).

    Args:
        path: the file; opened at the first query.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._idle: list[sqlite3.Connection] = []
        self._closed = False

    def key(self, kid: bytes) -> RegisteredKey | None:
        """Find a registered key by its thumbprint."""
        with self._reading() as db:
            return queries.key(db, kid)

    def registry(self) -> list[RegisteredKey]:
        """List all keys, by gateway and age."""
        with self._reading() as db:
            return queries.keys(db)

    def state(self, stream_id: bytes, max_ranges: int) -> StreamState:
        """Say what is committed of a stream; `through` 0 for one that was never seen."""
        with self._reading() as db:
            return queries.state(db, stream_id, max_ranges)

    def streams(self) -> list[StreamSummary]:
        """Summarise all streams."""
        with self._reading() as db:
            return queries.streams(db)

    def links(self, stream_id: bytes) -> Iterator[SignedLink]:
        """Give the stored evidence of a stream in the order of numbers."""
        with self._reading() as db:
            yield from queries.links(db, stream_id)

    def withdrawn(self, stream_id: bytes) -> list[Withdrawn]:
        """List the ranges of batches that tombstones of a stream name."""
        with self._reading() as db:
            return queries.withdrawn(db, stream_id)

    def frames(self, after: int, limit: int) -> Sequence[dict[str, Column]]:
        """Give receptions with an id beyond `after`, in the order of their commit."""
        with self._reading() as db:
            return queries.frames(db, after, limit)

    def alarms(self) -> list[AlarmRow]:
        """List the alarms, latest first."""
        with self._reading() as db:
            return queries.alarms(db)

    def quarantined(self) -> tuple[int, int]:
        """Count what is in quarantine: batches, bytes."""
        with self._reading() as db:
            return queries.quarantined(db)

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[LedgerReader]:
        """Give queries that all see the same state, for one thread."""
        with self._reading() as db:
            yield _Snapshot(self.path, db)

    def close(self) -> None:
        """Let go of the file."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """Borrow a connection; all queries of the block see the same state."""
        with translated(self.path):
            try:
                db = self._idle.pop()
            except IndexError:
                db = open_reader(self.path)
            try:
                db.execute("BEGIN")
                yield db
            finally:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                if len(self._idle) < MAX_READERS and not self._closed:
                    self._idle.append(db)
                else:
                    db.close()


class _Snapshot(LedgerReader):
    """Queries within one transaction of a borrowed connection."""

    def __init__(self, path: Path, db: sqlite3.Connection) -> None:
        super().__init__(path)
        self._db = db

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with translated(self.path):
            yield self._db
