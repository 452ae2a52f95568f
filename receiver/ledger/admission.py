# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""How a batch enters the ledger: looked up, judged, and written with all that follows from it.

Every function works in the transaction that the caller has begun; on which database, is the caller's affair.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import astuple, dataclass, replace

from agent import lorawan
from agent.batch import succession
from agent.batch.codec import Opened
from agent.batch.errors import RefusedError
from agent.batch.model import BUCKETS, GENESIS_HASH, HOUR_US, UNKNOWN_BOOT, Body, Header, Loss
from agent.frame import Frame, Session
from receiver.errors import LedgerError, RegistryError
from receiver.ledger import hours, keys, queries, refused, times
from receiver.ledger.chain import Alarm, Denied, Join, Link, Position, Repeat, judge
from receiver.ledger.port import Admitted, Raised, RegisteredKey
from receiver.ledger.sql import Database, Value, marks

_LINK = "number, hash, previous_hash, first_seq, frame_count"
_NEIGHBOURS = " UNION ALL ".join(
    f"SELECT * FROM (SELECT {_LINK} FROM batch WHERE stream = ? AND number {which} LIMIT 1) AS {name}"  # noqa: S608 - our own words
    for name, which in (("below", "< ? ORDER BY number DESC"), ("same", "= ?"), ("above", "> ? ORDER BY number"))
)
_SUMS = ", ".join(f"{name} = {name} + ?" for name in BUCKETS)


def admit(db: Database, opened: Opened, received_us: int, max_ranges: int) -> Admitted | Denied:
    """Judge a verified batch and write it; a repeat and a denial change nothing.

    Everything that concerns a gateway happens one after the other: streams share its boots, sessions and keys.

    Raises:
        LedgerError: CG-LED-010, the clock shows a time whose frames are not kept any more.
    """
    header = opened.header
    db.hold(header.gateway_eui)
    stream = _stream_row(db, header.stream_id)
    position = _position(db, stream, header, opened.body)
    standing = keys.standing(db, opened.kid, stream.id if stream else None, header.number)
    verdict = judge(header, opened.hash, replace(position, standing=standing), received_us)
    if isinstance(verdict, Denied):
        return verdict
    if isinstance(verdict, Repeat):
        return Admitted(queries.state(db, header.stream_id, max_ranges), repeat=True)
    if received_us < queries.kept_from(db):
        what = "this machine's clock shows a time whose frames are not kept any more"
        raise LedgerError(
            what, where="ledger", hint="set the clock; batches wait meanwhile", code="CG-LED-010", retryable=True
        )
    if stream is None:
        stream = _add_stream(db, header, received_us)
    _add_batch(db, stream, opened, received_us)
    _add_context(db, stream, header.number, opened.body)
    withdrawn_for = _withdrawn_for(db, stream, header.number)
    _account(db, stream, opened.body, withdrawn_for)
    rows = _prepare_frames(db, stream, header, opened.body, received_us)
    _enter_hours(db, stream, opened.body, rows, number=header.number, withdrawn_for=withdrawn_for)
    _advance(db, stream, header.number, opened.body)
    _notice_clone(db, header, received_us)
    _take_over(db, opened, received_us)
    _notice_rollback(db, stream, opened, received_us)
    db.execute("DELETE FROM quarantine WHERE batch_hash = ?", (opened.hash,))
    state = queries.state(db, header.stream_id, max_ranges)
    if rows:
        # last, because from here to the commit others have to wait
        db.take_turn(received_us)
        db.append("frame", _FRAME_COLUMNS, rows)
    return Admitted(state, repeat=False)


@dataclass(frozen=True, slots=True)
class _StreamRow:
    """Key and owner of a stream."""

    id: int
    gateway: int
    eui: bytes


def _stream_row(db: Database, stream_id: bytes) -> _StreamRow | None:
    row = db.execute(
        "SELECT stream.id, gateway, eui FROM stream JOIN gateway ON gateway.id = gateway WHERE stream_id = ?",
        (stream_id,),
    ).fetchone()
    return None if row is None else _StreamRow(*row)


def _add_stream(db: Database, header: Header, at_us: int) -> _StreamRow:
    (gateway,) = db.execute("SELECT id FROM gateway WHERE eui = ?", (header.gateway_eui,)).fetchone()
    (stream,) = db.execute(
        "INSERT INTO stream (stream_id, gateway, through, hash, first_seen_us, last_seen_us, frames)"
        " VALUES (?, ?, 0, ?, ?, ?, 0) RETURNING id",
        (header.stream_id, gateway, GENESIS_HASH, at_us, at_us),
    ).fetchone()
    db.execute("INSERT INTO account (stream) VALUES (?)", (stream,))
    return _StreamRow(stream, gateway, header.gateway_eui)


def _position(db: Database, stream: _StreamRow | None, header: Header, body: Body) -> Position:
    """Look up what is committed around a batch."""
    ranges = [tombstone for tombstone in body.tombstones if tombstone.last_number or tombstone.first_number]
    if stream is None:
        joins = tuple(Join(item.first_number, item.last_number, item.last_hash) for item in ranges)
        return Position(joins=joins)

    def link(number: int) -> Link | None:
        row = db.execute(
            f"SELECT {_LINK} FROM batch WHERE stream = ? AND number = ?",  # noqa: S608 - our own words
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
        committed, successor = link(last), link(last + 1)
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
    around = {
        (found.number > number) - (found.number < number): found
        for found in (Link(*row) for row in db.execute(_NEIGHBOURS, (stream.id, number) * 3))
    }
    below = around.get(-1)
    before = below.hash if below is not None and below.number == number - 1 else withdrawn_hash(number - 1)
    return Position(
        owner=stream.eui,
        same=around.get(0),
        below=below,
        above=around.get(1),
        previous_hash=before,
        withdrawn_hash=withdrawn_hash(number),
        joins=tuple(join(item.first_number, item.last_number, item.last_hash) for item in ranges),
    )


def _add_batch(db: Database, stream: _StreamRow, opened: Opened, received_us: int) -> None:
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
    db.execute(f"INSERT INTO batch VALUES ({marks(len(values))})", values)  # noqa: S608 - only marks


def _add_context(db: Database, stream: _StreamRow, number: int, body: Body) -> None:
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


def _boot(db: Database, gateway: int, boot_id: bytes) -> int:
    row = db.execute("SELECT id FROM boot WHERE gateway = ? AND boot_id = ?", (gateway, boot_id)).fetchone()
    if row is None:
        row = db.execute(
            "INSERT INTO boot (gateway, boot_id) VALUES (?, ?) RETURNING id", (gateway, boot_id)
        ).fetchone()
    return int(row[0])


def _session(db: Database, boot: int, number: int) -> int:
    row = db.execute("SELECT id FROM session WHERE boot = ? AND number = ?", (boot, number)).fetchone()
    if row is None:
        row = db.execute("INSERT INTO session (boot, number) VALUES (?, ?) RETURNING id", (boot, number)).fetchone()
    return int(row[0])


def _prepare_frames(
    db: Database, stream: _StreamRow, header: Header, body: Body, received_us: int
) -> list[tuple[Value, ...]]:
    """Enter what the frames of a batch hang on, and return the rows that they will be."""
    sessions: dict[Session, tuple[int, times.Times]] = {}
    by_session: dict[Session, list[Frame]] = {}
    for frame in body.frames:
        by_session.setdefault(frame.session, []).append(frame)
    boots = {session: _boot(db, stream.gateway, session.boot_id) for session in by_session}
    for session, members in by_session.items():
        if session.boot_id == UNKNOWN_BOOT:
            continue  # nobody knows which boot it was, so nothing bounds its frames, and they bound nothing
        latest_us = max(frame.boottime_us for frame in members)
        times.extend(db, stream.id, boots[session], session=session.number, last_us=latest_us, over_us=received_us)
    for session, members in by_session.items():
        boot = boots[session]
        span = [frame.boottime_us for frame in members]
        sessions[session] = (
            _session(db, boot, session.number),
            times.known(db, stream.id, boot, min(span), max(span)),
        )

    def rows() -> Iterator[tuple[Value, ...]]:
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

    db.execute(
        "UPDATE stream SET frames = frames + ?,"
        " last_seen_us = CASE WHEN last_seen_us > ? THEN last_seen_us ELSE ? END WHERE id = ?",
        (header.frame_count, received_us, received_us, stream.id),
    )
    return list(rows())


_FRAME_COLUMNS = (
    "stream, seq, session, boottime_us, counter_us, utc_us, utc_error_us, utc_source, frequency_hz, modulation,"
    " bandwidth_hz, datarate, coding_rate, crc, rssi_ddbm, rssis_ddbm, snr_qdb, frequency_offset_hz, if_chain,"
    " rf_chain, fine_timestamp_ns, dev_addr, phy_payload, received_us"
)
_UTC = _FRAME_COLUMNS.split(", ").index("utc_us")


def _dev_addr(phy_payload: bytes) -> int | None:
    """Return the DevAddr of a data frame, None for every other message."""
    header = lorawan.decode(phy_payload)
    return header.dev_addr if isinstance(header, lorawan.Data) else None


def _withdrawn_for(db: Database, stream: _StreamRow, number: int) -> Loss | None:
    """Say why a batch had been withdrawn before it came, None where it had not."""
    row = db.execute(
        "SELECT first_number, reason FROM tombstone WHERE stream = ? AND last_number >= ? AND last_number > 0"
        " AND number != ? ORDER BY last_number LIMIT 1",
        (stream.id, number, number),
    ).fetchone()
    return Loss(row[1]) if row is not None and row[0] <= number else None


def _enter_hours(
    db: Database,
    stream: _StreamRow,
    body: Body,
    rows: list[tuple[Value, ...]],
    *,
    number: int,
    withdrawn_for: Loss | None,
) -> None:
    """Keep the account by hours, with the frames of the batch in theirs."""
    parts: dict[hours.Place, hours.Part] = {}
    for said in body.hours:
        known = said.boot_id != UNKNOWN_BOOT
        place = (_boot(db, stream.gateway, said.boot_id), said.hour) if known else hours.NOWHERE
        parts.setdefault(place, hours.Part()).counts = said.account.counts
    if not body.hours:
        parts[hours.NOWHERE] = hours.Part(body.account.counts)
    boots = {frame.session.boot_id: 0 for frame in body.frames}
    for boot_id in boots:
        boots[boot_id] = _boot(db, stream.gateway, boot_id)
    for frame, row in zip(body.frames, rows, strict=True):
        part = parts.setdefault((boots[frame.session.boot_id], frame.boottime_us // HOUR_US), hours.Part())
        utc_us, received_us = row[_UTC], row[-1]
        part.frames += 1
        part.late += isinstance(utc_us, int) and isinstance(received_us, int) and received_us - utc_us > hours.LATE_US
    hours.enter(
        db,
        stream.id,
        number,
        parts,
        withdrawn_for=withdrawn_for,
        withdraws=[(item.first_number, item.last_number, item.reason) for item in body.tombstones if item.last_number],
    )


def _account(db: Database, stream: _StreamRow, body: Body, withdrawn_for: Loss | None) -> None:
    """Add a batch's account to the sums; what was withdrawn but arrived all the same counts once, as delivered."""
    total = dict(zip(BUCKETS, astuple(body.account), strict=True))
    if withdrawn_for is not None:
        # its account is already in the one of the batch with the tombstone
        total = dict.fromkeys(BUCKETS, 0)
        _found_again(total, withdrawn_for, len(body.frames))
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
    bucket = hours.LOST_IN.get(reason)
    if bucket is not None:
        total[bucket] -= frames


def _advance(db: Database, stream: _StreamRow, number: int, body: Body) -> None:
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


def _cover(db: Database, stream: int, first: int, last: int) -> None:
    """Add a run of numbers, joined with the runs it touches."""
    touched = db.execute(
        "SELECT min(first), max(last) FROM span WHERE stream = ? AND first <= ? AND last >= ?",
        (stream, last + 1, first - 1),
    ).fetchone()
    if touched[0] is not None:
        first, last = min(first, touched[0]), max(last, touched[1])
        db.execute("DELETE FROM span WHERE stream = ? AND first BETWEEN ? AND ?", (stream, first, last))
    db.execute("INSERT INTO span VALUES (?, ?, ?)", (stream, first, last))


def _notice_clone(db: Database, header: Header, at_us: int) -> None:
    """Raise an alarm when a stream goes on after another history of it was seen."""
    subject = header.gateway_eui.hex()
    (forked,) = db.execute(
        "SELECT min(number) FROM alarm WHERE kind IN (?, ?) AND subject = ? AND stream_id = ?",
        (Alarm.FORK, Alarm.ROLLBACK, subject, header.stream_id),
    ).fetchone()
    if forked is not None and header.number > forked:
        detail = f"the stream goes on although another content was sent as batch {forked}"
        refused.raise_alarm(db, Raised(Alarm.CLONE, subject, header.stream_id, forked, detail), at_us)


def _notice_rollback(db: Database, stream: _StreamRow, opened: Opened, at_us: int) -> None:
    """Raise an alarm when a stream takes the place of one of which more is here than its gateway knows."""
    before, header = opened.body.predecessor, opened.header
    if before is None or header.number != 1 or before.stream_id == header.stream_id:
        return
    older = _stream_row(db, before.stream_id)
    if older is None or older.gateway != stream.gateway:
        return
    (reached,) = db.execute("SELECT max(number) FROM batch WHERE stream = ?", (older.id,)).fetchone()
    known = db.execute("SELECT hash FROM batch WHERE stream = ? AND number = ?", (older.id, before.through)).fetchone()
    if reached <= before.through and (known is None or known[0] == before.hash):
        return
    detail = f"the gateway knows it through batch {before.through} and goes on in stream {header.stream_id.hex()}"
    detail += f"; batch {reached} is here: a restored or a cloned card"
    refused.raise_alarm(
        db, Raised(Alarm.ROLLBACK, header.gateway_eui.hex(), before.stream_id, before.through + 1, detail), at_us
    )


def _take_over(db: Database, opened: Opened, at_us: int) -> None:
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
        refused.raise_alarm(
            db, Raised(Alarm.SUCCESSION, header.gateway_eui.hex(), header.stream_id, header.number, detail), at_us
        )
