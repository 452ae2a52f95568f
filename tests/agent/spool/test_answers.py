# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Receipts and refusals: what frees, what parks, what holds, what is only counted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent.batch.model import GENESIS_HASH, Account, Reason, Receipt, Refusal
from agent.spool.reader import SpoolReader, StreamStatus
from agent.spool.writer import SpoolWriter, check
from tests.agent.spool.gateway import Platform, frame, heard, wait_for, writer


class Line:
    """A writer with five batches of ten frames, a reader, and a platform that has them all."""

    def __init__(self, folder: Path, spool: SpoolWriter, reader: SpoolReader) -> None:
        self.folder = folder
        self.spool = spool
        self.reader = reader
        self.platform = Platform()
        for start in range(0, 50, 10):
            spool.offer(heard([frame(index) for index in range(start, start + 10)]))
        assert spool.flush()
        self.platform.collect(reader)
        self.stream_id = reader.head("city").stream_id
        self.hashes = {number: opened.hash for number, opened in self.platform.batches.items()}

    def status(self) -> StreamStatus:
        assert self.spool.flush()
        return self.reader.status().streams[0]

    def waiting(self) -> list[int]:
        return [batch.number for batch in self.reader.unacknowledged("city", 0, 99)]

    def receipt(self, through: int, *beyond: tuple[int, int]) -> None:
        hash_ = self.hashes[through] if through else GENESIS_HASH
        self.spool.receipt(Receipt(self.stream_id, through, hash_, 1, beyond))

    def refuse(self, number: int, reason: Reason) -> None:
        self.spool.refusal(
            self.stream_id, number, Refusal(self.stream_id, number, self.hashes[number], reason, "because", 1)
        )


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    with writer(tmp_path) as spool, spool.reader() as reader:
        yield Line(tmp_path, spool, reader)
        assert spool.flush()
        assert reader.check() == []
    assert check(tmp_path / "spool.db") == []


def test_through_frees_up_to_it(line: Line) -> None:
    line.receipt(2)
    assert line.status().delivered == 20
    assert line.waiting() == [3, 4, 5]
    assert line.reader.status().frames == 30
    line.receipt(5)
    assert line.status().delivered == 50
    assert line.reader.status().frames == 0


def test_ranges_beyond_free_and_are_not_sent_again(line: Line) -> None:
    line.receipt(1, (3, 3), (5, 5))
    assert line.status().delivered == 30
    assert line.waiting() == [2, 4]
    assert line.reader.status().frames == 20
    line.receipt(3)  # 3 is known already, 2 came
    assert line.status().delivered == 40
    line.receipt(5)
    assert (line.status().delivered, line.status().through) == (50, 5)


def test_stale_receipts_change_nothing(line: Line) -> None:
    line.receipt(4)
    line.status()
    line.receipt(2)
    line.receipt(0)
    line.receipt(4)  # the same again is no fault
    status = line.status()
    assert (status.through, status.delivered, status.stale_answers, status.foreign_answers) == (4, 40, 2, 0)


def test_a_ledger_that_was_restored_from_a_copy_still_frees_what_it_has(line: Line) -> None:
    """It has lost batches 2 and 3, which are gone here, and says so for ever; 5 came after that."""
    line.receipt(3)
    line.receipt(1, (5, 5))
    status = line.status()
    assert (status.through, status.delivered, status.stale_answers) == (3, 40, 0)
    assert line.waiting() == [4]
    line.receipt(1, (5, 9))
    assert (line.status().delivered, line.status().stale_answers) == (40, 1), "numbers that were never used"


@pytest.mark.parametrize("kind", ["hash", "future", "future beyond", "genesis"])
def test_receipts_that_do_not_fit_free_nothing(line: Line, kind: str) -> None:
    match kind:
        case "hash":
            line.spool.receipt(Receipt(line.stream_id, 3, line.hashes[2], 1))
        case "future":
            line.spool.receipt(Receipt(line.stream_id, 6, line.hashes[5], 1))
        case "future beyond":
            line.receipt(1, (3, 6))
        case "genesis":
            line.spool.receipt(Receipt(line.stream_id, 0, line.hashes[1], 1))
    status = line.status()
    assert (status.through, status.delivered, status.foreign_answers) == (0, 0, 1)
    assert line.waiting() == [1, 2, 3, 4, 5]


def test_receipts_of_other_streams_free_nothing(line: Line) -> None:
    line.spool.receipt(Receipt(bytes(16), 5, line.hashes[5], 1))
    assert line.status().delivered == 0


@pytest.mark.parametrize("reason", [Reason.MALFORMED, Reason.BAD_SIGNATURE, Reason.BODY_MISMATCH, Reason.UNBALANCED])
def test_a_poisonous_batch_is_parked_and_the_queue_goes_on(line: Line, reason: Reason) -> None:
    line.refuse(3, reason)
    line.receipt(2, (4, 5))
    status = line.status()
    assert (status.delivered, status.quarantined, status.quarantined_batches) == (40, 10, 1)
    assert line.waiting() == [6]  # no frames: it tells the platform what was parked
    (parked, _) = line.reader.batches("city")
    assert (parked.number, parked.reason, parked.detail) == (3, reason, "because")
    assert line.reader.wire(parked) == line.platform.wires[3]  # a person can still export it
    line.spool.offer(heard([frame(index) for index in range(50, 60)]))
    line.status()
    told, after = line.platform.collect(line.reader)
    assert told.body.account == Account(quarantined=10)
    assert after.body.account == Account(heard=10, spooled=10)
    line.receipt(5)  # it came after all, on a stick
    assert line.status().delivered == 50


@pytest.mark.parametrize(
    "reason", [Reason.UNKNOWN_KEY, Reason.REVOKED_KEY, Reason.WRONG_GATEWAY, Reason.UNSUPPORTED_VERSION]
)
def test_what_the_platform_has_to_settle_holds_the_stream(line: Line, reason: Reason) -> None:
    line.refuse(1, reason)
    status = line.status()
    assert (status.hold_reason, status.hold_detail, status.batches) == (reason, "because", 5)
    line.receipt(1)
    assert line.status().hold_reason is None


@pytest.mark.parametrize("reason", [Reason.FORK, Reason.BROKEN_CHAIN])
def test_after_a_fork_all_that_cannot_be_at_the_platform_travels_in_a_new_stream(line: Line, reason: Reason) -> None:
    line.receipt(2)
    line.status()
    line.spool.offer(heard([frame(index) for index in range(50, 54)], foreign=2))
    wait_for(lambda: line.spool.status().queued_frames == 0)
    line.refuse(4, reason)
    assert line.spool.flush()
    old, new = line.reader.status().streams
    assert (old.open, old.delivered, new.quarantined) == (False, 20, 10)  # batch 3 may be there
    assert new.open
    assert new.stream_id != old.stream_id
    other = Platform()
    first, *_ = other.collect(line.reader)
    assert first.header.number == 1
    assert first.header.stream_id == new.stream_id
    assert first.header.previous_hash == GENESIS_HASH
    assert other.frames() == [frame(index) for index in range(30, 54)]
    assert other.account() == Account(heard=36, filtered=2, spooled=34, quarantined=10)
    line.spool.receipt(other.receipt(new.stream_id))
    line.receipt(3)  # it was the same after all
    assert line.spool.flush()
    old, new = line.reader.status().streams
    assert (old.delivered, new.quarantined, new.delivered) == (20, 0, 34)
    assert line.reader.check() == []


def test_refusals_that_do_not_fit_are_only_counted(line: Line) -> None:
    fitting = Refusal(line.stream_id, 3, line.hashes[3], Reason.MALFORMED, "", 1)
    line.spool.refusal(line.stream_id, 3, replace(fitting, batch_hash=line.hashes[2]))
    line.spool.refusal(line.stream_id, 3, replace(fitting, number=2))
    line.spool.refusal(line.stream_id, 9, replace(fitting, number=9))
    line.receipt(3)
    line.refuse(2, Reason.MALFORMED)
    status = line.status()
    assert (status.foreign_answers, status.stale_answers, status.quarantined) == (2, 2, 0)


def test_a_refusal_that_could_not_name_the_batch_parks_the_one_it_answers(line: Line) -> None:
    line.spool.refusal(line.stream_id, 2, Refusal(bytes(16), 0, bytes(32), Reason.MALFORMED, "", 1))
    assert line.status().quarantined_batches == 1
