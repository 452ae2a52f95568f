# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""When frames were received, in UTC, as far as the clock anchors in the ledger tell.

A frame's time follows from the anchors next to it, before and after, of each source: good ones are not hidden by poor
ones of another source between them, and the estimate depends on what the ledger holds, not on the order of arrival.
That a good one is hidden by a poor one of its own source is a simplification.
Anchors that come later bound the frames between their neighbours better: these are marked, and estimated anew in
portions, so that a week of frames without any time does not hold up an acknowledgement when the first anchor of their
boot arrives.
"""

from __future__ import annotations

import sqlite3
from bisect import bisect_right
from collections.abc import Iterable

from agent.batch.model import MAX_NUMBER, Anchor, TimeSource
from agent.timeline import BootTimeline

Placed = tuple[int | None, int | None, int | None]
"""UTC, half-width of its interval, source; all None where nothing ties the boot to UTC."""
_NOWHERE: Placed = (None, None, None)
_ANCHOR = "SELECT boottime_us, utc_us, uncertainty_us, source FROM anchor WHERE boot = ? AND source = ? AND boottime_us"
_BEFORE = "SELECT max(boottime_us) FROM anchor WHERE boot = ? AND source = ? AND boottime_us < ?"
_BEHIND = "SELECT min(boottime_us) FROM anchor WHERE boot = ? AND source = ? AND boottime_us > ?"


class Timeline:
    """The anchors around a span of one boot.

    Args:
        anchors: all within the span, and those next to it on either side, of each source.
    """

    def __init__(self, anchors: Iterable[Anchor]) -> None:
        self._anchors = sorted(set(anchors), key=lambda anchor: anchor.boottime_us)
        self._moments = [anchor.boottime_us for anchor in self._anchors]
        self._gaps: dict[int, BootTimeline] = {}

    def place(self, boottime_us: int) -> Placed:
        """Estimate the UTC of a moment of the span."""
        gap = bisect_right(self._moments, boottime_us)
        if gap not in self._gaps:
            before, behind = self._anchors[:gap][::-1], self._anchors[gap:]
            self._gaps[gap] = BootTimeline([*_nearest(before), *_nearest(behind)])
        utc = self._gaps[gap].utc(boottime_us)
        if utc is None or not 0 <= utc.utc_us <= MAX_NUMBER or utc.error_us > MAX_NUMBER:
            return _NOWHERE
        return utc.utc_us, utc.error_us, None if utc.source is None else int(utc.source)


def _nearest(anchors: Iterable[Anchor]) -> Iterable[Anchor]:
    """Give of each source the first anchors in this order, all of the same moment."""
    moments: dict[TimeSource, int] = {}
    for anchor in anchors:
        if moments.setdefault(anchor.source, anchor.boottime_us) == anchor.boottime_us:
            yield anchor


def timeline(db: sqlite3.Connection, boot: int, first_us: int, last_us: int) -> Timeline:
    """Collect the anchors that bound the moments from `first_us` to `last_us` of a boot."""
    rows = []
    for source in TimeSource:
        rows += db.execute(f"{_ANCHOR} = ({_BEFORE})", (boot, source, boot, source, first_us)).fetchall()
        rows += db.execute(f"{_ANCHOR} BETWEEN ? AND ?", (boot, source, first_us, last_us)).fetchall()
        rows += db.execute(f"{_ANCHOR} = ({_BEHIND})", (boot, source, boot, source, last_us)).fetchall()
    return Timeline(
        Anchor(b"", boottime_us, utc_us, uncertainty_us, TimeSource(source))
        for boottime_us, utc_us, uncertainty_us, source in rows
    )


def note(db: sqlite3.Connection, boot: int, source: TimeSource, anchor_us: int) -> None:
    """Mark the frames that a new anchor may bound better: those between its neighbours of the same source."""
    (low,) = db.execute(_BEFORE, (boot, source, anchor_us)).fetchone()
    (high,) = db.execute(_BEHIND, (boot, source, anchor_us)).fetchone()
    low, high = low or 0, MAX_NUMBER if high is None else high
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
