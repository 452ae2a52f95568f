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

import logging
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from zlib import crc32

from agent.batch.keys import Signer
from agent.batch.model import HOUR_US, UNKNOWN_BOOT, Account, Anchor, Loss, Receipt
from agent.errors import IdentityError, SpoolError
from agent.spool.answers import take_contradiction, take_receipt, take_refusal
from agent.spool.book import Book
from agent.spool.intake import MAX_DESTINATIONS, RoutedFrame, hour_of
from agent.spool.orders import Contradicted, Destination, Entry, Identify, Order, Outcome, Policy, Refused, Unreadable
from agent.spool.room import expire, make_room, withdraw
from agent.spool.row import INSERT, INSERT_PLAIN, ROUTE_FACTOR, SEQ_FACTOR, SESSION_FACTOR, Row, to_fields, with_note
from agent.spool.sealing import Sealer
from agent.spool.signing import Keys
from agent.spool.state import NOTHING, State, note, save

log = logging.getLogger(__name__)

SEALS_PER_COMMIT = 8
"""Per stream: a long backlog is sealed in several transactions, so that frames do not wait behind it."""
SNAPSHOT_ROWS = 4096
"""Frames after which the snapshot is renewed, so that opening stays fast."""
_ONE = Account(heard=1, spooled=1)
_NOTHING_NEW = Outcome(frozenset(), frozenset(), more=False)


class Engine:
    """The one writer's view of the spool. Belongs to one thread."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        *,
        destinations: Sequence[Destination],
        policy: Policy,
        signer: Signer,
        previous: Signer | None = None,
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
        self.book = Book(connection)
        self.book.shares = {destination.name: destination.share for destination in destinations}
        self._expire_hours = policy.expire_hours
        self._expiring = True
        self.sealer = Sealer(self.book, policy, Keys(signer, previous), health)
        self._routes: dict[int, int] = {}
        self._stale = False
        with self._transaction():
            self._configure(gateway_eui)
            save(connection, self.state)

    @property
    def state(self) -> State:
        """What the spool knows besides the frames."""
        return self.book.state

    def reattach(self, connection: sqlite3.Connection) -> None:
        """Go on with a new connection to the same file.

        Raises:
            sqlite3.Error: the file cannot be read.
            SpoolError: it is another spool.
        """
        ours = self.state.spool_id
        self.book.attach(connection)
        self.book.pending_since.clear()
        self._routes.clear()
        self._stale = False
        if self.state.spool_id != ours:
            found, self.state.spool_id = self.state.spool_id, ours
            raise SpoolError(
                f"another spool ({found.hex()}) lies where {ours.hex()} was",
                where="spool",
                hint="put the right card back, or restart the agent to go on with this spool",
                code="CG-SPL-016",
                retryable=True,
            )

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """BEGIN, then COMMIT or ROLLBACK; after the latter the state in memory is stale and is read again."""
        connection = self.book.connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            connection.execute("COMMIT")
        except BaseException:
            self._stale = True
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def _configure(self, gateway_eui: bytes | None) -> None:
        state = self.state
        if gateway_eui is not None:
            state.gateway_eui = gateway_eui
        names = {destination.name for destination in self.destinations}
        for stream in state.open_streams():
            if stream.destination in names:
                continue
            left = any(s.sealed for s in state.streams.values() if s.destination == stream.destination)
            if left or stream.unsealed:
                log.warning(
                    "event=spool_destination_gone destination=%s frames=%d hint=civigate spool forget %s",
                    *(stream.destination, stream.waiting, stream.destination),
                )
            else:
                stream.open = False  # no longer configured, and nothing waits: its bit is free
        for destination in self.destinations:
            stream = state.stream_of(destination.name) or self.book.begin_stream(destination.name, self._free_bit())
            if not stream.filters or stream.filters[-1][2] != destination.filter_digest:
                stream.filters.append((stream.filter_version + 1, state.last_row + 1, destination.filter_digest))

    def _free_bit(self) -> int:
        taken = {stream.bit for stream in self.state.streams.values() if stream.open or stream.sealed}
        free = [bit for bit in range(63) if bit not in taken]
        if not free:
            raise ValueError("63 former destinations still have frames waiting")
        return free[0]

    def apply(self, entries: Sequence[Entry], orders: Sequence[Order], now_s: float, *, flush: bool = False) -> Outcome:
        """Do everything that has come up, durably.

        Args:
            entries: in the order of their numbers.
            orders: what else has arrived.
            now_s: a clock that never goes back.
            flush: seal whatever there is, however little.

        While the key cannot sign, everything else is done, and sealing waits.

        Raises:
            sqlite3.Error: nothing was done; the same call may be made again.
        """
        try:
            return self._apply(entries, orders, now_s, flush=flush)
        except IdentityError as error:
            self.sealer.suspend(error, now_s)
            return self._apply(entries, orders, now_s, flush=flush)

    def _apply(self, entries: Sequence[Entry], orders: Sequence[Order], now_s: float, *, flush: bool) -> Outcome:
        if self._stale:
            self.book.reload()
            self._stale = False
        before = self._stream_ids() if orders else {}
        with self._transaction():
            for order in orders:
                self._order(order)
            changed = make_room(self.book, entries) or bool(orders)
            self.book.new_hours = False
            rows, deltas = self._take(entries, now_s)
            if self._expire_hours is not None and (self.book.new_hours or self._expiring):
                self._expiring = expire(self.book, self._expire_hours)
                changed |= self._expiring
            changed |= self.book.new_hours
            seal = [s for s in self.state.open_streams() if self.sealer.due(s, now_s, flush=flush)]
            fresh = self.state.last_row - self.state.snapshot_row
            if rows and not changed and not seal and fresh < SNAPSHOT_ROWS:
                last = with_note(rows.pop(), note(self.state.journal, deltas))
                self.book.connection.executemany(INSERT_PLAIN, rows)
                self.book.connection.execute(INSERT, last)
                outcome = _NOTHING_NEW
            elif rows or entries or changed or seal:
                self.book.connection.executemany(INSERT_PLAIN, rows)
                sealed, more = set(), self._expiring
                for stream in seal:
                    count = 0
                    while count < SEALS_PER_COMMIT and self.sealer.due(stream, now_s, flush=flush):
                        self.sealer.seal(stream, now_s)
                        count += 1
                    sealed.add(stream.destination)
                    more |= self.sealer.due(stream, now_s, flush=flush)
                save(self.book.connection, self.state)
                after = self._stream_ids() if orders else {}
                outcome = Outcome(
                    frozenset(sealed), frozenset(name for name in after if after[name] != before.get(name)), more
                )
            else:
                outcome = _NOTHING_NEW
        return outcome

    def _stream_ids(self) -> dict[str, int]:
        return {s.destination: s.id for s in self.state.open_streams()}

    def _take(self, entries: Sequence[Entry], now_s: float) -> tuple[list[Row], dict[int, dict[int, Account]]]:
        """Count what was heard, and make plain rows of its frames; also return the counts, by hour and stream."""
        state = self.state
        streams = [state.stream_of(destination.name) for destination in self.destinations]
        deltas: dict[int, dict[int, Account]] = {}
        rows: list[Row] = []
        seq = state.last_row
        for entry in entries:
            hour = entry.heard.counted_in
            number = state.hours.get(hour) or self.book.know_hour(hour)
            parts = deltas.setdefault(number, {})
            for stream, tally in zip(streams, entry.heard.tallies, strict=True):
                assert stream is not None
                parts[stream.id] = parts[stream.id] + tally if stream.id in parts else tally
            for name, tally in entry.heard.elsewhere:
                former = state.newest_of(name)
                if former is not None:  # nobody would ever take these frames
                    gone = tally + Account(evicted=tally.spooled)
                    parts[former.id] = parts.get(former.id, NOTHING) + gone
            began_us = hour.hour * HOUR_US
            ended_us = began_us + HOUR_US
            if hour.boot_id == UNKNOWN_BOOT:
                ended_us = 0  # what has no boot belongs to no hour of any other
            fields = entry.fields or [to_fields(routed.frame) for routed in entry.heard.frames]
            for start, stop in _runs(entry.heard.frames, began_us, ended_us):
                first = entry.heard.frames[start]
                if not began_us <= first.frame.boottime_us < ended_us:
                    self._count_elsewhere(deltas, number, first)
                session = first.frame.session
                self.book.know(session)
                route = self._routes.get(first.route) or self._route(first.route)
                # what every frame goes through: `to_row`, unrolled; crc32 takes the low 32 bits of where it starts
                place = route * ROUTE_FACTOR + session.number * SESSION_FACTOR
                rows += [
                    (seq, route, *columns, crc32(data, seq * SEQ_FACTOR + place))
                    for seq, columns, data in zip(
                        range(seq + 1, seq + 1 + stop - start),
                        fields[start:stop],
                        entry.packed[start:stop],
                        strict=True,
                    )
                ]
                seq += stop - start
        for number, parts in deltas.items():
            for stream_number, delta in parts.items():
                if delta == NOTHING:
                    continue
                counted = state.streams[stream_number]
                counted.count(number, delta)
                counted.unsealed += delta.spooled - delta.evicted
                self.book.pending_since.setdefault(stream_number, now_s)
        if entries:
            state.journal = entries[-1].number
            state.last_row = seq
        return rows, deltas

    def _count_elsewhere(self, deltas: dict[int, dict[int, Account]], number: int, routed: RoutedFrame) -> None:
        """Count a frame in its own hour instead of that of the look it came with."""
        frame = routed.frame
        own = self.book.know_hour(hour_of(frame.session.boot_id, frame.boottime_us))
        for index, destination in enumerate(self.destinations):
            stream = self.state.stream_of(destination.name)
            if routed.route >> index & 1 and stream is not None:
                deltas[number][stream.id] += -_ONE
                parts = deltas.setdefault(own, {})
                parts[stream.id] = parts.get(stream.id, NOTHING) + _ONE

    def _route(self, route: int) -> int:
        """Return the bits of the streams for those of the configuration."""
        bits = 0
        for index, destination in enumerate(self.destinations):
            stream = self.state.stream_of(destination.name)
            if route >> index & 1 and stream is not None:
                bits |= 1 << stream.bit
        self._routes[route] = bits
        return bits

    def _order(self, order: Order) -> None:
        match order:
            case Receipt():
                take_receipt(self.book, order)
            case Refused():
                take_refusal(self.book, order, self.sealer.newest_kid)
            case Unreadable(stream_id, number):
                stream = self.state.by_stream_id(stream_id)
                if stream is not None and number in stream.sealed:
                    withdraw(self.book, stream, number, Loss.DAMAGED)
            case Contradicted():
                take_contradiction(self.book, order)
            case Anchor():
                self.book.keep_anchor(order)
            case Identify(gateway_eui):
                self.state.gateway_eui = gateway_eui


def _runs(routed: Sequence[RoutedFrame], began_us: int, ended_us: int) -> Iterator[tuple[int, int]]:
    """Yield where frames of one session and route within the hour begin and end; one outside of it stands alone.

    Most often that is all of a look.
    """
    start = 0
    while start < len(routed):
        session, route = routed[start].frame.session, routed[start].route
        stop = start
        for one in islice(routed, start, None):
            frame = one.frame
            if frame.session is not session or one.route != route or not began_us <= frame.boottime_us < ended_us:
                break
            stop += 1
        stop = max(stop, start + 1)
        yield start, stop
        start = stop
