# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The spool's bookkeeping, without threads and without a clock: one call of `apply` is one transaction.

In it frames are added, receipts free what they cover, room is made when the quota is near, and batches are sealed.
Either all of that is on the disk when `apply` returns, or nothing of it.

Sealing is lazy: while the platform does not answer, only some small batches and then full ones are sealed, up to half
the quota; the rest waits unsealed. Only frames that are in no batch are evicted, after what the platform has refused.
So a frame that is declared evicted has certainly never left the gateway, the chain has no holes, and a backlog travels
in full batches.
"""

from __future__ import annotations

import contextlib
import hashlib
import secrets
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TypeAlias
from zlib import crc32

from agent.batch import body as bodies
from agent.batch import codec
from agent.batch.errors import RefusedError
from agent.batch.keys import Signer
from agent.batch.model import (
    BUCKETS,
    GENESIS_HASH,
    MAX_FRAMES,
    MAX_HEALTH,
    MAX_NUMBER,
    MAX_TOMBSTONES,
    UNKNOWN_BOOT,
    Account,
    Anchor,
    Body,
    Loss,
    Reason,
    Receipt,
    Refusal,
    TimeSource,
    Tombstone,
)
from agent.errors import SpoolError
from agent.frame import Frame, Session
from agent.spool.intake import MAX_DESTINATIONS, Heard
from agent.spool.row import (
    COLUMNS,
    INSERT,
    ROUTE_FACTOR,
    SEQ_FACTOR,
    SESSION_FACTOR,
    WEIGHT_BYTES,
    DamagedRowError,
    Row,
    from_row,
    pack,
    to_fields,
    to_row,
    with_note,
)
from agent.spool.state import BatchState, Sealed, Stream, batch_checksum, load, note, save
from agent.spool.store import scalar

AGE_SEALED_AHEAD = 16
"""Batches waiting for a receipt beyond which age no longer seals: then only full batches are worth their headers."""
ACCOUNT_AGE_S = 900.0
"""After this long, counts travel even when no frame does."""
SEALS_PER_COMMIT = 8
"""Per stream: a long backlog is sealed in several transactions, so that frames do not wait behind it."""
MAX_BATCH_WEIGHT_BYTES = 900_000
"""Of the rows in one batch: they never take more than this on the way, even if nothing can be compressed."""
MAX_BATCH_ANCHORS = 64
KEPT_ANCHORS = 1024
"""For the display of times on the gateway itself."""
SNAPSHOT_ROWS = 4096
"""Frames after which the snapshot is renewed, so that opening stays fast."""
RESERVE_PAGES = 64
"""Kept free below the quota for receipts and snapshots, which must always go through."""
EVICTION_SHARE = 64
"""One eviction takes this part of what waits."""
EVICTION_MINIMUM = 64
EVICTION_ROUNDS = 32

_HOLD = frozenset({Reason.UNKNOWN_KEY, Reason.REVOKED_KEY, Reason.UNSUPPORTED_VERSION, Reason.WRONG_GATEWAY})
"""Reasons that somebody removes at the platform; the batch is good and waits."""
_RENEW = frozenset({Reason.FORK, Reason.BROKEN_CHAIN})
"""Reasons after which nothing of the stream can be accepted any more."""


@dataclass(frozen=True, slots=True)
class Destination:
    """Where frames go.

    Attributes:
        name: as in the configuration.
        filter_digest: names the filter's content; when it changes, the filter version in the headers counts up.
    """

    name: str
    filter_digest: bytes


@dataclass(frozen=True, slots=True)
class Policy:
    """When and how much.

    Attributes:
        batch_frames: frames after which a batch is sealed, 1 to 4096.
        batch_age_s: age of its oldest frame after which a batch is sealed.
        quota_bytes: of the database file.
    """

    batch_frames: int
    batch_age_s: float
    quota_bytes: int

    def __post_init__(self) -> None:
        if not 1 <= self.batch_frames <= MAX_FRAMES:
            raise ValueError(f"batch_frames {self.batch_frames}, must be 1 to {MAX_FRAMES}")


@dataclass(frozen=True, slots=True)
class Entry:
    """One `Heard` on its way to the disk.

    Attributes:
        number: of its journal record.
        heard: what was heard.
        packed: canonical bytes of each frame.
    """

    number: int
    heard: Heard
    packed: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Refused:
    """A refusal and the batch it answers; the refusal itself may not have been able to name it."""

    stream_id: bytes
    number: int
    refusal: Refusal


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A sealed batch whose body cannot be made again from the rows."""

    stream_id: bytes
    number: int


@dataclass(frozen=True, slots=True)
class Identify:
    """The gateway's EUI-64 has become known."""

    gateway_eui: bytes


Order: TypeAlias = "Receipt | Refused | Unreadable | Anchor | Identify"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a transaction did.

    Attributes:
        sealed: destinations with new batches.
        changed: destinations whose stream was replaced.
        more: whether another call has more to seal at once.
    """

    sealed: frozenset[str]
    changed: frozenset[str]
    more: bool


class Engine:
    """The one writer's view of the spool. Belongs to one thread."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        *,
        destinations: Sequence[Destination],
        policy: Policy,
        signer: Signer,
        gateway_eui: bytes | None = None,
        health: Callable[[], Mapping[str, int]] | None = None,
    ) -> None:
        """Read the state and make streams for new destinations.

        Raises:
            sqlite3.Error: the file cannot be read or written.
            ValueError: too many destinations, or two of one name.
        """
        names = [destination.name for destination in destinations]
        if len(names) > MAX_DESTINATIONS or len(set(names)) != len(names):
            raise ValueError(f"destinations {names}: at most {MAX_DESTINATIONS}, each name once")
        self.destinations = tuple(destinations)
        self.policy = policy
        self.foreign_answers = 0
        self._signer = signer
        self._health = health
        self._sessions: dict[int, Session] = {}
        self._pending_since: dict[int, float] = {}
        self._stale = False
        self._may_grow = True
        self._attach(connection)
        with self._transaction():
            self._configure(gateway_eui)
            save(connection, self.state)

    def _attach(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._page_bytes = scalar(connection, "PRAGMA page_size", int)
        self._quota_pages = scalar(connection, "PRAGMA max_page_count", int)
        self._present_pages = scalar(connection, "PRAGMA page_count", int)
        self._reload()

    def let_grow(self, may_grow: bool) -> None:
        """Say whether the file may grow up to the quota, or has to make do with the pages it has: the disk is full."""
        if may_grow != self._may_grow:
            self._may_grow = may_grow
            self._present_pages = scalar(self._connection, "PRAGMA page_count", int)
            self._headroom_pages = 0

    def reattach(self, connection: sqlite3.Connection) -> None:
        """Go on with a new connection to the same file.

        Raises:
            sqlite3.Error: the file cannot be read.
            SpoolError: it is another spool.
        """
        ours = self.state.spool_id
        self._attach(connection)
        if self.state.spool_id != ours:
            found, self.state.spool_id = self.state.spool_id, ours
            raise SpoolError(
                f"another spool ({found.hex()}) lies where {ours.hex()} was",
                where="spool",
                hint="put the right card back, or restart the agent to go on with this spool",
                code="CG-SPL-016",
                retryable=True,
            )

    def _reload(self) -> None:
        self._connection.execute("BEGIN")
        try:
            self.state = load(self._connection)
            self._sessions = {
                number: Session(boot_id, number)
                for number, boot_id in self._connection.execute("SELECT number, boot_id FROM session")
            }
        finally:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        self._routes: dict[int, int] = {}
        self._headroom_pages = 0
        self._stale = False

    def _transaction(self) -> _Transaction:
        return _Transaction(self)

    def _configure(self, gateway_eui: bytes | None) -> None:
        state = self.state
        if gateway_eui is not None:
            state.gateway_eui = gateway_eui
        names = {destination.name for destination in self.destinations}
        for stream in state.open_streams():
            if stream.destination not in names and not stream.unsealed and not stream.sealed:
                stream.open = False  # no longer configured, and nothing waits: its bit is free
        for destination in self.destinations:
            stream = state.stream_of(destination.name) or self._begin_stream(destination.name, self._free_bit())
            if not stream.filters or stream.filters[-1][2] != destination.filter_digest:
                stream.filters.append((stream.filter_version + 1, state.last_row + 1, destination.filter_digest))

    def _free_bit(self) -> int:
        taken = {stream.bit for stream in self.state.streams.values() if stream.open or stream.sealed}
        free = [bit for bit in range(63) if bit not in taken]
        if not free:
            raise ValueError("63 former destinations still have frames waiting")
        return free[0]

    def _begin_stream(self, destination: str, bit: int) -> Stream:
        state = self.state
        number = max(state.streams, default=0) + 1
        stream = Stream(
            *(number, destination, bit, secrets.token_bytes(16), True, state.last_row + 1, 0, 1, 1),
            *(GENESIS_HASH, 0, GENESIS_HASH, 0, max(state.next_anchor - KEPT_ANCHORS, 1)),
        )
        state.streams[number] = stream
        return stream

    # ------------------------------------------------------------------ the transaction

    def apply(self, entries: Sequence[Entry], orders: Sequence[Order], now_s: float, *, flush: bool = False) -> Outcome:
        """Do everything that has come up, durably.

        Args:
            entries: in the order of their numbers.
            orders: what else has arrived.
            now_s: a clock that never goes back.
            flush: seal whatever there is, however little.

        Raises:
            sqlite3.Error: nothing was done; the same call may be made again.
        """
        if self._stale:
            self._reload()
        before = {s.destination: s.id for s in self.state.open_streams()}
        with self._transaction():
            for order in orders:
                self._order(order)
            changed = self._make_room(entries) or bool(orders)
            rows, deltas = self._take(entries, now_s)
            seal = [s for s in self.state.open_streams() if self._due(s, now_s, flush=flush)]
            fresh = self.state.last_row - self.state.snapshot_row
            if rows and not changed and not seal and fresh < SNAPSHOT_ROWS:
                rows[-1] = with_note(rows[-1], note(self.state.journal, deltas))
                self._connection.executemany(INSERT, rows)
                outcome = Outcome(frozenset(), frozenset(), more=False)
            elif rows or entries or changed or seal:
                self._connection.executemany(INSERT, rows)
                sealed, more = set(), False
                for stream in seal:
                    count = 0
                    while count < SEALS_PER_COMMIT and self._due(stream, now_s, flush=flush):
                        self._seal(stream, now_s)
                        count += 1
                    sealed.add(stream.destination)
                    more |= self._due(stream, now_s, flush=flush)
                save(self._connection, self.state)
                after = {s.destination: s.id for s in self.state.open_streams()}
                outcome = Outcome(
                    frozenset(sealed), frozenset(name for name in after if after[name] != before.get(name)), more
                )
            else:
                outcome = Outcome(frozenset(), frozenset(), more=False)
        return outcome

    def next_seal_s(self) -> float | None:
        """Return when, by the clock of `apply`, the next batch is due by age; None when none is."""
        due = [
            since + (self.policy.batch_age_s if stream.unsealed else self._account_age_s)
            for number, since in self._pending_since.items()
            if (stream := self.state.streams[number]).open and self._may_seal(stream) and self._may_seal_small(stream)
        ]
        return min(due, default=None)

    # ------------------------------------------------------------------ frames

    def _take(self, entries: Sequence[Entry], now_s: float) -> tuple[list[Row], dict[int, Account]]:
        """Count what was heard, and make rows of its frames."""
        state = self.state
        streams = [state.stream_of(destination.name) for destination in self.destinations]
        deltas: dict[int, Account] = {}
        rows: list[Row] = []
        append = rows.append
        seq = state.last_row
        routes = self._routes
        session = None
        route = heard_route = place = 0
        for entry in entries:
            for stream, tally in zip(streams, entry.heard.tallies, strict=True):
                assert stream is not None
                deltas[stream.id] = deltas[stream.id] + tally if stream.id in deltas else tally
            # the one loop that every frame goes through: `to_row`, unrolled
            for routed, packed in zip(entry.heard.frames, entry.packed, strict=True):
                seq += 1
                frame = routed.frame
                if frame.session is not session or routed.route != heard_route:
                    session, heard_route = frame.session, routed.route
                    self._know(session)
                    route = routes.get(heard_route) or self._route(heard_route)
                    place = route * ROUTE_FACTOR + session.number * SESSION_FACTOR
                check = crc32(packed, seq * SEQ_FACTOR + place & 0xFFFFFFFF)
                append((seq, route, *to_fields(frame), check, None))
        for number, delta in deltas.items():
            stream = state.streams[number]
            stream.since_batch += delta
            stream.unsealed += delta.spooled
            self._pending_since.setdefault(number, now_s)
        if entries:
            state.journal = entries[-1].number
            state.last_row = seq
        return rows, deltas

    def _know(self, session: Session) -> None:
        """Keep which boot a session belongs to."""
        if session.number not in self._sessions:
            self._connection.execute(
                "INSERT INTO session (number, boot_id) VALUES (?, ?)", (session.number, session.boot_id)
            )
            self._sessions[session.number] = session
            self.state.session = max(self.state.session, session.number)

    def _route(self, route: int) -> int:
        """Return the bits of the streams for those of the configuration."""
        bits = 0
        for index, destination in enumerate(self.destinations):
            stream = self.state.stream_of(destination.name)
            if route >> index & 1 and stream is not None:
                bits |= 1 << stream.bit
        self._routes[route] = bits
        return bits

    # ------------------------------------------------------------------ sealing

    @property
    def _account_age_s(self) -> float:
        return max(ACCOUNT_AGE_S, self.policy.batch_age_s)

    def _may_seal(self, stream: Stream) -> bool:
        """Whether more may be sealed: at most half the quota, so that there is always something left to evict."""
        if self.state.gateway_eui is None or not stream.open:
            return False
        share = self.policy.quota_bytes // (2 * max(len(self.state.open_streams()), 1))
        return stream.weight_in(BatchState.WAITING) < share

    def _may_seal_small(self, stream: Stream) -> bool:
        """Whether a batch that is not full is worth its header."""
        return stream.batches_in(BatchState.WAITING) < AGE_SEALED_AHEAD

    def _due(self, stream: Stream, now_s: float, *, flush: bool) -> bool:
        if not self._may_seal(stream):
            return False
        if stream.unsealed >= self.policy.batch_frames:
            return True
        age_s = now_s - self._pending_since.setdefault(stream.id, now_s)
        if stream.unsealed:
            return flush or (age_s >= self.policy.batch_age_s and self._may_seal_small(stream))
        if stream.since_batch == Account() and not stream.tombstones:
            self._pending_since.pop(stream.id, None)
            return False
        return self._may_seal_small(stream) and (flush or age_s >= self._account_age_s)

    def _seal(self, stream: Stream, now_s: float) -> None:
        """Sign the oldest unsealed frames of a stream as its next batch."""
        state = self.state
        assert state.gateway_eui is not None
        first_row = stream.next_row
        while True:
            version, end = stream.filter_at(stream.next_row)
            frames, last_row, weight, damaged = self._collect(stream, end)
            if frames or damaged or end is None:
                break
            stream.next_row = end  # nothing was left of what an earlier filter selected
        if damaged:
            self._lose(stream, Loss.DAMAGED, damaged)
            # no part of the batch any more; other destinations find out for themselves
            self._connection.executemany(
                "UPDATE frame SET route = route & ? WHERE seq = ?",
                [(~(1 << stream.bit), seq) for seq, _, _ in damaged],
            )
        stream.next_row = last_row + 1
        while len(stream.filters) > 1 and stream.filters[1][1] <= stream.next_row:
            del stream.filters[0]
        anchors, stream.next_anchor = self._anchors_from(stream.next_anchor)
        declared = dict(list(stream.tombstones.items())[:MAX_TOMBSTONES])
        body = Body(tuple(frames), stream.since_batch, anchors, tuple(declared.values()), self._health_now())
        sealed = codec.seal(
            body,
            self._signer,
            gateway_eui=state.gateway_eui,
            stream_id=stream.stream_id,
            number=stream.next_number,
            first_seq=stream.next_seq,
            previous_hash=stream.last_hash,
            filter_version=version,
        )
        context = bodies.encode(replace(body, frames=()))
        place = (stream.key(stream.next_number), first_row, last_row, len(frames))
        self._connection.execute(
            "INSERT INTO batch (id, first_row, last_row, frames, bytes, state, signed_header, context, batch_crc32) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *(*place, weight, int(BatchState.WAITING), sealed.signed_header, context),
                batch_checksum(*place, sealed.signed_header, context),
            ),
        )
        stream.sealed[stream.next_number] = Sealed(first_row, last_row, len(frames), weight, BatchState.WAITING)
        stream.next_number += 1
        stream.next_seq += len(frames)
        stream.last_hash = sealed.hash
        stream.unsealed -= len(frames)
        stream.in_batches += stream.since_batch
        stream.since_batch = Account()
        for key in declared:
            del stream.tombstones[key]
        self._pending_since[stream.id] = now_s

    def _collect(self, stream: Stream, end: int | None) -> tuple[list[Frame], int, int, list[_Lost]]:
        """Read the next frames of a stream: these, the last row they reach to, their weight, and the damaged ones."""
        frames: list[Frame] = []
        damaged: list[_Lost] = []
        weight = 0
        limit = min(self.policy.batch_frames, stream.unsealed)
        last_row = self.state.last_row if end is None else end - 1
        if not limit:
            return frames, last_row, weight, damaged
        cursor = self._connection.execute(
            f"SELECT {COLUMNS} FROM frame WHERE seq BETWEEN ? AND ? AND route & ? ORDER BY seq LIMIT ?",  # noqa: S608 - constants
            (stream.next_row, last_row, 1 << stream.bit, limit),
        )
        for columns in cursor:
            try:
                frame = from_row(columns, self._sessions)
            except DamagedRowError:
                damaged.append((columns[0], UNKNOWN_BOOT, 0))
            else:
                frames.append(frame)
                weight += WEIGHT_BYTES + len(frame.phy_payload)
            if len(frames) + len(damaged) == limit or weight > MAX_BATCH_WEIGHT_BYTES:
                last_row = columns[0]
                break
        cursor.close()
        return frames, last_row, weight, damaged

    def _anchors_from(self, first: int) -> tuple[tuple[Anchor, ...], int]:
        anchors = [
            Anchor(boot_id, boottime_us, utc_us, uncertainty_us, TimeSource(source))
            for boot_id, boottime_us, utc_us, uncertainty_us, source in self._connection.execute(
                "SELECT boot_id, boottime_us, utc_us, uncertainty_us, source FROM anchor WHERE id >= ? ORDER BY id",
                (first,),
            )
        ]
        if len(anchors) > MAX_BATCH_ANCHORS:  # evenly, with the first and the last
            last = len(anchors) - 1
            anchors = [anchors[index * last // (MAX_BATCH_ANCHORS - 1)] for index in range(MAX_BATCH_ANCHORS)]
        return tuple(anchors), self.state.next_anchor

    def _health_now(self) -> dict[str, int]:
        if self._health is None:
            return {}
        # a wrong entry must not keep frames from travelling
        fit = [
            (name, value)
            for name, value in self._health().items()
            if 0 < len(name.encode()) <= 32 and abs(value) <= MAX_NUMBER
        ]
        return dict(fit[:MAX_HEALTH])

    # ------------------------------------------------------------------ orders

    def _order(self, order: Order) -> None:
        match order:
            case Receipt():
                self._receipt(order)
            case Refused():
                self._refused(order)
            case Unreadable():
                self._unreadable(order)
            case Anchor():
                self._anchor(order)
            case Identify(gateway_eui):
                self.state.gateway_eui = gateway_eui

    def _receipt(self, receipt: Receipt) -> None:
        stream = self.state.by_stream_id(receipt.stream_id)
        if stream is None:
            self.foreign_answers += 1
            return
        newest = max([receipt.through, *(last for _, last in receipt.beyond)])
        if receipt.through < stream.through:
            stream.stale_answers += 1
            return
        if newest >= stream.next_number or self._hash_of(stream, receipt.through) != receipt.hash:
            stream.foreign_answers += 1
            return
        covered = [number for number in stream.sealed if number <= receipt.through]
        beyond = [number for number in stream.sealed if any(first <= number <= last for first, last in receipt.beyond)]
        beyond = [number for number in beyond if number > receipt.through]
        freed: list[tuple[int, int]] = []
        for number in (*covered, *beyond):
            batch = stream.sealed.pop(number)
            stream.delivered += batch.frames
            freed.append((batch.first_row, batch.last_row))
        if receipt.through > stream.through:
            stream.through, stream.through_hash = receipt.through, receipt.hash
            self._connection.execute(
                "DELETE FROM batch WHERE id BETWEEN ? AND ?", (stream.key(0), stream.key(receipt.through))
            )
        self._connection.executemany(
            "UPDATE batch SET state = ? WHERE id = ?",
            [(int(BatchState.BEYOND), stream.key(number)) for number in beyond],
        )
        for first, last in _joined(freed):
            self._free(first, last)
        if freed:
            stream.hold_reason = stream.hold_detail = None

    def _hash_of(self, stream: Stream, number: int) -> bytes | None:
        """Return what names a batch; the batch behind it is believed before its own header, which may be damaged."""
        if number == stream.through:
            return stream.through_hash
        if number == stream.next_number - 1:
            return stream.last_hash
        found = self._connection.execute(
            "SELECT signed_header FROM batch WHERE id = ?", (stream.key(number + 1),)
        ).fetchone()
        if found is not None:
            with contextlib.suppress(RefusedError):
                return codec.read_header(found[0]).previous_hash
        found = self._connection.execute(
            "SELECT signed_header FROM batch WHERE id = ?", (stream.key(number),)
        ).fetchone()
        return None if found is None else codec.header_hash(found[0])

    def _refused(self, refused: Refused) -> None:
        stream = self.state.by_stream_id(refused.stream_id)
        if stream is None:
            self.foreign_answers += 1
            return
        batch = stream.sealed.get(refused.number)
        if batch is None or batch.state is not BatchState.WAITING:
            stream.stale_answers += 1
            return
        refusal = refused.refusal
        if refusal.number and (
            (refusal.stream_id, refusal.number) != (refused.stream_id, refused.number)
            or refusal.batch_hash != self._hash_of(stream, refused.number)
        ):
            stream.foreign_answers += 1
            return
        if refusal.reason in _HOLD:
            stream.hold_reason, stream.hold_detail = refusal.reason, refusal.detail
        elif refusal.reason in _RENEW:
            for number in [n for n, b in stream.sealed.items() if b.state is BatchState.WAITING]:
                self._quarantine(stream, number, refusal)
            if stream.open:
                self._renew(stream)
        else:
            self._quarantine(stream, refused.number, refusal)

    def _quarantine(self, stream: Stream, number: int, refusal: Refusal) -> None:
        batch = stream.sealed[number]
        batch.state = BatchState.QUARANTINED
        stream.since_batch += Account(quarantined=batch.frames)
        self._connection.execute(
            "UPDATE batch SET state = ?, reason = ?, detail = ? WHERE id = ?",
            (int(BatchState.QUARANTINED), int(refusal.reason), refusal.detail, stream.key(number)),
        )

    def _renew(self, old: Stream) -> None:
        """Close a stream and begin a new one for its destination, which takes over what is not sealed."""
        new = self._begin_stream(old.destination, old.bit)
        new.next_row, new.unsealed = old.next_row, old.unsealed
        new.filters = [(version, first, digest) for version, first, digest in old.filters]
        new.tombstones = {key: stone for key, stone in old.tombstones.items() if not stone.first_number}
        left = old.since_batch
        spooled = old.unsealed + left.evicted + left.expired
        moved = replace(
            left,
            heard=left.bad_crc + left.filtered + left.duplicate + spooled,
            spooled=spooled,
            quarantined=0,
        )
        new.since_batch = moved
        old.in_batches = _less(old.since_start, moved)
        old.since_batch = Account()
        old.open, old.unsealed, old.tombstones = False, 0, {}
        self._pending_since[new.id] = self._pending_since.pop(old.id, 0.0)

    def _anchor(self, anchor: Anchor) -> None:
        self._connection.execute(
            "INSERT INTO anchor (id, boot_id, boottime_us, utc_us, uncertainty_us, source) VALUES (?, ?, ?, ?, ?, ?)",
            (
                *(self.state.next_anchor, anchor.boot_id, anchor.boottime_us, anchor.utc_us),
                *(anchor.uncertainty_us, int(anchor.source)),
            ),
        )
        self.state.next_anchor += 1
        travelled = min((s.next_anchor for s in self.state.open_streams()), default=self.state.next_anchor)
        oldest = min(travelled, self.state.next_anchor - KEPT_ANCHORS)
        self._connection.execute("DELETE FROM anchor WHERE id < ?", (oldest,))

    # ------------------------------------------------------------------ freeing

    def _free(self, first: int, last: int) -> None:
        """Delete the frames of a range that nobody needs any more."""
        if last < first:
            return
        needs: list[tuple[int, int, int]] = []
        for stream in self.state.streams.values():
            if stream.open:
                needs.append((stream.next_row, last, 1 << stream.bit))
            needs.extend((b.first_row, b.last_row, 1 << stream.bit) for b in stream.sealed.values())
        needs = [(max(a, first), min(b, last), bit) for a, b, bit in needs if a <= last and b >= first and a <= b]
        cuts = sorted({first, last + 1, *(a for a, _, _ in needs), *(b + 1 for _, b, _ in needs if b < last)})
        for start, stop in pairwise(cuts):
            needed = 0
            for a, b, bit in needs:
                if a <= start and stop - 1 <= b:
                    needed |= bit
            if needed:
                self._connection.execute(
                    "DELETE FROM frame WHERE seq BETWEEN ? AND ? AND route & ? = 0", (start, stop - 1, needed)
                )
            else:
                self._connection.execute("DELETE FROM frame WHERE seq BETWEEN ? AND ?", (start, stop - 1))

    def _make_room(self, entries: Sequence[Entry]) -> bool:
        """Evict what is needed for these frames to fit below the quota; True when something was."""
        weight = sum(WEIGHT_BYTES * len(entry.packed) + sum(map(len, entry.packed)) for entry in entries)
        need = 2 + weight * 5 // (4 * self._page_bytes)
        self._headroom_pages -= need
        if self._headroom_pages >= 0:
            return False  # what was counted last is more than was added since
        evicted = False
        for _ in range(EVICTION_ROUNDS):
            pages = scalar(self._connection, "PRAGMA page_count", int)
            free = scalar(self._connection, "PRAGMA freelist_count", int)
            limit = self._quota_pages if self._may_grow else self._present_pages
            self._headroom_pages = limit - pages + free - RESERVE_PAGES - need
            # when all that is left waits in batches, SQLite will say that the quota is reached
            if self._headroom_pages >= 0 or not (self._evict_quarantined() or self._evict_unsealed()):
                break
            evicted = True
        return evicted

    def _evict_quarantined(self) -> bool:
        """Give up the oldest parked batch: the platform does not want it anyway."""
        parked = [
            (batch.first_row, stream, number)
            for stream in self.state.streams.values()
            for number, batch in stream.sealed.items()
            if batch.state is BatchState.QUARANTINED
        ]
        if not parked:
            return False
        _, stream, number = min(parked, key=lambda item: item[0])
        self._withdraw(stream, number, Loss.EVICTED)
        return True

    def _evict_unsealed(self) -> bool:
        """Take out the oldest unsealed frames of the stream that has most of them."""
        stream = max(self.state.open_streams(), key=lambda s: s.unsealed)
        count = min(max(stream.unsealed // EVICTION_SHARE, EVICTION_MINIMUM), stream.unsealed)
        lost: list[_Lost] = []
        for seq, session, boottime_us in self._connection.execute(
            "SELECT seq, session, boottime_us FROM frame WHERE seq >= ? AND route & ? ORDER BY seq LIMIT ?",
            (stream.next_row, 1 << stream.bit, count),
        ):
            known = self._sessions.get(session)
            lost.append((seq, known.boot_id if known else UNKNOWN_BOOT, boottime_us))
        if not lost:
            return False
        first_row, stream.next_row = stream.next_row, lost[-1][0] + 1
        self._lose(stream, Loss.EVICTED, lost)
        self._free(first_row, lost[-1][0])
        return True

    def _lose(self, stream: Stream, reason: Loss, lost: Sequence[_Lost]) -> None:
        """Count unsealed frames that never travel, and declare them in the next batch."""
        stream.unsealed -= len(lost)
        stream.since_batch += Account(evicted=len(lost))
        first, last = lost[0], lost[-1]
        before = stream.tombstones.get((reason, 0))
        if before is not None:
            first = (0, before.first_boot_id, before.first_boottime_us)
        stream.tombstones[reason, 0] = Tombstone(
            count=len(lost) + (before.count if before else 0),
            first_boottime_us=first[2],
            last_boottime_us=last[2],
            reason=reason,
            first_boot_id=first[1],
            last_boot_id=last[1],
        )

    def _unreadable(self, order: Unreadable) -> None:
        stream = self.state.by_stream_id(order.stream_id)
        if stream is not None and stream.open and order.number in stream.sealed:
            self._withdraw(stream, order.number, Loss.DAMAGED)

    def _withdraw(self, stream: Stream, number: int, reason: Loss) -> None:
        """Give up a sealed batch and declare that. Of a damaged one the good frames go into a later batch."""
        batch = stream.sealed[number]
        good: list[Frame] = []
        ends: list[Frame] = []
        for columns in self._connection.execute(
            f"SELECT {COLUMNS} FROM frame WHERE seq BETWEEN ? AND ? AND route & ? ORDER BY seq",  # noqa: S608 - constants
            (batch.first_row, batch.last_row, 1 << stream.bit),
        ):
            try:
                frame = from_row(columns, self._sessions)
            except DamagedRowError:
                continue
            ends = [ends[0] if ends else frame, frame]
            if reason is Loss.DAMAGED:
                good.append(frame)
        header, context, crc = self._connection.execute(
            "SELECT signed_header, context, batch_crc32 FROM batch WHERE id = ?", (stream.key(number),)
        ).fetchone()
        place = (stream.key(number), batch.first_row, batch.last_row, batch.frames)
        intact = batch_checksum(*place, header, context) == crc
        body = Body((), Account(heard=batch.frames, spooled=batch.frames))  # what is certain when the context is lost
        if intact:
            with contextlib.suppress(RefusedError):
                body = bodies.decode(context)
        whole = replace(body, frames=tuple(good))
        if reason is Loss.DAMAGED and intact and _is_sealed_in(header, whole):
            return  # it can be read after all
        del stream.sealed[number]
        lost = batch.frames - len(good)
        stream.since_batch += Account(evicted=lost)
        if stream.open:  # a closed stream has no later batch to say more in
            stream.since_batch += body.account
            stream.in_batches = _less(stream.in_batches, body.account)
            for anchor in body.anchors:
                self._anchor(anchor)
            for stone in body.tombstones:
                key = (stone.reason, stone.first_number)
                stream.tombstones[key] = _merged(stone, stream.tombstones.get(key))
            stream.tombstones[reason, number] = Tombstone(
                count=lost,
                first_boottime_us=ends[0].boottime_us if ends else 0,
                last_boottime_us=ends[1].boottime_us if ends else 0,
                reason=reason,
                first_boot_id=ends[0].session.boot_id if ends else UNKNOWN_BOOT,
                last_boot_id=ends[1].session.boot_id if ends else UNKNOWN_BOOT,
                first_number=number,
                last_number=number,
                last_hash=self._hash_of(stream, number) or GENESIS_HASH,
            )
        self._connection.execute(
            "UPDATE batch SET state = ? WHERE id = ?", (int(BatchState.WITHDRAWN), stream.key(number))
        )
        self._free(batch.first_row, batch.last_row)
        again = [
            to_row(self.state.last_row + 1 + index, 1 << stream.bit, frame, pack(frame))
            for index, frame in enumerate(good)
        ]
        self.state.last_row += len(again)
        self._connection.executemany(INSERT, again)
        stream.unsealed += len(again)


_Lost: TypeAlias = "tuple[int, bytes, int]"
"""Row number, boot id, boottime of a frame that is taken out."""


class _Transaction:
    """BEGIN, then COMMIT or ROLLBACK; after the latter the state in memory is stale and is read again."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def __enter__(self) -> None:
        self._engine._connection.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        connection = self._engine._connection
        if kind is None:
            try:
                connection.execute("COMMIT")
            except BaseException:
                self._engine._stale = True
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
            return
        self._engine._stale = True
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _is_sealed_in(signed_header: bytes, body: Body) -> bool:
    try:
        sealed = codec.read_header(signed_header)
    except RefusedError:
        return False
    return hashlib.sha256(bodies.encode(body)).digest() == sealed.body_sha256


def _less(account: Account, part: Account) -> Account:
    return Account(*(getattr(account, name) - getattr(part, name) for name in BUCKETS))


def _joined(ranges: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Join ranges that touch each other; they come in ascending order or nearly so."""
    current: tuple[int, int] | None = None
    for first, last in sorted(ranges):
        if last < first:
            continue
        if current is not None and first <= current[1] + 1:
            current = (current[0], max(current[1], last))
            continue
        if current is not None:
            yield current
        current = (first, last)
    if current is not None:
        yield current


def _merged(stone: Tombstone, other: Tombstone | None) -> Tombstone:
    """Sum up two declarations of frames that were in no batch; `other` is the later one."""
    if other is None or stone.first_number:
        return stone
    return replace(
        stone,
        count=stone.count + other.count,
        last_boottime_us=other.last_boottime_us,
        last_boot_id=other.last_boot_id,
    )
