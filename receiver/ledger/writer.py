# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The writing side of a ledger, on whatever database: what happens within one transaction."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import TypeVar

from agent.batch.codec import Opened
from receiver.ledger import admission, copying, keys, queries, refused, times
from receiver.ledger.chain import Denied
from receiver.ledger.port import Admitted, Parked, QuarantineLimits, Raised, RegisteredKey
from receiver.ledger.reader import LedgerReader
from receiver.ledger.sql import Database
from receiver.ledger.weeks import DAY_US, begin_of_week

T = TypeVar("T")


class LedgerWriter(LedgerReader):
    """Changes (`receiver.ledger.port.Ledger`); what a database needs for them is in the classes that follow.

    Args:
        limits: of the quarantine.
    """

    def __init__(self, limits: QuarantineLimits | None) -> None:
        self._limits = limits or QuarantineLimits()

    def add_key(self, key: RegisteredKey) -> bool:
        """Register a key, with its gateway where that is new; False if it was registered already, unchanged.

        Raises:
            RegistryError: CG-REG-001, the key belongs to another gateway; CG-REG-002, it was revoked.
        """

        def add(db: Database) -> bool:
            db.hold(key.eui)
            return keys.add(db, key)

        return self._change(add)

    def rotate_key(self, key: RegisteredKey) -> bytes:
        """Register a key that takes the place of the one its gateway has; return the kid of that.

        Raises:
            RegistryError: as `add_key`; CG-REG-003, the gateway has no active key; CG-REG-007, the key was replaced.
        """

        def rotate(db: Database) -> bytes:
            db.hold(key.eui)
            return keys.rotate(db, key)

        return self._change(rotate)

    def revoke(self, eui: bytes, kid: bytes | None, at_us: int) -> int:
        """Revoke one key of a gateway, or all; return how many were active until now."""

        def revoke(db: Database) -> int:
            db.hold(eui)
            return keys.revoke(db, eui, kid, at_us)

        return self._change(revoke)

    def admit(self, opened: Opened, received_us: int, max_ranges: int) -> Admitted | Denied:
        """Judge a verified batch and commit it, in one transaction; a repeat and a denial change nothing."""
        return self._change(lambda db: admission.admit(db, opened, received_us, max_ranges))

    def park(self, parked: Parked, alarm: Raised | None, at_us: int) -> None:
        """Keep refused bytes within the limits, and count the alarm."""

        def park(db: Database) -> None:
            if alarm is not None:
                refused.raise_alarm(db, alarm, at_us)
            refused.park(db, parked, self._limits, at_us)

        self._change(park)

    def discard(self, number: int) -> bool:
        """Drop what is in quarantine by its id; False if it is not there."""
        return self._change(lambda db: refused.discard(db, number))

    def revise(self, limit: int) -> bool:
        """Estimate the time of up to `limit` frames anew, from anchors that came later; True while more are waiting."""
        with self._reading() as db:
            if not times.waiting(db):
                return False

        def revise(db: Database) -> bool:
            times.revise(db, limit)
            return times.waiting(db)

        return self._change(revise)

    def upkeep(self, now_us: int, keep_days: int, limit: int) -> bool:
        """Drop frames whose time is over, make room for those to come; True while there is more to drop."""
        self._prepare(now_us)
        with self._reading() as db:
            server_us, kept_us = db.utc_us(), queries.kept_from(db)
        if keep_days:
            # a clock that is ahead must not cost a frame: the earlier of two counts
            now_us = now_us if server_us is None else min(now_us, server_us)
            from_us = begin_of_week(max(now_us - keep_days * DAY_US, 0))
            if from_us > kept_us:
                self._change(lambda db: queries.keep_from(db, from_us))
        return self._drop_frames(limit)

    def take_over(self, source: LedgerReader, place: str) -> dict[str, int]:
        """Fill this ledger, which is empty, with everything of another; return how many rows of which table.

        Raises:
            LedgerError: CG-LED-011, it is not empty.
        """
        with source._reading() as old:
            old.take_time()
            for begin_us in {begin_of_week(at_us) for (at_us,) in old.stream("SELECT received_us FROM batch")}:
                self._prepare(begin_us)
            return self._change(lambda db: copying.copy(old, db, place))

    @abstractmethod
    def _change(self, change: Callable[[Database], T]) -> T:
        """Do something within a transaction: durable when this returns, as if never begun when it raises.

        It may be begun more than once where the database asks for that, and is committed once.

        Raises:
            LedgerError: the database does not take it, or nobody knows whether it did.
        """

    @abstractmethod
    def _prepare(self, now_us: int) -> None:
        """Make room for the frames to come."""

    @abstractmethod
    def _drop_frames(self, limit: int) -> bool:
        """Drop about `limit` frames that are not kept any more; True while there are others."""
