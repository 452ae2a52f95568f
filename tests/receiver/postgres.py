# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""A PostgreSQL server of our own: a cluster in a temporary folder, reached by a Unix socket, gone afterwards."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import psycopg

from receiver.ledger.postgres import PostgresLedger
from receiver.ledger.writer import LedgerWriter

LIMIT_S = 60.0
_INSTALLED = "/usr/lib/postgresql"


def _program(name: str) -> str:
    found = sorted(Path(_INSTALLED).glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3]))
    program = str(found[-1]) if found else shutil.which(name)
    if program is None:
        raise AssertionError(f"{name} is missing: apt install postgresql")
    return program


class Cluster:
    """One server.

    Args:
        folder: empty; short enough for a socket address.
        durable: whether it waits for the disk; only tests of durability need that.
    """

    def __init__(self, folder: Path, *, durable: bool = False) -> None:
        self.folder = folder
        self._data = folder / "data"
        self._durable = durable
        # the server refuses to run as root
        self._user = None if os.getuid() else _somebody()
        if self._user is not None:
            shutil.chown(folder, self._user)
        self._numbers = count(1)
        self._process: subprocess.Popen[bytes] | None = None
        options = ["--auth=trust", "--encoding=UTF8", "--locale=C", "--username=civigate", "--no-sync"]
        subprocess.run(
            [_program("initdb"), "--pgdata", str(self._data), *options],
            user=self._user,
            cwd=folder,
            check=True,
            capture_output=True,
        )

    def start(self) -> None:
        """Start it and wait until it takes connections."""
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.folder),
            "fsync": "on" if self._durable else "off",
            "max_connections": "80",
            "shared_buffers": "32MB",
            # files of its own: /dev/shm is small in containers, and service managers tidy it up
            "dynamic_shared_memory_type": "mmap",
        }
        words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        deadline = time.monotonic() + LIMIT_S
        with (self.folder / "postgres.log").open("ab") as log:
            while True:
                process = subprocess.Popen(
                    [_program("postgres"), "-D", str(self._data), *words], user=self._user, stdout=log, stderr=log
                )
                while process.poll() is None and not self._answers():
                    assert time.monotonic() < deadline, self.log()
                    time.sleep(0.01)
                if process.poll() is None:
                    break
                # what a killed server has left behind is just going
                assert time.monotonic() < deadline, self.log()
                time.sleep(0.05)
        self._process = process

    @property
    def pid(self) -> int:
        """Of the postmaster."""
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """SIGKILL the postmaster: a crash of the whole server. Its children see to their own end."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(LIMIT_S)
        self._process = None

    def kill_backend(self, database: str) -> None:
        """SIGKILL one process that serves a connection: the server ends all others, too, and recovers."""
        with self.connect("postgres") as db:
            row = db.execute(
                "SELECT pid FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()"
                " AND backend_type = 'client backend' ORDER BY random() LIMIT 1",
                (database,),
            ).fetchone()
        if row is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(row[0], signal.SIGKILL)

    def stop(self) -> None:
        """End it, now."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(LIMIT_S)
            self._process = None

    def database(self, template: str = "template1") -> str:
        """Make a new database; return its name."""
        name = f"test{next(self._numbers)}"
        with self.connect("postgres") as db:
            db.execute(f"CREATE DATABASE {name} TEMPLATE {template}".encode())
        return name

    def url(self, database: str) -> str:
        """Return its address for a configuration."""
        return f"postgresql://civigate@/{database}?host={self.folder}"

    def connect(self, database: str) -> psycopg.Connection[tuple[Any, ...]]:
        """Connect as whoever."""
        return psycopg.connect(self.url(database), autocommit=True)

    def log(self) -> str:
        """What it said."""
        return (self.folder / "postgres.log").read_text(errors="replace")

    def _answers(self) -> bool:
        try:
            self.connect("postgres").close()
        except psycopg.OperationalError:
            return False
        return True


def _somebody() -> str:
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name).pw_name
    raise AssertionError("root needs another user for the server")


@contextlib.contextmanager
def cluster(*, durable: bool = False) -> Iterator[Cluster]:
    """Run a server."""
    folder = Path(tempfile.mkdtemp(prefix="cg-pg-", dir="/tmp"))
    try:
        made = Cluster(folder, durable=durable)
        made.start()
        try:
            yield made
        finally:
            made.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def until(true: Callable[[], bool], limit_s: float = LIMIT_S) -> None:
    """Wait for a condition, not longer than a limit."""
    deadline = time.monotonic() + limit_s
    while not true():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def stored(ledger: LedgerWriter, query: str) -> list[tuple[Any, ...]]:
    """Look into a ledger on whatever engine."""
    with ledger._reading() as db:
        return [tuple(row) for row in db.execute(query).fetchall()]


def tables_of(ledger: LedgerWriter) -> str:
    """Return the query for the names of its tables."""
    if isinstance(ledger, PostgresLedger):
        return "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'schema_version'"
    return "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"


def empty(ledger: PostgresLedger) -> None:
    """Make it as new, quicker than a new database."""
    with ledger._borrowed() as db:
        db.raw.execute(b"TRUNCATE gateway, frame, quarantine, alarm RESTART IDENTITY CASCADE")
        db.raw.execute(b"UPDATE retention SET from_us = 0, done_us = 0")
