# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The ledger in a PostgreSQL database, for any number of receivers at once.

Whatever concerns a gateway happens under the gateway's lock, so batches of one stream that reach different receivers
are judged one after the other. A receiver keeps nothing between two batches that another one would have to know.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

import psycopg
from psycopg import errors

from receiver.errors import LedgerError
from receiver.ledger import queries, server
from receiver.ledger.port import QuarantineLimits, RegisteredKey, StreamState
from receiver.ledger.reader import LedgerReader
from receiver.ledger.schema import SCHEMA_VERSION
from receiver.ledger.sql import Database
from receiver.ledger.weeks import WEEK_US, begin_of_week
from receiver.ledger.writer import LedgerWriter

MAX_CONNECTIONS = 10
"""Of one process."""
PATIENCE_S = 30.0
"""How long a thread waits for one of them."""
ATTEMPTS = 4
"""At one transaction that the server asks to repeat."""
UNREACHABLE = "CG-LED-007"

_REPEATED = (errors.SerializationFailure, errors.DeadlockDetected, errors.UniqueViolation)
"""Somebody else was quicker: what was looked up is not so any more."""

T = TypeVar("T")

_log = logging.getLogger(__name__)


class PostgresReader(LedgerReader):
    """Queries on one database.

    Args:
        url: postgresql://..., without a password.
    """

    def __init__(self, url: str) -> None:
        self.place = server.place_of(url)
        self._url = url
        self._idle: list[server.Connection] = []
        self._places = threading.BoundedSemaphore(MAX_CONNECTIONS)
        self._closed = False

    def key(self, kid: bytes) -> RegisteredKey | None:
        """Find a registered key by its thumbprint; of one statement, without the cost of a transaction."""
        with server.translated(self.place), self._borrowed() as db:
            return queries.key(db, kid)

    def state(self, stream_id: bytes, max_ranges: int) -> StreamState:
        """Say what is committed of a stream.

        Of two statements that may see a batch more or less: what is said is true all the same, and to say less is safe.
        """
        with server.translated(self.place), self._borrowed() as db:
            return queries.state(db, stream_id, max_ranges)

    def close(self) -> None:
        """Let go of the database."""
        self._closed = True
        self._drop_idle()

    @contextlib.contextmanager
    def _reading(self) -> Iterator[Database]:
        with server.translated(self.place), self._borrowed() as db:
            db.begin(writing=False)
            try:
                yield db
            finally:
                db.rollback()

    @contextlib.contextmanager
    def _borrowed(self) -> Iterator[server.Connection]:
        """Borrow a connection outside of a transaction."""
        if not self._places.acquire(timeout=PATIENCE_S):
            hint = "the server is slow, or holds a lock: look at pg_stat_activity"
            what = f"all {MAX_CONNECTIONS} connections are busy"
            raise LedgerError(what, where=self.place, hint=hint, code="CG-LED-001", retryable=True)
        try:
            db = self._connection()
            try:
                yield db
            finally:
                if db.usable and not self._closed:
                    self._idle.append(db)
                else:
                    db.close()
        finally:
            self._places.release()

    def _connection(self) -> server.Connection:
        """Take an idle connection that still lives, or make a new one."""
        with contextlib.suppress(IndexError):
            while True:
                db = self._idle.pop()
                if db.idle:
                    return db
                db.close()
        db = server.connect(self._url)
        try:
            self._greet(db)
        except BaseException:
            db.close()
            raise
        return db

    def _greet(self, db: server.Connection) -> None:
        """Make sure that a new connection leads to a ledger of ours."""
        version = db.version()
        if version is None:
            hint = "start the receiver or register a gateway first, or correct [ledger] url"
            raise LedgerError("there is no ledger yet", where=self.place, hint=hint, code="CG-LED-005")
        server.check_version(version, self.place)

    def _drop_idle(self) -> None:
        with contextlib.suppress(IndexError):
            while True:
                self._idle.pop().close()


class PostgresLedger(PostgresReader, LedgerWriter):
    """The ledger of one database (`receiver.ledger.port.Ledger`), shared with other processes.

    Args:
        url: postgresql://..., without a password.
        limits: of the quarantine.
        patient: whether a server that cannot be reached now will do; then it is tried again with every batch.

    Raises:
        LedgerError: CG-LED-007 unless patient, it cannot be reached; CG-LED-002, -004, -006, it is no ledger for us.
    """

    def __init__(self, url: str, limits: QuarantineLimits | None = None, *, patient: bool = False) -> None:
        PostgresReader.__init__(self, url)
        LedgerWriter.__init__(self, limits)
        try:
            with server.translated(self.place), self._borrowed():
                pass
        except LedgerError as error:
            if not patient or error.code != UNREACHABLE:
                raise
            _log.warning("event=ledger_unreachable error=%r hint=%r code=%s", str(error), error.hint, error.code)

    def _greet(self, db: server.Connection) -> None:
        version = db.version()
        if version is None or version < SCHEMA_VERSION:
            db.migrate()
        else:
            server.check_version(version, self.place)

    def _change(self, change: Callable[[Database], T]) -> T:
        with server.translated(self.place):
            for attempt in range(1, ATTEMPTS + 1):
                last = attempt == ATTEMPTS
                try:
                    with self._borrowed() as db:
                        return self._once(db, change)
                except server.PartitionMissingError as missing:
                    with self._borrowed() as db:
                        db.make_partition(missing.begin_us)
                except _UncommittedError as lost:
                    # the server went away, or an idle connection had: nothing of this was committed
                    self._drop_idle()
                    if last:
                        raise lost.cause from lost
                except _REPEATED:
                    if last:
                        raise
        raise LedgerError("the frames find no table", where=self.place, hint="report this", code="CG-LED-009")

    def _once(self, db: server.Connection, change: Callable[[Database], T]) -> T:
        try:
            try:
                db.begin(writing=True)
                changed = change(db)
            except psycopg.Error as error:
                if db.raw.closed:
                    raise _UncommittedError(error) from error
                raise
            # A connection that ends here may have committed or not. Nobody is told either: who repeats it finds out.
            db.commit()
        finally:
            db.rollback()
        return changed

    def _prepare(self, now_us: int) -> None:
        with server.translated(self.place), self._borrowed() as db:
            for begin_us in (begin_of_week(now_us), begin_of_week(now_us) + WEEK_US):
                db.make_partition(begin_us)

    def _drop_frames(self, limit: int) -> bool:  # noqa: ARG002 - a table goes at once, however much it holds
        with server.translated(self.place), self._borrowed() as db:
            done_us, from_us = db.execute("SELECT done_us, from_us FROM retention").fetchone()
            if done_us < from_us:
                db.drop_partitions(from_us)
        return False


class _UncommittedError(Exception):
    """The connection was lost before the commit."""

    def __init__(self, cause: psycopg.Error) -> None:
        super().__init__(str(cause))
        self.cause = cause
