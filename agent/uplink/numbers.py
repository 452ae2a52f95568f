# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Sets of batch numbers as ascending ranges: a week of backlog is one pair of integers, not sixty thousand."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


@dataclass(frozen=True, slots=True)
class Numbers:
    """An immutable set of positive integers.

    Attributes:
        ranges: inclusive, ascending, neither overlapping nor touching.
    """

    ranges: tuple[tuple[int, int], ...] = ()

    @classmethod
    def of(cls, ranges: Iterable[tuple[int, int]]) -> Numbers:
        """Make a set of inclusive ranges in any order; a range that ends before it begins is empty."""
        merged: list[tuple[int, int]] = []
        for first, last in sorted(pair for pair in ranges if pair[0] <= pair[1]):
            if merged and first <= merged[-1][1] + 1:
                merged[-1] = (merged[-1][0], max(merged[-1][1], last))
            else:
                merged.append((first, last))
        return cls(tuple(merged))

    def __or__(self, other: Numbers) -> Numbers:
        """Return what is in either."""
        return Numbers.of((*self.ranges, *other.ranges))

    def __sub__(self, other: Numbers) -> Numbers:
        """Return what is in this set and not in the other."""
        left = list(reversed(self.ranges))
        kept: list[tuple[int, int]] = []
        holes = iter(other.ranges)
        hole = next(holes, None)
        while left:
            first, last = left.pop()
            while hole is not None and hole[1] < first:
                hole = next(holes, None)
            if hole is None or hole[0] > last:
                kept.append((first, last))
                continue
            if hole[0] > first:
                kept.append((first, hole[0] - 1))
            if hole[1] < last:
                left.append((hole[1] + 1, last))
        return Numbers(tuple(kept))

    def with_number(self, number: int) -> Numbers:
        """Add one number."""
        return self if number in self else self | Numbers(((number, number),))

    def without_number(self, number: int) -> Numbers:
        """Take one number out."""
        return self - Numbers(((number, number),)) if number in self else self

    def __contains__(self, number: object) -> bool:
        if not isinstance(number, int):
            return False
        at = bisect_right(self.ranges, number, key=lambda pair: pair[0])
        return at > 0 and number <= self.ranges[at - 1][1]

    def __iter__(self) -> Iterator[int]:
        for first, last in self.ranges:
            yield from range(first, last + 1)

    def __bool__(self) -> bool:
        return bool(self.ranges)

    def __len__(self) -> int:
        return sum(last - first + 1 for first, last in self.ranges)

    @property
    def oldest(self) -> int | None:
        """The smallest number, None when empty."""
        return self.ranges[0][0] if self.ranges else None

    @property
    def newest(self) -> int | None:
        """The greatest number, None when empty."""
        return self.ranges[-1][1] if self.ranges else None
