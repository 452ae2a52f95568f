# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What the spool knows besides the frames: streams, their batches and accounts.

It is read whole, changed in memory and written as a snapshot. A commit that only adds frames leaves a note on its last
frame instead (see `schema/0001_initial.sql`); `load` adds the notes to the snapshot.
"""

from __future__ import annotations

import sqlite3
import struct
import zlib
from dataclasses import dataclass, field
from enum import IntEnum

import cbor2

from agent.batch.model import BUCKETS, Account, Loss, Reason, Tombstone
from agent.spool.store import scalar

NUMBER_BITS = 40
"""A batch's key is its stream's id, then this many bits of its number."""

_BATCH_PLACE = struct.Struct("<qqqq")

SINCE_BATCH, IN_BATCHES = 0, 1


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
    delivered: int
    next_anchor: int
    hold_reason: Reason | None = None
    hold_detail: str | None = None
    stale_answers: int = 0
    foreign_answers: int = 0
    filters: list[tuple[int, int, bytes]] = field(default_factory=list)
    """(version, first_row, digest), ascending."""
    sealed: dict[int, Sealed] = field(default_factory=dict)
    """By number, ascending: batches whose frames are still needed."""
    since_batch: Account = field(default_factory=Account)
    in_batches: Account = field(default_factory=Account)
    """Sum of the accounts in the batches of this stream."""
    tombstones: dict[tuple[Loss, int], Tombstone] = field(default_factory=dict)
    """By reason and first batch."""

    def key(self, number: int) -> int:
        """Return the key of a batch in table batch."""
        return (self.id << NUMBER_BITS) | number

    @property
    def since_start(self) -> Account:
        """Where the frames went since the stream began."""
        return self.in_batches + self.since_batch

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
    """

    spool_id: bytes
    gateway_eui: bytes | None
    last_row: int
    snapshot_row: int
    journal: int
    session: int
    next_anchor: int
    streams: dict[int, Stream]

    def open_streams(self) -> list[Stream]:
        """Return the streams that frames go into."""
        return [stream for stream in self.streams.values() if stream.open]

    def stream_of(self, destination: str) -> Stream | None:
        """Return the open stream of a destination."""
        return next((s for s in self.streams.values() if s.open and s.destination == destination), None)

    def by_stream_id(self, stream_id: bytes) -> Stream | None:
        """Return the stream with an id, open or not."""
        return next((s for s in self.streams.values() if s.stream_id == stream_id), None)


def batch_checksum(key: int, first_row: int, last_row: int, frames: int, *blobs: bytes) -> int:
    """Return the CRC-32 over what never changes in a row of table batch; `blobs` are signed header and context."""
    crc = zlib.crc32(_BATCH_PLACE.pack(key, first_row, last_row, frames))
    for blob in blobs:
        crc = zlib.crc32(blob, crc)
    return crc


def less(account: Account, part: Account) -> Account:
    """Return an account without a part of it."""
    return Account(*(getattr(account, name) - getattr(part, name) for name in BUCKETS))


def note(journal: int, deltas: dict[int, Account]) -> bytes:
    """Return what a commit leaves on its last frame.

    Args:
        journal: highest journal record contained.
        deltas: what the commit added to the accounts, by stream.
    """
    items = [journal]
    for stream, account in deltas.items():
        items.append(stream)
        items.extend(getattr(account, name) for name in BUCKETS)
    return cbor2.dumps(items)


def load(connection: sqlite3.Connection) -> State:
    """Read everything. The caller holds a transaction, so that all is of one moment.

    Raises:
        sqlite3.Error: the file cannot be read, or holds what was never written.
    """
    try:
        state = _load(connection)
        _add_notes(connection, state)
    except (LookupError, TypeError, ValueError) as error:
        raise sqlite3.DatabaseError(f"bookkeeping is damaged: {error!r}") from error
    return state


def _load(connection: sqlite3.Connection) -> State:
    row = connection.execute(
        "SELECT spool_id, gateway_eui, last_row, journal, session, next_anchor FROM spool"
    ).fetchone()
    if row is None:
        raise sqlite3.DatabaseError("table spool is empty")
    spool_id, eui, last_row, journal, session, next_anchor = row
    state = State(spool_id, eui, last_row, last_row, journal, session, next_anchor, {})
    for columns in connection.execute(
        "SELECT id, destination, bit, stream_id, open, next_row, unsealed, next_number, next_seq, last_hash, through, "
        "through_hash, delivered, next_anchor, hold_reason, hold_detail, stale_answers, foreign_answers "
        "FROM stream ORDER BY id"
    ):
        stream = Stream(*columns)
        stream.open = bool(stream.open)
        stream.hold_reason = None if stream.hold_reason is None else Reason(stream.hold_reason)
        state.streams[stream.id] = stream
    for number, version, first_row, digest in connection.execute(
        "SELECT stream, version, first_row, digest FROM filter ORDER BY stream, version"
    ):
        state.streams[number].filters.append((version, first_row, digest))
    for number, scope, *counts in connection.execute(f"SELECT stream, scope, {', '.join(BUCKETS)} FROM account"):  # noqa: S608 - names of our columns
        if scope == SINCE_BATCH:
            state.streams[number].since_batch = Account(*counts)
        else:
            state.streams[number].in_batches = Account(*counts)
    for number, reason, first, last, last_hash, count, boot_a, us_a, boot_b, us_b in connection.execute(
        "SELECT stream, reason, first_number, last_number, last_hash, count, first_boot_id, first_boottime_us, "
        "last_boot_id, last_boottime_us FROM tombstone"
    ):
        state.streams[number].tombstones[Loss(reason), first] = Tombstone(
            count, us_a, us_b, Loss(reason), boot_a, boot_b, first, last, last_hash
        )
    for key, first_row, last, frames, weight, batch_state in connection.execute(
        "SELECT id, first_row, last_row, frames, bytes, state FROM batch WHERE state IN (?, ?) ORDER BY id",
        (int(BatchState.WAITING), int(BatchState.QUARANTINED)),
    ):
        stream = state.streams[key >> NUMBER_BITS]
        stream.sealed[key & ((1 << NUMBER_BITS) - 1)] = Sealed(first_row, last, frames, weight, BatchState(batch_state))
    return state


def _add_notes(connection: sqlite3.Connection, state: State) -> None:
    for (data,) in connection.execute(
        "SELECT note FROM frame WHERE seq > ? AND note IS NOT NULL ORDER BY seq", (state.snapshot_row,)
    ):
        state.journal, *items = cbor2.loads(data)
        width = 1 + len(BUCKETS)
        for start in range(0, len(items), width):
            delta = Account(*items[start + 1 : start + width])
            stream = state.streams[items[start]]
            stream.since_batch += delta
            stream.unsealed += delta.spooled
    newest = connection.execute(
        "SELECT max(seq), max(session) FROM frame WHERE seq > ?", (state.snapshot_row,)
    ).fetchone()
    state.last_row = max(state.last_row, newest[0] or 0)
    state.session = max(state.session, newest[1] or 0)


def save(connection: sqlite3.Connection, state: State) -> None:
    """Write the snapshot, in the transaction that is open; batches are written where they change."""
    connection.execute(
        "UPDATE spool SET gateway_eui = ?, last_row = ?, journal = ?, session = ?, next_anchor = ?",
        (state.gateway_eui, state.last_row, state.journal, state.session, state.next_anchor),
    )
    accounts: list[tuple[int, ...]] = []
    for s in state.streams.values():
        connection.execute(
            "REPLACE INTO stream (id, destination, bit, stream_id, open, next_row, unsealed, next_number, next_seq, "
            "last_hash, through, through_hash, delivered, next_anchor, hold_reason, hold_detail, stale_answers, "
            "foreign_answers) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *(
                    s.id,
                    s.destination,
                    s.bit,
                    s.stream_id,
                    int(s.open),
                    s.next_row,
                    s.unsealed,
                    s.next_number,
                    s.next_seq,
                ),
                *(s.last_hash, s.through, s.through_hash, s.delivered, s.next_anchor),
                None if s.hold_reason is None else int(s.hold_reason),
                *(s.hold_detail, s.stale_answers, s.foreign_answers),
            ),
        )
        for scope, account in ((SINCE_BATCH, s.since_batch), (IN_BATCHES, s.in_batches)):
            accounts.append((s.id, scope, *(getattr(account, name) for name in BUCKETS)))
        if s.filters:
            connection.executemany(
                "REPLACE INTO filter (stream, version, first_row, digest) VALUES (?, ?, ?, ?)",
                [(s.id, version, first_row, digest) for version, first_row, digest in s.filters],
            )
            connection.execute("DELETE FROM filter WHERE stream = ? AND version < ?", (s.id, s.filters[0][0]))
    connection.executemany(
        f"REPLACE INTO account (stream, scope, {', '.join(BUCKETS)}) VALUES ({', '.join('?' * (2 + len(BUCKETS)))})",  # noqa: S608 - names of our columns
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
    state.snapshot_row = state.last_row


def check(connection: sqlite3.Connection) -> list[str]:
    """Count everything anew and return what does not add up, one sentence each; empty when all is accounted for.

    heard = bad_crc + filtered + duplicate + spooled; spooled = delivered + waiting + evicted + expired + quarantined,
    where waiting and quarantined are counted from the frames themselves. The caller holds a transaction.
    """
    state = load(connection)
    wrong: list[str] = []
    for s in state.streams.values():
        name = f"destination {s.destination}, stream {s.stream_id.hex()[:8]}"
        account = s.since_start
        if not account.balanced:
            wrong.append(
                f"{name}: heard {account.heard}, but bad CRC {account.bad_crc} + filtered {account.filtered} + "
                f"duplicate {account.duplicate} + spooled {account.spooled}"
            )
        unsealed = 0
        if s.open:
            unsealed = scalar(
                connection, "SELECT count(*) FROM frame WHERE seq >= ? AND route & ?", int, s.next_row, 1 << s.bit
            )
        if unsealed != s.unsealed:
            wrong.append(f"{name}: {unsealed} frames not sealed, expected {s.unsealed}")
        for number, batch in s.sealed.items():
            found = scalar(
                connection,
                "SELECT count(*) FROM frame WHERE seq BETWEEN ? AND ? AND route & ?",
                int,
                *(batch.first_row, batch.last_row, 1 << s.bit),
            )
            if found != batch.frames:
                wrong.append(f"{name}: batch {number} has {found} frames, expected {batch.frames}")
        quarantined = s.frames_in(BatchState.QUARANTINED)
        waiting = unsealed + s.frames_in(BatchState.WAITING)
        if account.spooled != s.delivered + waiting + account.evicted + account.expired + quarantined:
            wrong.append(
                f"{name}: spooled {account.spooled}, but delivered {s.delivered} + waiting {waiting} + "
                f"evicted {account.evicted} + expired {account.expired} + quarantined {quarantined}"
            )
    return wrong
