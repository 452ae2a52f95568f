# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Quota and failing disks: named, counted, survived."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from agent.batch.model import Account, Loss, Reason, Refusal
from agent.spool import ballast, pending
from agent.spool import writer as writers
from agent.spool.condition import WriterState
from agent.spool.orders import Policy
from agent.spool.writer import SpoolWriter, check
from tests.agent.spool.gateway import CITY, EUI, POLICY, SIGNER, WATER, Platform, frame, heard, wait_for, writer

SMALL = Policy(batch_frames=100, batch_age_s=3600.0, quota_bytes=1 << 20)


def test_over_the_quota_the_oldest_unsealed_frames_go_with_a_tombstone(tmp_path: Path) -> None:
    total = 20_000
    platform = Platform()
    with writer(tmp_path, policy=SMALL) as spool, spool.reader() as reader:
        for start in range(0, total, 100):
            wait_for(lambda: spool.status().queued_frames < 2000)
            assert spool.offer(heard([frame(index) for index in range(start, start + 100)]))
        wait_for(lambda: spool.status().queued_frames == 0)
        assert spool.status().state is WriterState.OK
        assert (tmp_path / "spool.db").stat().st_size <= 1 << 20
        status = reader.status().streams[0]
        assert status.account.evicted > total // 2
        assert reader.check() == []
        # what was sealed when the outage began is still there, then comes the declared gap, then the newest
        for _ in range(200):
            if not platform.collect(reader):
                break
            spool.receipt(platform.receipt(status.stream_id))
            assert spool.flush()
        frames = platform.frames()
        stones = [stone for opened in platform.batches.values() for stone in opened.body.tombstones]
        assert {stone.reason for stone in stones} == {Loss.EVICTED}
        assert len(frames) + sum(stone.count for stone in stones) == total
        assert frames[:100] == [frame(index) for index in range(100)]
        assert frames[-1000:] == [frame(index) for index in range(total - 1000, total)]
        account = platform.account()
        assert account == Account(heard=total, spooled=total, evicted=total - len(frames))
        assert reader.status().frames == 0
    assert check(tmp_path / "spool.db") == []


def test_what_the_platform_has_refused_goes_first_and_the_chain_closes_over_it(tmp_path: Path) -> None:
    platform = Platform()
    with writer(tmp_path, policy=SMALL) as spool, spool.reader() as reader:
        spool.offer(heard([frame(index) for index in range(300)]))
        assert spool.flush()
        head = reader.head("city")
        refused = reader.unacknowledged("city", 1, 1)[0]
        refusal = Refusal(head.stream_id, 2, refused.hash, Reason.MALFORMED, "", 1)
        spool.refusal(head.stream_id, 2, refusal)
        for start in range(300, 12_000, 100):
            wait_for(lambda: spool.status().queued_frames < 2000)
            spool.offer(heard([frame(index) for index in range(start, start + 100)]))
        for _ in range(200):
            assert spool.flush()
            if not platform.collect(reader):
                break
            spool.receipt(platform.receipt(head.stream_id))
        stones = [stone for opened in platform.batches.values() for stone in opened.body.tombstones]
        assert [(s.first_number, s.count) for s in stones if s.first_number] == [(2, 100)]
        account = platform.account()
        assert account.quarantined == 100
        assert len(platform.frames()) == account.spooled - account.evicted - account.quarantined
        assert platform.receipt(head.stream_id).beyond == ()  # the tombstone joins the chain
        assert reader.head("city").through == reader.head("city").newest
        assert reader.check() == []


def test_the_stream_that_waits_most_gives_way(tmp_path: Path) -> None:
    with writer(tmp_path, (CITY, WATER), policy=SMALL) as spool, spool.reader() as reader:
        water = Platform()
        for start in range(0, 12_000, 100):
            spool.offer(heard([frame(i) for i in range(start, start + 100)], [1] * 90 + [2] * 10, destinations=2))
            wait_for(lambda: spool.status().queued_frames == 0)
            if water.collect(reader, "water"):
                spool.receipt(water.receipt(reader.head("water").stream_id))
        assert spool.flush()
        city, quiet = reader.status().streams
        assert city.account.evicted > 1000
        assert quiet.account.evicted == 0
        assert reader.check() == []


def test_when_everything_is_sealed_the_writer_says_full_and_recovers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A quota lowered below what is sealed: nothing may be evicted, so the writer waits with its state in the open."""
    monkeypatch.setattr(pending, "QUEUE_FRAMES", 600)
    platform = Platform()
    with writer(tmp_path, policy=Policy(100, 3600.0, 8 << 20)) as spool:
        for start in range(0, 12_000, 100):
            wait_for(lambda: spool.status().queued_frames < 400)
            spool.offer(heard([frame(index) for index in range(start, start + 100)]))
        assert spool.flush()
    count = 12_000
    with writer(tmp_path, policy=SMALL) as spool, spool.reader() as reader:
        shed = 0
        while spool.status().state is not WriterState.FULL or shed < 3:
            if spool.offer(heard([frame(count + index) for index in range(100)])):
                count += 100
            else:
                shed += 1
            assert count < 30_000
        status = spool.status()
        assert "quota_mb" in status.detail
        assert status.queued_frames > 0
        for _ in range(300):
            if not platform.collect(reader):
                if spool.status().queued_frames == 0:
                    break
                spool.flush(1.0)
                continue
            spool.receipt(platform.receipt(reader.head("city").stream_id))
            wait_for(lambda: reader.head("city").through == len(platform.batches))
            spool.flush(1.0)
        assert spool.status().state is WriterState.OK
        assert spool.offer(heard([frame(count)]))
        assert spool.flush()
        platform.collect(reader)
        assert platform.frames() == [frame(index) for index in range(count + 1)]
        assert platform.account().overrun == spool.status().shed_frames == shed * 100
        assert reader.check() == []


def test_errors_of_the_disk_are_a_state_and_cost_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writers, "RETRY_S", (0.005,))
    monkeypatch.setattr(ballast, "PATIENT_REFUSALS", 1 << 30)  # this disk is not full
    names = ["SQLITE_IOERR_WRITE", "SQLITE_FULL", "SQLITE_READONLY", "SQLITE_BUSY", "SQLITE_CANTOPEN"]
    states = [WriterState.FAILING, WriterState.FULL, WriterState.READ_ONLY, WriterState.LOCKED, WriterState.READ_ONLY]
    platform = Platform()
    with writer(tmp_path) as spool, spool.reader() as reader:
        apply = spool._engine.apply
        for index, (name, expected) in enumerate(zip(names, states, strict=True)):
            broken = [True]

            def fail(*args: object, name: str = name, broken: list[bool] = broken, **more: object) -> object:
                if broken:
                    error = sqlite3.OperationalError("as if")
                    error.sqlite_errorname = name
                    raise error
                return apply(*args, **more)  # type: ignore[arg-type]  # handed through

            monkeypatch.setattr(spool._engine, "apply", fail)
            assert spool.offer(heard([frame(index)]))
            wait_for(lambda expected=expected: spool.status().state is expected)  # type: ignore[misc]  # bound now
            assert "CG-SPL-" in spool.status().detail
            assert spool.status().queued_frames == 1
            broken.clear()
            wait_for(lambda: spool.status().state is WriterState.OK and spool.status().queued_frames == 0)
        assert spool.flush()
        platform.collect(reader)
        assert platform.frames() == [frame(index) for index in range(len(names))]


def test_a_vanished_folder_is_waited_for_and_never_replaced_by_an_empty_spool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writers, "RETRY_S", (0.005,))
    card, elsewhere = tmp_path / "card", tmp_path / "elsewhere"
    card.mkdir()
    (tmp_path / "run").mkdir()
    spool = SpoolWriter(
        card / "spool.db",
        journal_folder=tmp_path / "run",
        destinations=(CITY,),
        policy=POLICY,
        signer=SIGNER,
        gateway_eui=EUI,
        commit_window_s=0.0,
    )
    with spool:
        spool.offer(heard([frame(0)]))
        wait_for(lambda: spool.status().queued_frames == 0)
        check = spool._check_place

        def pulled() -> None:
            # what the kernel does when the card is pulled: all on it fails; in the one thread that may close it
            if elsewhere.exists():
                spool._connection.close()
            check()

        monkeypatch.setattr(spool, "_check_place", pulled)
        card.rename(elsewhere)
        spool.offer(heard([frame(1)]))
        wait_for(lambda: spool.status().state is WriterState.MISSING)
        card.mkdir()  # the bare mount point
        failures = spool.status().failures
        wait_for(lambda: spool.status().failures > failures + 2)
        assert spool.status().state is WriterState.MISSING
        assert not any(card.iterdir())
        card.rmdir()
        elsewhere.rename(card)
        wait_for(lambda: spool.status().state is WriterState.OK and spool.status().queued_frames == 0)
        with spool.reader() as reader:
            assert [stored.frame for stored in reader.frames()] == [frame(0), frame(1)]


def test_a_stop_while_the_disk_fails_leaves_the_frames_to_the_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = writer(tmp_path)
    spool.start()

    def fail(*_: object, **__: object) -> object:
        raise sqlite3.OperationalError("as if")

    monkeypatch.setattr(spool._engine, "apply", fail)
    spool.offer(heard([frame(0)]))
    assert not spool.stop()
    with writer(tmp_path) as again, again.reader() as reader:
        assert again.flush()
        assert Platform().collect(reader)[0].body.frames == (frame(0),)


def test_a_full_disk_blocks_and_frees_by_itself(tmp_path: Path) -> None:
    """The pages that SQLite may use run out in the middle of transactions, at every possible place."""
    platform = Platform()
    with writer(tmp_path, policy=Policy(20, 3600.0, 64 << 20)) as spool, spool.reader() as reader:
        connection = spool._connection
        taken = 0
        for extra in range(12):
            wait_for(lambda: spool.status().queued_frames == 0 and spool.status().state is WriterState.OK)
            pages = connection.execute("PRAGMA page_count").fetchone()[0]
            connection.execute(f"PRAGMA max_page_count = {pages + extra}")
            while spool.status().state is not WriterState.FULL and extra < 12:
                spool.offer(heard([frame(taken + index) for index in range(40)]))
                taken += 40
                wait_for(lambda: spool.status().queued_frames == 0 or spool.status().state is WriterState.FULL)
            # the next try opens the file anew, with the quota of the configuration
            wait_for(lambda: spool.status().state is WriterState.OK)
            connection = spool._connection
        assert spool.flush()
        platform.collect(reader)
        assert platform.frames() == [frame(index) for index in range(taken)]
        assert spool.status().failures >= 12
        assert reader.check() == []


def in_a_mount_namespace(program: str, folder: Path) -> str:
    """Run a program of this package where it may mount; return what it printed."""
    space = ("unshare", "--user", "--map-root-user", "--mount")
    if subprocess.run([*space, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no user namespaces here: nothing can be mounted")
    done = subprocess.run(
        [*space, sys.executable, "-m", f"tests.agent.spool.{program}", str(folder)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_disk_that_is_full_at_every_position_is_survived(tmp_path: Path) -> None:
    """On a file system of its own; see the program. The room of the ballast is enough for all that comes at first."""
    evictions = json.loads(in_a_mount_namespace("crowded", tmp_path))
    assert len(evictions["modest"]) > 40
    assert set(evictions["modest"].values()) == {0}
    assert len(evictions["greedy"]) == 10


def test_a_file_system_that_is_unmounted_under_the_writer_is_waited_for(tmp_path: Path) -> None:
    """See the program."""
    in_a_mount_namespace("unmounted", tmp_path)
