# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What is asked of the gap ledger; each on a connection that the caller provides."""

from __future__ import annotations

from agent.batch.model import BUCKETS
from receiver.ledger.port import GapHour, Hole
from receiver.ledger.sql import Database, Value

_UNEQUAL = " OR ".join(f"part.{name} <> batch.{name}" for name in BUCKETS)
_SUMS = ", ".join(f"coalesce(sum({name}), 0) AS {name}" for name in BUCKETS)
_FIELDS = ", ".join(GapHour.__slots__)


def hours_add_up(db: Database, stream_id: bytes) -> bool:
    """Tell whether the accounts by hours of a stream are those of its batches, and sum up to that of the whole."""
    (stream,) = db.execute("SELECT id FROM stream WHERE stream_id = ?", (stream_id,)).fetchone()
    parts = ", ".join(f"sum({name}) AS {name}" for name in (*BUCKETS, "frames"))
    (wrong,) = db.execute(
        f"SELECT count(*) FROM batch LEFT JOIN (SELECT number, {parts} FROM batch_hour WHERE stream = ?"  # noqa: S608 - our own words
        " GROUP BY number) AS part ON part.number = batch.number"
        f" WHERE batch.stream = ? AND (part.number IS NULL OR part.frames <> batch.frame_count OR {_UNEQUAL})",
        (stream, stream),
    ).fetchone()
    *sums, frames = db.execute(
        f"SELECT {_SUMS}, coalesce(sum(frames), 0) FROM hour_account WHERE stream = ?",  # noqa: S608 - as above
        (stream,),
    ).fetchone()
    *account, delivered = db.execute(
        f"SELECT {', '.join(f'account.{name}' for name in BUCKETS)}, stream.frames"  # noqa: S608 - as above
        " FROM account JOIN stream ON stream.id = account.stream WHERE stream.id = ?",
        (stream,),
    ).fetchone()
    return not wrong and [int(value) for value in sums] == account and int(frames) == delivered


def gap_hours(db: Database, eui: bytes | None, since_us: int | None, until_us: int | None) -> list[GapHour]:
    """Give the gap ledger of a gateway or all, of hours that begin in a period; by gateway and time.

    Hours of which nobody knows when they were are given where no period is asked for.
    """
    conditions, parameters = _of(eui)
    if since_us is not None:
        conditions.append("begin_us >= ?")
        parameters.append(since_us)
    if until_us is not None:
        conditions.append("begin_us < ?")
        parameters.append(until_us)
    rows = db.execute(
        f"SELECT {_FIELDS} FROM gap_ledger WHERE {' AND '.join(conditions)}"  # noqa: S608 - as above
        " ORDER BY gateway, begin_us, stream, boot, hour",
        parameters,
    )
    return [GapHour(*row) for row in rows]


def holes(db: Database, eui: bytes | None) -> list[Hole]:
    """Give the batches that have not come, of a gateway or all."""
    conditions, parameters = _of(eui)
    rows = db.execute(
        "SELECT gateway, stream, first, last, frames, after_us, before_us FROM hole"  # noqa: S608 - as above
        f" WHERE {' AND '.join(conditions)} ORDER BY gateway, stream, first",
        parameters,
    )
    return [Hole(*row) for row in rows]


def last_signs(db: Database, eui: bytes | None) -> dict[str, int]:
    """Give CLOCK_BOOTTIME of the last sign of each boot, by its id in hex: its last frame, or clock anchor."""
    rows = db.execute(
        "SELECT boot_id, (SELECT max(last_us) FROM stretch WHERE boot = boot.id),"
        " (SELECT max(boottime_us) FROM anchor WHERE boot = boot.id AND source = 1),"
        " (SELECT max(boottime_us) FROM anchor WHERE boot = boot.id AND source = 2),"
        " (SELECT max(boottime_us) FROM anchor WHERE boot = boot.id AND source = 3)"
        " FROM boot JOIN gateway ON gateway.id = boot.gateway WHERE CAST(? AS INTEGER) = 1 OR eui = ?",
        (int(eui is None), eui or b""),
    )
    signs = {bytes(boot).hex(): [moment for moment in moments if moment is not None] for boot, *moments in rows}
    return {boot: max(moments) for boot, moments in signs.items() if moments}


def _of(eui: bytes | None) -> tuple[list[str], list[Value]]:
    return (["1 = 1"], []) if eui is None else (["gateway = ?"], [eui.hex()])
