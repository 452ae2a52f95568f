# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""When frames were received, in UTC, as far as the clock anchors in the ledger tell.

A frame's time follows from the anchors next to it, before and after, of each source: good ones are not hidden by poor
ones of another source between them, and the estimate depends on what the ledger holds, not on the order of arrival.
That a good one is hidden by a poor one of its own source is a simplification.
Anchors that come later bound the frames between their neighbours better: these are marked, and estimated anew in
portions, so that a week of frames without any time does not hold up an acknowledgement when the first anchor of their
boot arrives.

A boot without any anchor is bounded by what came before and behind it in its stream: it began after the latest frame
of the boot before, and was over before the boot after it began, and before its frames were here. That last bound
believes the platform's own clock, as its receipts do.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from typing import Protocol

from agent.batch.model import MAX_NUMBER, Anchor, TimeSource
from agent.timeline import Boot, BootTimeline, Utc
from agent.timeline import Timeline as BootsTimeline
from receiver.ledger.sql import Database

Placed = tuple[int | None, int | None, int | None]
"""UTC, half-width of its interval, source; all None where nothing ties the boot to UTC."""
_NOWHERE: Placed = (None, None, None)
MAX_NEIGHBOURS = 256
"""Boots without any anchor that are looked past, in either direction, for one that has some."""
_ANCHOR = "SELECT boottime_us, utc_us, uncertainty_us, source FROM anchor WHERE boot = ? AND source = ? AND boottime_us"
_BEFORE = "SELECT max(boottime_us) FROM anchor WHERE boot = ? AND source = ? AND boottime_us < ?"
_BEHIND = "SELECT min(boottime_us) FROM anchor WHERE boot = ? AND source = ? AND boottime_us > ?"
# one statement for all sources: a server may be far away
_AROUND = " UNION ALL ".join(
    f"{_ANCHOR} {which}" for _ in TimeSource for which in (f"= ({_BEFORE})", "BETWEEN ? AND ?", f"= ({_BEHIND})")
)


class Times(Protocol):
    """What tells the times of some frames of one boot."""

    def place(self, boottime_us: int) -> Placed:
        """Estimate the UTC of a moment of the span."""
        ...


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
        return _placed(self._gaps[gap].utc(boottime_us))


class Neighbours:
    """The boots around one that has no anchor.

    Args:
        timeline: of these boots and that one.
        key: of that one.
    """

    def __init__(self, timeline: BootsTimeline, key: bytes) -> None:
        self._timeline = timeline
        self._key = key

    def place(self, boottime_us: int) -> Placed:
        """Estimate the UTC of a moment of that boot."""
        return _placed(self._timeline.utc(self._key, boottime_us))


def _placed(utc: Utc | None) -> Placed:
    if utc is None or not 0 <= utc.utc_us <= MAX_NUMBER or utc.error_us > MAX_NUMBER:
        return _NOWHERE
    return utc.utc_us, utc.error_us, None if utc.source is None else int(utc.source)


def _nearest(anchors: Iterable[Anchor]) -> Iterable[Anchor]:
    """Give of each source the first anchors in this order, all of the same moment."""
    moments: dict[TimeSource, int] = {}
    for anchor in anchors:
        if moments.setdefault(anchor.source, anchor.boottime_us) == anchor.boottime_us:
            yield anchor


def known(db: Database, stream: int, boot: int, first_us: int, last_us: int) -> Times:
    """Collect what bounds the moments from `first_us` to `last_us` of a boot, for the frames of a stream."""
    anchors = _anchors(db, boot, first_us, last_us)
    return Timeline(anchors) if anchors else _neighbours(db, stream, boot)


def _anchors(db: Database, boot: int, first_us: int, last_us: int) -> list[Anchor]:
    """Return the anchors within a span of a boot and those next to it on either side, of each source."""
    wanted: list[int] = []
    for source in TimeSource:
        it = (boot, source)
        wanted += (*it, *it, first_us, *it, first_us, last_us, *it, *it, last_us)
    rows = db.execute(_AROUND, wanted).fetchall()
    return [
        Anchor(_key(boot), boottime_us, utc_us, uncertainty_us, TimeSource(source))
        for boottime_us, utc_us, uncertainty_us, source in rows
    ]


def _key(boot: int) -> bytes:
    return boot.to_bytes(8, "big")


def _neighbours(db: Database, stream: int, boot: int) -> Neighbours:
    """Look for the nearest boots before and behind one of a stream that have anchors."""
    before, behind = ([*_around(db, stream, boot, step)] for step in ("<", ">"))
    own = db.execute("SELECT boot, last_us, over_us FROM stretch WHERE stream = ? AND boot = ?", (stream, boot))
    rows = [*before[::-1], *own, *behind]
    anchors = []
    if before:
        anchors += _anchors(db, before[-1][0], before[-1][1], before[-1][1])
    if behind:
        anchors += _anchors(db, behind[-1][0], 0, 0)
    boots = [Boot(_key(other), last_us, over_us) for other, last_us, over_us in rows]
    return Neighbours(BootsTimeline(anchors, boots), _key(boot))


def _around(db: Database, stream: int, boot: int, step: str) -> Iterable[tuple[int, int, int]]:
    """Give boot, latest frame and when that was here, of the boots to one side, up to the first that has an anchor."""
    order = "DESC" if step == "<" else "ASC"
    rows = db.execute(
        f"SELECT boot, last_us, over_us FROM stretch WHERE stream = ? AND session {step}"  # noqa: S608 - our own words
        f" (SELECT session FROM stretch WHERE stream = ? AND boot = ?) ORDER BY session {order} LIMIT ?",
        (stream, stream, boot, MAX_NEIGHBOURS),
    ).fetchall()
    for row in rows:
        yield row
        if _has_anchor(db, row[0]):
            return


def _has_anchor(db: Database, boot: int) -> bool:
    return db.execute("SELECT 1 FROM anchor WHERE boot = ? LIMIT 1", (boot,)).fetchone() is not None


def extend(db: Database, stream: int, boot: int, *, session: int, last_us: int, over_us: int) -> None:
    """Note frames of a stream: of which session, until when, and when they were here."""
    new = not db.execute("SELECT 1 FROM stretch WHERE stream = ? AND boot = ?", (stream, boot)).fetchone()
    db.execute(
        "INSERT INTO stretch (stream, boot, session, last_us, over_us) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (stream, boot) DO UPDATE SET"
        " session = CASE WHEN excluded.session < stretch.session THEN excluded.session ELSE stretch.session END,"
        " over_us = CASE WHEN excluded.last_us > stretch.last_us THEN excluded.over_us ELSE stretch.over_us END,"
        " last_us = CASE WHEN excluded.last_us > stretch.last_us THEN excluded.last_us ELSE stretch.last_us END",
        (stream, boot, session, last_us, over_us),
    )
    if new and _has_anchor(db, boot):
        _mark_around(db, stream, boot, "<")
        _mark_around(db, stream, boot, ">")


def note(db: Database, boot: int, source: TimeSource, anchor_us: int) -> None:
    """Mark the frames that a new anchor may bound better: those between its neighbours of the same source.

    The first and the last anchor of a boot also bound the boots without any before and behind it.
    """
    (low,) = db.execute(_BEFORE, (boot, source, anchor_us)).fetchone()
    (high,) = db.execute(_BEHIND, (boot, source, anchor_us)).fetchone()
    _mark(db, boot, low or 0, MAX_NUMBER if high is None else high)
    sides = [step for step, edge in (("<", low), (">", high)) if edge is None]
    for step in sides:
        for (stream,) in db.execute("SELECT stream FROM stretch WHERE boot = ?", (boot,)).fetchall():
            _mark_around(db, stream, boot, step)


def _mark_around(db: Database, stream: int, boot: int, step: str) -> None:
    """Mark the boots without any anchor to one side of one that has some."""
    for other, _, _ in _around(db, stream, boot, step):
        if not _has_anchor(db, other):
            _mark(db, other, 0, MAX_NUMBER)


def _mark(db: Database, boot: int, low: int, high: int) -> None:
    db.execute(
        "INSERT INTO revision (session, from_us, after_id, to_us) SELECT id, ?, 0, ? FROM session WHERE boot = ?"
        " AND EXISTS (SELECT 1 FROM frame WHERE frame.session = session.id AND boottime_us BETWEEN ? AND ?)"
        " ON CONFLICT (session) DO UPDATE SET"
        " to_us = CASE WHEN excluded.to_us > revision.to_us THEN excluded.to_us ELSE revision.to_us END,"
        " after_id = CASE WHEN excluded.from_us <= revision.from_us THEN 0 ELSE revision.after_id END,"
        " from_us = CASE WHEN excluded.from_us < revision.from_us THEN excluded.from_us ELSE revision.from_us END",
        (low, high, boot, low, high),
    )


def waiting(db: Database) -> bool:
    """Tell whether frames are marked."""
    return db.execute("SELECT 1 FROM revision LIMIT 1").fetchone() is not None


def revise(db: Database, limit: int) -> None:
    """Estimate up to `limit` marked frames anew. Anchors that contradict each other widen a bound: that is honest."""
    first = db.execute(
        "SELECT revision.session, boot, eui FROM revision JOIN session ON session.id = revision.session"
        " JOIN boot ON boot.id = session.boot JOIN gateway ON gateway.id = boot.gateway LIMIT 1"
    ).fetchone()
    if first is None:
        return
    session, boot, eui = first
    db.hold(eui)
    # somebody else may have had the gateway until now
    row = db.execute("SELECT from_us, after_id, to_us FROM revision WHERE session = ?", (session,)).fetchone()
    if row is None:
        return
    from_us, after_id, to_us = row
    frames = db.execute(
        "SELECT id, boottime_us, stream, received_us FROM frame WHERE session = ? AND boottime_us BETWEEN ? AND ?"
        " AND (boottime_us > ? OR id > ?) ORDER BY boottime_us, id LIMIT ?",
        (session, from_us, to_us, from_us, after_id, limit),
    ).fetchall()
    if frames:
        span = (frames[0][1], frames[-1][1])
        times = {stream: known(db, stream, boot, *span) for stream in {frame[2] for frame in frames}}
        db.executemany(
            "UPDATE frame SET utc_us = ?, utc_error_us = ?, utc_source = ? WHERE id = ? AND received_us = ?",
            [
                (*times[stream].place(boottime_us), frame, received_us)
                for frame, boottime_us, stream, received_us in frames
            ],
        )
    if len(frames) < limit:
        db.execute("DELETE FROM revision WHERE session = ?", (session,))
    else:
        db.execute(
            "UPDATE revision SET from_us = ?, after_id = ? WHERE session = ?", (frames[-1][1], frames[-1][0], session)
        )
