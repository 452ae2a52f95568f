# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The demonstration's audit must see what it is there to see: a lost frame, a doubled one, a wrong count."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

import pytest

from agent.demo.air import Transmission
from agent.demo.audit import BUCKETS, Verdict, audit
from agent.demo.traffic import AirFrame

if TYPE_CHECKING:
    from pathlib import Path

OWN = bytes.fromhex("80070000488047000514d4bb32ccac547d497dcb875a0e8194c3d210c96b07b6dc35f51e")
FOREIGN = bytes.fromhex("40511e012600010001a6f165cab7c98a0f2f0c32a082bb89")


def transmission(payload: bytes, counter_us: int, *, crc_ok: bool = True, outcome: str = "fifo") -> Transmission:
    return Transmission(AirFrame(payload, 868_100_000, 7, "4/5", -80.0, 5.0, crc_ok), outcome, counter_us)


AIR = [
    transmission(OWN, 1000),
    transmission(OWN, 2000),
    transmission(FOREIGN, 3000),
    transmission(FOREIGN, 4000, crc_ok=False),
    transmission(OWN, 5000, outcome="not_received: no modem"),
]


@pytest.fixture
def ledger(tmp_path: Path) -> sqlite3.Connection:
    """Return a ledger in which everything of AIR is as it should be."""
    db = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)
    db.execute("CREATE TABLE frame (phy_payload BLOB, counter_us INTEGER)")
    db.execute("CREATE TABLE batch (number INTEGER)")
    db.execute(f"CREATE TABLE account ({', '.join(BUCKETS)})")
    db.execute("INSERT INTO batch VALUES (1)")
    # the concentrator's counter is kept with 64 bits: the audit compares those that the chip itself knows
    db.executemany("INSERT INTO frame VALUES (?, ?)", [(OWN, 1000 + 2**27), (OWN, 2000 + 2**27)])
    db.execute("INSERT INTO account VALUES (4, 1, 1, 0, 2)")
    return db


def verdict(ledger: sqlite3.Connection, tmp_path: Path) -> Verdict:
    ledger.close()
    return audit(AIR, tmp_path / "ledger.db")


def test_all_is_well(ledger: sqlite3.Connection, tmp_path: Path) -> None:
    assert verdict(ledger, tmp_path) == Verdict(
        sent=5,
        not_heard=1,
        heard=4,
        bad_crc=1,
        filtered=1,
        spooled=2,
        delivered=2,
        lost=0,
        duplicated=0,
        batches=1,
        payload_bytes=2 * len(OWN),
    )


def test_a_missing_frame_is_lost(ledger: sqlite3.Connection, tmp_path: Path) -> None:
    ledger.execute("DELETE FROM frame WHERE counter_us & 0x7ffffff = 2000")
    found = verdict(ledger, tmp_path)
    assert (found.delivered, found.lost, found.duplicated) == (1, 1, 0)


def test_a_second_copy_is_doubled(ledger: sqlite3.Connection, tmp_path: Path) -> None:
    ledger.execute("INSERT INTO frame SELECT * FROM frame LIMIT 1")
    found = verdict(ledger, tmp_path)
    assert (found.delivered, found.lost, found.duplicated) == (2, 0, 1)


def test_an_altered_frame_is_lost_and_surplus(ledger: sqlite3.Connection, tmp_path: Path) -> None:
    ledger.execute("UPDATE frame SET counter_us = counter_us + 1 WHERE counter_us & 0x7ffffff = 2000")
    found = verdict(ledger, tmp_path)
    assert (found.lost, found.duplicated) == (1, 1)


@pytest.mark.parametrize("bucket", ["bad_crc", "filtered"])
@pytest.mark.parametrize(("delta", "lost", "doubled"), [(-1, 1, 0), (1, 0, 1)])
def test_a_wrong_count_is_seen(
    ledger: sqlite3.Connection, tmp_path: Path, bucket: str, delta: int, lost: int, doubled: int
) -> None:
    ledger.execute(f"UPDATE account SET {bucket} = {bucket} + ?", (delta,))
    found = verdict(ledger, tmp_path)
    assert (found.lost, found.duplicated) == (lost, doubled)


def test_a_frame_that_nobody_sent_is_surplus(ledger: sqlite3.Connection, tmp_path: Path) -> None:
    ledger.execute("INSERT INTO frame VALUES (?, 9)", (FOREIGN,))
    assert verdict(ledger, tmp_path).duplicated == 1
