# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Boots that never knew the time: bounded by their neighbours, and better once those know it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from agent.batch import codec
from agent.batch.codec import Sealed
from agent.batch.model import UNKNOWN_BOOT, Account, Anchor, Body, TimeSource
from agent.frame import Frame, Session
from receiver.intake import Intake
from receiver.ledger.database import FILE_NAME
from receiver.ledger.port import Column
from receiver.ledger.sqlite import SqliteLedger
from receiver.ledger.writer import LedgerWriter
from tests.receiver.gateway import Gateway, frame, wire

BOTH_ENGINES = True
HERE = "test"
SECOND = 1_000_000
HOUR = 3600 * SECOND
START_US = 1_790_000_000 * SECOND
"""True UTC of the first boot's beginning; each boot begins an hour after the one before and hears for half of it."""


def boot_id(number: int) -> bytes:
    return bytes([number + 1]) * 16  # sixteen zeros stand for a boot that nobody knows


def true_us(number: int, boottime_us: int) -> int:
    return START_US + number * HOUR + boottime_us


def heard(boot: int, *seconds: int) -> list[Frame]:
    base = frame(1)
    return [
        replace(base, session=Session(boot_id(boot), 10 + boot), boottime_us=at * SECOND, counter_us=at * SECOND)
        for at in seconds
    ]


def anchor(boot: int, second: int, uncertainty_us: int = 1000) -> Anchor:
    at_us = second * SECOND
    return Anchor(boot_id(boot), at_us, true_us(boot, at_us), uncertainty_us, TimeSource.PLATFORM)


def seal(gateway: Gateway, frames: list[Frame], *anchors: Anchor) -> Sealed:
    sealed = codec.seal(
        Body(tuple(frames), Account(heard=len(frames), spooled=len(frames)), anchors),
        gateway.signer,
        gateway_eui=gateway.eui,
        stream_id=gateway.stream_id,
        number=gateway.number + 1,
        first_seq=gateway.seq,
        previous_hash=gateway.previous_hash,
        filter_version=1,
    )
    gateway.number += 1
    gateway.seq += len(frames)
    gateway.previous_hash = sealed.hash
    return sealed


@pytest.fixture
def gateway(ledger: LedgerWriter) -> Gateway:
    made = Gateway()
    ledger.add_key(made.registration)
    return made


class Platform:
    """A receiver whose clock shows what a test says."""

    def __init__(self, ledger: LedgerWriter, gateway: Gateway) -> None:
        self.ledger = ledger
        self.now_us = START_US + 100 * HOUR
        self._intake = Intake(ledger, gateway.signer, utc_us=lambda: self.now_us)

    def take(self, *sealed: Sealed) -> None:
        for one in sealed:
            assert self._intake.submit(wire(one), sender=HERE).refusal is None

    def rows(self) -> list[dict[str, Column]]:
        while self.ledger.revise(3):
            pass
        return list(self.ledger.frames(0, 1000))

    def bounds(self, boot: int) -> list[tuple[int, int]]:
        """Return how far the truth lies from the estimate, and the stated error, for the frames of a boot."""
        return [
            (abs(number(row["utc_us"]) - true_us(boot, number(row["boottime_us"]))), number(row["utc_error_us"]))
            for row in self.rows()
            if row["boot"] == boot_id(boot).hex() and row["utc_us"] is not None
        ]


def number(value: Column) -> int:
    assert isinstance(value, int)
    return value


@pytest.fixture
def platform(ledger: LedgerWriter, gateway: Gateway) -> Platform:
    return Platform(ledger, gateway)


def test_two_boots_without_any_time_lie_between_their_neighbours(platform: Platform, gateway: Gateway) -> None:
    platform.take(seal(gateway, heard(0, 60, 1800), anchor(0, 100)))
    platform.take(seal(gateway, heard(1, 60, 1800)), seal(gateway, heard(2, 60, 1800)))
    coarse = platform.bounds(1) + platform.bounds(2)
    assert len(coarse) == 4
    platform.take(seal(gateway, heard(3, 60), anchor(3, 50)))

    fine = platform.bounds(1) + platform.bounds(2)

    assert all(off <= error for off, error in coarse + fine)
    # from the last frame of boot 0 to the start of boot 3 are 2.5 h, of which the two boots' own frames take 1 h
    assert all(error <= 0.75 * HOUR + 2 * SECOND for _, error in fine)
    assert all(new[1] < old[1] for new, old in zip(fine, coarse, strict=True))
    assert {row["utc_source"] for row in platform.rows() if row["boot"] == boot_id(1).hex()} == {None}


def test_a_boot_that_nobody_knows_lies_nowhere_and_bounds_nothing(platform: Platform, gateway: Gateway) -> None:
    """After a salvage frames may have lost their boot and kept the number of their session."""
    lost = [replace(one, session=Session(UNKNOWN_BOOT, 11)) for one in heard(1, 60, 1800)]
    platform.take(seal(gateway, heard(0, 60, 1800), anchor(0, 100)), seal(gateway, lost))
    platform.take(seal(gateway, heard(2, 60, 1800)), seal(gateway, heard(3, 60), anchor(3, 50)))
    of_lost = [row["utc_us"] for row in platform.rows() if row["boot"] == UNKNOWN_BOOT.hex()]
    assert of_lost == [None, None]
    assert all(off <= error for off, error in platform.bounds(2))


def test_before_the_first_boot_with_a_time_nothing_bounds_from_below(platform: Platform, gateway: Gateway) -> None:
    platform.take(seal(gateway, heard(0, 60)), seal(gateway, heard(1, 60), anchor(1, 50)))
    assert platform.bounds(0) == []
    assert len(platform.bounds(1)) == 1


def test_what_was_here_was_heard_before(platform: Platform, gateway: Gateway) -> None:
    """No later boot is known: the platform's own clock at the arrival is the bound."""
    platform.take(seal(gateway, heard(0, 60, 1800), anchor(0, 100)))
    platform.now_us = true_us(1, 1900 * SECOND)
    platform.take(seal(gateway, heard(1, 60, 1800)))
    ((off, error), _) = platform.bounds(1)
    assert off <= error
    assert error < 0.3 * HOUR


def test_backlog_that_comes_after_its_successors_finds_its_place(platform: Platform, gateway: Gateway) -> None:
    """Live frames go first: batches arrive as 1, 4, 3, 2."""
    sealed = [
        seal(gateway, heard(0, 60, 1800), anchor(0, 100)),
        seal(gateway, heard(1, 60, 1800)),
        seal(gateway, heard(2, 60, 1800)),
        seal(gateway, heard(3, 60), anchor(3, 50)),
    ]
    platform.take(sealed[0], *sealed[:0:-1])
    found = platform.bounds(1) + platform.bounds(2)
    assert len(found) == 4
    assert all(off <= error <= 1.5 * HOUR for off, error in found)


def test_an_anchor_that_comes_late_improves_its_neighbours_too(platform: Platform, gateway: Gateway) -> None:
    platform.take(seal(gateway, heard(0, 60, 1800)), seal(gateway, heard(1, 60, 1800)))
    assert platform.bounds(0) == platform.bounds(1) == []
    platform.take(seal(gateway, heard(2, 60), anchor(2, 50)))
    assert platform.bounds(1) == []
    platform.take(seal(gateway, [], anchor(0, 1000)))
    found = platform.bounds(1)
    assert len(found) == 2
    assert all(off <= error for off, error in found)


def test_a_ledger_of_before_learns_the_order_of_boots(tmp_path: Path) -> None:
    """Upgraded from version 1, which did not keep it."""
    gateway = Gateway()
    with closing(SqliteLedger(tmp_path)) as ledger:
        ledger.add_key(gateway.registration)
        Platform(ledger, gateway).take(seal(gateway, heard(0, 60, 1800), anchor(0, 100)), seal(gateway, heard(1, 60)))
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as db:
        kept = db.execute("SELECT * FROM stretch").fetchall()
        db.executescript(
            "DROP VIEW uplink; DROP VIEW uplink_reception; DROP VIEW hole; DROP VIEW gap_ledger;"
            " DROP INDEX frame_by_utc; DROP INDEX frame_by_device; DROP TABLE batch_hour; DROP TABLE hour_account;"
            " DROP TABLE stretch; DROP TABLE retention; DROP INDEX batch_by_time;"
            " ALTER TABLE gateway_key DROP COLUMN follows;"
            " ALTER TABLE gateway_key DROP COLUMN replaced_us; PRAGMA user_version = 1"
        )
    with closing(SqliteLedger(tmp_path)) as ledger, closing(sqlite3.connect(tmp_path / FILE_NAME)) as db:
        assert db.execute("SELECT * FROM stretch").fetchall() == kept
        platform = Platform(ledger, gateway)
        platform.take(seal(gateway, heard(2, 60), anchor(2, 50)))
        assert all(off <= error <= 1.5 * HOUR for off, error in platform.bounds(1))
