# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Whether a spool is as this program makes it, where no row would show it: header, declarations, last page."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

from agent.spool import store
from agent.spool.book import SESSIONS, read_sessions
from agent.spool.pages import Pages
from agent.spool.state import State
from agent.spool.store import scalar

FLIPPED_BITS = 2
_DECLARED = "SELECT type, name, tbl_name, coalesce(sql, '') FROM sqlite_schema"
_HEADER = {  # [SQLite database file format, 1.3], for a file of ours
    0: b"SQLite format 3\0" + store.PAGE_BYTES.to_bytes(2, "big") + bytes([2, 2, 0, 64, 32, 32]),
    44: (4).to_bytes(4, "big"),
    52: bytes(4) + (1).to_bytes(4, "big"),
    64: bytes(4) + store.APPLICATION_ID.to_bytes(4, "big") + bytes(20),
}


def header_damaged(path: Path) -> bool:
    """Say whether what never changes in the header of the file differs by a bit or two: SQLite believes most of it."""
    with path.open("rb") as file:
        found = file.read(100)
    if len(found) < 100:
        return False
    right = bytearray(found)
    for place, value in _HEADER.items():
        right[place : place + len(value)] = value
    if int.from_bytes(found[60:64], "big") & 0xFFFF == 0:  # user_version of a file that was never completed
        right[63] |= 1
    return 0 < sum((a ^ b).bit_count() for a, b in zip(found, right, strict=True)) <= FLIPPED_BITS


def schema_fits(connection: sqlite3.Connection) -> bool:
    """Say whether the tables are declared as this version declares them; of other versions nothing is known here."""
    version = store.versions(connection)[0]
    known = store.schema()
    if version != int(known[-1][0].partition("_")[0]):
        return True
    with contextlib.closing(sqlite3.connect(":memory:")) as model:
        for _, script in known:
            model.executescript(script)
        return sorted(model.execute(_DECLARED)) == sorted(connection.execute(_DECLARED))


def check_ways(path: Path, connection: sqlite3.Connection, known: State) -> None:
    """Look at what no count would miss: the newest frames, of which only their own page tells, and the sessions.

    Raises:
        sqlite3.DatabaseError: frames are hidden there.
        OSError: the file cannot be read.
    """
    rows = connection.execute(SESSIONS).fetchall()
    sessions = read_sessions(rows)
    if len(sessions) != len(rows):
        raise sqlite3.DatabaseError("a session of the concentrator is damaged")
    with Pages(path) as pages:
        tail = pages.tail(root_of(connection), sessions)
    if not tail.sound or tail.hidden > known.last_row:
        raise sqlite3.DatabaseError("the newest frames are not to be found")


def root_of(connection: sqlite3.Connection) -> int:
    """Return the first page of table frame."""
    return scalar(connection, "SELECT rootpage FROM sqlite_schema WHERE name = 'frame'", int)
