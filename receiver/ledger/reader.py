# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The reading side of a ledger, on whatever database: which query runs on which connection."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager

from receiver.ledger import gaps, queries, search
from receiver.ledger.port import (
    AlarmRow,
    Column,
    Found,
    GapHour,
    Hole,
    ParkedRow,
    RegisteredKey,
    SignedLink,
    StreamPosition,
    StreamState,
    StreamSummary,
    Transmission,
    Wanted,
    Withdrawn,
)
from receiver.ledger.sql import Database

MAX_READERS = 8
"""Reading connections that are kept open between queries."""


class LedgerReader(ABC):
    """Queries (`receiver.ledger.port.Queries`); what a database needs for them is in the classes that follow."""

    def key(self, kid: bytes) -> RegisteredKey | None:
        """Find a registered key by its thumbprint."""
        with self._reading() as db:
            return queries.key(db, kid)

    def registry(self) -> list[RegisteredKey]:
        """List all keys, by gateway and age."""
        with self._reading() as db:
            return queries.keys(db)

    def state(self, stream_id: bytes, max_ranges: int) -> StreamState:
        """Say what is committed of a stream; `through` 0 for one that was never seen."""
        with self._reading() as db:
            return queries.state(db, stream_id, max_ranges)

    def streams(self) -> list[StreamSummary]:
        """Summarise all streams."""
        with self._reading() as db:
            return queries.streams(db)

    def positions(self) -> list[StreamPosition]:
        """Say of all streams how far they are, without counting what is there."""
        with self._reading() as db:
            return queries.positions(db)

    def links(self, stream_id: bytes) -> Iterator[SignedLink]:
        """Give the stored evidence of a stream in the order of numbers."""
        with self._reading() as db:
            yield from queries.links(db, stream_id)

    def withdrawn(self, stream_id: bytes) -> list[Withdrawn]:
        """List the ranges of batches that tombstones of a stream name."""
        with self._reading() as db:
            return queries.withdrawn(db, stream_id)

    def hours_add_up(self, stream_id: bytes) -> bool:
        """Tell whether the accounts by hours of a stream are those of its batches, and sum up to that of the whole."""
        with self._reading() as db:
            return gaps.hours_add_up(db, stream_id)

    def gap_hours(self, eui: bytes | None, since_us: int | None, until_us: int | None) -> list[GapHour]:
        """Give the gap ledger of a gateway or all, of hours that begin in a period; by gateway and time."""
        with self._reading() as db:
            return gaps.gap_hours(db, eui, since_us, until_us)

    def holes(self, eui: bytes | None) -> list[Hole]:
        """Give the batches that have not come, of a gateway or all."""
        with self._reading() as db:
            return gaps.holes(db, eui)

    def last_signs(self, eui: bytes | None) -> dict[str, int]:
        """Give CLOCK_BOOTTIME of the last sign of each boot, by its id in hex."""
        with self._reading() as db:
            return gaps.last_signs(db, eui)

    def frames(self, after: int, limit: int) -> Sequence[dict[str, Column]]:
        """Give receptions with an id beyond `after`, in the order of their commit."""
        with self._reading() as db:
            return queries.frames(db, after, limit)

    def highest(self) -> int:
        """Return the highest id of a reception, 0 for none."""
        with self._reading() as db:
            return search.highest(db)

    def search(self, after: int, limit: int, wanted: Wanted, *, bulk: bool = False) -> Found:
        """Give receptions with an id beyond `after`, in the order of their commit; `bulk` for who wants them all."""
        with self._reading() as db:
            return search.receptions(db, after, limit, wanted, bulk=bulk)

    def transmissions(self, after: int, limit: int, wanted: Wanted) -> tuple[list[Transmission], int, bool]:
        """Give transmissions of which a reception beyond `after` is wanted; where to go on; whether there is more."""
        with self._reading() as db:
            return search.transmissions(db, after, limit, wanted)

    def alarms(self) -> list[AlarmRow]:
        """List the alarms, latest first."""
        with self._reading() as db:
            return queries.alarms(db)

    def quarantined(self) -> tuple[int, int]:
        """Count what is in quarantine: batches, bytes."""
        with self._reading() as db:
            return queries.quarantined(db)

    def quarantine(self) -> Iterator[ParkedRow]:
        """Give what is in quarantine, the oldest first."""
        with self._reading() as db:
            yield from queries.quarantine(db)

    def quarantined_row(self, number: int) -> ParkedRow | None:
        """Find what is in quarantine by its id."""
        with self._reading() as db:
            return queries.quarantined_row(db, number)

    def kept_from(self) -> int:
        """Return since when frames are kept; those received before are gone."""
        with self._reading() as db:
            return queries.kept_from(db)

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[LedgerReader]:
        """Give queries that all see the same state, for one thread."""
        with self._reading() as db:
            yield _Snapshot(db)

    @abstractmethod
    def close(self) -> None:
        """Let go of the database."""

    @abstractmethod
    def _reading(self) -> AbstractContextManager[Database]:
        """Borrow a connection; all queries of the block see the same state.

        Raises:
            LedgerError: the database does not give; also from within the block.
        """


class _Snapshot(LedgerReader):
    """Queries within one transaction of a borrowed connection."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def close(self) -> None:
        """Leave the connection to whom it belongs."""

    def _reading(self) -> AbstractContextManager[Database]:
        return contextlib.nullcontext(self._db)
