# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What is read from the ledger; each on a connection that the caller provides."""

from __future__ import annotations

from collections.abc import Iterator

from agent.batch.model import BUCKETS, Account, Reason
from receiver.ledger.chain import Alarm
from receiver.ledger.port import (
    MAX_PAGE,
    AlarmRow,
    Column,
    Parked,
    ParkedRow,
    Raised,
    RegisteredKey,
    SignedLink,
    StreamPosition,
    StreamState,
    StreamSummary,
    Withdrawn,
)
from receiver.ledger.sql import Database, Row, names

_KEY = (
    "SELECT eui, name, kid, public_key, gateway_key.added_us, revoked_us, follows, replaced_us"
    " FROM gateway_key JOIN gateway ON gateway.id = gateway_key.gateway"
)
_BUCKETS = ", ".join(BUCKETS)


def key(db: Database, kid: bytes) -> RegisteredKey | None:
    """Find a registered key."""
    row = db.execute(f"{_KEY} WHERE kid = ?", (kid,)).fetchone()
    return None if row is None else RegisteredKey(*row)


def keys(db: Database) -> list[RegisteredKey]:
    """List all keys, by gateway and age."""
    return [RegisteredKey(*row) for row in db.execute(f"{_KEY} ORDER BY eui, gateway_key.added_us, kid")]


def newest_key(db: Database, eui: bytes, besides: bytes) -> bytes | None:
    """Find the key that a gateway signs with at present, as far as the registry knows; its kid."""
    row = db.execute(
        "SELECT kid FROM gateway_key WHERE gateway = (SELECT id FROM gateway WHERE eui = ?) AND kid != ?"
        " AND revoked_us IS NULL AND replaced_us IS NULL ORDER BY gateway_key.added_us DESC, follows IS NULL LIMIT 1",
        (eui, besides),
    ).fetchone()
    return None if row is None else bytes(row[0])


def state(db: Database, stream_id: bytes, max_ranges: int) -> StreamState:
    """Say what is committed of a stream."""
    row = db.execute("SELECT id, through, hash FROM stream WHERE stream_id = ?", (stream_id,)).fetchone()
    if row is None:
        return StreamState(stream_id)
    stream, through, reached = row
    spans = db.execute(
        "SELECT first, last FROM span WHERE stream = ? ORDER BY first LIMIT ?", (stream, max_ranges)
    ).fetchall()
    return StreamState(stream_id, through, reached, tuple(spans))


def streams(db: Database) -> list[StreamSummary]:
    """Summarise all streams, by gateway and age."""
    rows = db.execute(
        "SELECT stream.id, stream_id, eui, name, through, hash, first_seen_us, last_seen_us, frames,"  # noqa: S608 - our own words
        " (SELECT count(*) FROM batch WHERE batch.stream = stream.id),"
        " (SELECT coalesce(max(number), 0) FROM batch WHERE batch.stream = stream.id),"
        f" {_BUCKETS} FROM stream JOIN gateway ON gateway.id = gateway JOIN account ON account.stream = stream.id"
        " ORDER BY eui, first_seen_us, stream.id"
    ).fetchall()
    summaries = []
    for number, stream_id, eui, name, through, reached, first_us, last_us, frames, batches, highest, *account in rows:
        spans = db.execute("SELECT first, last FROM span WHERE stream = ? ORDER BY first", (number,)).fetchall()
        summaries.append(
            StreamSummary(
                stream_id=stream_id,
                eui=eui,
                name=name,
                through=through,
                hash=reached,
                highest=highest,
                batches=batches,
                frames=frames,
                first_seen_us=first_us,
                last_seen_us=last_us,
                account=Account(*account),
                missing=tuple(holes(through, spans)),
            )
        )
    return summaries


def positions(db: Database) -> list[StreamPosition]:
    """Say of all streams how far they are, without counting what is there."""
    spans: dict[int, list[tuple[int, int]]] = {}
    for stream, first, last in db.execute("SELECT stream, first, last FROM span ORDER BY stream, first"):
        spans.setdefault(stream, []).append((first, last))
    rows = db.execute("SELECT stream.id, eui, last_seen_us, through FROM stream JOIN gateway ON gateway.id = gateway")
    return [
        StreamPosition(eui, last_seen_us, tuple(holes(through, spans.get(stream, []))))
        for stream, eui, last_seen_us, through in rows
    ]


def holes(through: int, spans: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Give the runs of numbers between what is there."""
    for first, last in spans:
        yield through + 1, first - 1
        through = last


def links(db: Database, stream_id: bytes) -> Iterator[SignedLink]:
    """Give the stored evidence of a stream in the order of numbers."""
    rows = db.stream(
        "SELECT number, hash, kid, public_key, signed_header,"  # noqa: S608 - our own words
        " CASE WHEN received_us >= (SELECT from_us FROM retention) THEN"
        " (SELECT count(*) FROM frame WHERE frame.stream = batch.stream AND frame.received_us = batch.received_us"
        "  AND seq >= first_seq AND seq < first_seq + frame_count) END,"
        f" {_BUCKETS} FROM batch JOIN gateway_key USING (kid)"
        " WHERE stream = (SELECT id FROM stream WHERE stream_id = ?) ORDER BY number",
        (stream_id,),
    )
    for number, digest, kid, public_key, signed_header, frames, *account in rows:
        yield SignedLink(number, digest, kid, public_key, signed_header, frames, Account(*account))


def withdrawn(db: Database, stream_id: bytes) -> list[Withdrawn]:
    """List the ranges of batches that tombstones of a stream name."""
    return [
        Withdrawn(*row)
        for row in db.execute(
            "SELECT first_number, last_number, last_hash, count FROM tombstone"
            " WHERE stream = (SELECT id FROM stream WHERE stream_id = ?) AND last_number > 0 ORDER BY last_number",
            (stream_id,),
        )
    ]


def frames(db: Database, after: int, limit: int) -> list[dict[str, Column]]:
    """Give receptions with an id beyond `after`, in the order of their commit."""
    rows = db.execute("SELECT * FROM reception WHERE id > ? ORDER BY id LIMIT ?", (after, min(limit, MAX_PAGE)))
    columns = names(rows)
    return [dict(zip(columns, row, strict=True)) for row in rows]


def alarms(db: Database) -> list[AlarmRow]:
    """List the alarms, latest first."""
    rows = db.execute(
        "SELECT kind, subject, stream_id, number, detail, first_us, last_us, count FROM alarm"
        " ORDER BY last_us DESC, id DESC"
    )
    return [
        AlarmRow(Raised(Alarm(kind), subject, stream_id, number, detail), *counts)
        for kind, subject, stream_id, number, detail, *counts in rows
    ]


def quarantined(db: Database) -> tuple[int, int]:
    """Count what is in quarantine: batches, bytes."""
    batches, size = db.execute("SELECT count(*), coalesce(sum(length(wire)), 0) FROM quarantine").fetchone()
    return int(batches), int(size)


_PARKED = "SELECT id, received_us, wire, reason, detail, sender, batch_hash, stream_id, number, kid FROM quarantine"


def quarantine(db: Database) -> Iterator[ParkedRow]:
    """Give what is in quarantine, the oldest first."""
    yield from map(_parked, db.stream(f"{_PARKED} ORDER BY id"))


def quarantined_row(db: Database, number: int) -> ParkedRow | None:
    """Find what is in quarantine by its id."""
    row = db.execute(f"{_PARKED} WHERE id = ?", (number,)).fetchone()
    return None if row is None else _parked(row)


def _parked(row: Row) -> ParkedRow:
    number, received_us, wire, reason, *rest = row
    return ParkedRow(number, received_us, Parked(wire, Reason(reason), *rest))


def kept_from(db: Database) -> int:
    """Return since when frames are kept, microseconds since 1970-01-01; those received before are gone."""
    (from_us,) = db.execute("SELECT from_us FROM retention").fetchone()
    return int(from_us)


def keep_from(db: Database, from_us: int) -> None:
    """Keep only frames that are received from a moment on; what is not kept never comes back."""
    db.execute("UPDATE retention SET from_us = ? WHERE from_us < ?", (from_us, from_us))
