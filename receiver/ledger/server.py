# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The PostgreSQL server of a ledger: how it is reached, which version the schema has, what its errors mean.

Passwords come as libpq takes them, from a passfile, a service file or the environment; never from the address.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import select
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import count
from typing import Any

import psycopg
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from receiver.errors import LedgerError
from receiver.ledger.schema import SCHEMA_VERSION, scripts
from receiver.ledger.sql import Row, Rows, Value
from receiver.ledger.weeks import WEEK_US, begin_of_week, partition

ENGINE = "postgres"
MIN_SERVER = 130000
"""Version 13, the oldest that its makers had not long given up."""
CONNECT_LIMIT_S = 5
STATEMENT_LIMIT_S = 60
"""Of one statement, reading or writing; a portion of a long answer counts as one."""
LOCK_LIMIT_S = 15
IDLE_LIMIT_S = 30
"""A worker that stops within a transaction holds up the others no longer than this."""
SILENCE_LIMIT_S = 20
"""Bytes that the server does not acknowledge for so long end the connection."""
CHUNK = 500
_LOCKS = 0x43475231
"""First half of the advisory locks that concern the ledger as a whole; those of gateways have the EUI as a whole."""
_MIGRATION, _TURN, _PARTITIONS = range(3)

_log = logging.getLogger(__name__)

_KEEPALIVE: Mapping[str, int | str] = {
    "connect_timeout": CONNECT_LIMIT_S,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 2,
    "tcp_user_timeout": SILENCE_LIMIT_S * 1000,
    "application_name": "civigate-receiver",
    "client_encoding": "UTF8",
}
_SETTINGS = {
    "statement_timeout": f"{STATEMENT_LIMIT_S}s",
    "lock_timeout": f"{LOCK_LIMIT_S}s",
    "idle_in_transaction_session_timeout": f"{IDLE_LIMIT_S}s",
    "default_transaction_isolation": "read committed",
    "jit": "off",  # for one page of frames it takes longer than the page
}
_DURABLE = {"on", "remote_write", "remote_apply"}


class PartitionMissingError(Exception):
    """There is no table yet for the frames of a week; `begin_us` says which."""

    def __init__(self, begin_us: int) -> None:
        super().__init__(f"no partition {partition(begin_us)}")
        self.begin_us = begin_us


class Connection:
    """One connection (`receiver.ledger.sql.Database`), outside of transactions until one is begun.

    Args:
        raw: as the driver has it, in autocommit mode.
        place: of the database, for people.
    """

    def __init__(self, raw: psycopg.Connection[Any], place: str) -> None:
        self.raw = raw
        self._place = place
        self._weeks: set[int] = set()
        self._names = count()

    def execute(self, statement: str, parameters: Sequence[Value] = (), /) -> Rows:
        """Run a statement."""
        return self.raw.execute(_translate(statement), parameters, binary=True)

    def executemany(self, statement: str, parameters: Iterable[Sequence[Value]], /) -> None:
        """Run a statement for each row of parameters."""
        with self.raw.cursor() as cursor:
            cursor.executemany(_translate(statement), parameters)

    def append(self, table: str, columns: str, rows: Iterable[Sequence[Value]], /) -> None:
        """Insert many rows, by COPY."""
        with self.raw.cursor() as cursor, cursor.copy(f"COPY {table} ({columns}) FROM STDIN".encode()) as copy:
            for row in rows:
                copy.write_row(row)

    def stream(self, statement: str, parameters: Sequence[Value] = (), /) -> Iterator[Row]:
        """Give the rows of a query one by one, from a cursor at the server; only within a transaction."""
        with self.raw.cursor(f"rows_{next(self._names)}", binary=True) as cursor:
            cursor.itersize = CHUNK
            cursor.execute(_translate(statement), parameters)
            yield from cursor

    def hold(self, eui: bytes, /) -> None:
        """Take the lock of a gateway; notice at the same time when a newer program has changed the schema."""
        key = int.from_bytes(eui, "big", signed=True)
        row = self.execute("SELECT version, pg_advisory_xact_lock(?::bigint)::text FROM schema_version", (key,))
        check_version(row.fetchone()[0], self._place)

    def take_turn(self, received_us: int, /) -> None:
        """Take the lock under which frames get their ids.

        Raises:
            PartitionMissingError: there is no table for them yet.
        """
        week_us = begin_of_week(received_us)
        if week_us not in self._weeks:
            if not self._exists(partition(week_us)):
                raise PartitionMissingError(week_us)
            self._weeks.add(week_us)
        self.lock(_TURN)

    def utc_us(self) -> int | None:
        """Return what the server's clock shows."""
        (now_us,) = self.execute("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint").fetchone()
        return int(now_us)

    def take_time(self) -> None:
        """Lift the limits of time until the end of the transaction."""
        self.execute("SET LOCAL statement_timeout = 0")
        self.execute("SET LOCAL idle_in_transaction_session_timeout = 0")

    def last_frame_id(self) -> int:
        """Return the highest id that a frame ever had."""
        last, used = self.execute("SELECT last_value, is_called FROM frame_id").fetchone()
        return int(last) if used else 0

    def go_on_behind(self, frame_id: int, /) -> None:
        """Give new ids behind those that rows brought with them, and to frames behind one more."""
        rows = self.execute(
            "SELECT table_name, column_name FROM information_schema.columns"
            " WHERE table_schema = current_schema() AND is_identity = 'YES'"
        ).fetchall()
        for table, column in rows:
            self.raw.execute(
                f"SELECT setval(pg_get_serial_sequence('{table}', '{column}'),"  # noqa: S608 - names of our own schema
                f" coalesce(max({column}), 1), max({column}) IS NOT NULL) FROM {table}".encode()
            )
        self.execute("SELECT setval('frame_id', ?::bigint, ?::int > 0)", (max(frame_id, 1), frame_id))

    def lock(self, what: int) -> None:
        """Take a lock of the ledger as a whole, until the end of the transaction."""
        self.execute("SELECT pg_advisory_xact_lock(?::int, ?::int)::text", (_LOCKS, what))

    def begin(self, *, writing: bool) -> None:
        """Begin a transaction; one that only reads sees the same state all the time."""
        self.raw.execute(b"BEGIN" if writing else b"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")

    def commit(self) -> None:
        """Commit; durable when this returns. When it raises, nobody knows."""
        self.raw.execute(b"COMMIT")

    def rollback(self) -> None:
        """End a transaction, if there is one, as if it had never begun; a connection that is lost has none."""
        with contextlib.suppress(psycopg.Error):
            if self.raw.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
                self.raw.execute(b"ROLLBACK")

    @property
    def usable(self) -> bool:
        """Whether it may serve again."""
        return not self.raw.closed and self.raw.info.transaction_status == psycopg.pq.TransactionStatus.IDLE

    @property
    def idle(self) -> bool:
        """Whether it still waits for us, as far as can be seen without asking: the last word of a server has come."""
        if not self.usable:
            return False
        ears = select.poll()  # takes descriptors of any number
        ears.register(self.raw.fileno(), select.POLLIN)
        return not ears.poll(0)

    def close(self) -> None:
        """Close it."""
        self.raw.close()

    def version(self) -> int | None:
        """Return the version of the schema, None where there is none."""
        if not self._exists("schema_version"):
            return None
        row = self.execute("SELECT version FROM schema_version").fetchone()
        return None if row is None else int(row[0])

    def migrate(self) -> None:
        """Make the schema, or bring an older one up to date, in one transaction; of several workers one does it.

        Raises:
            LedgerError: CG-LED-004, the database holds other things; CG-LED-006, it is newer than this program.
        """
        self.begin(writing=True)
        try:
            self.execute("SET LOCAL statement_timeout = 0")
            self.execute("SET LOCAL lock_timeout = 0")
            self.lock(_MIGRATION)
            version = self.version()
            if version is None and (self._exists("gateway") or self._exists("frame")):
                hint = "it was left untouched; give the ledger a database of its own"
                raise LedgerError("holds tables of another program", where=self._place, hint=hint, code="CG-LED-004")
            check_version(version or 0, self._place)
            if version is None:
                self.execute("CREATE TABLE schema_version (version INTEGER NOT NULL)")
                self.execute("INSERT INTO schema_version VALUES (0)")
            for number, script in scripts(ENGINE, version or 0):
                self.raw.execute(script.encode())
                self.execute("UPDATE schema_version SET version = ?", (number,))
            self.commit()
        finally:
            self.rollback()

    def make_partition(self, begin_us: int) -> None:
        """Make the table for the frames of a week, unless it is there. Nobody who reads or writes is held up."""
        name = partition(begin_us)
        self.begin(writing=True)
        try:
            self.lock(_PARTITIONS)
            if not self._exists(name):
                self.raw.execute(f"CREATE TABLE {name} (LIKE frame INCLUDING DEFAULTS)".encode())
                bounds = f"FROM ({begin_us}) TO ({begin_us + WEEK_US})"
                self.raw.execute(f"ALTER TABLE frame ATTACH PARTITION {name} FOR VALUES {bounds}".encode())
            self.commit()
        finally:
            self.rollback()

    def drop_partitions(self, before_us: int) -> None:
        """Drop the tables with the frames of weeks that were over before a moment; those in use another time."""
        self.begin(writing=True)
        try:
            self.execute("SET LOCAL lock_timeout = '2s'")
            self.lock(_PARTITIONS)
            limit = partition(before_us)
            rows = self.execute(
                "SELECT relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid"
                " WHERE inhparent = to_regclass('frame')"
            ).fetchall()
            for (name,) in rows:
                if name < limit:
                    self.raw.execute(f"DROP TABLE {name}".encode())
                    _log.info("event=frames_dropped partition=%s", name)
            self.execute("UPDATE retention SET done_us = ?", (before_us,))
            self.commit()
        finally:
            self.rollback()

    def _exists(self, table: str) -> bool:
        # from the catalogue itself: what a session remembers of names may be older than a lock that it just got
        row = self.execute("SELECT 1 FROM pg_tables WHERE schemaname = current_schema() AND tablename = ?", (table,))
        return row.fetchone() is not None


def check_version(version: int, place: str) -> None:
    """Refuse a schema that is newer than this program.

    Raises:
        LedgerError: CG-LED-006.
    """
    if version > SCHEMA_VERSION:
        what = f"schema version {version}, this program knows {SCHEMA_VERSION}"
        raise LedgerError(what, where=place, hint="update civigate; the ledger was left untouched", code="CG-LED-006")


@functools.lru_cache(512)
def _translate(statement: str) -> bytes:
    return statement.replace("%", "%%").replace("?", "%s").encode()


def place_of(url: str) -> str:
    """Name a database for people: where it is and what it is called, nothing else of its address."""
    said = conninfo_to_dict(url)
    host = said.get("host") or said.get("service") or "local"
    return f"postgresql {host}/{said.get('dbname') or ''}".rstrip("/")


def connect(url: str) -> Connection:
    """Connect, make sure that commits are durable, and set the limits.

    Raises:
        LedgerError: CG-LED-007, it cannot be reached or does not let us in; CG-LED-004, it is none for a ledger.
    """
    place = place_of(url)
    given = conninfo_to_dict(url)
    defaults = {name: value for name, value in _KEEPALIVE.items() if name not in given}
    with translated(place):
        raw = psycopg.connect(
            make_conninfo(url, **defaults),
            autocommit=True,
        )
    connection = Connection(raw, place)
    try:
        with translated(place):
            _settle(connection, place)
    except BaseException:
        connection.close()
        raise
    return connection


def _settle(connection: Connection, place: str) -> None:
    if connection.raw.info.server_version < MIN_SERVER:
        what = f"the server has version {connection.raw.info.server_version // 10000}"
        hint = f"use PostgreSQL {MIN_SERVER // 10000} or later"
        raise LedgerError(what, where=place, hint=hint, code="CG-LED-004")
    settings = ", ".join(f"set_config('{name}', '{value}', false)" for name, value in _SETTINGS.items())
    commit, fsync, encoding, *_ = connection.execute(
        "SELECT current_setting('synchronous_commit'), current_setting('fsync'),"
        f" current_setting('server_encoding'), {settings}"
    ).fetchone()
    if encoding != "UTF8":
        hint = "CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0"
        raise LedgerError(f"the database is encoded in {encoding}", where=place, hint=hint, code="CG-LED-004")
    if commit not in _DURABLE:
        connection.execute("SET synchronous_commit = on")
    if fsync == "off":
        _warn_of_fsync(place)


@functools.cache
def _warn_of_fsync(place: str) -> None:
    """Say it once."""
    _log.warning("event=not_durable place=%r fsync=off: a power cut of the server loses what was acknowledged", place)


_LOGIN = (
    "check [ledger] url, whether the server runs, and whether it lets this role in; a password belongs into a passfile"
    " (PGPASSFILE, mode 0600); batches wait on the gateways meanwhile"
)
_AGAIN = "it is tried again by itself; if it goes on, look into the server's log"
_MEANING: tuple[tuple[type[psycopg.Error], str, str, bool], ...] = (
    (
        errors.DiskFull,
        "make room on the file system of the server; batches wait on the gateways meanwhile",
        "003",
        True,
    ),
    (errors.DataCorrupted, "the database is damaged: stop the receivers, restore a backup", "004", False),
    (errors.IndexCorrupted, "an index is damaged: REINDEX DATABASE, and look for the cause", "004", False),
    (errors.InsufficientPrivilege, "let the role of [ledger] url own the database and its tables", "002", True),
    (
        errors.ReadOnlySqlTransaction,
        "this server only reads; add target_session_attrs=read-write to the url",
        "002",
        True,
    ),
    (errors.LockNotAvailable, _AGAIN, "001", True),
    (errors.QueryCanceled, _AGAIN, "001", True),
    (errors.SerializationFailure, _AGAIN, "001", True),
    (errors.DeadlockDetected, _AGAIN, "001", True),
    (errors.OperationalError, _LOGIN, "007", True),
    (psycopg.InterfaceError, _LOGIN, "007", True),
)


@contextlib.contextmanager
def translated(place: str) -> Iterator[None]:
    """Turn what the driver raises into a LedgerError that names the next step."""
    try:
        yield
    except psycopg.Error as error:
        what = " ".join((error.diag.message_primary or str(error)).split()) or type(error).__name__
        for kind, hint, number, retryable in _MEANING:
            if isinstance(error, kind):
                raise LedgerError(what, where=place, hint=hint, code=f"CG-LED-{number}", retryable=retryable) from error
        raise LedgerError(what, where=place, hint="report this", code="CG-LED-009") from error
