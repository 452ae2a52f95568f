# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The SQLite file of the ledger: who may write it, which version it has, what its errors mean.

Exactly one process writes: it holds a lock file. SQLite before 3.51.3 can lose a commit of one connection while another
one checkpoints, so a second writing process must not even exist; commands that change something while the receiver runs
ask it to do so (`receiver.control`). Readers open read-only and never checkpoint.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from receiver.errors import LedgerError
from receiver.ledger.schema import SCHEMA_VERSION, scripts
from receiver.ledger.sql import Row, Value, marks

FILE_NAME = "ledger.db"
ENGINE = "sqlite"
LOCK_NAME = "ledger.lock"
APPLICATION_ID = 0x43475231
"""Marks the file as a ledger of civigate ("CGR1")."""
BUSY_LIMIT_S = 10.0


class Connection(sqlite3.Connection):
    """One connection (`receiver.ledger.sql.Database`)."""

    def append(self, table: str, columns: str, rows: Iterable[Sequence[Value]], /) -> None:
        """Insert many rows."""
        count = columns.count(",") + 1
        self.executemany(f"INSERT INTO {table} ({columns}) VALUES ({marks(count)})", rows)  # noqa: S608 - our own words

    def stream(self, statement: str, parameters: Sequence[Value] = (), /) -> Iterator[Row]:
        """Give the rows of a query one by one."""
        return self.execute(statement, parameters)

    def hold(self, eui: bytes, /) -> None:
        """Do nothing: one connection writes at a time."""

    def take_turn(self, received_us: int, /) -> None:
        """Do nothing: one connection writes at a time."""

    def utc_us(self) -> int | None:
        """Return None: there is no server."""
        return None

    def take_time(self) -> None:
        """Do nothing: there are no such limits."""

    def last_frame_id(self) -> int:
        """Return the highest id that a frame ever had."""
        row = self.execute("SELECT seq FROM sqlite_sequence WHERE name = 'frame'").fetchone()
        return 0 if row is None else int(row[0])

    def go_on_behind(self, frame_id: int, /) -> None:
        """Give new ids to frames behind one more; other tables go on behind the highest they hold by themselves."""
        self.execute("DELETE FROM sqlite_sequence WHERE name = 'frame'")
        self.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('frame', ?)", (frame_id,))


class WriterLock:
    """The right to write one ledger, held by one process; the kernel gives it back when the process dies.

    Raises:
        LedgerError: CG-LED-001, another process holds it; CG-LED-002, the folder cannot be written.
    """

    def __init__(self, data_dir: Path) -> None:
        path = data_dir / LOCK_NAME
        try:
            data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            hint = "create the folder and make it writable for this user, or change [receiver] data_dir"
            what = f"cannot be written: {error.strerror}"
            raise LedgerError(what, where=str(data_dir), hint=hint, code="CG-LED-002") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._file)
            hint = "stop the other process, or give each receiver its own data_dir"
            what = "another process is writing this ledger"
            raise LedgerError(what, where=str(data_dir), hint=hint, code="CG-LED-001", retryable=True) from error

    def release(self) -> None:
        """Let another process write."""
        os.close(self._file)


@contextlib.contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn what SQLite raises into a LedgerError that names the next step."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        what, hint, number, retryable = _MEANING.get(code, (str(error), "report this", "009", False))
        raise LedgerError(what, where=str(path), hint=hint, code=f"CG-LED-{number}", retryable=retryable) from error


_ROOM = "make room on the file system of the ledger; batches wait on the gateways meanwhile"
_DAMAGED = (
    "stop the receiver, keep the file, restore a backup; what is missing then is sent again if the gateways have it"
)
_RIGHTS = "check owner and permissions of the folder and the file, and whether the file system is read-only"
_MEANING = {
    sqlite3.SQLITE_FULL: ("no space left on the file system", _ROOM, "003", True),
    sqlite3.SQLITE_IOERR: ("the file system fails to read or write", _ROOM, "003", True),
    sqlite3.SQLITE_BUSY: ("locked by another process", "stop the program that keeps it open", "001", True),
    sqlite3.SQLITE_CORRUPT: ("the ledger file is damaged", _DAMAGED, "004", False),
    sqlite3.SQLITE_NOTADB: ("not a ledger file", _DAMAGED, "004", False),
    sqlite3.SQLITE_READONLY: ("cannot be written", _RIGHTS, "002", True),
    sqlite3.SQLITE_CANTOPEN: ("cannot be opened", _RIGHTS, "002", True),
    sqlite3.SQLITE_PERM: ("cannot be opened", _RIGHTS, "002", True),
}


def open_writer(path: Path) -> Connection:
    """Open the ledger for writing, make it where it does not exist, bring an older one up to date.

    Raises:
        LedgerError: CG-LED-002 to -006, it cannot be opened, or a newer program wrote it.
    """
    with translated(path):
        try:
            path.touch(mode=0o600)
        except OSError as error:
            raise LedgerError(
                f"cannot be written: {error.strerror}", where=str(path), hint=_RIGHTS, code="CG-LED-002"
            ) from error
        db = sqlite3.connect(
            path, timeout=BUSY_LIMIT_S, isolation_level=None, check_same_thread=False, factory=Connection
        )
        try:
            version = _check(db, path, writing=True)
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")
            db.execute("PRAGMA foreign_keys = ON")
            db.execute("PRAGMA cache_size = -16000")
            _migrate(db, version)
        except BaseException:
            db.close()
            raise
    return db


def open_reader(path: Path) -> Connection:
    """Open the ledger for reading only.

    Raises:
        LedgerError: CG-LED-002, -004 to -006, it cannot be opened, does not exist, or a newer program wrote it.
    """
    if not path.exists():
        hint = "start the receiver or register a gateway first, or correct [receiver] data_dir"
        raise LedgerError("there is no ledger yet", where=str(path), hint=hint, code="CG-LED-005")
    with translated(path):
        db = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=ro",
            uri=True,
            timeout=BUSY_LIMIT_S,
            isolation_level=None,
            check_same_thread=False,
            factory=Connection,
        )
        try:
            _check(db, path, writing=False)
            db.execute("PRAGMA query_only = ON")
        except BaseException:
            db.close()
            raise
    return db


def _check(db: Connection, path: Path, *, writing: bool) -> int:
    """Return the schema version of the file, 0 for an empty one."""
    version = int(db.execute("PRAGMA user_version").fetchone()[0])
    application = int(db.execute("PRAGMA application_id").fetchone()[0])
    tables = int(db.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0])
    if tables and application != APPLICATION_ID:
        hint = "it was left untouched; choose another [receiver] data_dir"
        raise LedgerError("a database of another program", where=str(path), hint=hint, code="CG-LED-004")
    if version == 0 and not writing:
        hint = "start the receiver or register a gateway first"
        raise LedgerError("the ledger is empty", where=str(path), hint=hint, code="CG-LED-005")
    if version > SCHEMA_VERSION:
        what = f"schema version {version}, this program knows {SCHEMA_VERSION}"
        hint = "update civigate; the file was left untouched"
        raise LedgerError(what, where=str(path), hint=hint, code="CG-LED-006")
    return version


def _migrate(db: Connection, version: int) -> None:
    for number, script in scripts(ENGINE, version):
        # one transaction: a crash leaves the old version or the new one, never half of it
        db.executescript(
            f"BEGIN IMMEDIATE;\nPRAGMA application_id = {APPLICATION_ID};\n{script}\n"
            f"PRAGMA user_version = {number};\nCOMMIT;"
        )
        # The installer of an older package reads the version in the file itself, and the WAL may live for long.
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
