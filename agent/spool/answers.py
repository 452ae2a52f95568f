# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What the platform's verified answers do to the spool: receipts free, refusals park or hold."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

from agent.batch import body as bodies
from agent.batch import codec, cose
from agent.batch.errors import RefusedError
from agent.batch.model import GENESIS_HASH, Account, Loss, Reason, Receipt, Refusal
from agent.spool import signing
from agent.spool.book import Book
from agent.spool.orders import Contradicted, Refused
from agent.spool.room import add_stone, take_back, withdraw
from agent.spool.row import COLUMNS, INSERT, DamagedRowError, from_row, pack, to_row
from agent.spool.state import NOTHING, BatchState, Stream, batch_checksum

log = logging.getLogger(__name__)

_HOLD = frozenset({Reason.UNKNOWN_KEY, Reason.REVOKED_KEY, Reason.UNSUPPORTED_VERSION, Reason.WRONG_GATEWAY})
"""Reasons that somebody removes at the platform; the batch is good and waits."""
_RENEW = frozenset({Reason.FORK, Reason.BROKEN_CHAIN})
"""Reasons after which nothing of the stream can be accepted any more."""


def take_receipt(book: Book, receipt: Receipt) -> None:
    """Free what a receipt covers; ignore and count one that is old, or does not fit what was sealed here."""
    stream = book.state.by_stream_id(receipt.stream_id)
    if stream is None:
        book.foreign_answers += 1
        return
    newest = max([receipt.through, *(last for _, last in receipt.beyond)])
    beyond = [number for number in stream.sealed if any(first <= number <= last for first, last in receipt.beyond)]
    beyond = [number for number in beyond if number > receipt.through]
    # A platform whose ledger was restored from a copy says less than before, for ever: what it says it has, it has.
    behind = receipt.through < stream.through
    if behind and (not beyond or newest >= stream.next_number):
        stream.stale_answers += 1
        return
    if newest >= stream.next_number or (not behind and book.hash_of(stream, receipt.through) != receipt.hash):
        stream.foreign_answers += 1
        return
    covered = [number for number in stream.sealed if number <= receipt.through]
    freed: list[tuple[int, int]] = []
    sizes: dict[int, int] = {}  # by the first row of the batch
    for number in (*covered, *beyond):
        batch = stream.sealed.pop(number)
        sizes[batch.first_row] = batch.frames
        if batch.state is BatchState.QUARANTINED:  # it was taken after all
            owner = book.state.owner(stream)
            for hour, frames in batch.hours:
                owner.settle(book.hour(hour), Account(quarantined=-frames))
            owner.deliver(book.hours(batch.hours))
        else:
            stream.deliver(book.hours(batch.hours))
        freed.append((batch.first_row, batch.last_row))
    if receipt.through > stream.through:
        stream.through, stream.through_hash = receipt.through, receipt.hash
        book.connection.execute(
            "DELETE FROM batch WHERE id BETWEEN ? AND ?", (stream.key(0), stream.key(receipt.through))
        )
    book.connection.executemany(
        "UPDATE batch SET state = ? WHERE id = ?",
        [(int(BatchState.BEYOND), stream.key(number)) for number in beyond],
    )
    for first, last in _joined(freed):
        book.free(first, last, sum(sizes[row] for row in sizes if first <= row <= last))
    if freed:
        stream.hold_reason = stream.hold_detail = None


def take_refusal(book: Book, refused: Refused, newest_kid: bytes | None = None) -> None:
    """Park the batch that was refused, hold its stream, or begin a new one, as the reason demands.

    Args:
        book: of the spool.
        refused: what was refused, and why.
        newest_kid: of the key that new batches may be signed with, None where it is not known.
    """
    stream = book.state.by_stream_id(refused.stream_id)
    if stream is None:
        book.foreign_answers += 1
        return
    batch = stream.sealed.get(refused.number)
    if batch is None or batch.state is not BatchState.WAITING:
        stream.stale_answers += 1
        return
    refusal = refused.refusal
    if refusal.number and (
        (refusal.stream_id, refusal.number) != (refused.stream_id, refused.number)
        or refusal.batch_hash != book.hash_of(stream, refused.number)
    ):
        stream.foreign_answers += 1
        return
    if refusal.reason is Reason.REVOKED_KEY and _seal_again(book, stream, refused.number, newest_kid):
        return
    if refusal.reason in _HOLD:
        stream.hold_reason, stream.hold_detail = refusal.reason, refusal.detail
    elif refusal.reason in _RENEW:
        # what comes after it joins it: the platform can have none of that
        renew(book, stream, refused.number, refusal.reason, refusal.detail)
    else:
        _quarantine(book, stream, refused.number, refusal)


def _seal_again(book: Book, stream: Stream, refused: int, newest_kid: bytes | None) -> bool:
    """Withdraw what a revoked key has signed, so that its frames travel in batches of the present one.

    A refusal for this reason says that the batch is not committed (docs/batch-format.md, chapter 6). Nor are those
    behind it, unless they overtook it before the key was revoked and all their receipts were lost.

    Returns:
        False where there is no other key: somebody has to decide.
    """
    revoked = _signed_by(book, stream, refused)
    if not stream.open or None in (revoked, newest_kid) or revoked == newest_kid:
        return False
    waiting = [n for n, batch in stream.sealed.items() if n >= refused and batch.state is BatchState.WAITING]
    for number in [n for n in waiting if _signed_by(book, stream, n) == revoked]:
        withdraw(book, stream, number, Loss.DAMAGED, sound=True)
    if stream.signed_by == revoked:
        stream.signed_by = b""  # it announces nothing any more
    stream.hold_reason = stream.hold_detail = None
    return True


def _signed_by(book: Book, stream: Stream, number: int) -> bytes | None:
    """Return the kid that signed a batch, None where its header is damaged."""
    header = book.connection.execute("SELECT signed_header FROM batch WHERE id = ?", (stream.key(number),)).fetchone()
    try:
        return None if header is None else cose.read(header[0], where=f"batch {number}").kid
    except RefusedError:
        return None


def _quarantine(book: Book, stream: Stream, number: int, refusal: Refusal) -> None:
    batch = stream.sealed[number]
    batch.state = BatchState.QUARANTINED
    owner = book.state.owner(stream)
    for hour, frames in book.hours(batch.hours):
        if owner is not stream:
            stream.settle(hour, Account(heard=-frames, spooled=-frames))
            owner.count(hour, Account(heard=frames, spooled=frames))
        owner.count(hour, Account(quarantined=frames))
    book.connection.execute(
        "UPDATE batch SET state = ?, reason = ?, detail = ? WHERE id = ?",
        (int(BatchState.QUARANTINED), int(refusal.reason), refusal.detail, stream.key(number)),
    )


def take_contradiction(book: Book, contradicted: Contradicted) -> None:
    """Begin a new stream: the platform has another history of this one, as after a card was restored from a copy."""
    stream = book.state.by_stream_id(contradicted.stream_id)
    if stream is None or not stream.open:
        return
    detail = f"the platform has batches through {contradicted.newest} of another history of this stream"
    renew(book, stream, contradicted.newest + 1, Reason.FORK, detail)


def renew(book: Book, old: Stream, first: int, reason: Reason, detail: str) -> None:
    """Close a stream; begin a new one for its destination, which takes over all that certainly was not delivered.

    Args:
        book: of the spool.
        old: the stream.
        first: batches from here on are not at the platform; their frames travel in the new stream. Of those before, the
            platform may have the very same: they are parked.
        reason: for what is parked.
        detail: the same.
    """
    parked = [number for number, batch in old.sealed.items() if batch.state is BatchState.QUARANTINED]
    first = max([first, *(number + 1 for number in parked if number >= first)])
    if not old.open:
        first = old.next_number  # its rows lie before those of the stream that is open
    for number in [n for n, b in old.sealed.items() if b.state is BatchState.WAITING and n < first]:
        _quarantine(book, old, number, Refusal(old.stream_id, number, GENESIS_HASH, reason, detail, 0))
    if not old.open:
        return
    new = book.begin_stream(old.destination, old.bit)
    log.warning(
        "event=spool_new_stream destination=%s old=%s new=%s reason=%s detail=%s",
        *(old.destination, old.stream_id.hex(), new.stream_id.hex(), reason.name, detail),
    )
    signing.inherit(new, old)
    new.filters = list(old.filters)
    new.next_row, new.unsealed = old.next_row, old.unsealed
    again = sorted((number, old.sealed.pop(number)) for number in [n for n in old.sealed if n >= first])
    for number, batch in reversed(again):
        # what lies between was taken out of this stream, and is here for others
        take_off(book, batch.last_row + 1, new.next_row - 1, old.bit)
        new.next_row, new.unsealed = batch.first_row, new.unsealed + batch.frames
        _reopen(book, old, new, number)
    inherit_stones(new, old)
    hand_over(old, new)
    old.open, old.unsealed, old.tombstones = False, 0, {}
    book.pending_since[new.id] = book.pending_since.pop(old.id, 0.0)


def inherit_stones(new: Stream, old: Stream) -> None:
    """Let a stream declare what the one before it had yet to declare; the batches of that one it does not name."""
    new.tombstones = {key: stone for key, stone in old.tombstones.items() if not stone.first_number}
    for stone in old.tombstones.values():
        if stone.first_number and stone.count:
            add_stone(new, stone.reason, stone.count)


def take_off(book: Book, first_row: int, last_row: int, bit: int) -> None:
    """Take rows out of a stream; they stay for others."""
    while first_row <= last_row:
        found = book.connection.execute(
            f"SELECT {COLUMNS} FROM frame WHERE seq BETWEEN ? AND ? AND route & ? ORDER BY seq LIMIT 1000",  # noqa: S608 - constants
            (first_row, last_row, 1 << bit),
        ).fetchall()
        if not found:
            return
        for columns in found:
            seq, route, *_, note = columns
            left = route & ~(1 << bit)
            if not left:
                book.connection.execute("DELETE FROM frame WHERE seq = ?", (seq,))
                continue
            try:
                frame = from_row(columns, book.sessions)
            except DamagedRowError:  # it stays damaged
                book.connection.execute("UPDATE frame SET route = ? WHERE seq = ?", (left, seq))
                continue
            book.connection.execute("DELETE FROM frame WHERE seq = ?", (seq,))
            book.connection.execute(INSERT, to_row(seq, left, frame, pack(frame), note))
        first_row = found[-1][0] + 1


def _reopen(book: Book, old: Stream, new: Stream, number: int) -> None:
    """Make nothing of a sealed batch again, but for its frames: what else it said is said anew."""
    key = old.key(number)
    (first_row, last_row, frames, header, context, hours, crc) = book.connection.execute(
        "SELECT first_row, last_row, frames, signed_header, context, hours, batch_crc32 FROM batch WHERE id = ?", (key,)
    ).fetchone()
    if batch_checksum(key, first_row, last_row, frames, header, context, hours) == crc:
        take_back(book, old, bodies.decode(context))
        version, (known, _, digest) = codec.read_header(header).filter_version, new.filters[0]
        new.filters[:1] = (
            [(known, first_row, digest)] if version >= known else [(version, first_row, b""), new.filters[0]]
        )
    book.connection.execute("DELETE FROM batch WHERE id = ?", (key,))


def hand_over(old: Stream, new: Stream) -> None:
    """Move the account of all that waits or is parked, and what no batch has said, to the stream that follows."""
    stay = Counter[int]()
    for batch in old.sealed.values():
        if batch.state is BatchState.WAITING:
            stay.update(dict(batch.hours))
    waiting = {hour: old.waiting_in(hour) - stay[hour] for hour in old.hours}
    short = -sum(frames for frames in waiting.values() if frames < 0)  # the hour of a damaged frame is only likely
    for hour in old.hours:
        total, unsent = old.account_in(hour), old.unsent.pop(hour, NOTHING)
        frames = max(waiting[hour], 0)
        frames, short = max(frames - short, 0), max(short - frames, 0)
        spooled = frames + total.quarantined + unsent.evicted + unsent.expired
        heard = unsent.bad_crc + unsent.filtered + unsent.duplicate + spooled
        moved = replace(unsent, heard=heard, spooled=spooled, quarantined=total.quarantined)
        old.settle(hour, unsent + -moved)
        if moved != NOTHING:
            new.count(hour, moved)


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
