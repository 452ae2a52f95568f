# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What is kept of batches that are not accepted: their bytes within limits, and alarms, each once and counted.

Every function works in the transaction that the caller has begun.
"""

from __future__ import annotations

from receiver.ledger import queries
from receiver.ledger.chain import Alarm
from receiver.ledger.port import Parked, QuarantineLimits, Raised
from receiver.ledger.sql import Database

MAX_ALARMS = 10_000
"""Distinct alarms that are kept."""
UNVERIFIED_SHARE = 4
"""What nobody signed may take one part in so many of the quarantine."""


def park(db: Database, parked: Parked, limits: QuarantineLimits, at_us: int) -> None:
    """Keep refused bytes if there is room."""
    if not _has_room(db, parked, limits):
        return
    db.execute(
        "INSERT INTO quarantine (received_us, reason, sender, kid, batch_hash, stream_id, number, detail, wire)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (batch_hash) DO NOTHING",
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


def discard(db: Database, number: int) -> bool:
    """Drop refused bytes; False if they are not there."""
    return db.execute("DELETE FROM quarantine WHERE id = ?", (number,)).rowcount > 0


def _has_room(db: Database, parked: Parked, limits: QuarantineLimits) -> bool:
    share = 1 if parked.kid is not None else UNVERIFIED_SHARE
    batches, size = queries.quarantined(db)
    (of_key,) = db.execute("SELECT count(*) FROM quarantine WHERE kid IS NOT DISTINCT FROM ?", (parked.kid,)).fetchone()
    if parked.kid is not None and of_key >= limits.per_key:
        return False
    if parked.kid is None and of_key * share >= limits.batches:
        return False
    fits = size + len(parked.wire) <= limits.bytes // share
    return bool(batches < limits.batches and fits)


def raise_alarm(db: Database, alarm: Raised, at_us: int) -> None:
    """Count an alarm."""
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
