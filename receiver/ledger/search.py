# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Frames and transmissions in the order of commit, some of them, page by page; each on a connection of the caller.

Pages follow the id of receptions, so that whoever goes on from where he was misses nothing that comes late. No page
costs more than a bounded look: it may hold less than was asked for, even nothing, and yet not be the last.
"""

from __future__ import annotations

from collections.abc import Sequence

from receiver.ledger.port import MAX_PAGE, Column, Found, Transmission, Wanted
from receiver.ledger.sql import Database, Value, marks, names

SCAN = 50_000
"""Ids that are looked at for one page."""
FEW = 50_000
"""Receptions of a device, or of a period, that are looked up by their index instead."""

SAME = (
    "COALESCE(other.dev_addr, -1) = COALESCE(frame.dev_addr, -1)"
    " AND other.utc_us BETWEEN frame.utc_us - 2000000 AND frame.utc_us + 2000000"
    " AND abs(other.utc_us - frame.utc_us) <= 1000000 + CASE"
    " WHEN other.utc_error_us + frame.utc_error_us < 1000000 THEN other.utc_error_us + frame.utc_error_us"
    " ELSE 1000000 END"
    " AND other.phy_payload = frame.phy_payload AND other.frequency_hz = frame.frequency_hz"
    " AND other.modulation = frame.modulation AND other.bandwidth_hz = frame.bandwidth_hz"
    " AND other.datarate = frame.datarate"
    " AND (other.session <> frame.session OR other.counter_us = frame.counter_us)"
)
"""Whether two receptions are of one transmission: as in the views `uplink` and `uplink_reception`."""


def highest(db: Database) -> int:
    """Return the highest id of a reception, 0 for none."""
    (number,) = db.execute("SELECT coalesce(max(id), 0) FROM frame").fetchone()
    return int(number)


def receptions(db: Database, after: int, limit: int, wanted: Wanted, *, bulk: bool = False) -> Found:
    """Give receptions with an id beyond `after`, in the order of their commit.

    Args:
        db: connection.
        after: id.
        limit: of rows; `MAX_PAGE` at most, unless they are wanted in bulk.
        wanted: which.
        bulk: whether the reader will take all pages: then none is looked up by itself.
    """
    return _page(db, "reception", after, limit if bulk else min(limit, MAX_PAGE), wanted, bulk=bulk)


def transmissions(db: Database, after: int, limit: int, wanted: Wanted) -> tuple[list[Transmission], int, bool]:
    """Give the transmissions of which a reception with an id beyond `after` is wanted, each with all its receptions.

    Returns:
        Transmissions; where to go on; whether there may be more.
    """
    found = _page(db, "uplink_reception", after, min(limit, MAX_PAGE), wanted)
    uplinks = list(dict.fromkeys(int(row["uplink"] or 0) for row in found.rows))
    if not uplinks:
        return [], found.next, found.more
    rows = db.execute(
        f"SELECT frame.id, other.id FROM frame JOIN frame AS other ON {SAME}"  # noqa: S608 - our own words
        f" WHERE frame.id IN ({marks(len(uplinks))}) ORDER BY frame.id, other.id",
        uplinks,
    ).fetchall()
    members: dict[int, list[int]] = {uplink: [] for uplink in uplinks}
    for uplink, member in rows:
        members[uplink].append(member)
    for uplink, heard in members.items():
        # one whose time is not known agrees with none, not even with itself
        if not heard:
            heard.append(uplink)
    described = _by_id(db, sorted({member for heard in members.values() for member in heard}))
    return (
        [Transmission(uplink, [described[member] for member in heard]) for uplink, heard in members.items()],
        found.next,
        found.more,
    )


def _by_id(db: Database, ids: Sequence[int]) -> dict[int, dict[str, Column]]:
    described: dict[int, dict[str, Column]] = {}
    for begin in range(0, len(ids), MAX_PAGE):
        some = ids[begin : begin + MAX_PAGE]
        rows = db.execute(f"SELECT * FROM reception WHERE id IN ({marks(len(some))})", some)  # noqa: S608 - as above
        columns = names(rows)
        described.update((int(row[0]), dict(zip(columns, row, strict=True))) for row in rows)
    return described


def _page(db: Database, view: str, after: int, limit: int, wanted: Wanted, *, bulk: bool = False) -> Found:
    conditions, parameters = _conditions(wanted)
    if not conditions:
        rows = _rows(db, view, ["id > ?"], [after], limit)
        return Found(rows, _last(rows, after), more=len(rows) == limit)
    few = None if bulk else _few(db, after, wanted)
    if few is not None:
        some = few[:limit]
        rows = (
            []
            if not some
            else _rows(db, view, [f"id IN ({marks(len(some))})", *conditions], [*some, *parameters], limit)
        )
        # what was found by one condition may fail another
        return Found(rows, some[-1] if some else after, more=len(few) > limit)
    last = highest(db)
    end = min(after + SCAN, last)
    rows = _rows(db, view, ["id > ?", "id <= ?", *conditions], [after, end, *parameters], limit)
    reached = _last(rows, after) if len(rows) == limit else max(end, after)
    return Found(rows, reached, more=reached < last)


def _few(db: Database, after: int, wanted: Wanted) -> list[int] | None:
    """Return all ids beyond `after` of a device, or of a period, in order; None where they are many or nobody asks."""
    conditions, parameters = [], list[Value]()
    if wanted.first_addr is not None and wanted.first_addr == wanted.last_addr:
        conditions, parameters = ["COALESCE(dev_addr, -1) = ?"], [wanted.first_addr]
    elif wanted.since_us is None or wanted.until_us is None:
        return None
    conditions += [
        f"utc_us {sign} ?" for sign, value in ((">=", wanted.since_us), ("<", wanted.until_us)) if value is not None
    ]
    parameters += [value for value in (wanted.since_us, wanted.until_us) if value is not None]
    rows = db.execute(
        f"SELECT id FROM frame WHERE {' AND '.join(conditions)} AND id > ? LIMIT ?",  # noqa: S608 - as above
        (*parameters, after, FEW + 1),
    ).fetchall()
    return None if len(rows) > FEW else sorted(int(row[0]) for row in rows)


def _conditions(wanted: Wanted) -> tuple[list[str], list[Value]]:
    said: list[tuple[str, Value]] = [
        ("gateway = ?", None if wanted.eui is None else wanted.eui.hex()),
        ("device >= ?", wanted.first_addr),
        ("device <= ?", wanted.last_addr),
        ("utc_us >= ?", wanted.since_us),
        ("utc_us < ?", wanted.until_us),
    ]
    given = [(condition, value) for condition, value in said if value is not None]
    return [condition for condition, _ in given], [value for _, value in given]


def _rows(
    db: Database, view: str, conditions: list[str], parameters: list[Value], limit: int
) -> list[dict[str, Column]]:
    rows = db.execute(
        f"SELECT * FROM {view} WHERE {' AND '.join(conditions)} ORDER BY id LIMIT ?",  # noqa: S608 - as above
        (*parameters, limit),
    )
    columns = names(rows)
    return [dict(zip(columns, row, strict=True)) for row in rows]


def _last(rows: list[dict[str, Column]], after: int) -> int:
    return int(rows[-1]["id"] or 0) if rows else after
