# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The spool's file: opening, creating and migrating it, and saying in one line why that is not possible.

One connection writes (it also checkpoints); all others open the file for reading only.
"""

from __future__ import annotations

import fcntl
import functools
import os
import re
import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Final, TypeVar

from agent.errors import SpoolError

APPLICATION_ID: Final = 0x43564731
"""`PRAGMA application_id`: ASCII "CVG1"."""
SCHEMA_VERSION: Final = 1
"""The number of the newest file in `schema/`. `PRAGMA user_version` has it in its low 16 bits; above them is the oldest
version whose programs can still use the file (`-- usable from version N`): additions with defaults do no harm."""

PAGE_BYTES: Final = 1024
"""Bytes written per frame, against pages of 4096: 0.65 at one frame per commit, 0.69 at ten, never more than 1. A row
has about 100 bytes and at most 320, so that none overflows."""
AUTOCHECKPOINT_PAGES: Final = 1000
"""The WAL stays near 1 MB; four times as much saves nothing and has to be grown anew at each start."""
BUSY_TIMEOUT_MS: Final = 5000

_USABLE: Final = re.compile(r"^-- usable from version (\d+)", re.MULTILINE)
_T = TypeVar("_T")


class Lock:
    """The right to write a spool, held by at most one process; the kernel takes it back when that process dies."""

    def __init__(self, path: Path) -> None:
        """Take it.

        Raises:
            SpoolError: another process has it, or the folder cannot be written.
        """
        self.path = path.with_name(path.name + ".lock")
        try:
            self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        except OSError as error:
            raise file_error(error, path) from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.read(self._descriptor, 20).decode("ascii", "replace").strip() or "unknown"
            os.close(self._descriptor)
            raise SpoolError(
                f"another process (pid {holder}) writes this spool",
                where=str(path),
                hint="stop the other agent, or give this one its own state_dir",
                code="CG-SPL-005",
            ) from error
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Give it back; the file stays, since deleting it would let two processes lock two files of one name."""
        os.close(self._descriptor)


def open_writer(path: Path, quota_bytes: int, *, create: bool = True) -> sqlite3.Connection:
    """Open the spool for writing, creating or migrating it where needed. The caller holds its `Lock`.

    Args:
        path: of the database.
        quota_bytes: the most that the database file may grow to, at least 1 MB.
        create: make a new one where there is none.

    Raises:
        SpoolError: it cannot be used; the file is as it was.
    """
    if not create:
        _check_presence(path)
    new = not path.exists() or path.stat().st_size == 0
    connection = _connect(path, "rwc" if create else "rw")
    try:
        with explained(path):
            _prepare(connection, path, quota_bytes, new=new)
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection, path: Path, quota_bytes: int, *, new: bool) -> None:
    if new:
        connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
    else:
        _check_version(connection, path)
    _pragma(connection, path, "journal_mode = WAL", "journal_mode", "wal")
    _pragma(connection, path, "synchronous = FULL", "synchronous", 2)
    connection.execute(f"PRAGMA wal_autocheckpoint = {AUTOCHECKPOINT_PAGES}")
    page_bytes = scalar(connection, "PRAGMA page_size", int)
    connection.execute(f"PRAGMA max_page_count = {max(quota_bytes // page_bytes, 1024)}")
    migrate(connection)


def open_reader(path: Path, *, older: bool = False) -> sqlite3.Connection:
    """Open an existing spool for reading only.

    Args:
        path: of the database.
        older: whether one that the writer has yet to migrate will do.

    Raises:
        SpoolError: there is none, or it cannot be read.
    """
    _check_presence(path)
    connection = _connect(path, "ro")
    try:
        with explained(path):
            _check_version(connection, path)
            outdated = versions(connection)[0] < SCHEMA_VERSION
    except BaseException:
        connection.close()
        raise
    if outdated and not older:
        connection.close()
        raise SpoolError(
            "spool of an older version",
            where=str(path),
            hint="start the agent once: it brings the spool up to date",
            code="CG-SPL-003",
        )
    return connection


def _check_presence(path: Path) -> None:
    if not path.exists():
        raise SpoolError(
            "no spool there",
            where=str(path),
            hint="check the path, and that the card or disk it is on is mounted",
            code="CG-SPL-001",
        )


def identity(path: Path) -> tuple[int, int]:
    """Return device and inode of the file that a path leads to.

    Raises:
        SpoolError: there is none.
    """
    try:
        found = path.stat()
    except FileNotFoundError:
        _check_presence(path)
        raise
    return found.st_dev, found.st_ino


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn what SQLite and its file can raise into a `SpoolError` that says what to do."""
    try:
        yield
    except sqlite3.Error as error:
        raise database_error(error, path) from error
    except UnicodeDecodeError as error:  # Python's, for a message of SQLite that quotes a damaged schema
        raise database_error(sqlite3.DatabaseError("text that is not UTF-8"), path) from error


def migrate(connection: sqlite3.Connection) -> None:
    """Apply the schema files that the database has not seen, each in one transaction.

    Raises:
        sqlite3.Error: the file cannot be written; it is as before the failing step.
    """
    for name, script in schema():
        number = int(name.partition("_")[0])
        if number <= versions(connection)[0]:
            continue
        usable = _USABLE.search(script)
        if usable is None:
            raise ValueError(f"{name} does not say from which version it is usable")
        # executescript would commit by itself before it starts: BEGIN and COMMIT belong into the script
        try:
            connection.executescript(
                f"BEGIN IMMEDIATE;\n{script}\nPRAGMA application_id = {APPLICATION_ID};\n"
                f"PRAGMA user_version = {int(usable[1]) << 16 | number};\nCOMMIT;"
            )
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        # The installer of an older package reads the version in the file itself, and the WAL may live for long.
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    if not scalar(connection, "SELECT count(*) FROM spool", int):
        # It brings a command line along, 4 MB that an agent whose spool is there does without.
        from sqlite_utils import Database  # noqa: PLC0415

        first = {"id": 1, "spool_id": secrets.token_bytes(16), "last_row": 0, "journal": 0, "session": 0}
        Database(connection, recursive_triggers=False).table("spool").insert(first | {"next_anchor": 1})


def load() -> None:
    """Load what a new spool is made of: who becomes another user may not get at the program's own files any more."""
    import sqlite_utils  # noqa: F401, PLC0415

    schema()


@functools.cache
def schema() -> list[tuple[str, str]]:
    """Return the schema files, as name and script, in their order."""
    folder = resources.files("agent.spool").joinpath("schema")
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".sql"))
    return [(name, folder.joinpath(name).read_text(encoding="utf-8")) for name in names]


def versions(connection: sqlite3.Connection) -> tuple[int, int]:
    """Return the version of a spool, 0 for an empty file, and the oldest version whose programs can use it."""
    found = scalar(connection, "PRAGMA user_version", int)
    return found & 0xFFFF, found >> 16


def scalar(connection: sqlite3.Connection, sql: str, kind: type[_T], *parameters: object) -> _T:
    """Return the first column of the first row of a query as the type it is known to have.

    Raises:
        sqlite3.DatabaseError: the value has another type, which only a damaged file can give.
    """
    row = connection.execute(sql, parameters).fetchone()
    value = row[0] if row else None
    if not isinstance(value, kind):
        raise sqlite3.DatabaseError(f"database holds {value!r} where {sql} expects {kind.__name__}")
    return value


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    if mode != "ro" and path.parent.is_dir() and not os.access(path.parent, os.W_OK | os.X_OK):
        # SQLite would fall back to reading and fail later with a vaguer word
        raise file_error(PermissionError(13, "folder is read-only"), path)
    with explained(path):
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode={mode}",
            uri=True,
            isolation_level=None,
            check_same_thread=False,
            timeout=BUSY_TIMEOUT_MS / 1000,
        )
    try:
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA cell_size_check = ON")
        # the database file is mapped by nobody: an I/O error on a mapping kills the process (SIGBUS)
        connection.execute("PRAGMA mmap_size = 0")
    except sqlite3.Error as error:
        connection.close()
        raise database_error(error, path) from error
    return connection


def _pragma(connection: sqlite3.Connection, path: Path, setting: str, name: str, expected: int | str) -> None:
    """Set a pragma and check that it took: builds of SQLite differ in defaults and in what they allow."""
    connection.execute(f"PRAGMA {setting}")
    found = scalar(connection, f"PRAGMA {name}", type(expected))
    if found != expected:
        raise SpoolError(
            f"SQLite answers {name} = {found!r}, needed is {expected!r}",
            where=str(path),
            hint="keep the spool on a local file system (ext4, XFS, F2FS), not on a network share",
            code="CG-SPL-006",
        )


def _check_version(connection: sqlite3.Connection, path: Path) -> None:
    application = scalar(connection, "PRAGMA application_id", int)
    version, usable_from = versions(connection)
    tables = scalar(connection, "SELECT count(*) FROM sqlite_schema", int)
    if application != APPLICATION_ID and tables:
        raise SpoolError(
            "a database of another program, not a spool",
            where=str(path),
            hint="give the spool a path of its own ([spool] path)",
            code="CG-SPL-002",
        )
    if version > SCHEMA_VERSION and not 1 <= usable_from <= SCHEMA_VERSION:
        raise SpoolError(
            f"spool of version {version}, this agent knows up to {SCHEMA_VERSION}",
            where=str(path),
            hint="update civigate, or move the spool aside and let this version begin a new one",
            code="CG-SPL-003",
        )


def file_error(error: OSError, path: Path) -> SpoolError:
    """Return what to say when the operating system refuses the spool's folder or file."""
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return SpoolError(
            f"folder {path.parent} does not exist",
            where=str(path),
            hint="create the folder, or correct [gateway] state_dir",
            code="CG-SPL-007",
        )
    return SpoolError(
        f"cannot be written: {error.strerror or error}",
        where=str(path),
        hint=f"let the agent's user write {path.parent}, and check that its file system is not mounted read-only",
        code="CG-SPL-007",
    )


def database_error(error: sqlite3.Error, path: Path) -> SpoolError:
    """Return what to say for an error of SQLite: damaged, full, read-only, busy, or failing for now."""
    name = getattr(error, "sqlite_errorname", "") or type(error).__name__
    text = f"{error} ({name})"
    where = str(path)
    if name.startswith("SQLITE_NOTADB"):
        return SpoolError(
            "not a database, or its first page is damaged",
            where=where,
            hint="move the file aside (never delete it) and start the agent again: it begins a new spool",
            code="CG-SPL-004",
        )
    if name.startswith(("SQLITE_CORRUPT", "SQLITE_MISMATCH")) or not name.startswith("SQLITE_"):
        return SpoolError(
            f"damaged: {text}",
            where=where,
            hint="move the file aside (never delete it) and start the agent again: it begins a new spool",
            code="CG-SPL-004",
        )
    if name.startswith("SQLITE_FULL"):
        return SpoolError(
            f"full: {text}",
            where=where,
            hint="free space on the file system, or raise [spool] quota_mb",
            code="CG-SPL-008",
            retryable=True,
        )
    if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")):
        return SpoolError(
            f"cannot be written: {text}",
            where=where,
            hint=f"let the agent's user write {path.parent}, and check that its file system is not mounted read-only",
            code="CG-SPL-007",
            retryable=True,
        )
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return SpoolError(
            f"locked by another program: {text}",
            where=where,
            hint="close the program that has the spool open for writing",
            code="CG-SPL-005",
            retryable=True,
        )
    return SpoolError(
        f"input or output failed: {text}",
        where=where,
        hint="look for errors of the card with dmesg; the agent keeps trying",
        code="CG-SPL-009",
        retryable=True,
    )
