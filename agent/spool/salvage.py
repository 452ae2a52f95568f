# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What can be saved from a damaged spool: every row that can be read, into a new file; the old one is kept aside.

SQLite stops at the first bad page. Reading by ranges of row numbers, halved wherever that fails, comes to all that lies
on good pages; frames to which the tree does not lead any more are found by looking at every page, whatever it is
(`agent.spool.hidden`). A row counts only if it fits its checksum. Sealed batches stay what they are, in their old
streams, which go on until they are empty, so that nothing travels twice; whatever was not sealed travels in new ones.

Frames since the snapshot have no gaps in their numbers, and the account knows how many there were before; so what is
missing is known exactly, but for what stood in a last page of which nothing is left: there the most is declared that it
can have held.

The new file takes the place of the old one in steps that can be repeated, so that a power cut at any moment leaves
either the old file or the new one, complete.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import shutil
import sqlite3
import struct
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from agent.batch import codec
from agent.batch.errors import RefusedError
from agent.batch.model import GENESIS_HASH, HOUR_US, MAX_NUMBER, UNKNOWN_BOOT, Account, Loss
from agent.errors import SpoolError
from agent.frame import Session
from agent.spool import row, signing, store, wal
from agent.spool.answers import hand_over, inherit_stones, take_off
from agent.spool.book import (
    ANCHORS,
    SESSIONS,
    Book,
    needed_rows,
    read_anchors,
    read_sessions,
    session_checksum,
)
from agent.spool.hidden import ROWS_PER_PAGE, Wanted, recover
from agent.spool.intake import Heard, hour_of
from agent.spool.pages import Pages
from agent.spool.room import add_stone
from agent.spool.state import (
    EARLIER,
    NUMBER_BITS,
    BatchState,
    Sealed,
    State,
    Stream,
    add_notes,
    batch_checksum,
    hours_blob,
    journal_of,
    load,
    load_snapshot,
    read_hours,
    save,
)
from agent.spool.store import scalar

log = logging.getLogger(__name__)

TRIES = 50_000
"""Reads that fail, after which what is left of a range is given up: a page that leads to many others is gone."""
_BATCH = "id, first_row, last_row, frames, bytes, state, reason, detail, signed_header, context, hours, batch_crc32"
_SAVED = 1000
"""Rows that are written at once."""
LOOKED_BACK = 100_000
"""Frames that are compared with the journal; it never holds more."""
DAMAGED = "CG-SPL-004"
FLIPPED_BITS = 2
_DECLARED = "SELECT type, name, tbl_name, coalesce(sql, '') FROM sqlite_schema"
_HEADER = {  # [SQLite database file format, 1.3], for a file of ours
    0: b"SQLite format 3\0" + store.PAGE_BYTES.to_bytes(2, "big") + bytes([2, 2, 0, 64, 32, 32]),
    44: (4).to_bytes(4, "big"),
    52: bytes(4) + (1).to_bytes(4, "big"),
    64: bytes(4) + store.APPLICATION_ID.to_bytes(4, "big") + bytes(20),
}
MAX_BITS = 63
"""Of a route."""
UNKNOWN_END = 100_000
"""Row numbers that are left out where the end of the frames cannot be read: none may be used twice."""

Range = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Salvaged:
    """What became of a damaged spool.

    Attributes:
        aside: the damaged file, as it was.
        frames: rows that were saved.
        damaged: ranges of row numbers, both ends included, of which some could not be read. Rows that had been freed
            before are not told from those that were lost.
        lost: frames in them, as far as the account says, by destination.
        batches: sealed batches that were saved with all they need.
        broken_batches: sealed batches of which something is missing; what is left of them travels again.
        whole_account: whether the account could be read; if not, what was only counted since the last snapshot, or
            all of it, is lost, and it begins anew with what was saved.
    """

    aside: Path
    frames: int
    damaged: tuple[Range, ...]
    lost: dict[str, int]
    batches: int
    broken_batches: int
    whole_account: bool


def pending(path: Path) -> Path:
    """Return where the new file lies, complete, until it has taken its place."""
    return path.with_name(path.name + ".new")


def finish(path: Path) -> None:
    """Let the new file take its place, if there is one. The caller holds the lock.

    Raises:
        OSError: the folder cannot be written.
    """
    if not pending(path).exists():
        return
    for suffix in ("-wal", "-shm"):  # of the old file: with the new one they would be taken for its own
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    _sync_folder(path)
    pending(path).replace(path)
    _sync_folder(path)


def salvage(
    path: Path, destinations: Sequence[str] = (), spool_id: bytes | None = None, left_out: Sequence[bytes] = ()
) -> Salvaged:
    """Save what can be read into a new file in the place of the old. The caller holds the lock and no connection.

    Args:
        path: of the spool.
        destinations: as configured, for the case that the spool does not tell.
        spool_id: the same.
        left_out: pages of the log that are not in it any more.

    Raises:
        SpoolError: the new file cannot be written, for one because there is no room.
        OSError: the same.
    """
    draft = path.with_name(path.name + ".part")
    _sweep(path)
    aside = _free_name(path)
    source = _open(path)
    try:
        source, place = _readable(source, path)
        target = store.open_writer(draft, 1 << 40)
        target.execute("PRAGMA journal_mode = OFF")  # a draft that is not finished is thrown away: write it once
        try:
            with store.explained(draft):
                with Pages(place, left_out) as pages:
                    found = _Rescue(source, target, aside, pages).run(destinations, spool_id)
                target.execute("PRAGMA journal_mode = DELETE")  # all in one file
        finally:
            target.close()
        source.close()
        _sync(draft)
        _keep(path, aside)
        draft.replace(pending(path))
    finally:
        source.close()
        _sweep(path)
    _sync_folder(path)
    finish(path)
    log.error(
        "event=spool_salvaged kept=%s frames=%d damaged=%s batches=%d broken=%d",
        *(aside, found.frames, list(found.damaged), found.batches, found.broken_batches),
    )
    return found


def _open(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)


def _readable(source: sqlite3.Connection, path: Path) -> tuple[sqlite3.Connection, Path]:
    """Return a connection that can read the schema, and to what: where its pages are damaged, a copy with new ones.

    The tables of a schema version are made in one order, so their first pages are the same in every spool that was
    never migrated.
    """
    with contextlib.suppress(sqlite3.Error, UnicodeDecodeError):
        if (
            not header_damaged(path)
            and schema_fits(source)
            and source.execute("SELECT count(*) FROM spool").fetchone()[0] >= 0
        ):
            return source, path
    source.close()
    copy = path.with_name(path.name + ".part-source")
    model = path.with_name(path.name + ".part-model")
    shutil.copyfile(path, copy)
    wal = path.with_name(path.name + "-wal")
    if wal.exists():
        shutil.copyfile(wal, copy.with_name(copy.name + "-wal"))
    model.unlink(missing_ok=True)
    store.open_writer(model, 1 << 40).close()
    with contextlib.closing(_open(model)) as made:
        tables = {root for (root,) in made.execute("SELECT rootpage FROM sqlite_schema")}
    pages = bytearray(model.read_bytes())
    pages[28:32] = (copy.stat().st_size // store.PAGE_BYTES).to_bytes(4, "big")  # size of the database
    pages[32:40] = bytes(8)  # no free pages
    with copy.open("r+b") as file:
        for number in range(1, len(pages) // store.PAGE_BYTES + 1):
            if number not in tables:
                place = (number - 1) * store.PAGE_BYTES
                file.seek(place)
                file.write(pages[place : place + store.PAGE_BYTES])
    log.warning("event=spool_schema_damaged file=%s", path)
    return _open(copy), copy


def header_damaged(path: Path) -> bool:
    """Say whether what never changes in the header of the file differs by a bit or two: SQLite believes most of it."""
    with path.open("rb") as file:
        found = file.read(100)
    if len(found) < 100:
        return False
    right = bytearray(found)
    for place, value in _HEADER.items():
        right[place : place + len(value)] = value
    if int.from_bytes(found[60:64], "big") & 0xFFFF == 0:  # user_version of a file that was never completed
        right[63] |= 1
    return 0 < sum((a ^ b).bit_count() for a, b in zip(found, right, strict=True)) <= FLIPPED_BITS


def schema_fits(connection: sqlite3.Connection) -> bool:
    """Say whether the tables are declared as this version declares them; of other versions nothing is known here."""
    version = store.versions(connection)[0]
    known = store.schema()
    if version != int(known[-1][0].partition("_")[0]):
        return True
    with contextlib.closing(sqlite3.connect(":memory:")) as model:
        for _, script in known:
            model.executescript(script)
        return sorted(model.execute(_DECLARED)) == sorted(connection.execute(_DECLARED))


def _sweep(path: Path) -> None:
    for rest in path.parent.glob(f"{path.name}.part*"):
        rest.unlink(missing_ok=True)


def mend(path: Path, destinations: Sequence[str]) -> Salvaged | None:
    """Salvage a spool that is damaged beyond what the writer can go on with; None when there is nothing to do.

    The caller holds the lock.

    Raises:
        SpoolError: the new file cannot be written.
        OSError: the same.
    """
    finish(path)
    _sweep(path)
    if not path.exists() or not path.stat().st_size:
        return None
    finding, left_out = wal.mend(path)
    if finding is wal.Finding.BROKEN:
        return salvage(path, destinations, left_out=left_out)
    if header_damaged(path):
        log.error("event=spool_damaged problem=%s: its header is damaged", path)
        return salvage(path, destinations)
    try:
        with contextlib.closing(store.open_reader(path, older=True)) as connection, store.explained(path):
            if scalar(connection, "PRAGMA user_version", int):  # else it was never completed
                connection.execute("BEGIN")
                known = load(connection)
                if not schema_fits(connection):
                    raise sqlite3.DatabaseError("the schema is damaged")
                _check_ways(path, connection, known)
    except SpoolError as error:
        if error.code != DAMAGED and "no such" not in error.what:  # a table or column whose name has changed
            raise
        log.error("event=spool_damaged problem=%s", error)  # noqa: TRY400 - it is dealt with
        return salvage(path, destinations)
    return None


def _check_ways(path: Path, connection: sqlite3.Connection, known: State) -> None:
    """Look at what no count would miss: the newest frames, of which only their own page tells, and the sessions.

    Raises:
        sqlite3.DatabaseError: frames are hidden there.
        OSError: the file cannot be read.
    """
    rows = connection.execute(SESSIONS).fetchall()
    sessions = read_sessions(rows)
    if len(sessions) != len(rows):
        raise sqlite3.DatabaseError("a session of the concentrator is damaged")
    with Pages(path) as pages:
        tail = pages.tail(_root(connection), sessions)
    if not tail.sound or tail.hidden > known.last_row:
        raise sqlite3.DatabaseError("the newest frames are not to be found")


def _root(connection: sqlite3.Connection) -> int:
    """Return the first page of table frame."""
    return scalar(connection, "SELECT rootpage FROM sqlite_schema WHERE name = 'frame'", int)


def unless_kept(connection: sqlite3.Connection, heard: Iterable[tuple[int, Heard]]) -> list[tuple[int, Heard]]:
    """Leave out of the journal's records what the spool has, where its position in the journal was lost.

    Args:
        connection: to the spool.
        heard: records, as (number, what was heard).
    """
    newest = connection.execute("SELECT max(seq) FROM frame").fetchone()[0] or 0
    kept = {
        (session, counter_us, payload)
        for session, counter_us, payload in connection.execute(
            "SELECT session, counter_us, phy_payload FROM frame WHERE seq > ?", (newest - LOOKED_BACK,)
        )
    }
    left = []
    for number, look in heard:
        frames = tuple(
            routed
            for routed in look.frames
            if (routed.frame.session.number, routed.frame.counter_us, routed.frame.phy_payload) not in kept
        )
        tallies = []
        for index, tally in enumerate(look.tallies):
            gone = tally.spooled - sum(routed.route >> index & 1 for routed in frames)
            tallies.append(tally + Account(heard=-gone, spooled=-gone))
        left.append((number, replace(look, frames=frames, tallies=tuple(tallies))))
    return left


def _free_name(path: Path) -> Path:
    number = 1
    while (aside := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    return aside


def _keep(path: Path, aside: Path) -> None:
    """Give the damaged file a second name: its own is about to be taken."""
    for suffix in ("-wal", ""):
        old, new = path.with_name(path.name + suffix), aside.with_name(aside.name + suffix)
        if old.exists():
            try:
                os.link(old, new)
            except OSError:  # a file system without links
                shutil.copy2(old, new)
                _sync(new)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_folder(path: Path) -> None:
    with contextlib.suppress(OSError):  # some file systems cannot
        _sync(path.parent)


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


class _Sessions(dict[int, Session]):
    """Sessions of the concentrator; of one whose row is lost that which is known of it otherwise.

    Args:
        sound: those that can be read.
        boots: that are known.
        checksums: of all rows that are there, damaged or not.
    """

    def __init__(self, sound: dict[int, Session], boots: set[bytes], checksums: Sequence[int]) -> None:
        super().__init__(sound)
        self._boots = boots | {session.boot_id for session in sound.values()}
        self._checksums = frozenset(checksums)

    def __missing__(self, number: int) -> Session:
        """Make up for the one that a sound frame names: the frame is there, only its boot may not be known."""
        fitting = [boot for boot in self._boots if session_checksum(number, boot) in self._checksums]
        boot_id = next(iter(fitting or self._boots), UNKNOWN_BOOT)
        if not fitting and len(self._boots) > 1:
            boot_id = UNKNOWN_BOOT
        self[number] = Session(boot_id, number)
        return self[number]


class _Rescue:
    """One run over one damaged file."""

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
        self._sessions = _Sessions({}, set(), [])

    def run(self, destinations: Sequence[str], spool_id: bytes | None) -> Salvaged:
        known = self._state()
        book = Book(self._target)
        self._target.execute("BEGIN IMMEDIATE")
        book.sessions = self._sessions = self._read_sessions(known)
        last_row = max(self._copy_frames(known), known.last_row if known else 0)
        self._copy_sessions()
        if known is not None:
            self._settled = known.last_row
            self._gapless = known.last_row + 1
            self._torn = last_row - self._settled - self._count(self._settled + 1, last_row) + self._end_lost
            before = {stream.id: stream.unsealed for stream in known.streams.values()}
            add_notes(self._target, known)
            self._noted = {stream.id: stream.unsealed - before[stream.id] for stream in known.streams.values()}
        self._newest = last_row
        if self._end_lost:
            last_row += UNKNOWN_END
        book.state.spool_id = spool_id or book.state.spool_id
        self._copy_place(book, known, last_row)
        streams = list(known.streams.values()) if known else self._streams(destinations)
        if known is None and not self._saved and not self._seen_streams:
            raise sqlite3.DatabaseError("nothing in it is of a spool")
        self._known_streams = streams
        self._first = self._target.execute("SELECT min(seq) FROM frame").fetchone()[0] or self._newest + 1
        if known is None and sum(stream.open for stream in streams) == 1:
            self._gapless = self._first
        self._gaps = self._missing()  # before frames are given another place
        for stream in streams:
            book.state.streams[stream.id] = stream
            self._copy_batches(book, stream, known)
        lost: dict[str, int] = {}
        for old in [stream for stream in streams if stream.open]:
            lost[old.destination] = self._begin_anew(book, old, known)
        self._copy_anchors(book)
        book.free(1, book.state.last_row)  # what nobody waits for, and was out of the way of those who delete it
        for stream in book.state.streams.values():
            stream.dirty.update(stream.hours)  # nothing of it is in this file yet
        save(self._target, book.state)
        self._target.execute("COMMIT")
        whole = known is not None and not self._torn
        return Salvaged(self._aside, self._saved, self._gaps, lost, self._whole, self._broken, whole)

    def _streams_of(self, bit: int) -> list[Stream]:
        return [stream for stream in self._known_streams if stream.bit == bit]

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

    # ------------------------------------------------------------------ rows

    def _read_sessions(self, known: State | None) -> _Sessions:
        sql = SESSIONS.replace("ORDER", "WHERE number BETWEEN ? AND ? ORDER")
        rows = list(Bisected(self._source).rows(sql, 0, MAX_NUMBER))
        boots = {hour.boot_id for hour in known.hours} if known else set()
        return _Sessions(read_sessions(rows), boots, [crc for *_, crc in rows])

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
            tail = self._pages.tail(_root(self._source), self._sessions)
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

    # ------------------------------------------------------------------ streams

    def _streams(self, destinations: Sequence[str]) -> list[Stream]:
        """Read the streams one by one when the snapshot as a whole does not hold."""
        streams: dict[int, Stream] = {}
        columns = "id, destination, bit, stream_id, open, through, next_number"
        sql = f"SELECT {columns} FROM stream WHERE id BETWEEN ? AND ? ORDER BY id"  # noqa: S608 - constants
        for number, destination, bit, stream_id, is_open, through, after in Bisected(self._source).rows(
            sql, 1, 1 << 20
        ):
            if isinstance(destination, str) and isinstance(stream_id, bytes) and bit in range(MAX_BITS):
                streams[number] = _blank(number, destination, bit, stream_id, is_open=bool(is_open))
                self._between[number] = (through, after)
        self._seen_streams = len(streams)
        for bit, name in enumerate(destinations):
            if not any(stream.open and stream.destination == name for stream in streams.values()):
                number = max(streams, default=0) + 1
                streams[number] = _blank(number, name, bit, secrets.token_bytes(16), is_open=True)
        return list(streams.values())

    def _copy_batches(self, book: Book, stream: Stream, known: State | None) -> None:
        before = stream.sealed
        stream.sealed = {}
        sql = f"SELECT {_BATCH} FROM batch WHERE id BETWEEN ? AND ? ORDER BY id"  # noqa: S608 - constants
        numbers = self._numbers[stream.id] = set[int]()
        for columns in self._batches.rows(sql, stream.key(1), stream.key((1 << NUMBER_BITS) - 1)):
            if self._copy_batch(stream, columns, known):
                numbers.add(columns[0] & ((1 << NUMBER_BITS) - 1))
        gone = {number: batch for number, batch in before.items() if number not in stream.sealed}
        for batch in gone.values():  # its header cannot be read; its frames travel again, in the new stream
            self._give_back(book, stream, batch)
        if known is None:
            _settle_place(stream, book)

    def _copy_batch(self, stream: Stream, columns: tuple[Any, ...], known: State | None) -> bool:
        """Copy a batch that is as it was sealed, whether or not all its frames were saved; False when it is not."""
        key, first_row, last_row, frames, weight, batch_state, *_, header, context, hours, crc = columns
        try:
            if batch_checksum(key, first_row, last_row, frames, header, context, hours) != crc:
                return False
            codec.read_header(header)
            batch_state = BatchState(batch_state)
        except (RefusedError, TypeError, ValueError, struct.error):
            return False
        if known is None and frames:  # the hours that it names are not known any more
            hours = hours_blob(((EARLIER, frames),))
            crc = batch_checksum(key, first_row, last_row, frames, header, context, hours)
            columns = (*columns[:-2], hours, crc)
        self._target.execute(f"INSERT INTO batch ({_BATCH}) VALUES ({', '.join('?' * len(columns))})", columns)  # noqa: S608 - constants
        if batch_state in {BatchState.WAITING, BatchState.QUARANTINED}:
            number = key & ((1 << NUMBER_BITS) - 1)
            stream.sealed[number] = Sealed(first_row, last_row, frames, weight, batch_state, read_hours(hours))
            found = scalar(
                self._target,
                "SELECT count(*) FROM frame WHERE seq BETWEEN ? AND ? AND route & ?",
                int,
                *(first_row, last_row, 1 << stream.bit),
            )
            self._whole += found == frames
            self._broken += found != frames
        return True

    def _give_back(self, book: Book, stream: Stream, batch: Sealed) -> None:
        """Move the frames of a batch that is gone behind all others, unsealed."""
        self._broken += 1
        owner = book.state.owner(stream)
        for hour, frames in batch.hours:
            if batch.state is BatchState.QUARANTINED:
                owner.settle(hour, Account(quarantined=-frames))
            if owner is not stream:
                move = Account(heard=frames, spooled=frames)
                stream.settle(hour, -move)
                owner.count(hour, move)
        owner.unsealed += batch.frames
        self._move_up(book, batch.first_row, batch.last_row, stream.bit)

    def _move_up(self, book: Book, first_row: int, last_row: int, bit: int, *, alone: bool = False) -> int:
        """Give frames new numbers at the end, all or those for nobody else; return how many there were."""
        mine = "route = ?" if alone else "route & ?"
        sql = f"SELECT {row.COLUMNS} FROM frame WHERE seq BETWEEN ? AND ? AND {mine} ORDER BY seq"  # noqa: S608 - constants
        frames = [
            row.from_row(columns, self._sessions)
            for columns in self._target.execute(sql, (first_row, last_row, 1 << bit)).fetchall()
        ]
        if alone:
            self._target.execute(
                "DELETE FROM frame WHERE seq BETWEEN ? AND ? AND route = ?", (first_row, last_row, 1 << bit)
            )
        else:
            take_off(book, first_row, last_row, bit)
        again = [
            row.to_row(book.state.last_row + place, 1 << bit, frame, row.pack(frame))
            for place, frame in enumerate(frames, 1)
        ]
        self._target.executemany(row.INSERT, again)
        book.state.last_row += len(again)
        return len(again)

    def _begin_anew(self, book: Book, old: Stream, known: State | None) -> int:
        """Close a stream, which goes on with what it has sealed; begin the one for the rest. Return what is lost."""
        new = book.begin_stream(old.destination, old.bit)
        new.filters = list(old.filters)
        if known is not None:
            new.next_row, new.unsealed = old.next_row, old.unsealed
            inherit_stones(new, old)
        else:
            new.next_row = max((batch.last_row for batch in old.sealed.values()), default=0) + 1
            self._move_orphans(book, old, new.next_row - 1)
        found: Counter[int] = Counter()
        for session, boottime_us, frames in self._target.execute(
            "SELECT session, min(boottime_us), count(*) FROM frame WHERE seq >= ? AND route & ? "
            "GROUP BY session, boottime_us / ?",
            (new.next_row, 1 << old.bit, HOUR_US),
        ).fetchall():
            heard_in = hour_of(self._sessions[session].boot_id, boottime_us)
            found[book.state.hour_id(heard_in) if known else book.know_hour(heard_in)] += frames
        if known is None:
            for hour, frames in found.items():
                new.count(hour, Account(heard=frames, spooled=frames))
            new.unsealed = found.total()
            parked = sum(batch.frames for batch in book.state.quarantined(old))
            if parked:
                new.count(EARLIER, Account(heard=parked, spooled=parked, quarantined=parked))
        else:
            hand_over(old, new)
            signing.inherit(new, old)
        old.open, old.unsealed, old.tombstones = False, 0, {}
        return self._declare(old, new, found) if known is not None else self._declare_unknown(new)

    def _declare(self, old: Stream, new: Stream, found: Counter[int]) -> int:
        """Bring the account in line with what is there."""
        newer = scalar(
            self._target,
            "SELECT count(*) FROM frame WHERE seq BETWEEN ? AND ? AND route & ?",
            int,
            *(max(self._settled + 1, new.next_row), self._newest, 1 << new.bit),
        )
        of_the_snapshot = new.unsealed - self._noted.get(old.id, 0)
        # of what is newer there is no account but the notes on the rows themselves; they may have been for others
        due = max(of_the_snapshot - (found.total() - newer), 0) + self._torn
        for hour, frames in found.items():
            more = frames - new.waiting_in(hour)
            if self._torn and more > 0:  # their note is lost
                new.count(hour, Account(heard=more, spooled=more))
                new.unsealed += more
        lost = new.unsealed - found.total()
        if due > lost:
            new.count(EARLIER, Account(heard=due - lost, spooled=due - lost))
            new.unsealed += due - lost
            lost = due
        if lost <= 0:
            return 0
        missing = {hour: new.waiting_in(hour) - found[hour] for hour in new.hours}
        left = lost
        for hour in sorted(missing, key=lambda hour: -missing[hour]):
            part = min(max(missing[hour], 0), left)
            left -= part
            if part:
                new.count(hour, Account(evicted=part))
        if left:
            new.count(EARLIER, Account(evicted=left))
        add_stone(new, Loss.DAMAGED, lost)
        new.unsealed -= lost
        return lost

    def _declare_unknown(self, new: Stream) -> int:
        """Declare every number that could not be read and is in no batch that waits; it may have been for others."""
        held = sorted(
            (batch.first_row, batch.last_row)
            for stream in self._streams_of(new.bit)
            for batch in stream.sealed.values()
        )
        first = min([self._first, *(low for low, _ in held)])
        lost = self._end_lost
        if self._gapless is None and (self._hidden or self._frames.damaged):
            # frames that were delivered to others make holes, too; the pages that were hit can hold so many
            there = self._count(first, self._newest)
            lost += min(self._newest + 1 - first - there, ROWS_PER_PAGE * (self._wrecks + 1))
        for low, high in self._gaps if self._gapless is not None else ():
            if low < first:  # what was delivered is not told from what was lost
                lost += min(first - low, ROWS_PER_PAGE * self._wrecks)
            lost += sum(stop - start + 1 for start, stop in _outside(max(low, first), high, held))
        if lost:
            new.count(EARLIER, Account(heard=lost, spooled=lost, evicted=lost))
            add_stone(new, Loss.DAMAGED, lost)
        return lost

    def _move_orphans(self, book: Book, old: Stream, last_row: int) -> None:
        """See to frames before the last sealed batch that no sealed batch has.

        Where no batch is missing they were delivered, and are here for others. Otherwise they may be of a batch that is
        gone: they travel again, perhaps for the second time. What is for this destination alone would not be here if
        it had been delivered.
        """
        seen = self._numbers[old.id]
        edge, before = 1, self._between.get(old.id, (0, 0))[0]
        for number, batch in sorted(old.sealed.items(), key=lambda item: item[1].first_row):
            low, high = edge, min(batch.first_row - 1, last_row)
            unknown = not isinstance(before, int) or number - before > TRIES
            if unknown or not seen.issuperset(range(before + 1, number)):
                self._move_up(book, low, high, old.bit)
            else:
                self._move_up(book, low, high, old.bit, alone=True)
                take_off(book, low, high, old.bit)
            edge, before = batch.last_row + 1, number


def _outside(low: int, high: int, held: Sequence[Range]) -> Iterator[Range]:
    """Yield what of a range lies in none of others, which are ascending."""
    for first, last in held:
        if low <= min(first - 1, high):
            yield low, min(first - 1, high)
        low = max(low, last + 1)
    if low <= high:
        yield low, high


def _blank(number: int, destination: str, bit: int, stream_id: bytes, *, is_open: bool) -> Stream:
    return Stream(number, destination, bit, stream_id, is_open, 1, 0, 1, 1, GENESIS_HASH, 0, GENESIS_HASH, 1)


def _settle_place(stream: Stream, book: Book) -> None:
    """Find out where a stream stands from its batches, and account for them."""
    if not stream.sealed:
        return
    headers = {
        number: codec.read_header(header)
        for number in (min(stream.sealed), max(stream.sealed))
        for (header,) in book.connection.execute(
            "SELECT signed_header FROM batch WHERE id = ?", (stream.key(number),)
        ).fetchall()
    }
    first, last = headers[min(stream.sealed)], headers[max(stream.sealed)]
    stream.through, stream.through_hash = first.number - 1, first.previous_hash
    stream.next_number, stream.next_seq = last.number + 1, last.first_seq + last.frame_count
    stream.last_hash = book.hash_of(stream, last.number) or GENESIS_HASH
    waiting = stream.frames_in(BatchState.WAITING)
    if waiting:
        stream.settle(EARLIER, Account(heard=waiting, spooled=waiting))
