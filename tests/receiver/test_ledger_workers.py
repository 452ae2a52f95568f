# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Several receivers on one PostgreSQL database, and a server that fails them."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import psycopg
import pytest

from agent.batch.keys import Ed25519Signer
from agent.batch.model import Anchor, Reason, TimeSource
from receiver.errors import LedgerError
from receiver.evidence import report
from receiver.intake import Intake
from receiver.ledger import server
from receiver.ledger.postgres import PostgresLedger, PostgresReader
from receiver.ledger.server import Connection
from tests.receiver.gateway import BOOT_ID, FRAME_INTERVAL_US, Gateway, wire
from tests.receiver.postgres import Cluster, cluster, stored, until

HERE = "test"
SIGNER = Ed25519Signer.generate()
LIMIT_S = 60.0


@dataclass
class Workers:
    """Some receivers, each with connections of its own, as in processes of their own."""

    url: str
    ledgers: list[PostgresLedger]
    intakes: list[Intake] = field(init=False)

    def __post_init__(self) -> None:
        self.intakes = [Intake(ledger, SIGNER) for ledger in self.ledgers]

    @property
    def first(self) -> PostgresLedger:
        return self.ledgers[0]


@pytest.fixture
def workers(postgres: Cluster) -> Iterator[Workers]:
    url = postgres.url(postgres.database())
    with ExitStack() as stack:
        yield Workers(url, [stack.enter_context(closing(PostgresLedger(url))) for _ in range(3)])


def gateways(workers: Workers, number: int) -> list[Gateway]:
    made = [Gateway(eui=bytes([2, index] + 6 * [0]), seed=bytes([index])) for index in range(number)]
    for gateway in made:
        workers.first.add_key(gateway.registration)
    return made


def all_at_once(workers: Workers, sent: list[bytes], chance: random.Random) -> None:
    """Give batches to whichever worker, six at a time."""
    with ThreadPoolExecutor(6) as pool:
        for answer in pool.map(lambda batch: chance.choice(workers.intakes).submit(batch, sender=HERE), sent):
            assert answer.refusal is None


def assert_exactly(ledger: PostgresLedger, made: list[Gateway]) -> None:
    """Everything that was sealed is there, once, and verifies."""
    summaries = {summary.stream_id: summary for summary in ledger.streams()}
    for gateway in made:
        summary = summaries[gateway.stream_id]
        assert (summary.through, summary.frames, summary.missing) == (gateway.number, gateway.seq - 1, ())
        assert report(ledger, summary).ok
    rows = stored(ledger, "SELECT stream, seq FROM frame")
    assert len(rows) == len(set(rows)) == sum(gateway.seq - 1 for gateway in made)


def test_batches_of_one_stream_at_different_workers_are_judged_one_after_the_other(workers: Workers) -> None:
    chance = random.Random(1)
    (gateway,) = gateways(workers, 1)
    sent = [wire(gateway.seal(chance.randrange(4))) for _ in range(60)]
    sent += chance.sample(sent, 20)
    chance.shuffle(sent)
    all_at_once(workers, sent, chance)
    assert_exactly(workers.first, [gateway])


def test_two_histories_that_come_at_the_same_moment_are_told_apart(workers: Workers) -> None:
    """Batch 2 of one history and batch 3 of another, each good by itself: only one of them can be the stream's."""
    for gateway in gateways(workers, 12):
        assert workers.intakes[0].submit(gateway.wire(), sender=HERE).receipt is not None
        other = replace(gateway)
        second = gateway.wire(1)
        other.seal(2)
        third = other.wire(1)
        together = threading.Barrier(2)

        def submit(intake: Intake, batch: bytes, together: threading.Barrier = together) -> bool:
            together.wait(LIMIT_S)
            return intake.submit(batch, sender=HERE).receipt is not None

        with ThreadPoolExecutor(2) as pool:
            taken = list(pool.map(submit, workers.intakes, (second, third)))
        assert sorted(taken) == [False, True]


def test_many_gateways_at_many_workers(workers: Workers) -> None:
    chance = random.Random(2)
    made = gateways(workers, 12)
    sent = [wire(chance.choice(made).seal(3)) for _ in range(150)]
    chance.shuffle(sent)
    all_at_once(workers, sent, chance)
    assert_exactly(workers.first, made)


def test_streams_of_one_gateway_share_its_times(workers: Workers) -> None:
    """Anchors come at one worker while frames of the same boot come at others: none stays without its time."""
    chance = random.Random(3)
    streams = [Gateway(seed=bytes([index])) for index in range(4)]
    for stream in streams:
        workers.first.add_key(stream.registration)
    sent = []
    for _ in range(40):
        stream, at_us = chance.choice(streams), chance.randrange(1, 40) * FRAME_INTERVAL_US
        anchors = (Anchor(BOOT_ID, at_us, 1_790_000_000_000_000 + at_us, 1000, TimeSource.KERNEL),)
        sent.append(wire(stream.seal(2, anchors=anchors if chance.random() < 0.3 else ())))
    with ThreadPoolExecutor(1) as pool:
        stop = threading.Event()

        def revise() -> None:
            while not stop.is_set():
                workers.ledgers[2].revise(3)

        done = pool.submit(revise)
        all_at_once(workers, sent, chance)
        stop.set()
        done.result(LIMIT_S)
    while workers.first.revise(100):
        pass
    before = stored(workers.first, "SELECT id, utc_us, utc_error_us FROM frame ORDER BY id")
    assert all(utc_us is not None for _, utc_us, _ in before)
    # what the ledger holds decides, not who came when: all estimated anew, nothing changes
    workers.first._change(
        lambda db: db.execute(
            "INSERT INTO revision SELECT id, 0, 0, 1000000000000 FROM session ON CONFLICT (session) DO NOTHING"
        )
    )
    while workers.first.revise(100):
        pass
    assert stored(workers.first, "SELECT id, utc_us, utc_error_us FROM frame ORDER BY id") == before


def test_who_reads_on_from_the_last_id_misses_nothing(workers: Workers) -> None:
    made = gateways(workers, 6)
    sent = [wire(gateway.seal(5)) for _ in range(25) for gateway in made]
    seen: list[int] = []
    with ThreadPoolExecutor(1) as pool:
        stop = threading.Event()

        def read() -> None:
            while True:
                last = stop.is_set()
                rows = workers.ledgers[1].frames(seen[-1] if seen else 0, 1000)
                seen.extend(int(str(row["id"])) for row in rows)
                if last and not rows:
                    return

        reading = pool.submit(read)
        all_at_once(workers, sent, random.Random(4))
        stop.set()
        reading.result(LIMIT_S)
    assert len(seen) == sum(gateway.seq - 1 for gateway in made)
    assert seen == sorted(set(seen))


def test_an_alarm_that_several_workers_raise_is_one(workers: Workers) -> None:
    stranger = Gateway().wire()
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda number: workers.intakes[number % 3].submit(stranger, sender=HERE), range(18)))
    assert {answer.refusal.reason for answer in answers if answer.refusal} == {Reason.UNKNOWN_KEY}
    (alarm,) = workers.first.alarms()
    assert alarm.count == 18
    assert workers.first.quarantined()[0] == 1


def test_a_key_that_one_worker_revokes_is_refused_by_the_others(workers: Workers) -> None:
    (gateway,) = gateways(workers, 1)
    assert workers.intakes[1].submit(gateway.wire(), sender=HERE).receipt is not None
    workers.first.revoke(gateway.eui, None, 5)
    for intake in workers.intakes:
        refusal = intake.submit(gateway.wire(), sender=HERE).refusal
        assert refusal is not None
        assert refusal.reason is Reason.REVOKED_KEY


def test_workers_that_start_together_make_one_ledger(postgres: Cluster) -> None:
    url = postgres.url(postgres.database())
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: PostgresLedger(url), range(4)))
    assert made[3].streams() == []
    for ledger in made:
        ledger.close()


# -- a server that fails


def test_a_commit_that_nobody_heard_of_gives_no_receipt_and_the_repeat_does(
    workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    (gateway,) = gateways(workers, 1)
    workers.intakes[0].submit(gateway.wire(), sender=HERE)
    sent = gateway.wire()
    commit = Connection.commit

    def cut(connection: Connection, *, reached: bool) -> None:
        if reached:
            commit(connection)
        connection.raw.close()
        raise psycopg.OperationalError("server closed the connection unexpectedly")

    for reached in (False, True):
        monkeypatch.setattr(Connection, "commit", lambda connection, reached=reached: cut(connection, reached=reached))
        with pytest.raises(LedgerError) as caught:
            workers.intakes[0].submit(sent, sender=HERE)
        assert caught.value.retryable
        monkeypatch.setattr(Connection, "commit", commit)
        assert workers.ledgers[1].state(gateway.stream_id, 1).through == 1 + int(reached), "nothing is half committed"
    again = workers.intakes[1].submit(sent, sender=HERE)
    assert again.repeat
    assert_exactly(workers.first, [gateway])


def test_idle_connections_that_the_server_ended_are_made_anew(workers: Workers, postgres: Cluster) -> None:
    (gateway,) = gateways(workers, 1)
    workers.intakes[0].submit(gateway.wire(), sender=HERE)
    with postgres.connect("postgres") as db:
        db.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname LIKE 'test%'")
        until(lambda: not db.execute("SELECT 1 FROM pg_stat_activity WHERE datname LIKE 'test%'").fetchall())
    for intake in workers.intakes:
        assert intake.submit(gateway.wire(), sender=HERE).receipt is not None
    assert_exactly(workers.first, [gateway])


@pytest.mark.timeout(300)
def test_a_server_that_is_killed_again_and_again_loses_and_doubles_nothing() -> None:
    """SIGKILL of the postmaster and of single backends while batches come; every receipt is held against the end."""
    chance = random.Random(5)
    with cluster(durable=True) as killed, ExitStack() as stack:
        name = killed.database()
        url = killed.url(name)
        ledgers = [stack.enter_context(closing(PostgresLedger(url))) for _ in range(2)]
        workers = Workers(url, ledgers)
        made = gateways(workers, 4)
        stop = threading.Event()
        promised: dict[bytes, int] = {}

        def deliver(gateway: Gateway) -> int:
            """Send batch after batch, each until there is a receipt; return how often there was none."""
            failures = 0
            while not stop.is_set():
                batch = wire(gateway.seal(3))
                while True:
                    try:
                        answer = chance.choice(workers.intakes).submit(batch, sender=HERE)
                    except LedgerError as error:
                        if not error.retryable:
                            raise
                        failures += 1
                        stop.wait(0.01)
                        continue
                    assert answer.receipt is not None
                    promised[gateway.stream_id] = answer.receipt.through
                    break
            return failures

        with ThreadPoolExecutor(len(made)) as pool:
            deliveries = [pool.submit(deliver, gateway) for gateway in made]
            for kill in ("backend", "server", "backend", "server"):
                before = sum(promised.values())
                until(lambda before=before: sum(promised.values()) > before + 8)  # type: ignore[misc]
                if kill == "backend":
                    killed.kill_backend(name)
                else:
                    killed.kill()
                    killed.start()
            before = sum(promised.values())
            until(lambda: sum(promised.values()) > before)
            stop.set()
            failures = sum(delivery.result(LIMIT_S) for delivery in deliveries)
        assert failures, "the kills hit nothing"
        for gateway in made:
            assert promised[gateway.stream_id] == gateway.number
        assert_exactly(ledgers[0], made)


def test_a_newer_schema_stops_every_program(workers: Workers) -> None:
    (gateway,) = gateways(workers, 1)
    with psycopg.connect(workers.url, autocommit=True) as db:
        db.execute("UPDATE schema_version SET version = 99")
    openings: list[Callable[[], object]] = [
        lambda: PostgresLedger(workers.url, patient=True),
        lambda: PostgresReader(workers.url).streams(),
        lambda: workers.intakes[0].submit(gateway.wire(), sender=HERE),  # runs already
    ]
    for opening in openings:
        with pytest.raises(LedgerError) as caught:
            opening()
        assert caught.value.code == "CG-LED-006"
        assert "version 99" in str(caught.value)
    assert stored(workers.first, "SELECT count(*) FROM batch") == [(0,)]


def test_a_database_of_another_program_is_left_alone(postgres: Cluster) -> None:
    name = postgres.database()
    with postgres.connect(name) as db:
        db.execute("CREATE TABLE gateway (theirs integer)")
    with pytest.raises(LedgerError) as caught:
        PostgresLedger(postgres.url(name))
    assert caught.value.code == "CG-LED-004"
    with postgres.connect(name) as db:
        assert db.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall() == [("gateway",)]


def test_a_reader_makes_nothing(postgres: Cluster) -> None:
    reader = PostgresReader(postgres.url(postgres.database()))
    with pytest.raises(LedgerError) as caught:
        reader.streams()
    assert caught.value.code == "CG-LED-005"


def test_a_server_out_of_reach_is_waited_for(tmp_path: Path) -> None:
    url = f"postgresql://civigate@/ledger?host={tmp_path}"
    with pytest.raises(LedgerError) as caught:
        PostgresLedger(url)
    assert (caught.value.code, caught.value.retryable) == ("CG-LED-007", True)
    assert "\n" not in str(caught.value)
    with closing(PostgresLedger(url, patient=True)) as ledger, pytest.raises(LedgerError):
        Intake(ledger, SIGNER).submit(Gateway().wire(), sender=HERE)


def test_commits_wait_for_the_disk_whatever_the_role_says(postgres: Cluster) -> None:
    name = postgres.database()
    with postgres.connect(name) as db:
        for setting in ("off", "local", "remote_apply"):
            db.execute(f"ALTER DATABASE {name} SET synchronous_commit = {setting}".encode())
            with closing(server.connect(postgres.url(name))) as connection:
                (value,) = connection.execute("SHOW synchronous_commit").fetchone()
            assert value == ("remote_apply" if setting == "remote_apply" else "on")


def test_an_address_for_people_shows_no_more_than_the_place() -> None:
    assert server.place_of("postgresql://me:secret@h1:5433/town?sslpassword=secret") == "postgresql h1/town"
