# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""A batch that was read ahead is the one that is asked for, as it is then."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from agent.batch.model import Receipt
from agent.spool.reader import SpoolReader
from agent.spool.source import StreamSource
from agent.spool.writer import SpoolWriter
from agent.uplink.port import UnreadableBatchError
from tests.agent.spool.gateway import frame, heard, writer


class Counted(SpoolReader):
    """Counts how often rows become a batch."""

    made = 0

    def wire(self, *given: object) -> bytes:
        self.made += 1
        return super().wire(*given)  # type: ignore[arg-type]


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[SpoolWriter]:
    with writer(tmp_path) as made:
        for start in range(0, 30, 10):
            made.offer(heard([frame(index) for index in range(start, start + 10)]))
        assert made.flush(60.0)
        yield made


def test_it_is_made_once(spool: SpoolWriter) -> None:
    reader = Counted(spool.path)
    with reader:
        source = StreamSource(reader, "city")
        source.prepare(2)
        ahead = source.load(2)
        assert reader.made == 1
        assert ahead == source.load(2), "the same bytes without"
        assert reader.made == 2
        source.prepare(3)
        assert source.load(1) != ahead
        assert source.load(3) is not None


def test_what_became_of_it_meanwhile_counts(spool: SpoolWriter) -> None:
    with SpoolReader(spool.path) as reader:
        source = StreamSource(reader, "city")
        source.prepare(2)
        hash_ = source.hash_of(2)
        assert hash_ is not None
        spool.receipt(Receipt(source.stream_id, 2, hash_, 1))
        assert spool.flush(60.0)
        assert source.load(2) is None
        source.prepare(2)
        source.prepare(99)
        assert source.load(99) is None


def test_damage_is_told_when_it_is_asked_for(spool: SpoolWriter) -> None:
    with closing(sqlite3.connect(spool.path)) as db, db:
        db.execute("UPDATE frame SET phy_payload = x'00' WHERE seq = 15")
    with SpoolReader(spool.path) as reader:
        source = StreamSource(reader, "city")
        source.prepare(2)
        with pytest.raises(UnreadableBatchError):
            source.load(2)
        source.prepare(3)
        assert source.load(3) is not None
