# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The ledger in one SQLite file: enough for a town, on one machine.

One writing connection behind a lock; what only reads is in `receiver.ledger.reader`.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import astuple, dataclass, replace
from pathlib import Path

from agent import lorawan
from agent.batch import succession
from agent.batch.codec import Opened
from agent.batch.errors import RefusedError
from agent.batch.model import BUCKETS, GENESIS_HASH, Body, Header, Loss
from agent.frame import Frame, Session
from receiver.errors import RegistryError
from receiver.ledger import keys, queries, times
from receiver.ledger.chain import Alarm, Denied, Join, Link, Position, Repeat, judge
from receiver.ledger.database import FILE_NAME, WriterLock, open_writer, translated
from receiver.ledger.port import (
    Admitted,
    Column,
    Parked,
    QuarantineLimits,
    Raised,
    RegisteredKey,
)
from receiver.ledger.reader import LedgerReader

MAX_ALARMS = 10_000
"""Distinct alarms that are kept."""
UNVERIFIED_SHARE = 4
"""What nobody signed may take one part in so many of the quarantine."""

_LINK = "number, hash, previous_hash, first_seq, frame_count"
_SUMS = ", ".join(f"{name} = {name} + ?" for name in BUCKETS)
_LOST_IN = {Loss.EVICTED: "evicted", Loss.EXPIRED: "expired"}


class SqliteLedger(LedgerReader):
    """The ledger of one data folder (`receiver.ledger.port.Ledger`), held by this process alone.

    Args:
        data_dir: folder of the ledger; made where it does not exist.
        limits: of the quarantine.

    Raises:
        LedgerError: another process writes it, it cannot be written, is damaged, or newer than this program.
    """

    def __init__(self, data_dir: Path, limits: QuarantineLimits | None = None) -> None:
        self._lock_file = WriterLock(data_dir)
        self._limits = limits or QuarantineLimits()
        try:
            self._db = open_writer(data_dir / FILE_NAME)
        except BaseException:
            self._lock_file.release()
            raise
        self._writing = threading.Lock()
        super().__init__(data_dir / FILE_NAME)

    # -- registry

    def add_key(self, key: RegisteredKey) -> bool:
        """Register a key, with its gateway where that is new; False if it was registered already, unchanged.

        Raises:
            RegistryError: CG-REG-001, the key belongs to another gateway; CG-REG-002, it was revoked.
        """
        with self._transaction() as db:
            return keys.add(db, key)

    def rotate_key(self, key: RegisteredKey) -> bytes:
        """Register a key that takes the place of the one its gateway has; return the kid of that.

        Raises:
            RegistryError: as `add_key`; CG-REG-003, the gateway has no active key; CG-REG-007, the key was replaced.
        """
        with self._transaction() as db:
            return keys.rotate(db, key)

    def revoke(self, eui: bytes, kid: bytes | None, at_us: int) -> int:
        """Revoke one key of a gateway, or all; return how many were active until now."""
        with self._transaction() as db:
            return db.execute(
                "UPDATE gateway_key SET revoked_us = ? WHERE revoked_us IS NULL"
                " AND gateway = (SELECT id FROM gateway WHERE eui = ?) AND (? IS NULL OR kid = ?)",
                (at_us, eui, kid, kid),
            ).rowcount

    # -- batches

    def admit(self, opened: Opened, received_us: int, max_ranges: int) -> Admitted | Denied:
        """Judge a verified batch and commit it, in one transaction; a repeat and a denial change nothing."""
        header = opened.header
        with self._transaction() as db:
            stream = _stream_row(db, header.stream_id)
            position = _position(db, stream, header, opened.body)
            position = replace(
                position, standing=keys.standing(db, opened.kid, stream.id if stream else None, header.number)
            )
            verdict = judge(header, opened.hash, position, received_us)
            if isinstance(verdict, Denied):
                return verdict
            if isinstance(verdict, Repeat):
                return Admitted(queries.state(db, header.stream_id, max_ranges), repeat=True)
            if stream is None:
                stream = _add_stream(db, header, received_us)
            _add_batch(db, stream, opened, received_us)
            _add_context(db, stream, header.number, opened.body)
            _account(db, stream, header.number, opened.body)
            _add_frames(db, stream, header, opened.body, received_us)
            _advance(db, stream, header.number, opened.body)
            _notice_clone(db, header, received_us)
            _take_over(db, opened, received_us)
            _notice_rollback(db, stream, opened, received_us)
            db.execute("DELETE FROM quarantine WHERE batch_hash = ?", (opened.hash,))
            return Admitted(queries.state(db, header.stream_id, max_ranges), repeat=False)

    def revise(self, limit: int) -> bool:
        """Estimate the time of up to `limit` frames anew, from anchors that came later; True while more are waiting."""
        with self._reading() as db:
            if not times.waiting(db):
                return False
        with self._transaction() as db:
            times.revise(db, limit)
            return times.waiting(db)

    def park(self, parked: Parked, alarm: Raised | None, at_us: int) -> None:
        """Keep refused bytes within the limits, and count the alarm."""
        with self._transaction() as db:
            if alarm is not None:
                _raise_alarm(db, alarm, at_us)
            if self._has_room(db, parked):
                db.execute(
                    "INSERT INTO quarantine (received_us, reason, sender, kid, batch_hash, stream_id, number,"
                    " detail, wire) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (batch_hash) DO NOTHING",
                    (
                        at_us,
                        int(parked.reason),
                        parked.sender,
                        parked.kid,
                        parked.batch_hash,
                        parked.stream_id,
                        parked.number,
                        parked.detail,
                        parked.wire,
                    ),
                )

    def _has_room(self, db: sqlite3.Connection, parked: Parked) -> bool:
        share = 1 if parked.kid is not None else UNVERIFIED_SHARE
        batches, size = queries.quarantined(db)
        (of_key,) = db.execute("SELECT count(*) FROM quarantine WHERE kid IS ?", (parked.kid,)).fetchone()
        if parked.kid is not None and of_key >= self._limits.per_key:
            return False
        if parked.kid is None and of_key * share >= self._limits.batches:
            return False
        fits = size + len(parked.wire) <= self._limits.bytes // share
        return bool(batches < self._limits.batches and fits)

    # -- connections

    def close(self) -> None:
        """Let go of the database; SQLite folds its log into the file."""
        with self._writing:
            if self._closed:
                return
            super().close()
            self._db.close()
            self._lock_file.release()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """Hold the writing connection in a transaction that ends with this block: committed, or as if never begun."""
        with self._writing, translated(self.path):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            finally:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")


@dataclass(frozen=True, slots=True)
class _StreamRow:
    """Key and owner of a stream."""

    id: int
    gateway: int
    eui: bytes


def _stream_row(db: sqlite3.Connection, stream_id: bytes) -> _StreamRow | None:
    row = db.execute(
        "SELECT stream.id, gateway, eui FROM stream JOIN gateway ON gateway.id = gateway WHERE stream_id = ?",
        (stream_id,),
    ).fetchone()
    return None if row is None else _StreamRow(*row)


def _add_stream(db: sqlite3.Connection, header: Header, at_us: int) -> _StreamRow:
    (gateway,) = db.execute("SELECT id FROM gateway WHERE eui = ?", (header.gateway_eui,)).fetchone()
    stream = db.execute(
        "INSERT INTO stream (stream_id, gateway, through, hash, first_seen_us, last_seen_us, frames)"
        " VALUES (?, ?, 0, ?, ?, ?, 0)",
        (header.stream_id, gateway, GENESIS_HASH, at_us, at_us),
    ).lastrowid
    assert stream is not None
    db.execute("INSERT INTO account (stream) VALUES (?)", (stream,))
    return _StreamRow(stream, gateway, header.gateway_eui)


def _position(db: sqlite3.Connection, stream: _StreamRow | None, header: Header, body: Body) -> Position:
    """Look up what is committed around a batch."""
    ranges = [tombstone for tombstone in body.tombstones if tombstone.last_number or tombstone.first_number]
    if stream is None:
        joins = tuple(Join(item.first_number, item.last_number, item.last_hash) for item in ranges)
        return Position(joins=joins)

    def link(condition: str, number: int) -> Link | None:
        row = db.execute(
            f"SELECT {_LINK} FROM batch WHERE stream = ? AND number {condition} LIMIT 1",  # noqa: S608 - our own words
            (stream.id, number),
        ).fetchone()
        return None if row is None else Link(*row)

    def withdrawn_hash(number: int) -> bytes | None:
        row = db.execute(
            "SELECT last_hash FROM tombstone WHERE stream = ? AND last_number = ? AND last_number > 0",
            (stream.id, number),
        ).fetchone()
        return None if row is None else bytes(row[0])

    def join(first: int, last: int, last_hash: bytes) -> Join:
        committed, successor = link("= ?", last), link("= ?", last + 1)
        # disjoint ranges: the first one that does not end before ours is the only one that can reach into it
        overlap = db.execute(
            "SELECT first_number FROM tombstone WHERE stream = ? AND last_number >= ? AND last_number > 0"
            " ORDER BY last_number LIMIT 1",
            (stream.id, first),
        ).fetchone()
        return Join(
            first,
            last,
            last_hash,
            committed.hash if committed else None,
            successor.previous_hash if successor else None,
            overlaps=overlap is not None and overlap[0] <= last,
        )

    number = header.number
    below = link("< ? ORDER BY number DESC", number)
    before = below.hash if below is not None and below.number == number - 1 else withdrawn_hash(number - 1)
    return Position(
        owner=stream.eui,
        same=link("= ?", number),
        below=below,
        above=link("> ? ORDER BY number", number),
        previous_hash=before,
        withdrawn_hash=withdrawn_hash(number),
        joins=tuple(join(item.first_number, item.last_number, item.last_hash) for item in ranges),
    )


def _add_batch(db: sqlite3.Connection, stream: _StreamRow, opened: Opened, received_us: int) -> None:
    header, body = opened.header, opened.body
    values = (
        stream.id,
        header.number,
        opened.hash,
        header.previous_hash,
        header.first_seq,
        header.frame_count,
        header.filter_version,
        opened.kid,
        opened.signed_header,
        received_us,
        json.dumps(body.health, separators=(",", ":")),
        *astuple(body.account),
    )
    db.execute(f"INSERT INTO batch VALUES ({', '.join('?' * len(values))})", values)  # noqa: S608 - only marks


def _add_context(db: sqlite3.Connection, stream: _StreamRow, number: int, body: Body) -> None:
    """Keep anchors and tombstones, in their order."""
    for position, anchor in enumerate(body.anchors):
        boot = _boot(db, stream.gateway, anchor.boot_id)
        db.execute(
            "INSERT INTO anchor VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                stream.id,
                number,
                position,
                boot,
                anchor.boottime_us,
                anchor.utc_us,
                anchor.uncertainty_us,
                int(anchor.source),
            ),
        )
        times.note(db, boot, anchor.source, anchor.boottime_us)
    db.executemany(
        "INSERT INTO tombstone VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            (
                stream.id,
                number,
                position,
                item.count,
                int(item.reason),
                item.first_boot_id,
                item.first_boottime_us,
                item.last_boot_id,
                item.last_boottime_us,
                item.first_number,
                item.last_number,
                item.last_hash,
            )
            for position, item in enumerate(body.tombstones)
        ),
    )


def _boot(db: sqlite3.Connection, gateway: int, boot_id: bytes) -> int:
    db.execute("INSERT INTO boot (gateway, boot_id) VALUES (?, ?) ON CONFLICT DO NOTHING", (gateway, boot_id))
    row = db.execute("SELECT id FROM boot WHERE gateway = ? AND boot_id = ?", (gateway, boot_id)).fetchone()
    return int(row[0])


def _add_frames(db: sqlite3.Connection, stream: _StreamRow, header: Header, body: Body, received_us: int) -> None:
    sessions: dict[Session, tuple[int, times.Times]] = {}
    by_session: dict[Session, list[Frame]] = {}
    for frame in body.frames:
        by_session.setdefault(frame.session, []).append(frame)
    boots = {session: _boot(db, stream.gateway, session.boot_id) for session in by_session}
    for session, members in by_session.items():
        latest_us = max(frame.boottime_us for frame in members)
        times.extend(db, stream.id, boots[session], session=session.number, last_us=latest_us, over_us=received_us)
    for session, members in by_session.items():
        boot = boots[session]
        db.execute("INSERT INTO session (boot, number) VALUES (?, ?) ON CONFLICT DO NOTHING", (boot, session.number))
        (row,) = db.execute("SELECT id FROM session WHERE boot = ? AND number = ?", (boot, session.number)).fetchone()
        span = [frame.boottime_us for frame in members]
        sessions[session] = (row, times.known(db, stream.id, boot, min(span), max(span)))

    def rows() -> Iterator[tuple[Column | bytes, ...]]:
        for seq, frame in enumerate(body.frames, header.first_seq):
            session, timeline = sessions[frame.session]
            yield (
                stream.id,
                seq,
                session,
                frame.boottime_us,
                frame.counter_us,
                *timeline.place(frame.boottime_us),
                frame.frequency_hz,
                int(frame.modulation),
                frame.bandwidth_hz,
                frame.datarate,
                frame.coding_rate,
                int(frame.crc),
                frame.rssi_ddbm,
                frame.rssis_ddbm,
                frame.snr_qdb,
                frame.frequency_offset_hz,
                frame.if_chain,
                frame.rf_chain,
                frame.fine_timestamp_ns,
                _dev_addr(frame.phy_payload),
                frame.phy_payload,
                received_us,
            )

    db.executemany(
        f"INSERT INTO frame ({_FRAME_COLUMNS}) VALUES ({', '.join('?' * 24)})",  # noqa: S608 - our own words
        rows(),
    )
    db.execute(
        "UPDATE stream SET frames = frames + ?, last_seen_us = max(last_seen_us, ?) WHERE id = ?",
        (header.frame_count, received_us, stream.id),
    )


_FRAME_COLUMNS = (
    "stream, seq, session, boottime_us, counter_us, utc_us, utc_error_us, utc_source, frequency_hz, modulation,"
    " bandwidth_hz, datarate, coding_rate, crc, rssi_ddbm, rssis_ddbm, snr_qdb, frequency_offset_hz, if_chain,"
    " rf_chain, fine_timestamp_ns, dev_addr, phy_payload, received_us"
)


def _dev_addr(phy_payload: bytes) -> int | None:
    """Return the DevAddr of a data frame, None for every other message."""
    header = lorawan.decode(phy_payload)
    return header.dev_addr if isinstance(header, lorawan.Data) else None


def _account(db: sqlite3.Connection, stream: _StreamRow, number: int, body: Body) -> None:
    """Add a batch's account to the sums; what was withdrawn but arrived all the same counts once, as delivered."""
    total = dict(zip(BUCKETS, astuple(body.account), strict=True))
    late = db.execute(
        "SELECT first_number, reason FROM tombstone WHERE stream = ? AND last_number >= ? AND last_number > 0"
        " AND number != ? ORDER BY last_number LIMIT 1",
        (stream.id, number, number),
    ).fetchone()
    if late is not None and late[0] <= number:
        # its account is already in the one of the batch with the tombstone
        total = dict.fromkeys(BUCKETS, 0)
        _found_again(total, Loss(late[1]), len(body.frames))
    for tombstone in body.tombstones:
        if not tombstone.last_number:
            continue
        for frames, *account in db.execute(
            f"SELECT frame_count, {', '.join(BUCKETS)} FROM batch"  # noqa: S608 - our own words
            " WHERE stream = ? AND number BETWEEN ? AND ?",
            (stream.id, tombstone.first_number, tombstone.last_number),
        ):
            for name, value in zip(BUCKETS, account, strict=True):
                total[name] -= value
            _found_again(total, tombstone.reason, frames)
    db.execute(
        f"UPDATE account SET {_SUMS} WHERE stream = ?",  # noqa: S608 - our own words
        (*total.values(), stream.id),
    )


def _found_again(total: dict[str, int], reason: Loss, frames: int) -> None:
    bucket = _LOST_IN.get(reason)
    if bucket is not None:
        total[bucket] -= frames


def _advance(db: sqlite3.Connection, stream: _StreamRow, number: int, body: Body) -> None:
    """Enter what is now covered, and move `through` on as far as nothing is missing."""
    (through,) = db.execute("SELECT through FROM stream WHERE id = ?", (stream.id,)).fetchone()
    covered = [(number, number)]
    covered += [(item.first_number, item.last_number) for item in body.tombstones if item.last_number]
    for first, last in covered:
        if last > through:
            _cover(db, stream.id, max(first, through + 1), last)
    row = db.execute(
        "SELECT last FROM span WHERE stream = ? AND first <= ? AND last > ? ORDER BY first LIMIT 1",
        (stream.id, through + 1, through),
    ).fetchone()
    if row is None:
        return
    through = int(row[0])
    db.execute("DELETE FROM span WHERE stream = ? AND first <= ?", (stream.id, through))
    (reached,) = db.execute(
        "SELECT hash FROM batch WHERE stream = ? AND number = ? UNION ALL"
        " SELECT last_hash FROM tombstone WHERE stream = ? AND last_number = ? AND last_number > 0 LIMIT 1",
        (stream.id, through, stream.id, through),
    ).fetchone()
    db.execute("UPDATE stream SET through = ?, hash = ? WHERE id = ?", (through, reached, stream.id))


def _cover(db: sqlite3.Connection, stream: int, first: int, last: int) -> None:
    """Add a run of numbers, joined with the runs it touches."""
    touched = db.execute(
        "SELECT min(first), max(last) FROM span WHERE stream = ? AND first <= ? AND last >= ?",
        (stream, last + 1, first - 1),
    ).fetchone()
    if touched[0] is not None:
        first, last = min(first, touched[0]), max(last, touched[1])
        db.execute("DELETE FROM span WHERE stream = ? AND first BETWEEN ? AND ?", (stream, first, last))
    db.execute("INSERT INTO span VALUES (?, ?, ?)", (stream, first, last))


def _notice_clone(db: sqlite3.Connection, header: Header, at_us: int) -> None:
    """Raise an alarm when a stream goes on after another history of it was seen."""
    subject = header.gateway_eui.hex()
    (forked,) = db.execute(
        "SELECT min(number) FROM alarm WHERE kind IN (?, ?) AND subject = ? AND stream_id = ?",
        (Alarm.FORK, Alarm.ROLLBACK, subject, header.stream_id),
    ).fetchone()
    if forked is not None and header.number > forked:
        detail = f"the stream goes on although another content was sent as batch {forked}"
        _raise_alarm(db, Raised(Alarm.CLONE, subject, header.stream_id, forked, detail), at_us)


def _notice_rollback(db: sqlite3.Connection, stream: _StreamRow, opened: Opened, at_us: int) -> None:
    """Raise an alarm when a stream takes the place of one of which more is here than its gateway knows."""
    before, header = opened.body.predecessor, opened.header
    if before is None or header.number != 1 or before.stream_id == header.stream_id:
        return
    older = _stream_row(db, before.stream_id)
    if older is None or older.gateway != stream.gateway:
        return
    reached, known = db.execute(
        "SELECT max(number), max(CASE WHEN number = ? THEN hash END) FROM batch WHERE stream = ?",
        (before.through, older.id),
    ).fetchone()
    if reached <= before.through and known in (None, before.hash):
        return
    detail = f"the gateway knows it through batch {before.through} and goes on in stream {header.stream_id.hex()}"
    detail += f"; batch {reached} is here: a restored or a cloned card"
    _raise_alarm(
        db, Raised(Alarm.ROLLBACK, header.gateway_eui.hex(), before.stream_id, before.through + 1, detail), at_us
    )


def _take_over(db: sqlite3.Connection, opened: Opened, at_us: int) -> None:
    """Let the key that signed replace those before it, and register the one that the batch announces."""
    keys.replace_older(db, opened.kid, at_us)
    if not opened.body.succession:
        return
    header = opened.header
    try:
        said = succession.read(opened.body.succession)
        problem = ""
        if said.gateway_eui != header.gateway_eui:
            problem = f"it is for gateway {said.gateway_eui.hex()}"
        elif said.predecessor != opened.kid:
            problem = f"it follows key {said.predecessor.hex()}, which did not sign the batch"
        else:
            successor = said.successor
            keys.announce(
                db, RegisteredKey(said.gateway_eui, "", successor.kid, successor.text, at_us, follows=opened.kid)
            )
    except (RefusedError, RegistryError) as error:
        problem = error.what
    if problem:
        detail = f"the announced key is not taken: {problem}"
        _raise_alarm(
            db, Raised(Alarm.SUCCESSION, header.gateway_eui.hex(), header.stream_id, header.number, detail), at_us
        )


def _raise_alarm(db: sqlite3.Connection, alarm: Raised, at_us: int) -> None:
    what = (alarm.kind, alarm.subject, alarm.stream_id, alarm.number)
    counted = db.execute(
        "UPDATE alarm SET count = count + 1, last_us = ?, detail = ?"
        " WHERE kind = ? AND subject = ? AND stream_id = ? AND number = ?",
        (at_us, alarm.detail, *what),
    ).rowcount
    if counted:
        return
    (known,) = db.execute("SELECT count(*) FROM alarm").fetchone()
    if known >= MAX_ALARMS:
        # unknown keys cost a stranger nothing to make up: they go first
        db.execute(
            "DELETE FROM alarm WHERE id = (SELECT id FROM alarm ORDER BY kind != ?, last_us LIMIT 1)",
            (Alarm.UNKNOWN_KEY,),
        )
    db.execute(
        "INSERT INTO alarm (kind, subject, stream_id, number, detail, first_us, last_us, count)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, 1)",
        (*what, alarm.detail, at_us, at_us),
    )
