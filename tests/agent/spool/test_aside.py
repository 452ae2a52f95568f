# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Damage that comes back with every start must not fill the card with its copies."""

from __future__ import annotations

from pathlib import Path

from agent.spool import aside
from agent.spool.salvage import salvage
from tests.agent.spool.gateway import frame, heard, writer


def test_the_first_copy_and_the_newest_ones_stay(tmp_path: Path) -> None:
    with writer(tmp_path) as spool:
        spool.offer(heard([frame(0)]))
        assert spool.flush(60.0)
    for number in range(1, 9):
        (tmp_path / f"spool.db.damaged-{number}-wal").touch()
        assert salvage(tmp_path / "spool.db").frames == 1
        kept = {*range(1, number + 1)} if number <= aside.MOST_KEPT else {1, number - 2, number - 1, number}
        assert {path.name for path in tmp_path.glob("*.damaged-*")} == {
            f"spool.db.damaged-{one}{suffix}" for one in kept for suffix in ("", "-wal")
        }


def test_names_of_others_do_not_count(tmp_path: Path) -> None:
    for name in ("spool.db.damaged-x", "spool.db.damaged-", "spool.db-wal.damaged-7", "other.db.damaged-3"):
        (tmp_path / name).touch()
    assert aside.name_for(tmp_path / "spool.db").name == "spool.db.damaged-1"
    assert aside.name_for(tmp_path / "spool.db-wal").name == "spool.db-wal.damaged-8"
