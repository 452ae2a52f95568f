# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""From a file to a database and back: nothing is lost, and whoever reads notices nothing."""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path

import pytest

from agent.batch.keys import Ed25519Signer
from receiver.errors import LedgerError
from receiver.intake import Intake
from receiver.ledger.copying import tables
from receiver.ledger.postgres import PostgresLedger
from receiver.ledger.sqlite import SqliteLedger
from receiver.ledger.weeks import WEEK_US
from receiver.ledger.writer import LedgerWriter
from tests.receiver.gateway import Gateway, wire
from tests.receiver.platform import Certificates, platform
from tests.receiver.postgres import Cluster, stored
from tests.receiver.test_ledger import anchor, history

HERE = "test"
NOW_US = time.time_ns() // 1000


def fill(ledger: LedgerWriter) -> Gateway:
    """Everything that a ledger can hold: gaps, withdrawn batches, anchors, alarms, refused batches, dropped frames."""
    gateway = Gateway()
    ledger.add_key(gateway.registration)
    clock = [NOW_US - 6 * WEEK_US]
    intake = Intake(ledger, Ed25519Signer.generate(), utc_us=lambda: clock[0])
    for number, sealed in enumerate(history(gateway)):
        if number != 1:
            intake.submit(wire(sealed), sender=HERE)
        clock[0] += WEEK_US
    intake.submit(Gateway(seed=b"stranger").wire(), sender=HERE)
    intake.submit(wire(gateway.seal(1, anchors=(anchor(9),))), sender=HERE)
    while ledger.upkeep(NOW_US, 30, 100):
        pass
    return gateway


def everything(ledger: LedgerWriter) -> dict[str, list[tuple[object, ...]]]:
    return {
        table: sorted(stored(ledger, f"SELECT {', '.join(columns)} FROM {table}"), key=repr)
        for table, columns in tables()
    }


def test_there_and_back_again(tmp_path: Path, postgres: Cluster) -> None:
    with (
        closing(SqliteLedger(tmp_path / "old")) as old,
        closing(PostgresLedger(postgres.url(postgres.database()))) as database,
        closing(SqliteLedger(tmp_path / "new")) as new,
    ):
        gateway = fill(old)
        before = everything(old)
        filled = {table for table, rows in before.items() if rows}
        assert filled >= {"frame", "batch", "anchor", "tombstone", "span", "alarm", "quarantine", "retention"}
        counts = database.take_over(old, "there")
        assert counts == {table: len(rows) for table, rows in before.items()}
        assert everything(database) == before
        assert database.frames(0, 1000) == old.frames(0, 1000)
        new.take_over(database, "back")
        assert everything(new) == everything(old) == before
        after = old.frames(0, 1000)[-1]["id"]
        for ledger in (old, database, new):
            twin = Gateway(signer=gateway.signer, number=9, seq=gateway.seq, previous_hash=gateway.previous_hash)
            answer = Intake(ledger, gateway.signer).submit(twin.wire(2), sender=HERE)
            assert answer.receipt is not None
            other = Gateway(eui=b"\3" * 8, seed=b"more")
            ledger.add_key(other.registration)
            Intake(ledger, gateway.signer).submit(other.wire(1), sender=HERE)
        assert len({str(everything(ledger)["session"]) for ledger in (old, database, new)}) == 1
        ids = [[row["id"] for row in ledger.frames(int(str(after)), 10)] for ledger in (old, database, new)]
        assert ids[0] == ids[1] == ids[2] == [int(str(after)) + 1, int(str(after)) + 2, int(str(after)) + 3]


def test_ids_of_frames_that_are_gone_do_not_come_back(tmp_path: Path, postgres: Cluster) -> None:
    with (
        closing(SqliteLedger(tmp_path)) as old,
        closing(PostgresLedger(postgres.url(postgres.database()))) as database,
    ):
        gateway = Gateway()
        old.add_key(gateway.registration)
        Intake(old, gateway.signer, utc_us=lambda: NOW_US - 5 * WEEK_US).submit(gateway.wire(7), sender=HERE)
        while old.upkeep(NOW_US, 10, 100):
            pass
        assert old.frames(0, 10) == []
        database.take_over(old, "there")
        Intake(database, gateway.signer).submit(gateway.wire(1), sender=HERE)
        assert database.frames(0, 10)[0]["id"] == 8


def test_a_ledger_that_holds_something_is_left_alone(tmp_path: Path, postgres: Cluster) -> None:
    with (
        closing(SqliteLedger(tmp_path)) as old,
        closing(PostgresLedger(postgres.url(postgres.database()))) as database,
    ):
        fill(old)
        database.add_key(Gateway(seed=b"other").registration)
        before = everything(database)
        with pytest.raises(LedgerError) as caught:
            database.take_over(old, "there")
        assert caught.value.code == "CG-LED-011"
        assert everything(database) == before


def test_the_commands_work_on_a_database_while_receivers_run(
    tmp_path: Path, certificates: Certificates, postgres: Cluster
) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "new").mkdir()
    old = platform(tmp_path / "old", certificates)
    url = postgres.url(postgres.database())
    new = platform(tmp_path / "new", certificates, extra=f'[ledger]\nurl = "{url}"\n')
    gateway = Gateway()
    old.json("gateways", "add", gateway.eui.hex(), "--key", gateway.signer.public.text, "--name", "town hall")
    stick = tmp_path / "a.batches"
    stick.write_bytes(gateway.wire() + gateway.wire())
    assert old.json("import", stick)["accepted"] == 2

    with new.process():
        assert new.run("ledger", "copy", old.toml).code == 0
        assert new.run("ledger", "copy", old.toml).code == 1, "it holds a ledger now"
        status = new.json("status")
        assert (status["ok"], status["frames"], status["gateways"]) == (True, 6, 1)
        assert new.json("import", stick)["repeated"] == 2
        assert new.json("gateways", "list")["gateways"][0]["name"] == "town hall"
        with new.client() as client:
            sent = client.post("/v1/batches", content=gateway.wire())
            assert sent.status_code == 200
        second = Gateway(seed=b"second")
        assert new.json("gateways", "rotate", gateway.eui.hex(), "--key", second.signer.public.text)["follows"]
        assert new.run("verify", stick).code == 0
        assert new.json("gateways", "revoke", gateway.eui.hex())["revoked"] == 2
        assert not (new.data_dir / "control.sock").exists()
    assert new.json("status")["frames"] == 9
