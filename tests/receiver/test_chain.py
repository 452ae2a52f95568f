# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
from __future__ import annotations

import pytest

from agent.batch.model import GENESIS_HASH, Header, Reason
from receiver.ledger.chain import Alarm, Denied, Fresh, Join, Link, Position, Repeat, judge

A, B, C, D = (bytes([digit]) * 32 for digit in (10, 11, 12, 13))
EUI = b"\1" * 8


def header(number: int, first_seq: int, count: int, previous: bytes) -> Header:
    return Header(EUI, bytes(16), number, first_seq, count, previous, bytes(32), 1, 1)


def refused(verdict: object) -> tuple[Reason, Alarm]:
    assert isinstance(verdict, Denied)
    return verdict.reason, verdict.alarm


BROKEN = (Reason.BROKEN_CHAIN, Alarm.BROKEN_CHAIN)
FIRST = Link(1, A, GENESIS_HASH, 1, 3)
THIRD = Link(3, C, B, 6, 1)


@pytest.mark.parametrize(
    ("batch", "position"),
    [
        (header(1, 1, 3, GENESIS_HASH), Position()),
        (header(7, 90, 3, D), Position()),  # the first to arrive need not be the first of the stream
        (header(2, 4, 2, A), Position(EUI, below=FIRST, previous_hash=A, above=THIRD)),
        (header(2, 4, 2, A), Position(EUI, above=THIRD)),
        (header(9, 40, 2, D), Position(EUI, below=FIRST)),
        (header(9, 40, 2, D), Position(EUI, below=FIRST, joins=(Join(2, 5, B), Join(6, 8, D)))),
        (header(9, 40, 2, D), Position(EUI, joins=(Join(2, 5, B, B, B),))),
    ],
)
def test_what_fits_is_fresh(batch: Header, position: Position) -> None:
    assert judge(batch, B, position) == Fresh()


def test_the_same_content_is_a_repeat() -> None:
    assert judge(header(1, 1, 3, GENESIS_HASH), A, Position(EUI, same=FIRST)) == Repeat()


def test_another_content_is_a_fork_and_from_a_common_past_a_rollback() -> None:
    position = Position(EUI, same=Link(2, A, B, 4, 1))
    assert refused(judge(header(2, 4, 1, C), D, position)) == (Reason.FORK, Alarm.FORK)
    assert refused(judge(header(2, 4, 1, B), D, position)) == (Reason.FORK, Alarm.ROLLBACK)
    withdrawn = Position(EUI, withdrawn_hash=A)
    assert refused(judge(header(2, 4, 1, B), D, withdrawn)) == (Reason.FORK, Alarm.FORK)


def test_a_stream_belongs_to_one_gateway() -> None:
    assert refused(judge(header(2, 4, 1, A), B, Position(b"\2" * 8)))[0] is Reason.WRONG_GATEWAY


@pytest.mark.parametrize(
    ("batch", "position"),
    [
        (header(1, 2, 3, GENESIS_HASH), Position()),
        (header(2, 4, 2, D), Position(EUI, below=FIRST, previous_hash=A)),
        (header(2, 5, 2, A), Position(EUI, below=FIRST, previous_hash=A)),  # a sequence number is missing
        (header(2, 3, 2, A), Position(EUI, below=FIRST, previous_hash=A)),  # one is used twice
        (header(5, 3, 2, D), Position(EUI, below=FIRST)),
        (header(2, 4, 2, A), Position(EUI, above=Link(3, C, D, 6, 1))),  # 3 follows another 2
        (header(2, 4, 3, A), Position(EUI, above=THIRD)),
        (header(2, 4, 9, A), Position(EUI, above=Link(5, C, D, 6, 1))),
        (header(9, 40, 2, D), Position(EUI, joins=(Join(2, 5, B), Join(5, 8, D)))),
        (header(9, 40, 2, D), Position(EUI, joins=(Join(2, 5, B, overlaps=True),))),
        (header(9, 40, 2, D), Position(EUI, joins=(Join(2, 5, B, committed_hash=C),))),
        (header(9, 40, 2, D), Position(EUI, joins=(Join(2, 5, B, successor_previous_hash=C),))),
        (header(9, 40, 2, D), Position(EUI, joins=(Join(2, 8, B),))),
        (header(9, 40, 2, D), Position(EUI, joins=(Join(2, 9, D),))),
        (header(9, 40, 2, D), Position(EUI, joins=(Join(2, 5, GENESIS_HASH),))),
    ],
)
def test_what_does_not_join_is_broken(batch: Header, position: Position) -> None:
    assert refused(judge(batch, B, position)) == BROKEN
