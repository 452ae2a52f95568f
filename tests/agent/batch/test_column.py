# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.batch import column
from agent.batch.cbor import Item
from agent.batch.errors import MalformedError

BIG = 1 << 54
_values = st.integers(-BIG, BIG) | st.integers(-3, 3) | st.integers(-20, 20).map(lambda value: value * 10)


@given(st.lists(_values, min_size=1, max_size=40))
def test_numbers_come_back(values: list[int]) -> None:
    assert column.unpack(column.pack(values), len(values), -BIG, BIG, where="test") == values


@given(st.lists(st.none() | _values, min_size=1, max_size=40))
def test_numbers_that_may_be_missing_come_back(values: list[int | None]) -> None:
    packed = column.pack_optional(values)
    assert column.unpack_optional(packed, len(values), -BIG, BIG, where="test") == values
    if all(value is None for value in values):
        assert packed is None


def test_the_layout_is_that_of_the_document() -> None:
    # codes 0, 1, 2, 3, 4: three planes of five bits: 00001 00110 01010
    assert column.pack([100, 110, 120, 130, 140]) == [100, 10, 3, bytes([0b00001001, 0b10010100])]
    assert column.pack([7, 7, 7]) == 7
    assert column.pack_optional([None, -5, 5]) == [-5, 10, 2, bytes([0b00101000])]
    assert column.pack_optional([4, 4]) == 4


@pytest.mark.parametrize(
    "item",
    [
        None,
        b"",
        "0",
        [],
        [0, 1, 1],
        [0, 1, 1, b"\x00", 0],
        [0, 0, 1, b"\x00"],
        [0, -1, 1, b"\x00"],
        [0, 1, 0, b""],
        [0, 1, 57, bytes(36)],
        [0, 1, 1 << 40, b"\x00"],
        [0, 1, 1, b""],
        [0, 1, 1, b"\x00\x00"],
        [0, 1, 1, b"\x04"],  # a bit behind the last of five codes
        [0, 1, 4, b"\xff\xff\xf0"],  # 15, and 10 is the most
        [-1, 1, 1, b"\x00"],
        -1,
        11,
        {0: 1},
    ],
)
def test_other_columns_are_refused(item: Item) -> None:
    with pytest.raises(MalformedError) as caught:
        column.unpack(item, 5, 0, 10, where="test")
    assert caught.value.code == "CG-BAT-011"
    if item is not None:
        with pytest.raises(MalformedError):
            column.unpack_optional(item, 5, 0, 9, where="test")


@given(
    st.tuples(st.integers(-20, 20), st.integers(-1, 20), st.integers(-1, 60), st.binary(max_size=12)).map(list),
    st.integers(1, 20),
)
def test_arbitrary_columns_give_numbers_in_range_or_are_refused(item: list[Item], count: int) -> None:
    try:
        values = column.unpack(item, count, -30, 30, where="test")
    except MalformedError:
        pass
    else:
        assert len(values) == count
        assert all(-30 <= value <= 30 for value in values)
    try:
        optional = column.unpack_optional(item, count, -30, 30, where="test")
    except MalformedError:
        pass
    else:
        assert len(optional) == count
        assert all(value is None or -30 <= value <= 30 for value in optional)
