# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The pages of a database file as they are, without SQLite: each as its log has it, or as the file has it.

[SQLite database file format, 1.6 b-tree pages]
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from agent.frame import Frame, Session
from agent.spool import carve, row, wal
from agent.spool.store import PAGE_BYTES

_CHUNK_BYTES = 256 * PAGE_BYTES
_INTERIOR = 0x05
_DEEPEST = 12
"""Levels of a tree: far more than 2^31 pages can have."""
_B_TREE = frozenset({0x02, 0x05, 0x0A, 0x0D})


class Tail(NamedTuple):
    """The end of table frame.

    Attributes:
        hidden: greatest key of a row in its last page that the page does not own up to; 0 for none. It was deleted,
            if it is one that the bookkeeping knows.
        last: key of its last row, as the page has it; 0 for none.
        sound: whether the way there is whole, and the keys of that page stand in order.
    """

    hidden: int
    last: int
    sound: bool


class Pages:
    """The pages of a database. For one thread; nobody writes meanwhile."""

    def __init__(self, path: Path, more: Sequence[bytes] = ()) -> None:
        """Open it.

        Args:
            path: of the database.
            more: images of pages that are left from elsewhere.

        Raises:
            OSError: it cannot be read.
        """
        self._file = path.open("rb")
        self._log = None
        self._more = more
        self._fresh = wal.committed(path)
        with contextlib.suppress(FileNotFoundError):
            self._log = wal.log_of(path).open("rb")
        self._count = path.stat().st_size // PAGE_BYTES

    def __enter__(self) -> Pages:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        if self._log is not None:
            self._log.close()

    def page(self, number: int) -> bytes | None:
        """Return the newest image of a page, None where there is none."""
        if number in self._fresh and self._log is not None:
            self._log.seek(self._fresh[number])
            data = self._log.read(PAGE_BYTES)
        elif 0 < number <= self._count:
            self._file.seek((number - 1) * PAGE_BYTES)
            data = self._file.read(PAGE_BYTES)
        else:
            return None
        return data if len(data) == PAGE_BYTES else None

    def all(self) -> Iterator[bytes]:
        """Yield every image: those in the log, those in the file, also where the log has newer ones, and the others."""
        for number in self._fresh:
            data = self.page(number)
            if data is not None:
                yield data
        self._file.seek(0)
        while chunk := self._file.read(_CHUNK_BYTES):
            place = self._file.tell()
            for start in range(0, len(chunk) - PAGE_BYTES + 1, PAGE_BYTES):
                yield chunk[start : start + PAGE_BYTES]
            self._file.seek(place)  # others may have read meanwhile
        yield from self._more

    def tail(self, root: int, sessions: Mapping[int, Session]) -> Tail:
        """Look at the last page of table frame, as far as SQLite's way leads there.

        Args:
            root: page of the root of its tree.
            sessions: known ones.
        """
        after = 0
        for _ in range(_DEEPEST):
            page = self.page(root)
            if page is None:
                break
            count = int.from_bytes(page[3:5], "big")
            if page[0] == carve.LEAF:
                pointers = [int.from_bytes(page[at : at + 2], "big") for at in range(8, 8 + 2 * count, 2)]
                keys = [carve.varint(page, carve.varint(page, pointer)[1])[0] for pointer in pointers]
                ascending = all(one < other for one, other in pairwise([after, *keys]))
                rows = [found for found in carve.find(page) if found[0] > max([after, *keys])]
                sound = {found[0] for found in rows if sound_frame(carve.read(page, found, self.page), sessions)}
                return Tail(max(sound, default=0), keys[-1] if keys else 0, ascending)
            last = int.from_bytes(page[10 + 2 * count : 12 + 2 * count], "big")
            key, end = carve.varint(page, last + 4)
            if page[0] != _INTERIOR or not count or end > PAGE_BYTES or key <= after:
                break
            after, root = key, int.from_bytes(page[8:12], "big")
        return Tail(0, 0, sound=False)


def sound_frame(columns: tuple[object, ...] | None, sessions: Mapping[int, Session]) -> Frame | None:
    """Return the frame of columns that were found, None where they are no row that was written."""
    if columns is None:
        return None
    try:
        return row.from_row(columns, sessions)
    except (row.DamagedRowError, ValueError, TypeError, AttributeError, OverflowError):
        return None


def is_page(page: bytes) -> bool:
    """Say whether a page begins as one of a tree."""
    return page[0] in _B_TREE
