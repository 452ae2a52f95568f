# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Rows found by their own look: whatever happens to a page, what is found was written; what was not hit is found."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.spool import carve, row, store
from agent.spool.hidden import Wanted
from agent.spool.pages import Pages, sound_frame
from tests.agent.spool.gateway import SESSION, frame

ROWS = 300
LONG = 150
"""A row whose note does not fit into its page."""
SESSIONS = {SESSION.number: SESSION}
WRITTEN = {
    seq: row.to_row(
        seq, 1, frame(seq), row.pack(frame(seq)), bytes(2500) if seq == LONG else b"note" if seq % 5 == 0 else None
    )
    for seq in range(1, ROWS + 1)
}


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pages]:
    path = tmp_path_factory.mktemp("carve") / "spool.db"
    connection = store.open_writer(path, 64 << 20)
    connection.executemany(row.INSERT, WRITTEN.values())
    connection.close()
    with Pages(path) as opened:
        yield opened


def rows_in(pages: Pages, page: bytes) -> dict[int, tuple[Any, ...]]:
    found = {}
    for one in carve.find(page):
        columns = carve.read(page, one, pages.page)
        if columns is not None and sound_frame(columns, SESSIONS) is not None:
            found[one[0]] = columns
    return found


def test_every_row_is_found_also_one_that_goes_on_in_other_pages(pages: Pages) -> None:
    found: dict[int, tuple[Any, ...]] = {}
    for page in pages.all():
        found |= rows_in(pages, page)
    assert found == WRITTEN


@given(st.data())
def test_what_is_found_was_written_and_what_was_not_hit_is_found(pages: Pages, data: st.DataObject) -> None:
    leaves = [page for page in pages.all() if page[0] == carve.LEAF and len(rows_in(pages, page)) > 1]
    page = data.draw(st.sampled_from(leaves))
    start = data.draw(st.integers(0, len(page) - 1))
    size = data.draw(st.sampled_from([0, 1, 2, 8, 100, 1024]))
    changed = bytearray(page)
    if size == 0:
        changed[start] ^= 1 << data.draw(st.integers(0, 7))
    else:
        changed[start : start + size] = data.draw(st.binary(min_size=size, max_size=size))[: len(page) - start]
    before, found = rows_in(pages, page), rows_in(pages, bytes(changed))
    assert all(WRITTEN.get(seq) == columns for seq, columns in found.items())
    hit = range(start, start + max(size, 1))
    for seq, at in carve.find(page):
        columns = before.get(seq)
        if columns is not None and seq != LONG and not set(hit) & set(range(at - 5, at + 400)):
            assert found.get(seq) == columns


@given(st.binary(max_size=1024))
def test_any_bytes_are_read_without_a_row_or_an_error(data: bytes) -> None:
    for one in carve.find(data):
        carve.read(data, one, lambda _: None)


@given(st.lists(st.tuples(st.integers(1, 60), st.integers(0, 30), st.sampled_from([1, 2, 4])), max_size=6))
def test_who_waits_for_a_frame_is_known_for_each(ranges: list[tuple[int, int, int]]) -> None:
    needs = [(first, first + more, bit) for first, more, bit in ranges]
    wanted = Wanted(needs)
    for seq in range(-1, 100):
        bits = 0
        for first, last, bit in needs:
            bits |= bit if first <= seq <= last else 0
        assert wanted.by(seq) == bits


def test_the_last_page_owns_up_to_its_rows(pages: Pages, tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    connection = store.open_writer(path, 64 << 20)
    connection.executemany(row.INSERT, WRITTEN.values())
    root = store.scalar(connection, "SELECT rootpage FROM sqlite_schema WHERE name = 'frame'", int)
    connection.close()
    data = bytearray(path.read_bytes())
    with Pages(path) as sound:
        assert sound.tail(root, SESSIONS) == (0, ROWS, True)
    last = next(
        start
        for start in range(0, len(data), store.PAGE_BYTES)
        if data[start] == carve.LEAF and ROWS in rows_in(pages, bytes(data[start : start + store.PAGE_BYTES]))
    )
    data[last + 4] -= 2
    path.write_bytes(data)
    with Pages(path) as short:
        assert short.tail(root, SESSIONS) == (ROWS, ROWS - 2, True)
