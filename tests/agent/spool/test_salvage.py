# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Damaged files: what can be read is delivered, once; what cannot is named; the file is kept; sums match again."""

from __future__ import annotations

import contextlib
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from agent.batch.model import GENESIS_HASH, UNKNOWN_BOOT, Account, Loss, Receipt
from agent.errors import SpoolError
from agent.frame import Frame, Session
from agent.spool import salvage as salvaging
from agent.spool import store
from agent.spool.condition import WriterState
from agent.spool.hidden import ROWS_PER_PAGE
from agent.spool.orders import Policy
from agent.spool.reader import DamagedBatchError, SpoolReader
from agent.spool.salvage_rows import SoundSessions
from agent.spool.source import Outlet, StreamSource
from agent.spool.writer import SpoolWriter
from agent.uplink.port import UnreadableBatchError
from tests.agent.spool.gateway import CITY, SESSION, WATER, Platform, frame, heard, wait_for, writer

POLICY = Policy(batch_frames=40, batch_age_s=3600.0, quota_bytes=64 << 20)
SEALED, UNSEALED = 400, 390
FRAMES = [frame(index) for index in range(SEALED + UNSEALED)]


@pytest.fixture(scope="module")
def spool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten sealed batches of which the platform has the first two, and as many frames that are not sealed."""
    folder = tmp_path_factory.mktemp("whole")
    with writer(folder, policy=POLICY) as made, made.reader() as reader:
        for start in range(0, SEALED, 20):
            made.offer(heard(FRAMES[start : start + 20], foreign=1))
            wait_for(lambda: made.status().queued_frames == 0)
        platform = Platform()
        for batch in reader.unacknowledged("city", 0, 2):
            platform.take(reader.wire(batch))
        made.receipt(platform.receipt(reader.head("city").stream_id))
        wait_for(lambda: reader.head("city").through == 2)
    with writer(folder, policy=Policy(4096, 3600.0, 64 << 20), gateway_eui=None) as made:
        for start in range(SEALED, len(FRAMES), 10):
            made.offer(heard(FRAMES[start : start + 10], foreign=1))
            wait_for(lambda: made.status().queued_frames == 0)
        made._engine.sealer.due = lambda *_, **__: False  # type: ignore[method-assign]  # as a process that is killed
    return folder / "spool.db"


def deliver(again: SpoolWriter) -> dict[bytes, Platform]:
    """Bring everything to platforms as a sender does, stream by stream; return these by stream."""
    platforms: dict[bytes, Platform] = {}
    outlet = Outlet(again, "city")
    for _ in range(30):
        assert again.flush()
        try:
            with outlet.open() as source:
                done = send(again, outlet, source, platforms.setdefault(source.stream_id, Platform()))
        except SpoolError:  # what the writer has put in the place of a damaged file is opened anew, as a sender does
            sound(again)
            continue
        if done and sound(again):
            return platforms
    pytest.fail("does not come to an end")


def sound(again: SpoolWriter) -> bool:
    """Look as the audit does every hour; what it finds damaged is salvaged."""
    try:
        with again.reader() as reader:
            again._audited(tuple(reader.check()), None)
    except SpoolError as error:
        again._audited((), error)
        assert again.flush(30.0)
        return False
    return True


def send(again: SpoolWriter, outlet: Outlet, source: StreamSource, platform: Platform) -> bool:
    count = 0
    for number in range(source.through() + 1, source.newest() + 1):
        try:
            outgoing = source.load(number)
        except UnreadableBatchError as error:
            outlet.unreadable(number, error)
            count += 1
            continue
        if outgoing is not None:
            platform.take(outgoing.wire)
            count += 1
    if platform.batches:
        through = source.through()
        beyond = tuple((number, number) for number in sorted(platform.batches) if number > through)
        outlet.receipt(Receipt(source.stream_id, through, source.hash_of(through) or GENESIS_HASH, 1, beyond))
    assert again.flush(30.0)
    return count == 0


def arrived(platforms: dict[bytes, Platform]) -> list[Frame]:
    return [one for platform in platforms.values() for one in platform.frames()]


def damaged(spool: Path, folder: Path, *places: int) -> Path:
    """Copy a spool with single bits flipped."""
    folder.mkdir(parents=True, exist_ok=True)
    data = bytearray(spool.read_bytes())
    for place in places:
        data[place // 8] ^= 1 << place % 8
    (folder / "spool.db").write_bytes(data)
    return folder / "spool.db"


def flipped(chance: random.Random, data: bytearray) -> None:
    """Flip one bit; in every other trial where a page says what it has: most of what is in a page are the frames."""
    place = chance.randrange(len(data) * 8)
    if chance.random() < 0.5:
        place = (place // 8 // store.PAGE_BYTES * store.PAGE_BYTES + chance.randrange(40)) * 8 + place % 8
    data[place // 8] ^= 1 << place % 8


def overwritten(chance: random.Random, data: bytearray) -> None:
    """Overwrite up to two pages, as a card does that has lost a block."""
    place = chance.randrange(len(data))
    size = min(chance.choice([16, 512, 1024, 2048]), len(data) - place)
    data[place : place + size] = bytes(size) if chance.random() < 0.5 else chance.randbytes(size)


@pytest.mark.parametrize(("damage", "most"), [(flipped, ROWS_PER_PAGE), (overwritten, 3 * ROWS_PER_PAGE)])
def test_damage_anywhere_in_the_file_costs_little_and_what_it_costs_is_declared(
    damage: Callable[[random.Random, bytearray], None], most: int, spool: Path, tmp_path: Path
) -> None:
    chance = random.Random(11)
    harmful = salvaged = 0
    for trial in range(45):
        folder = tmp_path / str(trial)
        folder.mkdir()
        data = bytearray(spool.read_bytes())
        damage(chance, data)
        (folder / "spool.db").write_bytes(data)
        with writer(folder, policy=POLICY) as again:
            platforms = deliver(again)
            got = arrived(platforms)
            with again.reader() as reader:
                assert reader.check() == [], f"trial {trial}"
                assert reader.status().frames == 0, f"trial {trial}"
            whole = again.salvaged is None or again.salvaged.whole_account
            boots = {one.session.boot_id for one in got}
            if not whole and boots == {UNKNOWN_BOOT}:  # the row of the session is lost, too
                got = [replace(one, session=SESSION) for one in got]
            missing = set(FRAMES[80:]) - set(got)
            # of a batch that was sent and whose row is lost nobody can know that (docs/spool.md)
            assert len(got) == len(set(got)) or not whole, f"trial {trial}: doubled"
            assert set(got) <= set(FRAMES), f"trial {trial}: invented"
            assert not set(got) & set(FRAMES[:80]) or not whole, f"trial {trial}: acknowledged before"
            stones = [s for p in platforms.values() for o in p.batches.values() for s in o.body.tombstones]
            declared = sum(stone.count for stone in stones if stone.reason is Loss.DAMAGED)
            assert len(missing) <= declared, f"trial {trial}: lost without a word"
            assert len(missing) <= most, f"trial {trial}"
            harmful += bool(missing) or again.salvaged is not None
            if again.salvaged is not None:
                salvaged += 1
                assert again.salvaged.aside.exists()
        shutil.rmtree(folder)
    assert harmful > 15
    assert salvaged > 10


def test_a_page_that_cannot_be_read_costs_its_rows_and_its_range_is_said(spool: Path, tmp_path: Path) -> None:
    path = damaged(spool, tmp_path)
    data = bytearray(path.read_bytes())
    needle = FRAMES[600].phy_payload
    page = data.index(needle) // store.PAGE_BYTES
    data[page * store.PAGE_BYTES : (page + 1) * store.PAGE_BYTES] = bytes(store.PAGE_BYTES)
    path.write_bytes(data)
    found = salvaging.salvage(path, ["city"])
    ((first, last),) = found.damaged
    assert first <= 601 <= last
    assert found.lost == {"city": last - first + 1}
    assert found.aside.read_bytes() == bytes(data)
    with writer(tmp_path, policy=POLICY) as again, again.reader() as reader:
        assert again.salvaged is None
        platforms = deliver(again)
        lost = FRAMES[first - 1 : last]
        assert sorted(arrived(platforms), key=lambda one: one.boottime_us) == [f for f in FRAMES[80:] if f not in lost]
        old, new = reader.status().streams
        assert (old.delivered, new.delivered) == (SEALED, UNSEALED - len(lost))
        # one look at the radio, or two, had its note there: what it only counted is not known any more
        filtered = new.account.filtered
        assert UNSEALED // 10 - 2 <= filtered < UNSEALED // 10
        assert new.account == Account(heard=UNSEALED + filtered, filtered=filtered, spooled=UNSEALED, evicted=len(lost))
        assert reader.check() == []


def test_a_power_cut_while_the_new_file_takes_its_place_leaves_one_of_the_two(
    spool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class CutError(Exception):
        pass

    for steps in range(6):
        folder = tmp_path / str(steps)
        path = damaged(spool, folder, 8 * 5000)
        left = [steps]

        def cut(*places: Path, known: Callable[..., None], left: list[int] = left) -> None:
            left[0] -= 1
            if left[0] < 0:
                raise CutError
            known(*places)

        with monkeypatch.context() as patch:
            for name in ("_sync", "_sync_folder", "_keep"):
                patch.setattr(salvaging, name, partial(cut, known=getattr(salvaging, name)))
            with contextlib.suppress(CutError):
                salvaging.salvage(path, ["city"])
        with writer(folder, policy=POLICY) as again:
            assert len(set(arrived(deliver(again)))) >= len(FRAMES) - 80 - 20
        shutil.rmtree(folder)


def test_a_destination_whose_account_is_lost_goes_on_with_what_is_there(tmp_path: Path) -> None:
    with writer(tmp_path, (CITY, WATER), policy=POLICY) as made:
        made.offer(heard(FRAMES[:50], [1 + index % 3 for index in range(50)], destinations=2))
        assert made.flush()
        made.offer(heard(FRAMES[50:60], [3] * 10, destinations=2))
    connection = store.open_writer(tmp_path / "spool.db", 64 << 20)
    connection.execute("UPDATE account SET spooled = spooled + 1 WHERE stream = 1")
    connection.close()
    with pytest.raises(SpoolError), SpoolReader(tmp_path / "spool.db") as reader:
        reader.check()
    with writer(tmp_path, (CITY, WATER), policy=POLICY) as again, again.reader() as reader:
        assert again.salvaged is not None
        assert not again.salvaged.whole_account
        assert (again.salvaged.frames, again.salvaged.damaged) == (60, ())
        assert again.flush()
        got: dict[str, list[Frame]] = {"city": [], "water": []}
        for batch in reader.batches():
            try:
                opened = Platform().take(reader.wire(batch))
            except DamagedBatchError:
                pytest.fail("nothing was damaged")
            got[batch.stream.destination] += opened.body.frames
        assert got["city"] == [one for index, one in enumerate(FRAMES[:60]) if index >= 50 or (1 + index % 3) & 1]
        assert got["water"] == [one for index, one in enumerate(FRAMES[:60]) if index >= 50 or (1 + index % 3) & 2]
        assert reader.check() == []


def test_frames_without_a_time_cost_no_other_its_boot_when_rows_of_sessions_are_lost() -> None:
    undated = Session(UNKNOWN_BOOT, 0)
    assert SoundSessions({0: undated}, {SESSION.boot_id}, [])[SESSION.number] == SESSION
    assert SoundSessions({SESSION.number: SESSION}, set(), [])[0] == undated


def test_damage_that_a_salvage_does_not_cure_is_a_state_and_no_endless_salvage(tmp_path: Path) -> None:
    found = SpoolError("the same as before", where="spool.db", hint="", code=salvaging.DAMAGED)
    with writer(tmp_path, policy=POLICY) as made:
        made._audit.stop(60.0)  # its findings are told here
        made.offer(heard(FRAMES[:20]))
        assert made.flush(60.0)
        for place in range(20, 26):
            made._audited((), found)
            made.offer(heard(FRAMES[place : place + 1]))
            assert made.flush(60.0)
        assert [path.name for path in sorted(tmp_path.glob("*.damaged-?"))] == ["spool.db.damaged-1"]
        assert made.status().state is WriterState.DAMAGED
        assert "the same as before" in made.status().detail
        with made.reader() as reader:
            assert reader.check() == []
            assert reader.status().frames == 26
        made._audited((), None)
        assert made.status().state is WriterState.OK
        made._audited((), found)  # a new damage is salvaged again
        assert made.flush(60.0)
        assert len(list(tmp_path.glob("*.damaged-?"))) == 2
