# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The rows of a damaged spool that can be read, copied into a new one: sessions, frames, clock anchors, bookkeeping."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from agent.batch.model import MAX_NUMBER, UNKNOWN_BOOT
from agent.frame import Session
from agent.spool import row
from agent.spool.bisected import Bisected, Range
from agent.spool.book import ANCHORS, SESSIONS, Book, needed_rows, read_anchors, read_sessions, session_checksum
from agent.spool.hidden import ROWS_PER_PAGE, Wanted, recover
from agent.spool.pages import Pages
from agent.spool.soundness import root_of
from agent.spool.state import State, Stream, journal_of, load_snapshot
from agent.spool.store import scalar

log = logging.getLogger(__name__)

_SAVED = 1000
"""Rows that are written at once."""
MAX_BITS = 63
"""Of a route."""


class SoundSessions(dict[int, Session]):
    """Sessions of the concentrator; of one whose row is lost that which is known of it otherwise.

    Args:
        sound: those that can be read.
        boots: that are known.
        checksums: of all rows that are there, damaged or not.
    """

    def __init__(self, sound: dict[int, Session], boots: set[bytes], checksums: Sequence[int]) -> None:
        super().__init__(sound)
        self._boots = (boots | {session.boot_id for session in sound.values()}) - {UNKNOWN_BOOT}
        self._checksums = frozenset(checksums)

    def __missing__(self, number: int) -> Session:
        """Make up for the one that a sound frame names: the frame is there, only its boot may not be known."""
        fitting = [boot for boot in self._boots if session_checksum(number, boot) in self._checksums]
        boot_id = next(iter(fitting or self._boots), UNKNOWN_BOOT)
        if number == 0 or (not fitting and len(self._boots) > 1):  # 0: of frames that never had a time
            boot_id = UNKNOWN_BOOT
        self[number] = Session(boot_id, number)
        return self[number]


class RowRescue:
    """One run over one damaged file, as far as its rows go."""

    def __init__(self, source: sqlite3.Connection, target: sqlite3.Connection, aside: Path, pages: Pages) -> None:
        source.execute("PRAGMA cell_size_check = ON")
        self._source = source
        self._target = target
        self._aside = aside
        self._pages = pages
        self._frames = Bisected(source)
        self._batches = Bisected(source)
        self._saved = 0
        self._whole = self._broken = self._seen_streams = 0
        self._torn = 0  # rows since the snapshot that are lost, and what they had noted with them
        self._settled = 0  # newest row that the snapshot knew
        self._gapless: int | None = None  # row from which on all were there
        self._end_lost = 0  # rows that there may have been behind the newest
        self._newest = 0  # row before those that were given a new place
        self._gaps: tuple[Range, ...] = ()
        self._first = 1  # row before which nothing is waited for
        self._wrecks = 1
        self._hidden = 0  # rows to which SQLite found no way
        self._between: dict[int, tuple[Any, Any]] = {}  # last batch acknowledged and next batch, by stream; unverified
        self._numbers: dict[int, set[int]] = {}  # of batches that are there, by stream
        self._known_streams: list[Stream] = []
        self._noted: dict[int, int] = {}  # unsealed frames that notes tell of, by stream
        self._sessions = SoundSessions({}, set(), [])

    def _count(self, first: int, last: int) -> int:
        return scalar(self._target, "SELECT count(*) FROM frame WHERE seq BETWEEN ? AND ?", int, first, last)

    def _state(self) -> State | None:
        try:
            self._source.execute("BEGIN")
            try:
                return load_snapshot(self._source)
            finally:
                self._source.execute("ROLLBACK")
        except (sqlite3.Error, UnicodeDecodeError) as error:
            log.warning("event=spool_account_lost problem=%s", error)
            return None

    def _read_sessions(self, known: State | None) -> SoundSessions:
        sql = SESSIONS.replace("ORDER", "WHERE number BETWEEN ? AND ? ORDER")
        rows = list(Bisected(self._source).rows(sql, 0, MAX_NUMBER))
        boots = {hour.boot_id for hour in known.hours} if known else set()
        return SoundSessions(read_sessions(rows), boots, [crc for *_, crc in rows])

    def _copy_sessions(self) -> None:
        self._target.executemany(
            "INSERT INTO session (number, boot_id, row_crc32) VALUES (?, ?, ?)",
            [
                (number, session.boot_id, session_checksum(number, session.boot_id))
                for number, session in sorted(self._sessions.items())
            ],
        )

    def _copy_frames(self, known: State | None) -> int:
        """Copy the sound rows; return the number of the newest frame there ever was, as far as it can be told."""
        kept: list[tuple[Any, ...]] = []
        sql = f"SELECT {row.COLUMNS} FROM frame WHERE seq BETWEEN ? AND ? ORDER BY seq"  # noqa: S608 - constants
        newest = 0
        for columns in self._frames.rows(sql, 1, MAX_NUMBER):
            try:
                row.from_row(columns, self._sessions)
            except row.DamagedRowError:
                self._frames.lose(columns[0], columns[0])
                continue
            newest = columns[0]
            kept.append(columns)
            self._saved += 1
            if len(kept) == _SAVED:
                self._target.executemany(row.INSERT, kept)
                kept.clear()
        self._target.executemany(row.INSERT, kept)
        found = recover(self._pages, self._target, self._sessions, Wanted(self._needs(known)))
        self._saved += found.rows
        newest = max(newest, found.newest)
        last = self._end(newest)
        self._wrecks, self._hidden = max(found.wrecks, 1), found.rows
        if last is None:
            self._end_lost = ROWS_PER_PAGE * self._wrecks
        return newest if last is None else max(newest, last)

    def _needs(self, known: State | None) -> list[tuple[int, int, int]]:
        """Return which frames are waited for; where the bookkeeping is lost, those behind the first that are there."""
        if known is not None:
            return needed_rows(known)
        sealed = list(self._sealed_from())
        needs = []
        for bit in range(MAX_BITS):
            first = self._target.execute("SELECT min(seq) FROM frame WHERE route & ?", (1 << bit,)).fetchone()[0]
            if first is not None or self._frames.damaged:
                needs.append((min([*sealed, *([] if first is None else [first])], default=1), MAX_NUMBER, 1 << bit))
        newest = self._target.execute("SELECT max(seq) FROM frame").fetchone()[0] or 0
        return [*needs, (newest + 1, MAX_NUMBER, (1 << MAX_BITS) - 1)]

    def _sealed_from(self) -> Iterator[int]:
        """Yield where batches begin that wait, as far as they can be read."""
        sql = "SELECT id, first_row FROM batch WHERE id BETWEEN ? AND ? AND state IN (0, 2) ORDER BY id"
        for _, first_row in Bisected(self._source).rows(sql, 1, MAX_NUMBER):
            if isinstance(first_row, int):
                yield max(first_row, 1)

    def _end(self, newest: int) -> int | None:
        """Return the number of the last frame that there was, None where there may have been more than that tells."""
        try:
            tail = self._pages.tail(root_of(self._source), self._sessions)
        except (sqlite3.Error, UnicodeDecodeError):
            return None
        return tail.last if tail.sound and tail.last <= newest + ROWS_PER_PAGE else None

    def _missing(self) -> tuple[Range, ...]:
        """Return the ranges of rows that could not be read, and the gaps among those without gaps."""
        searched = [(low, min(high, self._newest)) for low, high in self._frames.damaged]
        if self._gapless is not None:
            searched.append((self._gapless, self._newest))
        missing: list[Range] = []
        edge = 1
        for low, high in sorted(searched):
            edge = max(low, edge)
            for (seq,) in self._target.execute("SELECT seq FROM frame WHERE seq BETWEEN ? AND ?", (edge, high)):
                if seq > edge:
                    missing.append((edge, seq - 1))
                edge = seq + 1
            if edge <= high:
                missing.append((edge, high))
                edge = high + 1
        return tuple(missing)

    def _copy_place(self, book: Book, known: State | None, last_row: int) -> None:
        state = book.state
        state.last_row = last_row
        state.session = max([known.session if known else 0, *self._sessions])
        if known is not None:
            state.spool_id, state.gateway_eui, state.journal = known.spool_id, known.gateway_eui, known.journal
            state.next_anchor, state.hours = known.next_anchor, known.hours
            self._target.executemany(
                "INSERT INTO hour (id, boot_id, hour) VALUES (?, ?, ?)",
                [(number, *hour) for hour, number in known.hours.items()],
            )
        else:
            with contextlib.suppress(sqlite3.Error):
                found = self._source.execute("SELECT spool_id, gateway_eui, journal FROM spool").fetchone()
                if found is not None and isinstance(found[0], bytes):
                    state.spool_id, state.gateway_eui, state.journal = found
            # the newest note that can be read says how far the journal is contained
            newest = "SELECT note FROM frame WHERE note IS NOT NULL ORDER BY seq DESC LIMIT 1"
            for (note,) in self._target.execute(newest).fetchall():
                state.journal = max(state.journal, journal_of(note))
            if len(state.gateway_eui or bytes(8)) != 8:
                state.gateway_eui = None
        self._target.execute("UPDATE spool SET spool_id = ?", (state.spool_id,))
        with contextlib.suppress(sqlite3.Error):
            imported = self._source.execute("SELECT spool_id, last_row FROM imported").fetchall()
            self._target.executemany("REPLACE INTO imported (spool_id, last_row) VALUES (?, ?)", imported)

    def _copy_anchors(self, book: Book) -> None:
        sql = ANCHORS.replace("id >= ?", "id BETWEEN ? AND ?")
        found = list(Bisected(self._source).rows(sql, 1, MAX_NUMBER))
        self._target.executemany(
            "INSERT INTO anchor (id, boot_id, boottime_us, utc_us, uncertainty_us, source, row_crc32) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            [columns for columns in found if read_anchors([columns])],
        )
        book.state.next_anchor = max([book.state.next_anchor, *(columns[0] + 1 for columns in found)])
