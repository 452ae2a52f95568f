# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Frames to which SQLite's way through the file does not lead any more, found by looking at every page.

A page may say that it has fewer rows than it has, a page of the tree may lead elsewhere. What lies in the file besides
are frames that were delivered and deleted; so only those are taken that somebody still waits for.
"""

from __future__ import annotations

import sqlite3
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from agent.frame import Session
from agent.spool import carve, row
from agent.spool.pages import Pages, is_page, sound_frame
from agent.spool.store import PAGE_BYTES

LEAST_ROW_BYTES = 60
_ADD = row.INSERT.replace("INSERT", "INSERT OR IGNORE", 1)
ROWS_PER_PAGE = PAGE_BYTES // LEAST_ROW_BYTES
"""The most that one page can hold."""


class Wanted:
    """Which frames somebody waits for.

    Args:
        needs: (first, last, bit of the stream), as of `agent.spool.book.needed_rows`.
    """

    def __init__(self, needs: Iterable[tuple[int, int, int]]) -> None:
        known = list(needs)
        self._cuts = sorted({0, *(first for first, _, _ in known), *(last + 1 for _, last, _ in known)})
        self._bits = [0] * len(self._cuts)
        for first, last, bit in known:
            for place in range(bisect_right(self._cuts, first) - 1, bisect_right(self._cuts, last)):
                self._bits[place] |= bit

    def by(self, seq: int) -> int:
        """Return the bits of the streams that wait for a frame."""
        return self._bits[bisect_right(self._cuts, seq) - 1] if seq > 0 else 0


class Recovered(NamedTuple):
    """What was found.

    Attributes:
        rows: that were added.
        newest: greatest of them, 0 for none.
        wrecks: pages that are nothing: what was in them is not known.
    """

    rows: int
    newest: int
    wrecks: int


def recover(pages: Pages, target: sqlite3.Connection, sessions: Mapping[int, Session], wanted: Wanted) -> Recovered:
    """Add to the frames of a new file all that the old one still has, and that are not there yet.

    Args:
        pages: of the damaged file.
        target: where the frames that could be read are already.
        sessions: known ones.
        wanted: which frames to take; what is newer than all known is wanted, too.
    """
    rows = newest = wrecks = 0
    for page in pages.all():
        found = [one for one in carve.find(page) if wanted.by(one[0])]
        if not found:
            wrecks += not is_page(page)
            continue
        asked = f"SELECT seq FROM frame WHERE seq IN ({', '.join('?' * len(found))})"  # noqa: S608 - only places
        there = {seq for (seq,) in target.execute(asked, [key for key, _ in found])}
        for one in found:
            if one[0] in there:
                continue
            columns = carve.read(page, one, pages.page)
            frame = sound_frame(columns, sessions)
            if columns is None or frame is None:
                continue
            route = columns[1] & wanted.by(one[0])
            if route:
                columns = row.to_row(one[0], route, frame, row.pack(frame), columns[-1])
                rows += target.execute(_ADD, columns).rowcount
                newest = max(newest, one[0])
    return Recovered(rows, newest, wrecks)
