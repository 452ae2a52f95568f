# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The ledger of a stage, as it is looked at from outside: the receiver's own file, or a PostgreSQL server beside it."""

from __future__ import annotations

import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Protocol

import psycopg

from agent.demo.audit import BUCKETS
from agent.demo.stage import RECEIVER, Stage
from tests.receiver.postgres import Cluster, cluster

_AUDITED = {"frame": ("phy_payload", "counter_us"), "batch": ("number",), "account": BUCKETS}


class Ledger(Protocol):
    """What a run asks of it."""

    def frames(self) -> int:
        """Count the frames that are there."""
        ...

    def file(self) -> Path:
        """Give a file that an audit can read."""
        ...

    def kill(self) -> None:
        """SIGKILL what keeps it, and start that again."""
        ...


class FileLedger:
    """The file in the receiver's folder."""

    def __init__(self, stage: Stage) -> None:
        self._path = stage.ledger

    def frames(self) -> int:
        """Count the frames that are there."""
        with closing(sqlite3.connect(f"file:{self._path}?mode=ro", uri=True, timeout=30)) as db:
            return int(db.execute("SELECT count(*) FROM frame").fetchone()[0])

    def file(self) -> Path:
        """Give the file itself."""
        return self._path

    def kill(self) -> None:
        """Fail: it has no process of its own."""
        raise AssertionError("nothing to kill")


class ServerLedger:
    """A database to which the stage's receiver was moved, as an operator would do it."""

    def __init__(self, stage: Stage, server: Cluster) -> None:
        self._server = server
        self._name = server.database()
        self._seen = 0
        stage.take_away("receiver")
        text = stage.receiver_toml.read_text()
        self._old = stage.receiver_toml.with_name("receiver-before.toml")
        self._old.write_text(text)
        stage.receiver_toml.write_text(f'{text}\n[ledger]\nurl = "{server.url(self._name)}"\n')
        copy = [*RECEIVER, "ledger", "copy", str(self._old), "-c", str(stage.receiver_toml)]
        subprocess.run(copy, check=True, capture_output=True)
        stage.bring_back("receiver")

    def frames(self) -> int:
        """Count the frames that are there; those seen last while the server is just starting."""
        try:
            with self._server.connect(self._name) as db:
                row = db.execute("SELECT count(*) FROM frame").fetchone()
        except psycopg.OperationalError:
            return self._seen
        assert row is not None
        self._seen = int(row[0])
        return self._seen

    def file(self) -> Path:
        """Write what an audit reads into a file, straight from the tables."""
        path = self._old.with_name("audited.db")
        with self._server.connect(self._name) as db, closing(sqlite3.connect(path)) as copy, copy:
            for table, columns in _AUDITED.items():
                names = ", ".join(columns)
                copy.execute(f"CREATE TABLE {table} ({names})")
                rows = db.execute(f"SELECT {names} FROM {table}".encode())
                copy.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(columns))})", rows)
        return path

    def kill(self) -> None:
        """SIGKILL the postmaster and start the server again."""
        self._server.kill()
        self._server.start()


@contextmanager
def ledger_of(stage: Stage, *, postgres: bool) -> Iterator[Ledger]:
    """Look at the ledger of a stage that is set, or move it to a server of its own before."""
    if not postgres:
        yield FileLedger(stage)
        return
    with cluster(durable=True) as server:
        yield ServerLedger(stage, server)
