# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The look at the sums while the agent runs: what does not match has a name, damage is dealt with, nothing stops."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.batch.model import Account
from agent.spool import writer as writers
from agent.spool.condition import WriterState
from agent.spool.orders import Destination, Policy
from agent.spool.state import EARLIER
from agent.spool.store import PAGE_BYTES
from tests.agent.spool.gateway import Platform, frame, heard, wait_for, writer

LIMIT_S = 60.0


def test_sums_that_do_not_match_are_a_state_and_everything_goes_on(tmp_path: Path) -> None:
    with writer(tmp_path) as spool, spool.reader() as reader:
        spool.offer(heard([frame(index) for index in range(10)]))
        assert spool.flush()
        spool.audit()
        assert spool.status().state is WriterState.OK
        stream = spool._engine.state.open_streams()[0]
        stream.settle(EARLIER, Account(heard=1, spooled=1))  # as a defect would
        spool.offer(heard([frame(index) for index in range(10, 20)]))
        assert spool.flush()
        spool.audit()
        wait_for(lambda: spool.status().state is WriterState.UNBALANCED, LIMIT_S)
        assert "spooled 21, but delivered 0 + waiting 20" in spool.status().detail
        spool.offer(heard([frame(20)]))
        assert spool.flush()
        platform = Platform()
        platform.collect(reader)
        assert len(platform.frames()) == 21


def test_damage_found_while_the_agent_runs_is_salvaged_and_the_agent_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writers, "RETRY_S", (0.005,))
    frames = [frame(index) for index in range(400)]
    with writer(tmp_path, policy=Policy(4096, 3600.0, 64 << 20)) as spool:
        for start in range(0, 400, 40):
            spool.offer(heard(frames[start : start + 40]))
            wait_for(lambda: spool.status().queued_frames == 0, LIMIT_S)
        spool._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        spool._connection.execute("PRAGMA shrink_memory")
        path = tmp_path / "spool.db"
        data = path.read_bytes()
        page = data.index(frames[200].phy_payload) // PAGE_BYTES
        with path.open("r+b") as file:
            file.seek(page * PAGE_BYTES)
            file.write(bytes(PAGE_BYTES))
        spool.audit()
        wait_for(lambda: spool.salvaged is not None, LIMIT_S)
        wait_for(lambda: spool.status().state is WriterState.OK, LIMIT_S)
        spool.offer(heard([frame(1000)]))
        assert spool.flush(LIMIT_S)
        assert spool.salvaged is not None
        ((first, last),) = spool.salvaged.damaged
        with spool.reader() as reader:
            platform = Platform()
            platform.collect(reader)
            assert reader.check() == []
        lost = frames[first - 1 : last]
        assert frames[200] in lost
        assert platform.frames() == [*(one for one in frames if one not in lost), frame(1000)]


def test_a_dead_destination_cannot_take_the_room_of_another(tmp_path: Path) -> None:
    """Both get the same number of frames of their own; one never fetches any. The shares are two to one."""
    dead, alive = Destination("dead", b"", 1), Destination("alive", b"", 2)
    policy = Policy(batch_frames=100, batch_age_s=3600.0, quota_bytes=1 << 20)
    with writer(tmp_path, (dead, alive), policy) as spool, spool.reader() as reader:
        for start in range(0, 24_000, 200):
            numbers = range(start, start + 200)
            spool.offer(heard([frame(i) for i in numbers], [1 + i % 2 for i in numbers], destinations=2))
            wait_for(lambda: spool.status().queued_frames == 0, LIMIT_S)
        gone, here = reader.status().streams
        assert gone.account.evicted > here.account.evicted > 0
        waiting = [stream.unsealed + stream.sealed for stream in (gone, here)]
        assert waiting[1] / waiting[0] == pytest.approx(2.0, abs=0.5)
        assert reader.check() == []
