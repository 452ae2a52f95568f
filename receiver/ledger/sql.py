# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What the ledger's SQL runs on: the same small face for SQLite and PostgreSQL, so that each statement is written once.

A statement is written for both: `?` stands for a parameter, in the order of the parameters; no function, operator or
type that only one of them has (`CASE` instead of `max(a, b)`, `IS NOT DISTINCT FROM` instead of `IS`); columns of
`ON CONFLICT DO UPDATE` with the table in front of them; `RETURNING` instead of the last row's id. Where the engines
cannot do the same in the same words, `Database` has a method for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

Value = int | float | str | bytes | None
"""What a column holds: binary strings are `bytes`, times and flags integers, everywhere."""
Row = Any
"""A tuple of values, as a database gives it."""


class Rows(Protocol):
    """What a statement gave."""

    @property
    def rowcount(self) -> int:
        """Rows that it changed."""
        ...

    @property
    def description(self) -> Any:
        """One entry per column, whose first element is its name; None for a statement that gives no rows."""
        ...

    def fetchone(self) -> Row:
        """Give the next row, None after the last."""
        ...

    def fetchall(self) -> list[Row]:
        """Give the rest."""
        ...

    def __iter__(self) -> Iterator[Row]: ...


class Database(Protocol):
    """A connection within a transaction."""

    def execute(self, statement: str, parameters: Sequence[Value] = (), /) -> Rows:
        """Run a statement."""
        ...

    def executemany(self, statement: str, parameters: Iterable[Sequence[Value]], /) -> object:
        """Run a statement for each row of parameters."""
        ...

    def append(self, table: str, columns: str, rows: Iterable[Sequence[Value]], /) -> None:
        """Insert many rows the quickest way there is; `columns` are names with commas."""
        ...

    def stream(self, statement: str, parameters: Sequence[Value] = (), /) -> Iterator[Row]:
        """Give the rows of a query one by one, however many there are, without holding them all."""
        ...

    def hold(self, eui: bytes, /) -> None:
        """Wait until nobody else changes anything of a gateway, and keep it so until the end of the transaction."""
        ...

    def take_turn(self, received_us: int, /) -> None:
        """Make ready to append frames that were received now.

        From here to the end of the transaction nobody else appends any: so their ids grow in the order of commit.
        """
        ...

    def utc_us(self) -> int | None:
        """Return what the database server's clock shows, None where it has none of its own."""
        ...

    def take_time(self) -> None:
        """Lift the limits of time until the end of the transaction."""
        ...

    def last_frame_id(self) -> int:
        """Return the highest id that a frame ever had."""
        ...

    def go_on_behind(self, frame_id: int, /) -> None:
        """Give new ids behind those that rows brought with them, and to frames behind one more."""
        ...


def marks(count: int) -> str:
    """Write so many parameters."""
    return ", ".join("?" * count)


def names(rows: Rows) -> list[str]:
    """Return the names of the columns of a result."""
    return [column[0] for column in rows.description]
