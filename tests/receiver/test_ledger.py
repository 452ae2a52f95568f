# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.batch.codec import Sealed
from agent.batch.keys import Ed25519Signer
from agent.batch.model import Account, Anchor, Loss, Reason, TimeSource
from receiver.errors import LedgerError, RegistryError
from receiver.evidence import report
from receiver.intake import Intake
from receiver.ledger.database import FILE_NAME
from receiver.ledger.port import QuarantineLimits
from receiver.ledger.postgres import PostgresLedger
from receiver.ledger.schema import SCHEMA_VERSION
from receiver.ledger.sqlite import SqliteLedger, SqliteReader
from receiver.ledger.writer import LedgerWriter
from tests.receiver.conftest import ENGINES
from tests.receiver.gateway import BOOT_ID, FRAME_INTERVAL_US, Gateway, wire, withdrawn
from tests.receiver.postgres import Cluster, empty, stored, tables_of

BOTH_ENGINES = True
HERE = "test"
UTC_US = 1_790_000_000_000_000
SIGNER = Ed25519Signer.generate()


def anchor(second: int, uncertainty_us: int = 1000, boot_id: bytes = BOOT_ID) -> Anchor:
    at_us = second * FRAME_INTERVAL_US
    return Anchor(boot_id, at_us, UTC_US + at_us, uncertainty_us, TimeSource.KERNEL)


def history(gateway: Gateway) -> list[Sealed]:
    """Eight batches, among them an empty one, anchors, and one that declares 3 and 4 withdrawn."""
    sealed = [gateway.seal(3), gateway.seal(0), gateway.seal(2), gateway.seal(4)]
    sealed.append(gateway.seal(3, anchors=(anchor(9),)))
    # the account of withdrawn batches is in that of the batch with the tombstone
    lost = Account(heard=6 + 6, bad_crc=2, filtered=4, spooled=6, evicted=6)
    own = Account(heard=5, bad_crc=1, filtered=2, spooled=2)
    sealed.append(gateway.seal(2, account=own + lost, tombstones=(withdrawn(sealed[2:4]),)))
    sealed.append(gateway.seal(1, anchors=(anchor(14, 10), anchor(15, 10))))
    sealed.append(gateway.seal(3))
    return sealed


New = Callable[[], AbstractContextManager[LedgerWriter]]

TABLES = {
    "stream": "stream_id, through, hash, frames",
    "account": "heard, bad_crc, filtered, duplicate, spooled, evicted, expired, quarantined, overrun",
    "span": "first, last",
    "batch": "number, hash, previous_hash, first_seq, frame_count, signed_header, health",
    "frame": "seq, boottime_us, counter_us, utc_us, utc_error_us, utc_source, phy_payload",
    "anchor": "number, position, boottime_us, utc_us",
    "tombstone": "number, position, first_number, last_number, last_hash",
    "revision": "session",
    "hour_account": "hour, heard, spooled, evicted, expired, frames",
    "batch_hour": "number, hour, heard, spooled, evicted, expired, frames",
}


def content(ledger: LedgerWriter) -> dict[str, list[tuple[object, ...]]]:
    """Everything that must not depend on the order of arrival."""
    return {
        table: sorted(stored(ledger, f"SELECT {columns} FROM {table}"), key=repr) for table, columns in TABLES.items()
    }


@pytest.fixture(scope="module", params=ENGINES)
def new(request: pytest.FixtureRequest) -> Iterator[New]:
    """Gives empty ledgers, one after the other."""
    if request.param == "sqlite":

        @contextmanager
        def sqlite() -> Iterator[LedgerWriter]:
            with TemporaryDirectory() as folder, closing(SqliteLedger(Path(folder))) as ledger:
                yield ledger

        yield sqlite
        return
    server: Cluster = request.getfixturevalue("postgres")
    with closing(PostgresLedger(server.url(server.database()))) as ledger:

        @contextmanager
        def postgres() -> Iterator[LedgerWriter]:
            empty(ledger)
            yield ledger

        yield postgres


@contextmanager
def filled(new: New, gateway: Gateway, sent: list[bytes]) -> Iterator[LedgerWriter]:
    with new() as ledger:
        ledger.add_key(gateway.registration)
        intake = Intake(ledger, SIGNER)
        for batch in sent:
            assert intake.submit(batch, sender=HERE).refusal is None
        while ledger.revise(5):
            pass
        yield ledger


GATEWAY = Gateway()
SEALED = history(GATEWAY)
WIRES = [wire(sealed) for sealed in SEALED]
NEVER_SENT = {2, 3}


@given(data=st.data())
@settings(max_examples=20, deadline=None)
def test_any_order_and_repetition_ends_in_the_same_ledger(new: New, data: st.DataObject) -> None:
    travelling = [number for number in range(8) if number not in NEVER_SENT]
    repeated = data.draw(st.lists(st.sampled_from(travelling), max_size=6))
    order = data.draw(st.permutations(travelling + repeated))
    with filled(new, GATEWAY, [WIRES[number] for number in travelling]) as straight:
        expected = content(straight)
    with filled(new, GATEWAY, [WIRES[number] for number in order]) as ledger:
        assert content(ledger) == expected
        (summary,) = ledger.streams()
        assert (summary.through, summary.frames, summary.missing) == (8, 12, ())
        checked = report(ledger, summary)
        assert checked.ok
        assert checked.frames_waiting == 0


@given(order=st.permutations(range(8)))
@settings(max_examples=15, deadline=None)
def test_withdrawn_batches_that_arrive_all_the_same_count_once_as_delivered(new: New, order: list[int]) -> None:
    with filled(new, GATEWAY, [WIRES[number] for number in order]) as ledger:
        (summary,) = ledger.streams()
        assert (summary.through, summary.frames) == (8, 18)
        assert summary.account.spooled == 18
        assert summary.account.evicted == 0
        assert report(ledger, summary).ok


@given(order=st.permutations(range(8)), count=st.integers(0, 8))
@settings(max_examples=15, deadline=None)
def test_through_never_passes_a_hole(new: New, order: list[int], count: int) -> None:
    arrived = set(order[:count])
    with filled(new, GATEWAY, [WIRES[number] for number in order[:count]]) as ledger:
        state = ledger.state(GATEWAY.stream_id, 64)
        there = arrived | (NEVER_SENT if 5 in arrived else set())
        through = next((number for number in range(8) if number not in there), 8)
        assert state.through == through
        assert state.hash == (SEALED[through - 1].hash if through else bytes(32))
        beyond = {number for first, last in state.beyond for number in range(first - 1, last)}
        assert beyond == {number for number in there if number > through}


def test_a_tombstone_that_lies_is_refused(ledger: LedgerWriter, intake: Intake, gateway: Gateway) -> None:
    first, second, third = gateway.seal(), gateway.seal(), gateway.seal()
    for sealed in (first, second, third):
        intake.submit(wire(sealed), sender=HERE)
    good = withdrawn([second, third])
    for bad in (
        replace(good, last_hash=first.hash),  # joins the chain to another batch
        replace(good, last_number=2),  # names another hash than that of the committed batch 2
        replace(good, last_number=9),  # ahead of its own batch
        replace(good, last_hash=bytes(32)),
    ):
        liar = Gateway(signer=gateway.signer, number=3, seq=gateway.seq, previous_hash=gateway.previous_hash)
        answer = intake.submit(wire(liar.seal(1, tombstones=(bad,))), sender=HERE)
        assert answer.refusal is not None
        assert answer.refusal.reason is Reason.BROKEN_CHAIN
    assert intake.submit(wire(gateway.seal(1, tombstones=(good,))), sender=HERE).refusal is None
    twice = intake.submit(wire(gateway.seal(1, tombstones=(good,))), sender=HERE)
    assert twice.refusal is not None
    assert "overlaps" in twice.refusal.detail


def test_expired_frames_that_arrive_leave_the_other_bucket(
    ledger: LedgerWriter, intake: Intake, gateway: Gateway
) -> None:
    lost = gateway.seal(4)
    account = Account(heard=8, bad_crc=1, filtered=2, spooled=5, expired=4)
    late = gateway.seal(1, account=account, tombstones=(withdrawn([lost], Loss.EXPIRED),))
    intake.submit(wire(late), sender=HERE)
    assert ledger.streams()[0].account.expired == 4
    assert ledger.state(gateway.stream_id, 9).through == 2
    intake.submit(wire(lost), sender=HERE)
    assert ledger.streams()[0].account == Account(heard=8, bad_crc=1, filtered=2, spooled=5)


def test_times_get_better_when_anchors_come(ledger: LedgerWriter, intake: Intake, gateway: Gateway) -> None:
    intake.submit(gateway.wire(10), sender=HERE)
    assert {row["utc_us"] for row in ledger.frames(0, 100)} == {None}
    assert not ledger.revise(100), "without an anchor there is nothing to do"
    intake.submit(wire(gateway.seal(2, anchors=(anchor(12, 5000),))), sender=HERE)
    rounds = 1
    while ledger.revise(3):
        rounds += 1
    assert rounds >= 4, "portions were asked for"
    rows = ledger.frames(0, 100)
    assert all(row["utc_us"] == UTC_US + int(str(row["boottime_us"])) for row in rows)
    coarse = [int(str(row["utc_error_us"])) for row in rows]
    assert coarse == [5000 + 50 * (12 - second) for second in range(1, 13)], "50 ppm away from the anchor"
    intake.submit(wire(gateway.seal(0, anchors=(anchor(1, 1),))), sender=HERE)
    while ledger.revise(3):
        pass
    fine = [int(str(row["utc_error_us"])) for row in ledger.frames(0, 100)]
    assert fine[0] == 1
    assert all(new < old for new, old in zip(fine[:-1], coarse[:-1], strict=True))
    assert {row["utc_source"] for row in ledger.frames(0, 100)} == {"kernel"}


def test_an_anchor_says_nothing_about_another_boot(ledger: LedgerWriter, intake: Intake, gateway: Gateway) -> None:
    intake.submit(wire(gateway.seal(2, boot_id=b"\7" * 16)), sender=HERE)
    intake.submit(wire(gateway.seal(2, anchors=(anchor(3),))), sender=HERE)
    while ledger.revise(10):
        pass
    assert [row["utc_us"] is None for row in ledger.frames(0, 10)] == [True, True, False, False]


def test_a_key_belongs_to_one_gateway_and_stays_revoked(ledger: LedgerWriter, gateway: Gateway) -> None:
    assert not ledger.add_key(gateway.registration)
    other = Gateway(eui=b"\1" * 8, signer=gateway.signer)
    with pytest.raises(RegistryError, match="registered for gateway"):
        ledger.add_key(other.registration)
    second = Gateway()  # a second key of the same gateway
    assert ledger.add_key(second.registration)
    assert ledger.revoke(gateway.eui, second.signer.kid, 5) == 1
    assert [key.revoked_us for key in ledger.registry() if key.kid == gateway.signer.kid] == [None]
    with pytest.raises(RegistryError, match="revoked"):
        ledger.add_key(second.registration)


def test_only_one_process_writes(tmp_path: Path) -> None:
    with closing(SqliteLedger(tmp_path)), pytest.raises(LedgerError) as caught:
        SqliteLedger(tmp_path)
    assert caught.value.code == "CG-LED-001"
    SqliteLedger(tmp_path).close()


def test_a_ledger_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    SqliteLedger(tmp_path).close()
    path = tmp_path / FILE_NAME
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 99")
    before = path.read_bytes()
    for opening in (lambda: SqliteLedger(tmp_path), lambda: SqliteReader(path).streams()):
        with pytest.raises(LedgerError) as caught:
            opening()
        assert caught.value.code == "CG-LED-006"
        assert "version 99" in str(caught.value)
    assert path.read_bytes() == before


def test_the_version_is_in_the_file_itself_while_the_receiver_runs(tmp_path: Path) -> None:
    """The installer of an older package looks at these bytes alone."""
    with closing(SqliteLedger(tmp_path)):
        assert int.from_bytes((tmp_path / FILE_NAME).read_bytes()[60:64]) == SCHEMA_VERSION


@pytest.mark.parametrize("make", ["other program", "garbage"])
def test_a_file_that_is_no_ledger_is_left_alone(make: str, tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    if make == "garbage":
        path.write_bytes(b"not a database at all, but long enough to look at\n" * 40)
    else:
        with closing(sqlite3.connect(path)) as db:
            db.execute("CREATE TABLE theirs (x)")
    before = path.read_bytes()
    with pytest.raises(LedgerError) as caught:
        SqliteLedger(tmp_path)
    assert caught.value.code == "CG-LED-004"
    assert path.read_bytes() == before


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LedgerError) as caught:
        SqliteLedger(tmp_path / "file" / "data")
    assert caught.value.code == "CG-LED-002"
    assert str(tmp_path / "file" / "data") in str(caught.value)


def test_a_full_disk_costs_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    """The disk is a file size limit of a child process: every write position beyond it fails."""
    script = """
import resource, sys
from pathlib import Path
from receiver.errors import LedgerError
from receiver.intake import Intake
from receiver.ledger.sqlite import SqliteLedger
from tests.receiver.gateway import Gateway
from agent.batch.keys import Ed25519Signer
import signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
ledger = SqliteLedger(Path(sys.argv[1]))
gateway = Gateway()
ledger.add_key(gateway.registration)
intake = Intake(ledger, Ed25519Signer.generate())
resource.setrlimit(resource.RLIMIT_FSIZE, (700_000, resource.RLIM_INFINITY))
accepted = 0
while True:
    sent = gateway.wire(200)
    try:
        intake.submit(sent, sender="test")
    except LedgerError as error:
        assert error.retryable and error.code == "CG-LED-003", error.code
        break
    accepted += 1
assert accepted > 1
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
assert intake.submit(sent, sender="test").receipt.through == accepted + 1
ledger.close()
print(accepted + 1)
"""
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    with closing(SqliteReader(tmp_path / FILE_NAME)) as ledger:
        (summary,) = ledger.streams()
        assert summary.through == int(done.stdout)
        assert report(ledger, summary).ok


def test_quarantine_limits_of_nothing_keep_nothing(tmp_path: Path) -> None:
    with closing(SqliteLedger(tmp_path, QuarantineLimits(batches=0, bytes=0))) as ledger:
        Intake(ledger, SIGNER).submit(Gateway().wire(), sender=HERE)
        assert ledger.quarantined() == (0, 0)
        assert len(ledger.alarms()) == 1


def test_the_documented_columns_are_those_of_the_view(ledger: LedgerWriter, intake: Intake, gateway: Gateway) -> None:
    intake.submit(gateway.wire(1), sender=HERE)
    text = (Path(__file__).parents[2] / "docs" / "receiver-schema.md").read_text()
    section = text.partition("## `reception`")[2].partition("\n## ")[0]
    documented = [line.split("`")[1] for line in section.splitlines() if line.startswith("| `")]
    assert documented == list(ledger.frames(0, 1)[0])
    behind = text.partition("## What stands behind it")[2]
    assert all(f"`{name}`" in behind for (name,) in stored(ledger, tables_of(ledger)) if "_2" not in str(name))
