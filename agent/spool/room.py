# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Room for what comes: what goes when the quota is near or when it is too old, and how it is declared.

First the batches that the platform has refused, then the oldest frames that are in no batch, of the destination that
waits for most in relation to its share: one that is dead cannot take the others' room. Frames in a batch that waits are
never evicted: the batch may be on its way.

Age is told by the hours of the account: no wall clock, and never more than is certain. Of an earlier boot only the time
that it was seen to last is known; how long the gateway was off is not.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TypeAlias

from agent.batch import body as bodies
from agent.batch import codec
from agent.batch.errors import RefusedError
from agent.batch.model import GENESIS_HASH, UNKNOWN_BOOT, Account, Body, HourAccount, Loss, Tombstone
from agent.frame import Frame
from agent.spool import signing
from agent.spool.book import Book
from agent.spool.intake import Hour, hour_of
from agent.spool.orders import Entry
from agent.spool.row import COLUMNS, INSERT, WEIGHT_BYTES, DamagedRowError, UnknownSessionError, from_row, pack, to_row
from agent.spool.state import EARLIER, BatchState, Hours, Stream, batch_checksum, pack_hours
from agent.spool.store import scalar

RESERVE_PAGES = 64
"""Kept free below the quota for receipts and snapshots, which must always go through; of a small file a quarter."""
EVICTION_SHARE = 64
"""One eviction takes this part of what waits."""
EVICTION_MINIMUM = 64
EVICTION_ROUNDS = 32
EXPIRED_AT_ONCE = 8192
"""Frames of a stream that expire in one transaction; the others in the next."""

Lost: TypeAlias = "tuple[int, bytes, int, int]"
"""Row number, boot id, boottime and id of the hour of a frame that is taken out."""


def make_room(book: Book, entries: Sequence[Entry]) -> bool:
    """Evict what is needed for these frames to fit below the quota; True when something was."""
    weight = sum(WEIGHT_BYTES * len(entry.packed) + sum(map(len, entry.packed)) for entry in entries)
    need = 2 + weight * 5 // (4 * book.page_bytes)
    book.headroom_pages -= need
    if book.headroom_pages >= 0:
        return False  # what was counted last is more than was added since
    evicted = False
    for _ in range(EVICTION_ROUNDS):
        pages = scalar(book.connection, "PRAGMA page_count", int)
        free = scalar(book.connection, "PRAGMA freelist_count", int)
        limit = book.limit_pages
        book.headroom_pages = limit - pages + free - min(RESERVE_PAGES, limit // 4) - need
        # when all that is left waits in batches, SQLite will say that the quota is reached
        if book.headroom_pages >= 0 or not (_evict_quarantined(book) or _evict_unsealed(book)):
            break
        evicted = True
    return evicted


def _evict_quarantined(book: Book) -> bool:
    """Give up the oldest parked batch: the platform does not want it anyway."""
    parked = [
        (batch.first_row, stream, number)
        for stream in book.state.streams.values()
        for number, batch in stream.sealed.items()
        if batch.state is BatchState.QUARANTINED
    ]
    if not parked:
        return False
    _, stream, number = min(parked, key=lambda item: item[0])
    withdraw(book, stream, number, Loss.EVICTED)
    return True


def _evict_unsealed(book: Book) -> bool:
    """Take out the oldest unsealed frames of the stream that has most of them."""
    streams = [stream for stream in book.state.open_streams() if stream.unsealed]
    if not streams:
        return False
    stream = max(streams, key=lambda s: s.waiting / (book.shares.get(s.destination) or 1e-9))
    count = min(max(stream.unsealed // EVICTION_SHARE, EVICTION_MINIMUM), stream.unsealed)
    lost = list(_oldest(book, stream, count))
    _take_out(book, stream, Loss.EVICTED, lost)
    return bool(lost)


def _oldest(book: Book, stream: Stream, count: int) -> Iterator[Lost]:
    """Look up the oldest unsealed frames of a stream."""
    for seq, session, boottime_us in book.connection.execute(
        "SELECT seq, session, boottime_us FROM frame WHERE seq >= ? AND route & ? ORDER BY seq LIMIT ?",
        (stream.next_row, 1 << stream.bit, count),
    ):
        yield (seq, *moment_of(book, session, boottime_us))


def _take_out(book: Book, stream: Stream, reason: Loss, lost: Sequence[Lost]) -> None:
    if lost:
        first_row, stream.next_row = stream.next_row, lost[-1][0] + 1
        lose(stream, reason, lost)
        book.free(first_row, lost[-1][0])


def expire(book: Book, limit_hours: int) -> bool:
    """Give up what is certainly older than this, sealed or not; True when something was."""
    old = _older_than(book, limit_hours)
    found = False
    for stream in book.state.open_streams() if old else []:
        for number in [n for n, b in stream.sealed.items() if b.hours and all(hour in old for hour, _ in b.hours)]:
            withdraw(book, stream, number, Loss.EXPIRED)
            found = True
        lost = list(itertools.takewhile(lambda item: item[3] in old, _oldest(book, stream, EXPIRED_AT_ONCE)))
        _take_out(book, stream, Loss.EXPIRED, lost)
        found |= bool(lost)
    return found


def _older_than(book: Book, limit_hours: int) -> set[int]:
    """Return the hours that ended certainly more than so many hours ago."""
    by_boot: dict[bytes, list[tuple[int, int]]] = {}
    for (boot_id, hour), number in sorted(book.state.hours.items(), key=lambda item: item[1]):
        by_boot.setdefault(boot_id, []).append((hour, number))
    old: set[int] = set()
    since = 0  # hours that the boots after this one were seen to last
    for hours in reversed(by_boot.values()):
        last = max(hour for hour, _ in hours)
        old.update(number for hour, number in hours if since + last - hour - 1 >= limit_hours)
        since += last
    return old


def _gone(reason: Loss, frames: int) -> Account:
    return Account(expired=frames) if reason is Loss.EXPIRED else Account(evicted=frames)


def moment_of(book: Book, session: int, boottime_us: int) -> tuple[bytes, int, int]:
    """Return boot id, boottime and id of the hour of a row."""
    known = book.sessions.get(session)
    if known is None:
        return UNKNOWN_BOOT, boottime_us, EARLIER
    return known.boot_id, boottime_us, book.state.hour_id(hour_of(known.boot_id, boottime_us))


def lose(stream: Stream, reason: Loss, lost: Sequence[Lost]) -> None:
    """Count unsealed frames that never travel, and declare them in the next batch."""
    stream.unsealed -= len(lost)
    for hour, count in pack_hours(hour for *_, hour in lost):
        stream.count(hour, _gone(reason, count))
    first, last = lost[0], lost[-1]
    before = stream.tombstones.get((reason, 0))
    if before is not None:
        first = (0, before.first_boot_id, before.first_boottime_us, 0)
    stream.tombstones[reason, 0] = Tombstone(
        count=len(lost) + (before.count if before else 0),
        first_boottime_us=first[2],
        last_boottime_us=last[2],
        reason=reason,
        first_boot_id=first[1],
        last_boot_id=last[1],
    )


def withdraw(book: Book, stream: Stream, number: int, reason: Loss, *, sound: bool = False) -> None:
    """Give up a sealed batch and declare that. Of a damaged one the good frames go into a later batch.

    Args:
        book: of the spool.
        stream: of the batch.
        number: of the batch.
        reason: why; with `Loss.DAMAGED` a batch that is found sound is not given up,
        sound: unless it shall be: its key is not accepted any more.

    Raises:
        sqlite3.DatabaseError: the file is damaged in more than single rows.
    """
    batch = stream.sealed[number]
    good: list[Frame] = []
    ends: list[Frame] = []
    there = 0
    for columns in book.connection.execute(
        f"SELECT {COLUMNS} FROM frame WHERE seq BETWEEN ? AND ? AND route & ? ORDER BY seq",  # noqa: S608 - constants
        (batch.first_row, batch.last_row, 1 << stream.bit),
    ):
        if not batch.first_row <= columns[0] <= batch.last_row:
            # Its key was changed where it stands: to look for it, and to delete it, leads elsewhere.
            raise sqlite3.DatabaseError(f"frame {columns[0]} is out of order")
        there += 1
        try:
            frame = from_row(columns, book.sessions)
        except UnknownSessionError as error:
            raise sqlite3.DatabaseError(f"{error}: the session it is of is not there") from error
        except DamagedRowError:
            continue
        ends = [ends[0] if ends else frame, frame]
        if reason is Loss.DAMAGED:
            good.append(frame)
    if there < batch.frames and stream.key(number) not in book.searched:
        # A page may hide them. After one search of the whole file they are lost for good.
        book.searched.add(stream.key(number))
        raise sqlite3.DatabaseError(f"{batch.frames - there} frames of batch {number} are not to be found")
    header, context, hours_said, crc = book.connection.execute(
        "SELECT signed_header, context, hours, batch_crc32 FROM batch WHERE id = ?", (stream.key(number),)
    ).fetchone()
    place = (stream.key(number), batch.first_row, batch.last_row, batch.frames)
    intact = batch_checksum(*place, header, context, hours_said) == crc
    body = _certain(book, batch.hours)
    if intact:
        with contextlib.suppress(RefusedError):
            body = bodies.decode(context)
    whole = replace(body, frames=tuple(good))
    if reason is Loss.DAMAGED and not sound and intact and _is_sealed_in(header, whole):
        return  # it can be read after all
    del stream.sealed[number]
    signing.forget_announcement(stream, number)
    lost = batch.frames - len(good)
    owner = book.state.owner(stream)
    hours = book.hours(batch.hours)
    known = {hour for hour, _ in hours}
    own = (book.state.hour_id(hour_of(frame.session.boot_id, frame.boottime_us)) for frame in good)
    kept = Counter(hour if hour in known else EARLIER for hour in own)
    for hour, frames in hours:
        left = frames - kept[hour]
        if batch.state is BatchState.QUARANTINED:  # the platform has been told already that these do not come
            owner.settle(hour, Account(quarantined=-left) + _gone(reason, left))
            continue
        if owner is not stream:  # a closed stream has no later batch to say more in
            stream.settle(hour, Account(heard=-frames, spooled=-frames))
            owner.count(hour, Account(heard=frames, spooled=frames))
        if left:
            owner.count(hour, _gone(reason, left))
    if owner is not stream and lost:
        add_stone(owner, reason, lost)
    if stream.open:
        take_back(book, stream, body)
        stream.tombstones[reason, number] = Tombstone(
            count=lost,
            first_boottime_us=ends[0].boottime_us if ends else 0,
            last_boottime_us=ends[1].boottime_us if ends else 0,
            reason=reason,
            first_boot_id=ends[0].session.boot_id if ends else UNKNOWN_BOOT,
            last_boot_id=ends[1].session.boot_id if ends else UNKNOWN_BOOT,
            first_number=number,
            last_number=number,
            last_hash=book.hash_of(stream, number) or GENESIS_HASH,
        )
    book.connection.execute("UPDATE batch SET state = ? WHERE id = ?", (int(BatchState.WITHDRAWN), stream.key(number)))
    book.free(batch.first_row, batch.last_row, there)
    again = [
        to_row(book.state.last_row + 1 + index, 1 << stream.bit, frame, pack(frame)) for index, frame in enumerate(good)
    ]
    book.state.last_row += len(again)
    book.connection.executemany(INSERT, again)
    owner.unsealed += len(again)


def add_stone(stream: Stream, reason: Loss, count: int) -> None:
    """Declare frames of which nothing more is known."""
    known = stream.tombstones.get((reason, 0)) or Tombstone(0, 0, 0, reason)
    stream.tombstones[reason, 0] = replace(known, count=known.count + count)


def forget(book: Book, destination: str) -> int:
    """Give up everything that waits or is parked for a destination; return how many frames that were.

    Its streams are closed, so nothing tells it to anybody: the account here does, as evicted.
    """
    state = book.state
    first_row = state.last_row + 1
    gone = 0
    for stream in [s for s in state.streams.values() if s.destination == destination]:
        owner = state.owner(stream)
        for batch in stream.sealed.values():
            for hour, frames in book.hours(batch.hours):
                if batch.state is BatchState.QUARANTINED:
                    owner.settle(hour, Account(quarantined=-frames, evicted=frames))
                else:
                    stream.settle(hour, Account(evicted=frames))
            gone += batch.frames
            first_row = min(first_row, batch.first_row)
        stream.sealed.clear()
        book.connection.execute(
            "DELETE FROM batch WHERE id BETWEEN ? AND ?", (stream.key(0), stream.key(stream.next_number))
        )
        if stream.open:
            first_row = min(first_row, stream.next_row)
            gone += stream.unsealed
            for hour in stream.hours:
                stream.settle(hour, Account(evicted=stream.waiting_in(hour)))
            stream.unsealed, stream.next_row = 0, state.last_row + 1
    for stream in [s for s in state.streams.values() if s.destination == destination]:
        for hour in list(stream.unsent):
            stream.settle(hour, stream.unsent.pop(hour))
        stream.open = False
        stream.tombstones.clear()
    book.free(first_row, state.last_row)
    return gone


def take_back(book: Book, stream: Stream, body: Body) -> None:
    """Let a later batch say what a batch that never travels has said besides its frames."""
    for part in body.hours:
        hour = book.state.hour_id(Hour(part.boot_id, part.hour))
        stream.count(hour, part.account)
        stream.settle(hour, -part.account)
    for anchor in body.anchors:
        book.keep_anchor(anchor)
    for stone in body.tombstones:
        key = (stone.reason, stone.first_number)
        stream.tombstones[key] = _merged(stone, stream.tombstones.get(key))


def _certain(book: Book, hours: Hours) -> Body:
    """Return what a batch said of its account as far as that is certain when its context is lost: its frames."""
    names = book.state.hour_names()
    parts = tuple(
        HourAccount(*names[hour], Account(heard=frames, spooled=frames)) for hour, frames in book.hours(hours)
    )
    return Body((), sum((part.account for part in parts), Account()), hours=parts)


def _is_sealed_in(signed_header: bytes, body: Body) -> bool:
    try:
        sealed = codec.read_header(signed_header)
    except RefusedError:
        return False
    return hashlib.sha256(bodies.encode(body)).digest() == sealed.body_sha256


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
