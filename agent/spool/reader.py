# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The spool for everybody but its writer: sealed batches for the senders, counts and frames for people. Never writes.

Transactions are short: an open one would keep the WAL from being used again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType

from agent.batch import body as bodies
from agent.batch import codec
from agent.batch.model import Account, Anchor, Reason
from agent.errors import BatchError, SpoolError
from agent.frame import Frame, Session
from agent.spool import book, row, state
from agent.spool.state import NUMBER_BITS, BatchState, State
from agent.spool.store import explained, open_reader, scalar

CHUNK_ROWS = 2000
"""Rows that are in memory at once while everything is looked at."""

_WAITING = (BatchState.WAITING, BatchState.WAITING)
_HERE = (BatchState.WAITING, BatchState.QUARANTINED)

_STREAM_COLUMNS = "id, destination, bit, stream_id, open, through, through_hash, next_number - 1"
_STREAM = f"SELECT {_STREAM_COLUMNS} FROM stream WHERE stream_id = ?"  # noqa: S608 - constants, as in all of these
_OPEN_STREAM = f"SELECT {_STREAM_COLUMNS} FROM stream WHERE destination = ? AND open"  # noqa: S608
_BATCHES = (
    "SELECT id, first_row, last_row, frames, state, reason, detail, signed_header, context, hours, batch_crc32 "
    "FROM batch "
    "WHERE id > ? AND id < ? AND state IN (?, ?) ORDER BY id LIMIT ?"
)
_FRAMES_ANY = f"SELECT {row.COLUMNS} FROM frame WHERE seq BETWEEN ? AND ? AND (route & ? OR ?) "  # noqa: S608
_FRAMES = _FRAMES_ANY + "ORDER BY seq LIMIT ?"
_FRAMES_BACK = _FRAMES_ANY + "ORDER BY seq DESC LIMIT ?"


class DamagedBatchError(SpoolError):
    """A sealed batch cannot be made again from its rows, so it can never be sent."""

    exit_code = 4

    def __init__(self, stream_id: bytes, number: int, what: str) -> None:
        super().__init__(
            what,
            where=f"batch {number} of stream {stream_id.hex()}",
            hint="the agent withdraws the batch, declares what is lost and sends the rest again; check the card",
            code="CG-SPL-010",
        )
        self.stream_id = stream_id
        self.number = number


@dataclass(frozen=True, slots=True)
class StreamHead:
    """Where a stream stands.

    Attributes:
        key: of the stream in this file.
        destination: its name.
        bit: of its frames' routes.
        stream_id: 16 bytes.
        open: whether frames still go into it; 0 when a newer stream has replaced it.
        through: batches up to here are acknowledged.
        through_hash: SHA-256 of the signed header of that batch.
        newest: number of the batch sealed last, 0 for none.
    """

    key: int
    destination: str
    bit: int
    stream_id: bytes
    open: int
    through: int
    through_hash: bytes
    newest: int


@dataclass(frozen=True, slots=True)
class SealedBatch:
    """A batch whose frames are in the spool.

    Attributes:
        stream: it belongs to.
        number: from 1.
        first_row: where its frames begin.
        last_row: where they end.
        frames: how many.
        state: waiting or quarantined.
        reason: number of the `Reason` why it is in quarantine, else None.
        detail: the platform's words for it.
        signed_header: COSE_Sign1.
        context: the body without its frames.
        hours: as in table batch.
        checksum: CRC-32 over all that never changes.
    """

    stream: StreamHead
    number: int
    first_row: int
    last_row: int
    frames: int
    state: BatchState
    reason: int | None
    detail: str | None
    signed_header: bytes
    context: bytes
    hours: bytes
    checksum: int

    @property
    def hash(self) -> bytes:
        """SHA-256 of the signed header: its name in receipts."""
        return codec.header_hash(self.signed_header)

    @property
    def intact(self) -> bool:
        """Whether all this is what was sealed; the frames are not looked at."""
        key = self.stream.key << NUMBER_BITS | self.number
        place = (key, self.first_row, self.last_row, self.frames)
        return state.batch_checksum(*place, self.signed_header, self.context, self.hours) == self.checksum


@dataclass(frozen=True, slots=True)
class HourStatus:
    """Where the frames of one hour of a boot went.

    Attributes:
        boot_id: 16 bytes, zero for all hours that are not told apart.
        hour: CLOCK_BOOTTIME / 3600 s.
        account: every bucket; `quarantined` is what is parked now.
        delivered: acknowledged.
        waiting: still to be delivered.
    """

    boot_id: bytes
    hour: int
    account: Account
    delivered: int
    waiting: int


@dataclass(frozen=True, slots=True)
class StreamStatus:
    """Counts of one stream.

    Attributes:
        destination: its name.
        stream_id: 16 bytes.
        open: whether frames still go into it.
        through: batches up to here are acknowledged.
        newest: number of the batch sealed last.
        account: since the stream began.
        delivered: frames acknowledged.
        unsealed: frames waiting in no batch.
        sealed: frames waiting in batches.
        quarantined: frames in batches that the platform refused.
        batches: batches waiting.
        quarantined_batches: batches refused.
        hours: the account by hour, oldest first; the first may be the sum of all before.
        hold_reason: why the platform takes nothing at present, None when it does.
        hold_detail: its words for it.
        stale_answers: receipts and refusals that came late.
        foreign_answers: receipts and refusals that do not fit what was sealed here.
    """

    destination: str
    stream_id: bytes
    open: bool
    through: int
    newest: int
    account: Account
    delivered: int
    unsealed: int
    sealed: int
    quarantined: int
    batches: int
    quarantined_batches: int
    hours: tuple[HourStatus, ...]
    hold_reason: Reason | None
    hold_detail: str | None
    stale_answers: int
    foreign_answers: int


@dataclass(frozen=True, slots=True)
class SpoolStatus:
    """The spool at one moment.

    Attributes:
        spool_id: 16 bytes.
        gateway_eui: None until it is known.
        used_bytes: of the database file, in use.
        file_bytes: its size.
        frames: in it.
        first_row: oldest frame's number, None without frames.
        last_row: number of the newest frame ever.
        streams: by age.
    """

    spool_id: bytes
    gateway_eui: bytes | None
    used_bytes: int
    file_bytes: int
    frames: int
    first_row: int | None
    last_row: int
    streams: tuple[StreamStatus, ...]


@dataclass(frozen=True, slots=True)
class StoredFrame:
    """A frame with its place.

    Attributes:
        seq: its number in this spool.
        destinations: names of those it is for.
        frame: what was received.
        route: bits of the streams it is for.
    """

    seq: int
    destinations: tuple[str, ...]
    frame: Frame
    route: int = 0


def _inode(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


class SpoolReader:
    """A read-only view of a spool, for one thread."""

    def __init__(self, path: Path) -> None:
        """Open it.

        Raises:
            SpoolError: it does not exist, or cannot be read.
        """
        self.path = path
        self._connection = open_reader(path)
        self._file = _inode(path)
        self._sessions: dict[int, Session] = {}

    def __enter__(self) -> SpoolReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close it."""
        self._connection.close()

    @property
    def replaced(self) -> bool:
        """Whether another file has taken the place of the one that is read, as after a salvage."""
        return _inode(self.path) != self._file

    # ------------------------------------------------------------------ for senders

    def head(self, destination: str) -> StreamHead:
        """Return where a destination's present stream stands.

        Raises:
            SpoolError: the spool knows no such destination, or cannot be read.
        """
        return self._head(_OPEN_STREAM, destination, f"no destination {destination}")

    def head_of(self, stream_id: bytes) -> StreamHead:
        """Return where a stream stands, open or not.

        Raises:
            SpoolError: the spool does not know it, or cannot be read.
        """
        return self._head(_STREAM, stream_id, f"no stream {stream_id.hex()}")

    def _head(self, query: str, value: str | bytes, missing: str) -> StreamHead:
        found = self._rows(query, value)
        if not found:
            raise SpoolError(
                missing,
                where=str(self.path),
                hint="civigate spool status lists what it has",
                code="CG-SPL-011",
            )
        return StreamHead(*found[0])

    def head_to_send(self, destination: str) -> StreamHead:
        """Return the stream of a destination that is to be sent: one that was replaced goes on until it is empty.

        Raises:
            SpoolError: the spool knows no such destination, or cannot be read.
        """
        head = self.head(destination)
        for number, stream_id in self._rows(
            "SELECT id, stream_id FROM stream WHERE destination = ? AND NOT open ORDER BY id", destination
        ):
            if self._any_waits(number):
                return self.head_of(stream_id)
        return head

    def over(self, head: StreamHead) -> bool:
        """Say whether a stream was replaced and nothing of it waits any more."""
        return not head.open and not self._any_waits(head.key)

    def _any_waits(self, key: int) -> bool:
        first, last = key << NUMBER_BITS, (key + 1 << NUMBER_BITS) - 1
        return bool(self._rows("SELECT 1 FROM batch WHERE id BETWEEN ? AND ? AND state = 0 LIMIT 1", first, last))

    def hash_of(self, head: StreamHead, number: int) -> bytes | None:
        """Return SHA-256 of the signed header of a batch, None where the spool no longer has it."""
        if number == head.through:
            return head.through_hash
        found = self._rows("SELECT signed_header FROM batch WHERE id = ?", head.key << NUMBER_BITS | number)
        return codec.header_hash(found[0][0]) if found else None

    def unacknowledged(self, destination: str, after: int = 0, limit: int = 1) -> list[SealedBatch]:
        """Return batches of a destination's present stream that wait for a receipt, ascending.

        Args:
            destination: name.
            after: number of the last one that is not wanted.
            limit: the most that are returned.

        Raises:
            SpoolError: the spool knows no such destination, or cannot be read.
        """
        return self._batches(self.head(destination), after, limit)

    def batch(self, head: StreamHead, number: int) -> SealedBatch | None:
        """Return a batch of a stream that waits for a receipt, None when it does not."""
        found = self._batches(head, number - 1, 1)
        return found[0] if found and found[0].number == number else None

    def is_here(self, sealed: SealedBatch) -> bool:
        """Say whether a batch still waits or lies in quarantine."""
        found = self._batches(self.head_of(sealed.stream.stream_id), sealed.number - 1, 1, _HERE)
        return bool(found) and found[0].number == sealed.number

    def wire(self, sealed: SealedBatch) -> bytes:
        """Make the bytes that travel: the same ones every time.

        Raises:
            DamagedBatchError: rows or header are not what was sealed.
            SpoolError: the spool cannot be read.
        """

        def damaged(what: str) -> DamagedBatchError:
            return DamagedBatchError(sealed.stream.stream_id, sealed.number, what)

        if not sealed.intact:
            raise damaged("what is kept besides its frames is damaged")
        try:
            header = codec.read_header(sealed.signed_header)
            context = bodies.decode(sealed.context)
            frames = self._frames_unverified(sealed, header.frame_count)
            body = bodies.encode(replace(context, frames=frames)) if len(frames) == header.frame_count else b""
        except (BatchError, LookupError, TypeError, ValueError) as error:
            self._blame(sealed, damaged)
            raise damaged(str(error)) from error
        except SpoolError as error:
            if error.code != "CG-SPL-004":
                raise
            raise damaged(error.what) from error  # the page they are on cannot be read
        if hashlib.sha256(body).digest() != header.body_sha256:
            self._blame(sealed, damaged)
            if len(frames) != header.frame_count:
                raise damaged(f"{len(frames)} of {header.frame_count} frames are there")
            raise damaged("its frames do not hash to what was signed")
        return codec.pack(sealed.signed_header, body)

    def _frames_unverified(self, sealed: SealedBatch, most: int) -> tuple[Frame, ...]:
        """Return the frames of a batch, and one too many if there are more; the signed hash tells whether they are."""
        bit = 1 << sealed.stream.bit
        rows = self._rows(_FRAMES, sealed.first_row, sealed.last_row, bit, False, most + 1)
        if any(columns[2] not in self._sessions for columns in rows):
            self._sessions.update(book.read_sessions(self._rows(book.SESSIONS)))
        return row.frames_of(rows, self._sessions)

    def _blame(self, sealed: SealedBatch, damaged: Callable[[str], DamagedBatchError]) -> None:
        """Raise for the first frame of a batch whose own checksum says that it is damaged."""
        try:
            for _ in self.frames(sealed.first_row, sealed.last_row, bit=sealed.stream.bit):
                pass
        except row.DamagedRowError as error:
            raise damaged(str(error)) from error

    # ------------------------------------------------------------------ for people

    def batches(self, destination: str | None = None) -> Iterator[SealedBatch]:
        """Yield all batches whose frames are here, also those in quarantine, by stream and number."""
        for name, stream_id in self._rows("SELECT destination, stream_id FROM stream ORDER BY id"):
            if destination not in (None, name):
                continue
            head, after = self.head_of(stream_id), 0
            while found := self._batches(head, after, 64, _HERE):
                yield from found
                after = found[-1].number

    def frames(self, first: int = 0, last: int | None = None, *, bit: int | None = None) -> Iterator[StoredFrame]:
        """Yield frames in the order they were stored; what is in memory stays small.

        Args:
            first: number of the first.
            last: number of the last one wanted, None for all.
            bit: only those of the destination with this bit.

        Raises:
            row.DamagedRowError: a frame is not what was written.
            SpoolError: the spool cannot be read.
        """
        for item in self.rows(first, last, bit=bit):
            if isinstance(item, row.DamagedRowError):
                raise item
            yield item

    def rows(
        self, first: int = 0, last: int | None = None, *, bit: int | None = None, newest_first: bool = False
    ) -> Iterator[StoredFrame | row.DamagedRowError]:
        """Yield frames as `frames` does, and what is damaged as the error that says so."""
        end = (1 << 63) - 1 if last is None else last
        names = {1 << b: str(name) for b, name in self._rows("SELECT bit, destination FROM stream ORDER BY id")}
        routes: dict[int, tuple[str, ...]] = {}
        while first <= end:
            query = _FRAMES_BACK if newest_first else _FRAMES
            chunk = self._rows(query, first, end, -1 if bit is None else 1 << bit, bit is None, CHUNK_ROWS)
            for columns in chunk:
                session, route = columns[2], columns[1]
                if session not in self._sessions:
                    self._sessions.update(book.read_sessions(self._rows(book.SESSIONS)))
                try:
                    frame = row.from_row(columns, self._sessions)
                except row.DamagedRowError as error:
                    yield error
                    continue
                if route not in routes:
                    routes[route] = tuple(name for one, name in names.items() if route & one)
                yield StoredFrame(columns[0], routes[route], frame, route)
            if len(chunk) < CHUNK_ROWS:
                return
            if newest_first:
                end = chunk[-1][0] - 1
            else:
                first = chunk[-1][0] + 1

    def anchors(self) -> list[Anchor]:
        """Return the clock anchors that are kept, oldest first."""
        return book.read_anchors(self._rows(book.ANCHORS, 0))

    def state(self) -> State:
        """Return everything but the frames, of one moment.

        Raises:
            SpoolError: the spool cannot be read.
        """
        with self._moment():
            return state.load(self._connection)

    def boots(self) -> list[tuple[bytes, int]]:
        """Return the boots that frames here are from, oldest first, each with CLOCK_BOOTTIME of its latest frame."""
        latest: dict[bytes, int] = {}
        for boot_id, last_us in self._rows(
            "SELECT boot_id, max(boottime_us) FROM frame JOIN session ON number = session "
            "GROUP BY session ORDER BY session"
        ):
            latest[boot_id] = max(latest.get(boot_id, 0), last_us)
        return list(latest.items())

    def status(self) -> SpoolStatus:
        """Return the counts of one moment.

        Raises:
            SpoolError: the spool cannot be read.
        """
        with self._moment():
            return self._status(state.load(self._connection))

    def check(self) -> list[str]:
        """Return what does not add up, one sentence each (see `agent.spool.state.check`)."""
        with self._moment():
            return state.check(self._connection, state.load(self._connection))

    def look(self) -> tuple[SpoolStatus, list[str]]:
        """Return what `status` and `check` do, of one moment: a large spool is read less often.

        Raises:
            SpoolError: the spool cannot be read.
        """
        with self._moment():
            now = state.load(self._connection)
            status = self._status(now)
            return status, state.check(self._connection, now, status.frames)

    # ------------------------------------------------------------------ reading

    def _status(self, now: State) -> SpoolStatus:
        page = scalar(self._connection, "PRAGMA page_size", int)
        pages = scalar(self._connection, "PRAGMA page_count", int)
        free = scalar(self._connection, "PRAGMA freelist_count", int)
        frames = scalar(self._connection, "SELECT count(*) FROM frame", int)
        first = self._connection.execute("SELECT min(seq) FROM frame").fetchone()[0]
        names = now.hour_names()
        return SpoolStatus(
            spool_id=now.spool_id,
            gateway_eui=now.gateway_eui,
            used_bytes=(pages - free) * page,
            file_bytes=pages * page,
            frames=frames,
            first_row=first,
            last_row=now.last_row,
            streams=tuple(
                StreamStatus(
                    destination=s.destination,
                    stream_id=s.stream_id,
                    open=s.open,
                    through=s.through,
                    newest=s.next_number - 1,
                    account=s.since_start,
                    delivered=s.delivered,
                    unsealed=s.unsealed,
                    sealed=s.frames_in(BatchState.WAITING),
                    quarantined=sum(batch.frames for batch in now.quarantined(s)),
                    batches=s.batches_in(BatchState.WAITING),
                    quarantined_batches=len(now.quarantined(s)),
                    hours=tuple(
                        HourStatus(*names[hour], s.account_in(hour), s.delivered_in.get(hour, 0), s.waiting_in(hour))
                        for hour in s.hours
                    ),
                    hold_reason=s.hold_reason,
                    hold_detail=s.hold_detail,
                    stale_answers=s.stale_answers,
                    foreign_answers=s.foreign_answers,
                )
                for s in now.streams.values()
            ),
        )

    def _rows(self, sql: str, *values: object) -> list[tuple]:  # type: ignore[type-arg]  # columns are known to the query
        with explained(self.path):
            return self._connection.execute(sql, values).fetchall()

    @contextmanager
    def _moment(self) -> Iterator[None]:
        """Hold one state of the file."""
        with explained(self.path):
            self._connection.execute("BEGIN")
            try:
                yield
            finally:
                self._connection.execute("ROLLBACK")

    def _batches(
        self, head: StreamHead, after: int, limit: int, states: tuple[BatchState, BatchState] = _WAITING
    ) -> list[SealedBatch]:
        base = head.key << NUMBER_BITS
        rows = self._rows(_BATCHES, base + after, base + (1 << NUMBER_BITS), int(states[0]), int(states[1]), limit)
        return [
            SealedBatch(head, key - base, first, last, frames, BatchState(batch_state), reason, detail, *sealed)
            for key, first, last, frames, batch_state, reason, detail, *sealed in rows
        ]
