# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The schema of both engines: the same to those who query it, and brought up to date wherever it stands."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import psycopg
import pytest

from agent.batch.keys import Ed25519Signer
from receiver.errors import LedgerError
from receiver.intake import Intake
from receiver.ledger import server
from receiver.ledger.copying import tables
from receiver.ledger.postgres import PostgresLedger
from receiver.ledger.schema import SCHEMA_VERSION, scripts
from tests.receiver.gateway import Gateway
from tests.receiver.postgres import Cluster

_COLUMNS = """
SELECT columns.table_name, column_name, table_type, data_type FROM information_schema.columns
JOIN information_schema.tables USING (table_schema, table_name)
WHERE table_schema = 'public' AND table_name NOT LIKE 'frame\\_%' AND table_name <> 'schema_version'
ORDER BY columns.table_name, ordinal_position
"""
_KINDS = {
    "INTEGER": {"bigint", "integer", "smallint"},
    "BLOB": {"bytea"},
    "TEXT": {"text"},
}


def test_both_engines_have_the_same_tables_and_views(postgres: Cluster) -> None:
    with closing(PostgresLedger(postgres.url(postgres.database()))) as ledger, ledger._reading() as db:
        rows = db.execute(_COLUMNS).fetchall()
    there: dict[str, list[str]] = {}
    for table, column, _, _ in rows:
        there.setdefault(table, []).append(column)
    with closing(sqlite3.connect(":memory:")) as memory:
        for _, script in scripts("sqlite", 0):
            memory.executescript(script)
        here = {
            name: {row[1]: row[2] for row in memory.execute(f"PRAGMA table_info({name})")}
            for (name,) in memory.execute(
                "SELECT name FROM sqlite_schema WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite_%'"
            )
        }
    # columns that a version has added stand last here, and where they belong there
    assert {name: set(columns) for name, columns in there.items()} == {name: set(kinds) for name, kinds in here.items()}
    for table, column, kind, data_type in rows:
        if kind == "BASE TABLE":
            assert data_type in _KINDS[here[table][column]], f"{table}.{column}"
        else:
            assert there[table] == list(here[table]), f"order of the columns of {table}"
    assert {name for name, _ in tables()} == {table for table, _, kind, _ in rows if kind == "BASE TABLE"}


@pytest.mark.parametrize("version", [number for number, _ in scripts("postgres", 0)])
def test_an_older_schema_is_brought_up_to_date(version: int, postgres: Cluster) -> None:
    name = postgres.database()
    with postgres.connect(name) as db:
        for number, script in scripts("postgres", 0):
            if number <= version:
                db.execute(script.encode())
        db.execute("CREATE TABLE schema_version (version INTEGER NOT NULL)")
        db.execute("INSERT INTO schema_version VALUES (%s)", (version,))
    gateway = Gateway()
    with closing(PostgresLedger(postgres.url(name))) as ledger:
        ledger.add_key(gateway.registration)
        assert Intake(ledger, Ed25519Signer.generate()).submit(gateway.wire(), sender="test").receipt is not None
    with postgres.connect(name) as db:
        assert db.execute("SELECT version FROM schema_version").fetchall() == [(SCHEMA_VERSION,)]


def test_a_script_that_fails_leaves_the_version_before(postgres: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    name = postgres.database()
    PostgresLedger(postgres.url(name)).close()
    monkeypatch.setattr(server, "SCHEMA_VERSION", 99)
    monkeypatch.setattr("receiver.ledger.postgres.SCHEMA_VERSION", 99)
    half = [(99, "CREATE TABLE half (x integer); SELECT 1/0;")]
    monkeypatch.setattr(server, "scripts", lambda _engine, _version: half)
    with pytest.raises(LedgerError, match="division by zero"):
        PostgresLedger(postgres.url(name))
    with postgres.connect(name) as db:
        assert db.execute("SELECT version FROM schema_version").fetchall() == [(SCHEMA_VERSION,)]
        assert db.execute("SELECT to_regclass('half')").fetchall() == [(None,)]


def test_a_worker_that_hangs_holds_nobody_up_for_long(postgres: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(server._SETTINGS, "lock_timeout", "100ms")
    monkeypatch.setitem(server._SETTINGS, "idle_in_transaction_session_timeout", "1s")
    url = postgres.url(postgres.database())
    gateway, other = Gateway(), Gateway(eui=b"\2" * 8, seed=b"other")
    with closing(PostgresLedger(url)) as ledger, closing(server.connect(url)) as hanging:
        intake = Intake(ledger, Ed25519Signer.generate())
        for one in (gateway, other):
            ledger.add_key(one.registration)
        hanging.begin(writing=True)
        hanging.hold(gateway.eui)
        sent = gateway.wire()
        with pytest.raises(LedgerError) as caught:
            intake.submit(sent, sender="test")
        assert (caught.value.code, caught.value.retryable) == ("CG-LED-001", True)
        assert intake.submit(other.wire(), sender="test").receipt is not None, "other gateways are not held up"
        for _ in range(600):
            try:
                assert intake.submit(sent, sender="test").receipt is not None
                break
            except LedgerError:
                continue
        with pytest.raises(psycopg.Error):
            hanging.commit()


def test_a_password_is_nowhere(postgres: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    url = f"postgresql://nobody:geheim@/nowhere?host={postgres.folder}&password=geheim"
    with pytest.raises(LedgerError) as caught:
        PostgresLedger(url)
    with closing(PostgresLedger(url, patient=True)) as ledger:
        said = f"{caught.value} {caught.value.hint} {caught.value.where} {ledger.place} {caplog.text}"
    assert "geheim" not in said
    assert "nowhere" in said
