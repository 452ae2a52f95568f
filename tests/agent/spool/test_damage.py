# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Flipped bits: found on reading, declared, and everything else is delivered."""

from __future__ import annotations

import random
import sqlite3
from pathlib import Path

import pytest

from agent.batch.model import Account, Loss
from agent.errors import SpoolError
from agent.spool import row
from agent.spool.orders import Policy
from agent.spool.reader import DamagedBatchError, SpoolReader
from agent.spool.row import DamagedRowError
from tests.agent.spool.gateway import Platform, frame, heard, wait_for, writer

COLUMNS = row.COLUMNS.split(", ")[1:]


def change(path: Path, sql: str, *values: object) -> None:
    with sqlite3.connect(path) as connection:
        assert connection.execute(sql, values).rowcount == 1
    connection.close()


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    """Two sealed batches of ten, and five frames unsealed; every third frame has a fine time stamp."""
    with writer(tmp_path) as made:
        made.offer(heard([frame(index) for index in range(20)]))
        wait_for(lambda: made.status().queued_frames == 0)
        made.offer(heard([frame(index) for index in range(20, 25)]))
    return tmp_path / "spool.db"


@pytest.mark.parametrize("column", COLUMNS)
def test_a_change_in_any_column_is_found(spool: Path, column: str) -> None:
    seq = 4 if column == "fine_timestamp_ns" else 3  # frame(3) has one, frame(2) all the rest
    flipped = (
        "CAST(X'ff' || substr(phy_payload, 2) AS BLOB)"
        if column == "phy_payload"
        else "X'80'"
        if column == "note"
        else f"{column} + 1"
    )
    change(spool, f"UPDATE frame SET {column} = {flipped} WHERE seq = {seq}")
    with SpoolReader(spool) as reader:
        assert [item.seq for item in reader.rows() if isinstance(item, DamagedRowError)] == [seq]
        first, second = reader.unacknowledged("city", 0, 2)
        if column in {"row_crc32", "note"}:
            assert reader.wire(first), "what travels is what was signed: that is not part of it"
        else:
            with pytest.raises(DamagedBatchError, match=f"batch 1.*frame {seq} is damaged|batch 1.*frames are there"):
                reader.wire(first)
        assert reader.wire(second)


def test_frames_swapped_between_rows_are_found(spool: Path) -> None:
    with sqlite3.connect(spool) as connection:
        connection.execute("UPDATE frame SET seq = -1 WHERE seq = 3")
        connection.execute("UPDATE frame SET seq = 3 WHERE seq = 4")
        connection.execute("UPDATE frame SET seq = 4 WHERE seq = -1")
    connection.close()
    with SpoolReader(spool) as reader, pytest.raises(DamagedBatchError):
        reader.wire(reader.unacknowledged("city")[0])


def test_the_good_frames_of_a_damaged_batch_travel_in_a_later_one(spool: Path) -> None:
    change(spool, "UPDATE frame SET boottime_us = boottime_us + 4096 WHERE seq = 13")
    platform = Platform()
    with writer(spool.parent) as again, again.reader() as reader:
        first, second, third = reader.unacknowledged("city", 0, 9)
        platform.take(reader.wire(first))
        with pytest.raises(DamagedBatchError):
            reader.wire(second)
        again.unreadable(second.stream.stream_id, 2)
        again.unreadable(second.stream.stream_id, 1)  # a false alarm: it can be read
        assert again.flush()
        platform.take(reader.wire(third))
        platform.collect(reader)
        assert sorted(platform.batches) == [1, 3, 4]
        (stone,) = platform.batches[4].body.tombstones
        assert (stone.reason, stone.count, stone.first_number, stone.last_number) == (Loss.DAMAGED, 1, 2, 2)
        expected = [frame(index) for index in range(25) if index != 12]
        assert sorted(platform.frames(), key=lambda one: one.boottime_us) == expected
        assert platform.account() == Account(heard=25, spooled=25, evicted=1)
        again.receipt(platform.receipt(first.stream.stream_id))
        wait_for(lambda: reader.head("city").through == 4)
        assert reader.status().frames == 0
        assert reader.check() == []


def test_damage_before_sealing_costs_one_frame(tmp_path: Path) -> None:
    policy = Policy(10, 3600.0, 64 << 20)
    with writer(tmp_path, policy=policy) as spool:
        spool.offer(heard([frame(index) for index in range(5)]))
        wait_for(lambda: spool.status().queued_frames == 0)
        change(tmp_path / "spool.db", "UPDATE frame SET phy_payload = X'00' WHERE seq = 2")
        spool.offer(heard([frame(index) for index in range(5, 10)]))
        assert spool.flush()
        with spool.reader() as reader:
            (opened,) = Platform().collect(reader)
            assert list(opened.body.frames) == [frame(index) for index in range(10) if index != 1]
            (stone,) = opened.body.tombstones
            assert (stone.reason, stone.count) == (Loss.DAMAGED, 1)
            assert opened.body.account == Account(heard=10, spooled=10, evicted=1)
            assert reader.check() == []


def test_no_flipped_bit_in_the_file_gives_wrong_frames(tmp_path: Path) -> None:
    """Single bits all over the database file: what comes out is either right, or an error of ours."""
    with writer(tmp_path) as spool:
        spool.offer(heard([frame(index) for index in range(200)]))
        assert spool.flush()
        with spool.reader() as reader:
            stream_id = reader.head("city").stream_id
    path = tmp_path / "spool.db"
    data = path.read_bytes()
    with SpoolReader(path) as reader:
        right = {stored.seq: stored for stored in reader.frames()}
        wires = {batch.number: reader.wire(batch) for batch in reader.batches("city")}
    chance = random.Random(5)
    noticed = 0
    for _ in range(400):
        place = chance.randrange(len(data))
        flipped = bytearray(data)
        flipped[place] ^= 1 << chance.randrange(8)
        path.write_bytes(flipped)
        try:
            with SpoolReader(path) as reader:
                damaged = 0
                seen = 0
                for item in reader.rows():
                    if isinstance(item, DamagedRowError):
                        damaged += 1
                        continue
                    seen += 1
                    assert item == right.get(item.seq) or item.destinations != ("city",)
                for batch in reader.batches("city"):
                    try:
                        assert reader.wire(batch) == wires[batch.number] or batch.stream.stream_id != stream_id
                    except DamagedBatchError:
                        damaged += 1
                noticed += bool(damaged or seen < 200)
        except SpoolError:
            noticed += 1
    assert noticed > 200
