# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Reading a table some of whose pages cannot be read: by ranges of its key, halved wherever that fails."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

TRIES = 50_000
"""Reads that fail, after which what is left of a range is given up: a page that leads to many others is gone."""

Range = tuple[int, int]


@dataclass
class Bisected:
    """Rows of a table, read by ranges of its integer key.

    Attributes:
        damaged: ranges in which reading failed, ascending.
    """

    connection: sqlite3.Connection
    damaged: list[Range] = field(default_factory=list)
    _tries: int = TRIES

    def rows(self, sql: str, first: int, last: int) -> Iterator[tuple[Any, ...]]:
        """Yield the rows with keys from `first` to `last`; `sql` has two places, gives the key first, orders by it."""
        ranges = [(first, last)]
        while ranges:
            low, high = ranges.pop()
            try:
                for found in self.connection.execute(sql, (low, high)):
                    if not isinstance(found[0], int) or not low <= found[0] <= high:
                        # What its key was is not known; most likely the one that is next here.
                        self.lose(low, low)
                        low += 1
                        raise sqlite3.DatabaseError("row out of order")
                    low = found[0] + 1
                    yield found
            except (sqlite3.Error, UnicodeDecodeError, OverflowError):
                self._tries -= 1
                if low >= high or self._tries <= 0:
                    self.lose(low, high)
                else:
                    middle = (low + high) // 2
                    ranges += [(middle + 1, high), (low, middle)]

    def lose(self, low: int, high: int) -> None:
        """Note that nothing could be read there."""
        if low > high:
            return
        if self.damaged and self.damaged[-1][1] >= low - 1:
            self.damaged[-1] = (self.damaged[-1][0], high)
        else:
            self.damaged.append((low, high))
