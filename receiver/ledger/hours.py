# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The accounts by the hours in which frames were heard: what each batch says, and the sums of it.

Every function works in the transaction that the caller has begun. The sums follow the rules of the account of the whole
stream: a batch that was withdrawn but arrived all the same counts once, its frames as delivered in their hours.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from agent.batch.model import BUCKETS, Loss
from receiver.ledger.sql import Database, marks

LATE_US = 300_000_000
"""A frame is late when it is committed longer after it was heard than this, as far as its time is known then."""
NOWHERE = (0, 0)
"""Boot and hour of what a gateway does not tell apart."""
LOST_IN = {Loss.EVICTED: "evicted", Loss.EXPIRED: "expired"}

Place = tuple[int, int]
"""Row of a boot, and hour of its CLOCK_BOOTTIME."""
_COLUMNS = (*BUCKETS, "frames", "late")
_SUMS = ", ".join(f"{name} = hour_account.{name} + excluded.{name}" for name in _COLUMNS)
_PARTS = ", ".join(_COLUMNS)


@dataclass(slots=True)
class Part:
    """What a batch says of one hour.

    Attributes:
        counts: the buckets of its account, in their order.
        frames: of its own.
        late: among these.
    """

    counts: tuple[int, ...] = (0,) * len(BUCKETS)
    frames: int = 0
    late: int = 0

    @property
    def values(self) -> tuple[int, ...]:
        """The columns."""
        return *self.counts, self.frames, self.late


def enter(
    db: Database,
    stream: int,
    number: int,
    parts: Mapping[Place, Part],
    *,
    withdrawn_for: Loss | None,
    withdraws: Iterable[tuple[int, int, Loss]],
) -> None:
    """Keep what a batch says by hours, and add it to the sums.

    Args:
        db: connection.
        stream: row of its stream.
        number: of the batch.
        parts: what it says.
        withdrawn_for: why it had been withdrawn before it came; None where it had not.
        withdraws: first and last number of batches that it withdraws, and why.
    """
    db.executemany(
        f"INSERT INTO batch_hour (stream, number, boot, hour, {_PARTS}) VALUES ({marks(4 + len(_COLUMNS))})",  # noqa: S608 - our own words
        [(stream, number, *place, *part.values) for place, part in parts.items()],
    )
    sums: dict[Place, list[int]] = {}
    for place, part in parts.items():
        if withdrawn_for is None:
            _add(sums, place, part.values)
        else:
            # its account is in the one of the batch that withdrew it, as lost
            _add(sums, place, _found_again(part.frames, part.late, withdrawn_for))
    for first, last, reason in withdraws:
        rows = db.execute(
            f"SELECT boot, hour, {_PARTS} FROM batch_hour WHERE stream = ? AND number BETWEEN ? AND ?",  # noqa: S608 - as above
            (stream, first, last),
        ).fetchall()
        for boot, hour, *values in rows:
            frames, late = values[-2:]
            _add(sums, (boot, hour), tuple(-value for value in values))
            _add(sums, (boot, hour), _found_again(frames, late, reason))
    db.executemany(
        f"INSERT INTO hour_account (stream, boot, hour, {_PARTS}) VALUES ({marks(3 + len(_COLUMNS))})"  # noqa: S608 - as above
        f" ON CONFLICT (stream, boot, hour) DO UPDATE SET {_SUMS}",
        [(stream, *place, *values) for place, values in sorted(sums.items())],
    )


def _add(sums: dict[Place, list[int]], place: Place, values: tuple[int, ...]) -> None:
    known = sums.setdefault(place, [0] * len(_COLUMNS))
    for index, value in enumerate(values):
        known[index] += value


def _found_again(frames: int, late: int, reason: Loss) -> tuple[int, ...]:
    """Return what is changed by frames that were counted as lost and are here."""
    bucket = LOST_IN.get(reason)
    return (*(-frames if name == bucket else 0 for name in BUCKETS), frames, late)
