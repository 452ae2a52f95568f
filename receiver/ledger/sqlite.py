# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The ledger in one SQLite file: enough for a town, on one machine.

One writing connection behind a lock; several processes may read while one writes.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from receiver.ledger.database import FILE_NAME, Connection, WriterLock, open_reader, open_writer, translated
from receiver.ledger.port import QuarantineLimits
from receiver.ledger.reader import MAX_READERS, LedgerReader
from receiver.ledger.sql import Database
from receiver.ledger.writer import LedgerWriter

T = TypeVar("T")

BATCH_FRAMES = 100
"""In a batch, for the size of a portion."""


class SqliteReader(LedgerReader):
    """Queries on one ledger file.

    Args:
        path: the file; opened at the first query.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._idle: list[Connection] = []
        self._closed = False

    def close(self) -> None:
        """Let go of the file."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()

    @contextlib.contextmanager
    def _reading(self) -> Iterator[Database]:
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


class SqliteLedger(SqliteReader, LedgerWriter):
    """The ledger of one data folder (`receiver.ledger.port.Ledger`), held by this process alone.

    Args:
        data_dir: folder of the ledger; made where it does not exist.
        limits: of the quarantine.

    Raises:
        LedgerError: another process writes it, it cannot be written, is damaged, or newer than this program.
    """

    def __init__(self, data_dir: Path, limits: QuarantineLimits | None = None) -> None:
        self._lock_file = WriterLock(data_dir)
        try:
            self._db = open_writer(data_dir / FILE_NAME)
        except BaseException:
            self._lock_file.release()
            raise
        self._writing = threading.Lock()
        SqliteReader.__init__(self, data_dir / FILE_NAME)
        LedgerWriter.__init__(self, limits)

    def close(self) -> None:
        """Let go of the database; SQLite folds its log into the file."""
        with self._writing:
            if self._closed:
                return
            super().close()
            self._db.close()
            self._lock_file.release()

    def _change(self, change: Callable[[Database], T]) -> T:
        with self._writing, translated(self.path):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                changed = change(self._db)
                self._db.execute("COMMIT")
            finally:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
            return changed

    def _prepare(self, now_us: int) -> None:
        """Do nothing: a file has room for all times."""

    def _drop_frames(self, limit: int) -> bool:
        return self._change(lambda db: _drop_frames(db, limit))


def _drop_frames(db: Database, limit: int) -> bool:
    """Drop the frames of batches that were received before what is kept begins, from the oldest on."""
    done_us, from_us = db.execute("SELECT done_us, from_us FROM retention").fetchone()
    if done_us >= from_us:
        return False
    portion = (done_us, from_us)
    last = db.execute(
        "SELECT received_us FROM batch WHERE received_us >= ? AND received_us < ?"
        " ORDER BY received_us LIMIT 1 OFFSET ?",
        (*portion, limit // BATCH_FRAMES),
    ).fetchone()
    if last is not None:
        portion = (done_us, last[0] + 1)
    batches = db.execute(
        "SELECT stream, first_seq, first_seq + frame_count - 1 FROM batch WHERE received_us >= ? AND received_us < ?",
        portion,
    ).fetchall()
    db.executemany("DELETE FROM frame WHERE stream = ? AND seq BETWEEN ? AND ?", batches)
    db.execute("UPDATE retention SET done_us = ?", (portion[1],))
    return bool(portion[1] < from_us)
