# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What the platform's verified answers do to the spool: receipts free, refusals park or hold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from agent.batch.model import Account, Reason, Receipt, Refusal
from agent.spool.book import Book
from agent.spool.orders import Refused
from agent.spool.state import BatchState, Stream, less

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
    if receipt.through < stream.through:
        stream.stale_answers += 1
        return
    if newest >= stream.next_number or book.hash_of(stream, receipt.through) != receipt.hash:
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
        book.connection.execute(
            "DELETE FROM batch WHERE id BETWEEN ? AND ?", (stream.key(0), stream.key(receipt.through))
        )
    book.connection.executemany(
        "UPDATE batch SET state = ? WHERE id = ?",
        [(int(BatchState.BEYOND), stream.key(number)) for number in beyond],
    )
    for first, last in _joined(freed):
        book.free(first, last)
    if freed:
        stream.hold_reason = stream.hold_detail = None


def take_refusal(book: Book, refused: Refused) -> None:
    """Park the batch that was refused, hold its stream, or begin a new one, as the reason demands."""
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
    if refusal.reason in _HOLD:
        stream.hold_reason, stream.hold_detail = refusal.reason, refusal.detail
    elif refusal.reason in _RENEW:
        for number in [n for n, b in stream.sealed.items() if b.state is BatchState.WAITING]:
            _quarantine(book, stream, number, refusal)
        if stream.open:
            _renew(book, stream)
    else:
        _quarantine(book, stream, refused.number, refusal)


def _quarantine(book: Book, stream: Stream, number: int, refusal: Refusal) -> None:
    batch = stream.sealed[number]
    batch.state = BatchState.QUARANTINED
    stream.since_batch += Account(quarantined=batch.frames)
    book.connection.execute(
        "UPDATE batch SET state = ?, reason = ?, detail = ? WHERE id = ?",
        (int(BatchState.QUARANTINED), int(refusal.reason), refusal.detail, stream.key(number)),
    )


def _renew(book: Book, old: Stream) -> None:
    """Close a stream and begin a new one for its destination, which takes over what is not sealed."""
    new = book.begin_stream(old.destination, old.bit)
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
    old.in_batches = less(old.since_start, moved)
    old.since_batch = Account()
    old.open, old.unsealed, old.tombstones = False, 0, {}
    book.pending_since[new.id] = book.pending_since.pop(old.id, 0.0)


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
