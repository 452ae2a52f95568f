# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""When a batch is due, and how it is sealed."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import replace

from agent.batch import body as bodies
from agent.batch import codec, succession
from agent.batch.model import (
    MAX_HEALTH,
    MAX_HOURS,
    MAX_NUMBER,
    MAX_TOMBSTONES,
    UNKNOWN_BOOT,
    Account,
    Body,
    HourAccount,
    Loss,
)
from agent.errors import IdentityError
from agent.frame import Frame
from agent.spool import signing
from agent.spool.book import Book
from agent.spool.intake import hour_of
from agent.spool.orders import Policy
from agent.spool.room import Lost, lose, moment_of
from agent.spool.row import COLUMNS, WEIGHT_BYTES, DamagedRowError, UnknownSessionError, from_row
from agent.spool.state import (
    EARLIER,
    BatchState,
    Sealed,
    Stream,
    batch_checksum,
    hours_blob,
    pack_hours,
)

log = logging.getLogger(__name__)

AGE_SEALED_AHEAD = 16
"""Batches waiting for a receipt beyond which age no longer seals while the platform is away: then only full batches are
worth their headers. While it is reached, age seals always: what is heard now must not wait behind a backlog."""
ACCOUNT_AGE_S = 900.0
"""After this long, counts travel even when no frame does."""
MAX_BATCH_WEIGHT_BYTES = 900_000
"""Of the rows in one batch: they never take more than this on the way, even if nothing can be compressed."""

PAUSES_S = (1.0, 2.0, 5.0, 10.0, 30.0)
"""Between tries with a key that cannot sign: a token that was pulled out, a TPM that fails; the last one goes on."""


class Sealer:
    """Makes batches of what is in the book."""

    def __init__(
        self, book: Book, policy: Policy, keys: signing.Keys, health: Callable[[], Mapping[str, int]] | None
    ) -> None:
        self._book = book
        self._policy = policy
        self._keys = keys
        self._health = health
        self._resume_s = 0.0
        self._pauses = 0
        self.reached: frozenset[str] = frozenset()
        """Destinations whose platform can be reached at present."""
        self.problem = ""
        """Why nothing is sealed at present, one line with its hint and code; empty when all is well."""

    @property
    def newest_kid(self) -> bytes | None:
        """Thumbprint of the key that new streams begin with; None while it cannot be asked."""
        try:
            return self._keys.current.kid
        except IdentityError:
            return None

    def suspend(self, error: IdentityError, now_s: float) -> None:
        """Seal nothing for a while: a key cannot sign. Frames are kept all the same, and sealed later."""
        pause_s = PAUSES_S[min(self._pauses, len(PAUSES_S) - 1)]
        self._pauses += 1
        self._resume_s = now_s + pause_s
        problem = f"{error}; {error.hint} [{error.code}]"
        if problem != self.problem:
            log.error("event=sealing_waits problem=%s", problem)
        self.problem = problem

    def next_seal_s(self) -> float | None:
        """Return when, by the clock of `apply`, the next batch is due by age; None when none is."""
        due = [
            since + (self._policy.batch_age_s if stream.unsealed else self._account_age_s)
            for number, since in self._book.pending_since.items()
            if (stream := self._book.state.streams[number]).open
            and self._may_seal(stream)
            and self._may_seal_small(stream)
        ]
        return max(min(due), self._resume_s) if due else None

    def due(self, stream: Stream, now_s: float, *, flush: bool) -> bool:
        """Whether a batch of a stream has to be sealed now."""
        if now_s < self._resume_s or not self._may_seal(stream):
            return False
        if stream.unsealed >= self._policy.batch_frames:
            return True
        age_s = now_s - self._book.pending_since.setdefault(stream.id, now_s)
        if stream.unsealed:
            return flush or (age_s >= self._policy.batch_age_s and self._may_seal_small(stream))
        if not stream.unsent and not stream.tombstones:
            self._book.pending_since.pop(stream.id, None)
            return False
        return self._may_seal_small(stream) and (flush or age_s >= self._account_age_s)

    def seal(self, stream: Stream, now_s: float) -> None:
        """Sign the oldest unsealed frames of a stream as its next batch.

        Raises:
            IdentityError: the key cannot sign; the transaction has to be given up.
            sqlite3.DatabaseError: the file is damaged in more than single rows.
        """
        state = self._book.state
        assert state.gateway_eui is not None
        choice = signing.choose(stream, self._keys)
        announced = b""
        if choice.successor is not None:
            kid = choice.signer.kid
            announced = succession.announce(choice.successor, gateway_eui=state.gateway_eui, predecessor=kid)
        first_row = stream.next_row
        while True:
            version, end = stream.filter_at(stream.next_row)
            frames, last_row, weight, damaged = self._collect(stream, end)
            if frames or damaged or end is None:
                break
            stream.next_row = end  # nothing was left of what an earlier filter selected
        if stream.unsealed and not frames and not damaged:
            # The way to them in the file is damaged; empty batches without end would come of it.
            raise sqlite3.DatabaseError(f"{stream.unsealed} frames that wait for a batch are not to be found")
        if damaged:
            lose(stream, Loss.DAMAGED, damaged)
            # no part of the batch any more; other destinations find out for themselves
            self._book.connection.executemany(
                "UPDATE frame SET route = route & ? WHERE seq = ?",
                [(~(1 << stream.bit), seq) for seq, *_ in damaged],
            )
        stream.next_row = last_row + 1
        while len(stream.filters) > 1 and stream.filters[1][1] <= stream.next_row:
            del stream.filters[0]
        anchors, stream.next_anchor = self._book.anchors_from(stream.next_anchor)
        declared = dict(list(stream.tombstones.items())[:MAX_TOMBSTONES])
        hours = pack_hours(self._hour_of(frame) for frame in frames)
        said = self._said(stream)
        account = sum((part.account for part in said), Account())
        body = Body(
            tuple(frames),
            account,
            anchors,
            tuple(declared.values()),
            self._health_now(),
            said,
            announced,
            state.predecessor(stream),
        )
        sealed = codec.seal(
            body,
            choice.signer,
            gateway_eui=state.gateway_eui,
            stream_id=stream.stream_id,
            number=stream.next_number,
            first_seq=stream.next_seq,
            previous_hash=stream.last_hash,
            filter_version=version,
        )
        self._signed(stream, choice)
        context = bodies.encode(replace(body, frames=()))
        place = (stream.key(stream.next_number), first_row, last_row, len(frames))
        self._book.connection.execute(
            "INSERT INTO batch (id, first_row, last_row, frames, bytes, state, signed_header, context, hours, "
            "batch_crc32) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *(*place, weight, int(BatchState.WAITING), sealed.signed_header, context, hours_blob(hours)),
                batch_checksum(*place, sealed.signed_header, context, hours_blob(hours)),
            ),
        )
        stream.sealed[stream.next_number] = Sealed(first_row, last_row, len(frames), weight, BatchState.WAITING, hours)
        stream.next_number += 1
        stream.next_seq += len(frames)
        stream.last_hash = sealed.hash
        stream.unsealed -= len(frames)
        for key in declared:
            del stream.tombstones[key]
        self._book.pending_since[stream.id] = now_s

    def _signed(self, stream: Stream, choice: signing.Choice) -> None:
        signing.note(stream, stream.next_number, choice)
        self._pauses = 0
        if self.problem:
            log.info("event=sealing_goes_on")
            self.problem = ""

    def _hour_of(self, frame: Frame) -> int:
        return self._book.state.hour_id(hour_of(frame.session.boot_id, frame.boottime_us))

    def _said(self, stream: Stream) -> tuple[HourAccount, ...]:
        """Take what the next batch says of the account, oldest hours first."""
        names = self._book.state.hour_names()
        said = []
        for hour in sorted(stream.unsent)[:MAX_HOURS]:
            account = stream.unsent.pop(hour)
            stream.settle(hour, account)
            said.append(HourAccount(*names[hour], account))
        return tuple(said)

    def _may_seal(self, stream: Stream) -> bool:
        """Whether more may be sealed: at most half its share, so that there is always something left to evict."""
        if self._book.state.gateway_eui is None or not stream.open:
            return False
        shares = self._book.shares
        half = self._policy.quota_bytes * shares.get(stream.destination, 0) // (2 * max(sum(shares.values()), 1))
        return stream.weight_in(BatchState.WAITING) < half

    def _may_seal_small(self, stream: Stream) -> bool:
        """Whether a batch that is not full is worth its header."""
        return stream.destination in self.reached or stream.batches_in(BatchState.WAITING) < AGE_SEALED_AHEAD

    def _collect(self, stream: Stream, end: int | None) -> tuple[list[Frame], int, int, list[Lost]]:
        """Read the next frames of a stream: these, the last row they reach to, their weight, and the damaged ones."""
        frames: list[Frame] = []
        damaged: list[Lost] = []
        weight = 0
        limit = min(self._policy.batch_frames, stream.unsealed)
        last_row = self._book.state.last_row if end is None else end - 1
        if not limit:
            return frames, last_row, weight, damaged
        cursor = self._book.connection.execute(
            f"SELECT {COLUMNS} FROM frame WHERE seq BETWEEN ? AND ? AND route & ? ORDER BY seq LIMIT ?",  # noqa: S608 - constants
            (stream.next_row, last_row, 1 << stream.bit, limit),
        )
        before = stream.next_row - 1
        for columns in cursor:
            if columns[0] <= before:
                # Its key was changed where it stands, and may be that of a sound frame elsewhere; or the way to another
                # page was changed, and leads to one that was read already.
                raise sqlite3.DatabaseError(f"frame {columns[0]} is out of order")
            before = columns[0]
            try:
                frame = from_row(columns, self._book.sessions)
            except UnknownSessionError as error:
                raise sqlite3.DatabaseError(f"{error}: the session it is of is not there") from error
            except DamagedRowError:
                # its hour is that of the frame before it, unless its own can be read and is one that there was
                hour = moment_of(self._book, columns[2], columns[3])[2]
                hour = hour or (self._hour_of(frames[-1]) if frames else EARLIER)
                damaged.append((columns[0], UNKNOWN_BOOT, 0, hour))
            else:
                frames.append(frame)
                weight += WEIGHT_BYTES + len(frame.phy_payload)
            if len(frames) + len(damaged) == limit or weight > MAX_BATCH_WEIGHT_BYTES:
                last_row = columns[0]
                break
        else:
            if end is None and len(frames) + len(damaged) < limit:
                # What comes behind would be passed over.
                missing = limit - len(frames) - len(damaged)
                raise sqlite3.DatabaseError(f"{missing} frames that wait for a batch are not to be found")
        cursor.close()
        return frames, last_row, weight, damaged

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

    @property
    def _account_age_s(self) -> float:
        return max(ACCOUNT_AGE_S, self._policy.batch_age_s)
