# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.uplink.numbers import Numbers

RANGES = st.lists(st.tuples(st.integers(1, 40), st.integers(0, 41)), max_size=8)


def _set(ranges: list[tuple[int, int]]) -> set[int]:
    return {number for first, last in ranges for number in range(first, last + 1)}


@given(RANGES, RANGES, st.integers(0, 42))
def test_it_is_a_set(left: list[tuple[int, int]], right: list[tuple[int, int]], number: int) -> None:
    a, b = Numbers.of(left), Numbers.of(right)
    x, y = _set(left), _set(right)
    assert list(a) == sorted(x)
    assert list(a | b) == sorted(x | y)
    assert list(a - b) == sorted(x - y)
    assert (number in a) == (number in x)
    assert list(a.with_number(number)) == sorted(x | {number})
    assert list(a.without_number(number)) == sorted(x - {number})
    assert (len(a), bool(a)) == (len(x), bool(x))
    for made in (a, b, a | b, a - b):
        # One way to write a set: ranges ascend and do not touch, so that equal sets are equal values.
        assert made == Numbers.of(made.ranges)
        assert all(first[1] + 1 < second[0] for first, second in zip(made.ranges, made.ranges[1:], strict=False))
