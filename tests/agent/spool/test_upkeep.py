# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What a person does to a spool: give up a destination, take over frames of another card. What a new version does."""

from __future__ import annotations

import argparse
import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from agent.batch.model import Account, Reason, Refusal
from agent.cli import spool as command
from agent.errors import SpoolError
from agent.frame import Frame, Session
from agent.spool import store
from agent.spool.orders import Destination, Policy
from agent.spool.reader import SpoolReader
from agent.spool.upkeep import forget_destination, import_frames
from tests.agent.spool.gateway import CITY, WATER, Platform, frame, heard, wait_for, writer

FIXTURE = Path(__file__).parents[2] / "data/spool/version-1.db"
POLICY = Policy(batch_frames=10, batch_age_s=3600.0, quota_bytes=64 << 20)


def call(*words: str) -> int:
    parser = argparse.ArgumentParser()
    command.add_parser(parser.add_subparsers())
    args = parser.parse_args(["spool", *words])
    return int(args.func(args))


def fill(folder: Path, first: int, count: int, destinations: tuple[Destination, ...] = (CITY, WATER)) -> None:
    """Seal full batches, and leave what is over."""
    with writer(folder, destinations, POLICY) as spool:
        frames = [frame(index) for index in range(first, first + count)]
        spool.offer(heard(frames, [1 + index % 3 for index in range(count)], destinations=2, foreign=3))
        wait_for(lambda: spool.status().queued_frames == 0)
        spool._engine.sealer.due = lambda *_, **__: False  # type: ignore[method-assign]  # the stop shall seal nothing


def test_a_destination_that_is_gone_can_be_given_up(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path, 0, 50)
    path = tmp_path / "spool.db"
    with writer(tmp_path, (CITY,), POLICY) as spool, spool.reader() as reader:
        batch = reader.unacknowledged("water")[0]
        refusal = Refusal(batch.stream.stream_id, 1, batch.hash, Reason.MALFORMED, "", 1)
        spool.refusal(batch.stream.stream_id, 1, refusal)
        spool.flush()
        with pytest.raises(SpoolError, match="another process"):
            forget_destination(path, "water")
    monkeypatch.setattr("builtins.input", lambda _: "no")
    assert call("forget", "water", "--path", str(path)) == 1
    assert "nothing was changed" in capsys.readouterr().out
    monkeypatch.setattr("builtins.input", lambda _: "water")
    assert call("forget", "water", "--path", str(path)) == 0
    assert "33 frames given up" in capsys.readouterr().out
    with pytest.raises(SpoolError, match="no destination dry"):
        forget_destination(path, "dry")
    with writer(tmp_path, (CITY,), POLICY) as spool, spool.reader() as reader:
        assert spool.flush()
        city, water = reader.status().streams
        assert not water.open
        assert water.account == Account(heard=53, filtered=20, spooled=33, evicted=33)
        assert (water.unsealed, water.sealed, water.quarantined) == (0, 0, 0)
        platform = Platform()
        platform.collect(reader)
        assert len(platform.frames()) == city.account.spooled == 33
        spool.receipt(platform.receipt(city.stream_id))
        wait_for(lambda: reader.status().frames == 0)
        assert reader.check() == []


def test_the_frames_of_another_card_are_taken_over_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "new").mkdir()
    fill(tmp_path / "old", 0, 25)
    fill(tmp_path / "new", 100, 15)
    old, new = tmp_path / "old/spool.db", tmp_path / "new/spool.db"
    assert call("import", str(old), "--path", str(new), "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert said["imported"] > 0
    with SpoolReader(old) as reader:
        expected = {
            s.destination: [item.frame.phy_payload for item in reader.frames(s.next_row, bit=s.bit)]
            for s in reader.state().streams.values()
        }
        assert said["sealed"] == sum(s.sealed for s in reader.status().streams)
    assert import_frames(new, old).frames == 0
    fill(tmp_path / "old", 200, 4)  # it was used once more
    import_frames(new, old)
    with pytest.raises(SpoolError, match="same spool"):
        import_frames(new, new)
    with writer(tmp_path / "new", (CITY, WATER), POLICY) as spool, spool.reader() as reader:
        assert spool.flush()
        for name in ("city", "water"):
            platform = Platform()
            platform.collect(reader, name)
            got = [one.phy_payload for one in platform.frames()]
            assert len(got) == len(set(got))
            assert set(expected[name]) <= set(got)
            spool.receipt(platform.receipt(reader.head(name).stream_id))
        wait_for(lambda: reader.status().frames == 0)
        assert reader.check() == []


def test_salvage_by_hand_keeps_the_file_and_everything_in_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(tmp_path, 0, 25)
    before = (tmp_path / "spool.db").read_bytes()
    assert call("salvage", "--path", str(tmp_path / "spool.db"), "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["frames"], said["damaged"], said["lost"]) == (25, [], {"city": 0, "water": 0})
    assert Path(said["aside"]).read_bytes() == before
    with SpoolReader(tmp_path / "spool.db") as reader:
        assert reader.check() == []


def test_status_tells_each_hour(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(tmp_path, 0, 25)
    assert call("status", "--hours", "--path", str(tmp_path / "spool.db")) == 0
    assert "boot 0001 hour 0" in capsys.readouterr().out


# ---------------------------------------------------------------------- versions

ADDED = """-- usable from version 1
ALTER TABLE stream ADD COLUMN colour TEXT NOT NULL DEFAULT 'grey';
CREATE TABLE later (id INTEGER PRIMARY KEY) STRICT;
"""


def work(folder: Path) -> list[Frame]:
    """Hear and deliver with the program as it is; return everything that arrived."""
    with writer(folder, (CITY,), POLICY) as spool, spool.reader() as reader:
        session = Session(bytes(range(16)), spool.begin_session(bytes(range(16))).number)
        count = len(list(reader.rows()))
        assert spool.offer(heard([frame(1000 + count + index, session) for index in range(12)]))
        assert spool.flush()
        assert reader.check() == []
        platform = Platform()
        platform.collect(reader)
        return platform.frames()


def test_a_spool_of_version_1_is_migrated_and_version_1_can_go_back_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(FIXTURE, tmp_path / "spool.db")
    frames = [frame(index) for index in range(25)]
    initial = store.schema()
    with monkeypatch.context() as newer:
        newer.setattr(store, "SCHEMA_VERSION", 2)
        newer.setattr(store, "schema", lambda: [*initial, ("0002_more.sql", ADDED)])
        assert work(tmp_path)[:25] == frames
    with closing(sqlite3.connect(tmp_path / "spool.db")) as connection:
        assert store.versions(connection) == (2, 1)
        assert connection.execute("SELECT DISTINCT colour FROM stream").fetchall() == [("grey",)]
    assert work(tmp_path)[:25] == frames  # this program is of version 1
    with monkeypatch.context() as newer:
        newer.setattr(store, "SCHEMA_VERSION", 2)
        newer.setattr(store, "schema", lambda: [*initial, ("0002_more.sql", ADDED)])
        assert len(work(tmp_path)) == 25 + 3 * 12


def test_the_version_is_in_the_file_itself_while_the_writer_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The installer of an older package looks at these bytes alone."""
    shutil.copy(FIXTURE, tmp_path / "spool.db")
    initial = store.schema()
    monkeypatch.setattr(store, "schema", lambda: [*initial, ("0002_more.sql", ADDED)])
    with closing(store.open_writer(tmp_path / "spool.db", 1 << 20)):
        assert int.from_bytes((tmp_path / "spool.db").read_bytes()[60:64]) == 1 << 16 | 2


def test_a_migration_that_fails_leaves_the_old_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(FIXTURE, tmp_path / "spool.db")
    initial = store.schema()
    with monkeypatch.context() as newer:
        newer.setattr(store, "SCHEMA_VERSION", 2)
        newer.setattr(store, "schema", lambda: [*initial, ("0002_more.sql", ADDED + "SELECT * FROM nothing;")])
        with pytest.raises(SpoolError):
            writer(tmp_path, (CITY,), POLICY)
    assert len(work(tmp_path)) == 25 + 12


def test_what_version_1_cannot_use_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(FIXTURE, tmp_path / "spool.db")
    initial = store.schema()
    with monkeypatch.context() as newer:
        newer.setattr(store, "SCHEMA_VERSION", 2)
        newer.setattr(store, "schema", lambda: [*initial, ("0002_more.sql", ADDED.replace("version 1", "version 2"))])
        work(tmp_path)
    with pytest.raises(SpoolError, match="version 2"):
        writer(tmp_path, (CITY,), POLICY)
