# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What the spool knows besides the frames: streams, their batches and accounts.

It is read whole, changed in memory and written as a snapshot. A commit that only adds frames leaves a note on its last
frame instead (see `schema/0001_initial.sql`); `load` adds the notes to the snapshot. The snapshot has a checksum, since
SQLite does not notice flipped bits.

Every frame is counted in the hour in which it was heard, an interval of its boot's CLOCK_BOOTTIME. Old hours of which
nothing waits any more are summed up in one, so that all this stays small.
"""

from __future__ import annotations

import sqlite3
import struct
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass, field
from enum import IntEnum
from typing import TypeAlias

import cbor2

from agent.batch.model import BUCKETS, Account, Loss, Predecessor, Reason, Tombstone
from agent.spool import row
from agent.spool.intake import UNKNOWN_HOUR, Hour
from agent.spool.store import scalar

NUMBER_BITS = 40
"""A batch's key is its stream's id, then this many bits of its number."""

_BATCH_PLACE = struct.Struct("<qqqq")

UNSENT, SETTLED = 0, 1
"""Scopes of table account."""
EARLIER = 0
"""Id of the hour that stands for all that are summed up or were never known."""
NOTHING = Account()

Hours: TypeAlias = "tuple[tuple[int, int], ...]"
"""Frames by the hour they were heard in: (id of the hour, frames), ascending."""


class BatchState(IntEnum):
    """What became of a sealed batch (table batch)."""

    WAITING = 0
    BEYOND = 1
    """Acknowledged ahead of the chain; its frames are freed, its header stays until the chain has closed."""
    QUARANTINED = 2
    """Refused for what it is: parked, its frames are kept."""
    WITHDRAWN = 3
    """Can never travel; a tombstone says so, and its header stays until the chain has closed."""


@dataclass(slots=True)
class Sealed:
    """A sealed batch whose frames are still needed."""

    first_row: int
    last_row: int
    frames: int
    weight_bytes: int
    state: BatchState
    hours: Hours


@dataclass(slots=True)
class Stream:
    """One sequence of batches to one destination; the fields are the columns of table stream and what belongs to it."""

    id: int
    destination: str
    bit: int
    stream_id: bytes
    open: bool
    next_row: int
    unsealed: int
    next_number: int
    next_seq: int
    last_hash: bytes
    through: int
    through_hash: bytes
    next_anchor: int
    hold_reason: Reason | None = None
    hold_detail: str | None = None
    stale_answers: int = 0
    foreign_answers: int = 0
    signed_by: bytes = b""
    signed_from: int = 0
    successor: bytes = b""
    announced: int = 0
    filters: list[tuple[int, int, bytes]] = field(default_factory=list)
    """(version, first_row, digest), ascending."""
    sealed: dict[int, Sealed] = field(default_factory=dict)
    """By number, ascending: batches whose frames are still needed."""
    unsent: dict[int, Account] = field(default_factory=dict)
    """By hour: what no batch has said yet."""
    settled: dict[int, Account] = field(default_factory=dict)
    """By hour: what batches have said, and what became of quarantined frames since."""
    delivered_in: dict[int, int] = field(default_factory=dict)
    """By hour: frames acknowledged."""
    dirty: set[int] = field(default_factory=set)
    """Hours that have changed since the snapshot."""
    tombstones: dict[tuple[Loss, int], Tombstone] = field(default_factory=dict)
    """By reason and first batch."""

    def key(self, number: int) -> int:
        """Return the key of a batch in table batch."""
        return (self.id << NUMBER_BITS) | number

    def count(self, hour: int, part: Account) -> None:
        """Add to what the next batch says of an hour."""
        before = self.unsent.get(hour)
        self.unsent[hour] = part if before is None else before + part
        self.dirty.add(hour)

    def settle(self, hour: int, part: Account) -> None:
        """Add to what need not be said any more."""
        self.settled[hour] = self.settled.get(hour, NOTHING) + part
        self.dirty.add(hour)

    def deliver(self, hours: Hours) -> None:
        """Count frames as acknowledged."""
        for hour, frames in hours:
            self.delivered_in[hour] = self.delivered_in.get(hour, 0) + frames
            self.dirty.add(hour)

    def sum_up(self, hour: int) -> None:
        """Put an hour to those that are not told apart."""
        if hour in self.unsent:
            self.count(EARLIER, self.unsent.pop(hour))
        if hour in self.settled:
            self.settle(EARLIER, self.settled.pop(hour))
        if hour in self.delivered_in:
            self.deliver(((EARLIER, self.delivered_in.pop(hour)),))
        self.dirty.add(hour)

    @property
    def delivered(self) -> int:
        """Frames acknowledged."""
        return sum(self.delivered_in.values())

    @property
    def since_start(self) -> Account:
        """Where the frames went since the stream began."""
        return sum(self.unsent.values(), sum(self.settled.values(), NOTHING))

    def account_in(self, hour: int) -> Account:
        """Return where the frames of an hour went."""
        return self.settled.get(hour, NOTHING) + self.unsent.get(hour, NOTHING)

    def waiting_in(self, hour: int) -> int:
        """Return how many frames of an hour are to be delivered still."""
        account = self.account_in(hour)
        gone = account.evicted + account.expired + account.quarantined
        return account.spooled - gone - self.delivered_in.get(hour, 0)

    @property
    def hours(self) -> list[int]:
        """Ids of the hours of which something is known, ascending."""
        return sorted({*self.unsent, *self.settled, *self.delivered_in})

    def frames_in(self, state: BatchState) -> int:
        """Return how many frames the batches in a state have."""
        return sum(batch.frames for batch in self.sealed.values() if batch.state is state)

    def batches_in(self, state: BatchState) -> int:
        """Return how many batches are in a state."""
        return sum(batch.state is state for batch in self.sealed.values())

    def weight_in(self, state: BatchState) -> int:
        """Return about how many bytes of the file the batches in a state take."""
        return sum(batch.weight_bytes for batch in self.sealed.values() if batch.state is state)

    @property
    def waiting(self) -> int:
        """Frames that are to be delivered still, sealed or not."""
        return self.unsealed + self.frames_in(BatchState.WAITING)

    @property
    def filter_version(self) -> int:
        """Version of the filter that selects the frames heard now; 0 before any."""
        return self.filters[-1][0] if self.filters else 0

    def filter_at(self, row: int) -> tuple[int, int | None]:
        """Return the version of the filter that selected a frame, and the first frame of the next version."""
        version, end = 0, None
        for candidate, first_row, _ in self.filters:
            if first_row > row:
                end = first_row
                break
            version = candidate
        return version, end


@dataclass(slots=True)
class State:
    """The whole of it.

    Attributes:
        spool_id: 16 random bytes.
        gateway_eui: EUI-64 in the headers, None until it is known.
        last_row: newest frame ever written.
        snapshot_row: the same when the snapshot was written.
        journal: highest journal record contained.
        session: newest concentrator session.
        next_anchor: number of the next anchor.
        streams: by table id.
        hours: their ids; a greater id was heard of later.
    """

    spool_id: bytes
    gateway_eui: bytes | None
    last_row: int
    snapshot_row: int
    journal: int
    session: int
    next_anchor: int
    streams: dict[int, Stream]
    hours: dict[Hour, int] = field(default_factory=dict)

    def hour_id(self, hour: Hour) -> int:
        """Return the id of an hour, `EARLIER` for one that has none."""
        return self.hours.get(hour, EARLIER)

    def hour_names(self) -> dict[int, Hour]:
        """Return the hours by id."""
        return {EARLIER: UNKNOWN_HOUR} | {number: hour for hour, number in self.hours.items()}

    def owner(self, stream: Stream) -> Stream:
        """Return the stream that accounts for the parked frames of a stream: the newest one of its destination."""
        return stream if stream.open else self.newest_of(stream.destination) or stream

    def newest_of(self, destination: str) -> Stream | None:
        """Return the newest stream of a destination, open or not."""
        mine = [stream for stream in self.streams.values() if stream.destination == destination]
        return max(mine, key=lambda stream: stream.id, default=None)

    def predecessor(self, stream: Stream) -> Predecessor | None:
        """Return the stream that one takes the place of, for its first batch; None for any other batch."""
        if stream.next_number > 1:
            return None
        older = [s for s in self.streams.values() if s.destination == stream.destination and s.id < stream.id]
        if not older:
            return None
        last = max(older, key=lambda s: s.id)
        return Predecessor(last.stream_id, last.through, last.through_hash)

    def quarantined(self, owner: Stream) -> list[Sealed]:
        """Return the parked batches that a stream accounts for."""
        return [
            batch
            for stream in self.streams.values()
            if stream.destination == owner.destination and self.owner(stream) is owner
            for batch in stream.sealed.values()
            if batch.state is BatchState.QUARANTINED
        ]

    def open_streams(self) -> list[Stream]:
        """Return the streams that frames go into."""
        return [stream for stream in self.streams.values() if stream.open]

    def stream_of(self, destination: str) -> Stream | None:
        """Return the open stream of a destination."""
        return next((s for s in self.streams.values() if s.open and s.destination == destination), None)

    def by_stream_id(self, stream_id: bytes) -> Stream | None:
        """Return the stream with an id, open or not."""
        return next((s for s in self.streams.values() if s.stream_id == stream_id), None)


def batch_checksum(key: int, first_row: int, last_row: int, frames: int, *blobs: object) -> int:
    """Return the CRC-32 over what never changes in a row of table batch; `blobs`: signed header, context, hours.

    A flipped bit can make another type of a blob: then it is -1, which no checksum is.
    """
    crc = zlib.crc32(_BATCH_PLACE.pack(key, first_row, last_row, frames))
    for blob in blobs:
        if not isinstance(blob, bytes):
            return -1
        crc = zlib.crc32(blob, crc)
    return crc


def pack_hours(hours: Iterable[int]) -> Hours:
    """Count frames by hour."""
    return tuple(sorted(Counter(hours).items()))


def hours_blob(hours: Hours) -> bytes:
    """Return column `hours` of table batch."""
    return cbor2.dumps([part for pair in hours for part in pair])


def read_hours(data: bytes) -> Hours:
    """Read column `hours` of table batch.

    Raises:
        ValueError: it is damaged.
    """
    items = cbor2.loads(data)
    return tuple(zip(items[::2], items[1::2], strict=True))


def note(journal: int, deltas: dict[int, dict[int, Account]]) -> bytes:
    """Return what a commit leaves on its last frame.

    Args:
        journal: highest journal record contained.
        deltas: what the commit added to the accounts, by hour and stream.
    """
    items: list[object] = [journal]
    for hour, parts in deltas.items():
        said = [hour]
        for stream, part in parts.items():
            said.append(stream)
            said.extend(part.counts)
        items.append(said)
    return cbor2.dumps(items)


def journal_of(data: bytes) -> int:
    """Return the journal position in a note."""
    return int(cbor2.loads(data)[0])


def load(connection: sqlite3.Connection) -> State:
    """Read everything. The caller holds a transaction, so that all is of one moment.

    Raises:
        sqlite3.Error: the file cannot be read, or holds what was never written.
    """
    state = load_snapshot(connection)
    add_notes(connection, state)
    newest = state.snapshot_row
    for (seq,) in connection.execute("SELECT seq FROM frame WHERE seq > ? ORDER BY seq", (newest,)):
        if seq != newest + 1:
            raise sqlite3.DatabaseError(f"frame {newest + 1} is not to be found, {seq} stands in its place")
        newest = seq
    return state


def load_snapshot(connection: sqlite3.Connection) -> State:
    """Read the snapshot: everything but what has happened since.

    Raises:
        sqlite3.Error: as with `load`.
    """
    with _named():
        return _load(connection)


def add_notes(connection: sqlite3.Connection, state: State) -> None:
    """Add to a snapshot what the notes on later frames say.

    Raises:
        sqlite3.Error: as with `load`.
    """
    with _named():
        _add_notes(connection, state)


@contextmanager
def _named() -> Iterator[None]:
    try:
        yield
    except (LookupError, TypeError, ValueError, EOFError, cbor2.CBORError) as error:
        raise sqlite3.DatabaseError(f"bookkeeping is damaged: {error!r}") from error


def _load(connection: sqlite3.Connection) -> State:
    found = connection.execute(
        "SELECT spool_id, gateway_eui, last_row, journal, session, next_anchor, snapshot_crc32 FROM spool"
    ).fetchone()
    if found is None:
        raise sqlite3.DatabaseError("table spool is empty")
    spool_id, eui, last_row, journal, session, next_anchor, checksum = found
    state = State(spool_id, eui, last_row, last_row, journal, session, next_anchor, {})
    for columns in connection.execute(f"SELECT {_STREAM_COLUMNS} FROM stream ORDER BY id"):  # noqa: S608 - constants, as in all of these
        stream = Stream(*columns)
        stream.open = bool(stream.open)
        stream.hold_reason = None if stream.hold_reason is None else Reason(stream.hold_reason)
        state.streams[stream.id] = stream
    for number, version, first_row, digest in connection.execute(
        "SELECT stream, version, first_row, digest FROM filter ORDER BY stream, version"
    ):
        state.streams[number].filters.append((version, first_row, digest))
    for number, boot_id, hour in connection.execute("SELECT id, boot_id, hour FROM hour ORDER BY id"):
        state.hours[Hour(boot_id, hour)] = number
    for number, hour, scope, *counts, delivered in connection.execute(
        f"SELECT stream, hour, scope, {', '.join(BUCKETS)}, delivered FROM account"  # noqa: S608
    ):
        stream = state.streams[number]
        if scope == UNSENT:
            stream.unsent[hour] = Account(*counts)
            continue
        stream.settled[hour] = Account(*counts)
        if delivered:
            stream.delivered_in[hour] = delivered
    for number, reason, first, last, last_hash, count, boot_a, us_a, boot_b, us_b in connection.execute(
        "SELECT stream, reason, first_number, last_number, last_hash, count, first_boot_id, first_boottime_us, "
        "last_boot_id, last_boottime_us FROM tombstone"
    ):
        state.streams[number].tombstones[Loss(reason), first] = Tombstone(
            count, us_a, us_b, Loss(reason), boot_a, boot_b, first, last, last_hash
        )
    for key, first_row, last, frames, weight, batch_state, hours in connection.execute(
        "SELECT id, first_row, last_row, frames, bytes, state, hours FROM batch WHERE state IN (?, ?) ORDER BY id",
        (int(BatchState.WAITING), int(BatchState.QUARANTINED)),
    ):
        stream = state.streams[key >> NUMBER_BITS]
        stream.sealed[key & ((1 << NUMBER_BITS) - 1)] = Sealed(
            first_row, last, frames, weight, BatchState(batch_state), read_hours(hours)
        )
    if snapshot_checksum(state) != checksum and (checksum is not None or state.streams):
        raise sqlite3.DatabaseError("the snapshot does not fit its checksum")
    return state


def snapshot_checksum(state: State) -> int:
    """Return the CRC-32 over all that a snapshot says."""
    crc = zlib.crc32(
        cbor2.dumps(
            [
                *(state.spool_id, state.gateway_eui, state.last_row, state.journal, state.session, state.next_anchor),
                sorted((number, *hour) for hour, number in state.hours.items()),
            ]
        )
    )
    for s in state.streams.values():
        said = cbor2.dumps(
            [
                *_columns(s),
                s.filters,
                [[hour, *part.counts] for hour, part in sorted(s.unsent.items())],
                [[hour, *part.counts] for hour, part in sorted(s.settled.items())],
                sorted(s.delivered_in.items()),
                [astuple(stone) for _, stone in sorted(s.tombstones.items())],
                [
                    (number, b.first_row, b.last_row, b.frames, b.weight_bytes, int(b.state))
                    for number, b in sorted(s.sealed.items())
                ],
            ]
        )
        crc = zlib.crc32(said, crc)
    return crc


def _add_notes(connection: sqlite3.Connection, state: State) -> None:
    for columns in connection.execute(
        f"SELECT {row.COLUMNS} FROM frame WHERE seq > ? AND note IS NOT NULL ORDER BY seq",  # noqa: S608
        (state.snapshot_row,),
    ):
        row.verify(columns)
        state.journal, *parts = cbor2.loads(columns[-1])
        width = 1 + len(BUCKETS)
        for hour, *items in parts:
            for start in range(0, len(items), width):
                delta = Account(*items[start + 1 : start + width])
                stream = state.streams[items[start]]
                stream.count(hour, delta)
                stream.unsealed += delta.spooled - delta.evicted
    newest = connection.execute(
        "SELECT max(seq), max(session) FROM frame WHERE seq > ?", (state.snapshot_row,)
    ).fetchone()
    state.last_row = max(state.last_row, newest[0] or 0)
    state.session = max(state.session, newest[1] or 0)


_STREAM_COLUMNS = (
    "id, destination, bit, stream_id, open, next_row, unsealed, next_number, next_seq, last_hash, through, "
    "through_hash, next_anchor, hold_reason, hold_detail, stale_answers, foreign_answers, "
    "signed_by, signed_from, successor, announced"
)


def _columns(s: Stream) -> tuple[object, ...]:
    return (
        *(s.id, s.destination, s.bit, s.stream_id, int(s.open), s.next_row, s.unsealed, s.next_number, s.next_seq),
        *(s.last_hash, s.through, s.through_hash, s.next_anchor),
        None if s.hold_reason is None else int(s.hold_reason),
        *(s.hold_detail, s.stale_answers, s.foreign_answers),
        *(s.signed_by, s.signed_from, s.successor, s.announced),
    )


def save(connection: sqlite3.Connection, state: State) -> None:
    """Write the snapshot, in the transaction that is open; batches and hours are written where they change."""
    state.snapshot_row = state.last_row
    accounts: list[tuple[int, ...]] = []
    emptied: list[tuple[int, int, int]] = []
    for s in state.streams.values():
        connection.execute(
            f"REPLACE INTO stream ({_STREAM_COLUMNS}) VALUES ({', '.join('?' * (_STREAM_COLUMNS.count(',') + 1))})",  # noqa: S608 - constants, as in all of these
            _columns(s),
        )
        for hour in s.dirty:
            delivered = s.delivered_in.get(hour, 0)
            if delivered:
                s.settled.setdefault(hour, NOTHING)
            for scope, parts, more in ((UNSENT, s.unsent, 0), (SETTLED, s.settled, delivered)):
                if hour in parts:
                    accounts.append((s.id, hour, scope, *parts[hour].counts, more))
                else:
                    emptied.append((s.id, hour, scope))
        s.dirty.clear()
        if s.filters:
            connection.executemany(
                "REPLACE INTO filter (stream, version, first_row, digest) VALUES (?, ?, ?, ?)",
                [(s.id, version, first_row, digest) for version, first_row, digest in s.filters],
            )
            connection.execute("DELETE FROM filter WHERE stream = ? AND version < ?", (s.id, s.filters[0][0]))
    connection.executemany("DELETE FROM account WHERE stream = ? AND hour = ? AND scope = ?", emptied)
    connection.executemany(
        f"REPLACE INTO account (stream, hour, scope, {', '.join(BUCKETS)}, delivered) "  # noqa: S608
        f"VALUES ({', '.join('?' * (4 + len(BUCKETS)))})",
        accounts,
    )
    connection.execute("DELETE FROM tombstone")
    connection.executemany(
        "INSERT INTO tombstone (stream, reason, first_number, last_number, last_hash, count, first_boot_id, "
        "first_boottime_us, last_boot_id, last_boottime_us) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (
                *(s.id, int(t.reason), t.first_number, t.last_number, t.last_hash, t.count),
                *(t.first_boot_id, t.first_boottime_us, t.last_boot_id, t.last_boottime_us),
            )
            for s in state.streams.values()
            for t in s.tombstones.values()
        ],
    )
    connection.execute(
        "UPDATE spool SET gateway_eui = ?, last_row = ?, journal = ?, session = ?, next_anchor = ?, snapshot_crc32 = ?",
        (
            *(state.gateway_eui, state.last_row, state.journal, state.session, state.next_anchor),
            snapshot_checksum(state),
        ),
    )


def sums(state: State) -> list[str]:
    """Return what does not add up in the accounts, one sentence each; cheap, no frame is looked at.

    heard = bad_crc + filtered + duplicate + spooled, in every hour; spooled = delivered + waiting + evicted + expired +
    quarantined, where waiting and quarantined are what the batches and the unsealed frames come to.
    """
    wrong: list[str] = []
    names = state.hour_names()
    for s in state.streams.values():
        name = _name(s)
        for hour in s.hours:
            account = s.account_in(hour)
            if not account.balanced:
                wrong.append(
                    f"{name}, hour {_hour_text(names, hour)}: heard {account.heard}, but bad CRC {account.bad_crc} + "
                    f"filtered {account.filtered} + duplicate {account.duplicate} + spooled {account.spooled}"
                )
            if min(*account.counts, s.delivered_in.get(hour, 0)) < 0:
                wrong.append(f"{name}, hour {_hour_text(names, hour)}: less than nothing: {account}")
        for number, batch in s.sealed.items():
            if sum(frames for _, frames in batch.hours) != batch.frames:
                wrong.append(f"{name}: the hours of batch {number} do not make {batch.frames} frames")
        account = s.since_start
        quarantined = sum(batch.frames for batch in state.quarantined(s))
        if account.quarantined != quarantined:
            wrong.append(f"{name}: quarantined {account.quarantined}, but {quarantined} frames are parked")
        if account.spooled != s.delivered + s.waiting + account.evicted + account.expired + quarantined:
            wrong.append(
                f"{name}: spooled {account.spooled}, but delivered {s.delivered} + waiting {s.waiting} + "
                f"evicted {account.evicted} + expired {account.expired} + quarantined {quarantined}"
            )
    return wrong


def _name(stream: Stream) -> str:
    return f"destination {stream.destination}, stream {stream.stream_id.hex()[:8]}"


def _hour_text(names: dict[int, Hour], hour: int) -> str:
    known = names.get(hour, UNKNOWN_HOUR)
    return "unknown" if known == UNKNOWN_HOUR else f"{known.hour} of boot {known.boot_id.hex()[:8]}"


def check(connection: sqlite3.Connection, state: State, frames: int | None = None) -> list[str]:
    """Count everything anew and return what does not add up, one sentence each; empty when all is accounted for.

    As `sums`, and the frames themselves are counted.

    Args:
        connection: in a transaction, that of `load`.
        state: as it was loaded.
        frames: that are there, where they were counted already.
    """
    needs = [s.next_row for s in state.open_streams()]
    needs += [batch.first_row for s in state.streams.values() for batch in s.sealed.values()]
    if needs:
        there = scalar(connection, "SELECT count(*) FROM frame", int) if frames is None else frames
        beyond = scalar(connection, "SELECT count(*) FROM frame WHERE seq >= ?", int, min(needs))
        if there != beyond:  # the way that a delete takes leads past them
            raise sqlite3.DatabaseError(f"{there - beyond} frames are left that nobody waits for")
    for _ in connection.execute("SELECT * FROM batch"):  # senders read all of it
        pass
    wrong = sums(state)
    for s in state.streams.values():
        unsealed = 0
        if s.open:
            unsealed = scalar(
                connection, "SELECT count(*) FROM frame WHERE seq >= ? AND route & ?", int, s.next_row, 1 << s.bit
            )
        if unsealed != s.unsealed:
            wrong.append(f"{_name(s)}: {unsealed} frames not sealed, expected {s.unsealed}")
        for number, batch in s.sealed.items():
            found = scalar(
                connection,
                "SELECT count(*) FROM frame WHERE seq BETWEEN ? AND ? AND route & ?",
                int,
                *(batch.first_row, batch.last_row, 1 << s.bit),
            )
            if found != batch.frames:
                wrong.append(f"{_name(s)}: batch {number} has {found} frames, expected {batch.frames}")
    return wrong
