# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What a person does to a spool while the agent is stopped: give up a destination, take over another card's frames."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from agent.batch.model import Account, Receipt
from agent.errors import SpoolError
from agent.frame import Session
from agent.ownership import as_owner
from agent.spool import row, salvage, store
from agent.spool.answers import take_receipt
from agent.spool.book import Book
from agent.spool.intake import hour_of
from agent.spool.reader import SpoolReader
from agent.spool.room import forget
from agent.spool.salvaged import Salvaged
from agent.spool.state import BatchState, Stream, save

_QUOTA_BYTES = 1 << 40
"""The agent keeps its quota when it runs again."""


@dataclass(frozen=True, slots=True)
class Imported:
    """What was taken over.

    Attributes:
        frames: that travel from here now.
        damaged: that were left out.
        sealed: that are in batches there.
    """

    frames: int
    damaged: int
    sealed: int


@contextmanager
def _writing(path: Path) -> Iterator[Book]:
    """Open a spool for one transaction.

    Raises:
        SpoolError: the agent runs, or the spool cannot be used.
    """
    store.load()
    with as_owner(path.parent), _locked(path):
        salvage.mend(path, ())  # what is written next would cover what it can still find
        with (
            contextlib.closing(store.open_writer(path, _QUOTA_BYTES, create=False)) as connection,
            store.explained(path),
        ):
            book = Book(connection)
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield book
                save(connection, book.state)
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    if not path.exists():
        store.open_reader(path)  # says so
    lock = store.Lock(path)
    try:
        yield
    finally:
        lock.release()


def forget_destination(path: Path, destination: str) -> int:
    """Give up all that waits for a destination; return how many frames that were.

    Raises:
        SpoolError: there is none of that name, the agent runs, or the spool cannot be used.
    """
    with _writing(path) as book:
        if book.state.newest_of(destination) is None:
            raise SpoolError(
                f"no destination {destination}",
                where=str(path),
                hint="civigate spool status lists what it has",
                code="CG-SPL-011",
            )
        return forget(book, destination)


def acknowledge(path: Path, receipts: Sequence[Receipt]) -> int:
    """Free what receipts cover that were carried here; return how many frames that were.

    Args:
        path: of the spool.
        receipts: verified.

    Raises:
        SpoolError: the agent runs, or the spool cannot be used.
    """
    with _writing(path) as book:
        before = sum(stream.delivered for stream in book.state.streams.values())
        for receipt in receipts:
            take_receipt(book, receipt)
        return sum(stream.delivered for stream in book.state.streams.values()) - before


def salvage_spool(path: Path) -> Salvaged:
    """Save what can be read into a new file.

    Raises:
        SpoolError: the agent runs, there is no spool, or the new file cannot be written.
    """
    store.load()
    with as_owner(path.parent), _locked(path):
        try:
            salvage.finish(path)
            return salvage.salvage(path)
        except OSError as error:
            raise error if isinstance(error, SpoolError) else store.file_error(error, path) from error


def import_frames(path: Path, source: Path) -> Imported:
    """Take over the frames that are in no batch in another spool of the same gateway, each once.

    Frames in sealed batches stay there: these may be on their way, and arrive once as what they are. The other spool is
    only read. It is remembered with how far it was read, so that a second import takes only what came since.

    Raises:
        SpoolError: it is the same spool or another gateway's, a destination is not known here, the agent runs, or one
            of the two cannot be used.
    """
    with SpoolReader(source) as other, _writing(path) as book:
        theirs = other.state()
        ours = book.state
        if theirs.spool_id == ours.spool_id or (theirs.gateway_eui or ours.gateway_eui) != ours.gateway_eui:
            raise SpoolError(
                "the same spool" if theirs.spool_id == ours.spool_id else "the spool of another gateway",
                where=str(source),
                hint="import from another card of this gateway only",
                code="CG-SPL-021",
            )
        bits: dict[int, int] = {}
        for stream in theirs.open_streams():
            here = ours.stream_of(stream.destination)
            if here is not None:
                bits[stream.bit] = here.bit
            elif stream.unsealed:
                raise SpoolError(
                    f"{stream.unsealed} frames are for {stream.destination}, which is no destination here",
                    where=str(source),
                    hint="configure it and start the agent once; or give them up there with civigate spool forget",
                    code="CG-SPL-022",
                )
        seen = book.connection.execute(
            "SELECT last_row FROM imported WHERE spool_id = ?", (theirs.spool_id,)
        ).fetchone()
        first = max(seen[0] + 1 if seen else 1, min((s.next_row for s in theirs.open_streams()), default=1))
        frames, damaged = _copy(book, other, theirs.open_streams(), bits, first)
        book.connection.execute(
            "REPLACE INTO imported (spool_id, last_row) VALUES (?, ?)", (theirs.spool_id, theirs.last_row)
        )
        sealed = sum(s.frames_in(BatchState.WAITING) for s in theirs.streams.values())
        return Imported(frames, damaged, sealed)


def _copy(book: Book, other: SpoolReader, streams: list[Stream], bits: dict[int, int], first: int) -> tuple[int, int]:
    """Add frames behind all others; return how many, and how many there are damaged."""
    state = book.state
    sessions: dict[Session, Session] = {}
    counts: dict[int, Counter[int]] = {}
    taken = damaged = 0
    here = {stream.bit: stream for stream in state.open_streams()}
    for item in other.rows(first):
        if isinstance(item, row.DamagedRowError):
            damaged += 1
            continue
        mine = [s.bit for s in streams if item.route >> s.bit & 1 and item.seq >= s.next_row]
        if not mine:
            continue
        frame = item.frame
        session = sessions.get(frame.session)
        if session is None:  # the other card counted its own starts of the concentrator
            session = sessions[frame.session] = Session(frame.session.boot_id, state.session + 1)
            book.know(session)
        frame = replace(frame, session=session)
        hour = book.know_hour(hour_of(session.boot_id, frame.boottime_us))
        route = 0
        for bit in mine:
            route |= 1 << bits[bit]
            counts.setdefault(bits[bit], Counter())[hour] += 1
        state.last_row += 1
        book.connection.execute(row.INSERT, row.to_row(state.last_row, route, frame, row.pack(frame)))
        taken += 1
    for bit, by_hour in counts.items():
        for hour, frames in by_hour.items():
            here[bit].count(hour, Account(heard=frames, spooled=frames))
            here[bit].unsealed += frames
    return taken, damaged
