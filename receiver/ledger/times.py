# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""When frames were received, in UTC, as far as the clock anchors in the ledger tell.

A frame gets the estimate that the anchors at hand allow. Anchors that come later bound the frames between their
neighbours better: these are marked, and estimated anew in portions, so that a week of frames without any time does not
hold up an acknowledgement when the first anchor of their boot arrives.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from agent.batch.model import MAX_NUMBER, Anchor, TimeSource
from agent.timeline import BootTimeline

NEIGHBOURS = 16
"""Anchors that are looked at on either side of a span, besides those within it. One farther away might
bound a moment better still, if it is very good and all nearer ones are poor: a simplification."""

Placed = tuple[int | None, int | None, int | None]
"""UTC, half-width of its interval, source; all None where nothing ties the boot to UTC."""
_NOWHERE: Placed = (None, None, None)
_ANCHOR = "SELECT boottime_us, utc_us, uncertainty_us, source FROM anchor WHERE boot = ? AND boottime_us"


class Timeline:
    """The anchors around a span of one boot."""

    def __init__(self, anchors: Iterable[Anchor]) -> None:
        self._boot = BootTimeline(anchors)

    def place(self, boottime_us: int) -> Placed:
        """Estimate the UTC of a moment of the boot."""
        utc = self._boot.utc(boottime_us)
        if utc is None or not 0 <= utc.utc_us <= MAX_NUMBER or utc.error_us > MAX_NUMBER:
            return _NOWHERE
        return utc.utc_us, utc.error_us, None if utc.source is None else int(utc.source)


def timeline(db: sqlite3.Connection, boot: int, first_us: int, last_us: int) -> Timeline:
    """Collect the anchors that bound the moments from `first_us` to `last_us` of a boot."""
    before = db.execute(f"{_ANCHOR} < ? ORDER BY boottime_us DESC LIMIT ?", (boot, first_us, NEIGHBOURS)).fetchall()
    within = db.execute(f"{_ANCHOR} BETWEEN ? AND ? ORDER BY boottime_us", (boot, first_us, last_us)).fetchall()
    behind = db.execute(f"{_ANCHOR} > ? ORDER BY boottime_us LIMIT ?", (boot, last_us, NEIGHBOURS)).fetchall()
    return Timeline(
        Anchor(b"", boottime_us, utc_us, uncertainty_us, TimeSource(source))
        for boottime_us, utc_us, uncertainty_us, source in (*before, *within, *behind)
    )


def note(db: sqlite3.Connection, boot: int, anchor_us: int) -> None:
    """Mark the frames that a new anchor may bound better: those between its neighbours."""
    (low,) = db.execute(
        "SELECT coalesce(max(boottime_us), 0) FROM anchor WHERE boot = ? AND boottime_us < ?", (boot, anchor_us)
    ).fetchone()
    (high,) = db.execute(
        "SELECT coalesce(min(boottime_us), ?) FROM anchor WHERE boot = ? AND boottime_us > ?",
        (MAX_NUMBER, boot, anchor_us),
    ).fetchone()
    db.execute(
        "INSERT INTO revision (session, from_us, after_id, to_us) SELECT id, ?, 0, ? FROM session WHERE boot = ?"
        " AND EXISTS (SELECT 1 FROM frame WHERE frame.session = session.id AND boottime_us BETWEEN ? AND ?)"
        " ON CONFLICT (session) DO UPDATE SET to_us = max(to_us, excluded.to_us),"
        " after_id = CASE WHEN excluded.from_us <= from_us THEN 0 ELSE after_id END,"
        " from_us = min(from_us, excluded.from_us)",
        (low, high, boot, low, high),
    )


def waiting(db: sqlite3.Connection) -> bool:
    """Tell whether frames are marked."""
    return db.execute("SELECT 1 FROM revision LIMIT 1").fetchone() is not None


def revise(db: sqlite3.Connection, limit: int) -> None:
    """Estimate up to `limit` marked frames anew. Anchors that contradict each other widen a bound: that is honest."""
    row = db.execute(
        "SELECT session, boot, from_us, after_id, to_us FROM revision JOIN session ON session.id = session LIMIT 1"
    ).fetchone()
    if row is None:
        return
    session, boot, from_us, after_id, to_us = row
    frames = db.execute(
        "SELECT id, boottime_us FROM frame WHERE session = ? AND boottime_us BETWEEN ? AND ?"
        " AND (boottime_us > ? OR id > ?) ORDER BY boottime_us, id LIMIT ?",
        (session, from_us, to_us, from_us, after_id, limit),
    ).fetchall()
    if frames:
        anchors = timeline(db, boot, frames[0][1], frames[-1][1])
        db.executemany(
            "UPDATE frame SET utc_us = ?, utc_error_us = ?, utc_source = ? WHERE id = ?",
            ((*anchors.place(boottime_us), frame) for frame, boottime_us in frames),
        )
    if len(frames) < limit:
        db.execute("DELETE FROM revision WHERE session = ?", (session,))
    else:
        db.execute(
            "UPDATE revision SET from_us = ?, after_id = ? WHERE session = ?", (frames[-1][1], frames[-1][0], session)
        )
