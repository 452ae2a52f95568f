# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The register table: complete, without overlaps, and strict about names and ranges."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.sx1302 import registers
from drivers.sx1302.registers import FIELDS, Field, field, reset_value, uncheckable_mask, writable_mask


def test_table_is_complete_and_no_two_fields_share_a_bit() -> None:
    taken: dict[int, int] = {}
    for row in FIELDS:
        assert taken.get(row.address, 0) & row.mask == 0, row.name
        taken[row.address] = taken.get(row.address, 0) | row.mask
    assert len(FIELDS) == 1044
    assert len(taken) == 589
    assert taken.keys() == registers.ADDRESSES


def test_views_per_byte_join_the_fields() -> None:
    assert reset_value(0x5601) == 0x0B
    assert writable_mask(0x5780) & 1 == 0, "PARITY_ERROR is read-only"
    assert writable_mask(0x5606) == 0
    assert reset_value(0x586D) == 0xFE, "signed reset -2"
    assert uncheckable_mask(0x5200) == 0x08
    assert (reset_value(0x7FFF), writable_mask(0x7FFF), uncheckable_mask(0x7FFF)) == (0, 0, 0)


def test_unknown_name_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(KeyError, match="COMMON_CTRL0_HOST_RADIO_CTRL"):
        field("COMMON_CTRL0_HOST_RADIO_CTL")


@given(row=st.sampled_from(FIELDS), byte=st.integers(0, 255), data=st.data())
def test_a_value_inserted_is_the_value_extracted(row: Field, byte: int, data: st.DataObject) -> None:
    value = data.draw(st.integers(row.minimum, row.maximum))
    merged = row.insert(byte, value)
    assert row.extract(merged) == value
    assert merged & ~row.mask & 0xFF == byte & ~row.mask & 0xFF


@given(row=st.sampled_from(FIELDS), above=st.integers(1, 1000))
def test_a_value_that_does_not_fit_is_refused(row: Field, above: int) -> None:
    for value in (row.maximum + above, row.minimum - above):
        with pytest.raises(ValueError, match=row.name):
            row.insert(0, value)
