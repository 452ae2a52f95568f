# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The sealed batches of a damaged spool in a new one; the frames of one that is gone move behind all others."""

from __future__ import annotations

import secrets
import struct
from collections.abc import Sequence
from typing import Any

from agent.batch import codec
from agent.batch.errors import RefusedError
from agent.batch.model import GENESIS_HASH, Account
from agent.spool import row
from agent.spool.answers import take_off
from agent.spool.bisected import Bisected
from agent.spool.book import Book
from agent.spool.salvage_rows import MAX_BITS, RowRescue
from agent.spool.state import (
    EARLIER,
    NUMBER_BITS,
    BatchState,
    Sealed,
    State,
    Stream,
    batch_checksum,
    hours_blob,
    read_hours,
)
from agent.spool.store import scalar

_BATCH = "id, first_row, last_row, frames, bytes, state, reason, detail, signed_header, context, hours, batch_crc32"


class BatchRescue(RowRescue):
    """One run over one damaged file, as far as its rows and batches go."""

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
