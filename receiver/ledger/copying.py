# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""A whole ledger from one database into another, of the same kind or the other: every row, every id.

Which tables and columns there are, an empty ledger in memory says: both engines have the same.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing

from receiver.errors import LedgerError
from receiver.ledger.schema import scripts
from receiver.ledger.sql import Database, Row


def copy(source: Database, target: Database, place: str) -> dict[str, int]:
    """Fill an empty ledger; return how many rows of which table.

    Args:
        source: within a transaction.
        target: within a transaction; has room for frames of all weeks.
        place: of the target, for people.

    Raises:
        LedgerError: CG-LED-011, the target is not empty.
    """
    if target.execute("SELECT count(*) FROM gateway").fetchone()[0]:
        hint = "it was left untouched; give the copy a new database"
        raise LedgerError("holds a ledger already", where=place, hint=hint, code="CG-LED-011")
    target.take_time()
    counts = {}
    for table, columns in tables():
        names = ", ".join(columns)
        # a new ledger holds what its schema put there, and perhaps what strangers have sent since
        target.execute(f"DELETE FROM {table}")  # noqa: S608 - our own words
        counted = _Counted(source.stream(f"SELECT {names} FROM {table} ORDER BY {columns[0]}"))  # noqa: S608 - as above
        target.append(table, names, counted)
        counts[table] = counted.count
    target.go_on_behind(source.last_frame_id())
    return counts


def tables() -> Iterator[tuple[str, tuple[str, ...]]]:
    """Give the tables in an order in which each finds what it refers to, with their columns."""
    with closing(sqlite3.connect(":memory:")) as db:
        for _, script in scripts("sqlite", 0):
            db.executescript(script)
        found = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY rowid"
        for (table,) in db.execute(found).fetchall():
            yield table, tuple(row[1] for row in db.execute(f"PRAGMA table_info({table})"))


class _Counted(Iterator[Row]):
    """Rows that are counted as they go by."""

    def __init__(self, rows: Iterator[Row]) -> None:
        self._rows = rows
        self.count = 0

    def __next__(self) -> Row:
        row = next(self._rows)
        self.count += 1
        return row
