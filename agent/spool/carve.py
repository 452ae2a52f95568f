# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Rows of table frame found by their own look in a page, whatever the page says of itself.

A record begins with the length of its header, and the first column of a frame, being the key, is NULL in it; its key
stands right before [SQLite database file format, 2.1 record format, 2.3.1 table b-tree leaf cell]. So neither the type
of the page nor its number of cells, its cell pointers or the way to it through the tree are needed, and a page that was
freed can be read as well. Whether what is found is a row that was written, its checksum tells; whether it is still
wanted, the caller knows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from agent.spool.row import COLUMNS
from agent.spool.store import PAGE_BYTES

LEAF = 0x0D
"""First byte of a page with rows of a table."""
WIDTH = COLUMNS.count(",") + 1
_HEADER_BYTES = range(WIDTH + 1, WIDTH + 5)
"""One byte for itself and for each column; payload and note may need another one or two."""
_RECORD = re.compile(b"[%b]\x00" % bytes(_HEADER_BYTES))
_INTEGER_BYTES = (0, 1, 2, 3, 4, 6, 8)
"""By serial type."""
_FLOAT, _ZERO, _ONE, _BLOB = 7, 8, 9, 12
KEY_BYTES = 8
"""The longest key as a varint, 56 bits."""
_MOST_LOCAL = PAGE_BYTES - 35
_LEAST_LOCAL = (PAGE_BYTES - 12) * 32 // 255 - 23

Found = tuple[int, int]
"""A possible row: its key, and where its record begins in the page."""


def find(page: bytes) -> Iterator[Found]:
    """Yield what could be rows of table frame in a page."""
    for match in _RECORD.finditer(page):
        at = match.start()
        if at < 2 or page[at - 1] & 0x80:
            continue
        key, shift = page[at - 1], 7
        # all bytes of a varint but its last have the top bit
        for place in range(at - 2, max(at - 1 - KEY_BYTES, -1), -1):
            if not page[place] & 0x80:
                break
            key |= (page[place] & 0x7F) << shift
            shift += 7
        yield key, at


def read(page: bytes, found: Found, page_at: Callable[[int], bytes | None]) -> tuple[Any, ...] | None:
    """Return the columns of a possible row; None when they cannot be such. They have yet to be verified.

    Args:
        page: where it was found.
        found: of `find`.
        page_at: reads a page by its number, for a record that does not fit into one; None where there is none.
    """
    key, at = found
    end = at + page[at]
    if end > len(page):
        return None
    types, place = [], at + 1
    while place < end:
        kind, place = varint(page, place)
        types.append(kind)
    if place != end or len(types) < WIDTH:
        return None
    sizes = [_size(kind) for kind in types]
    record = _whole(page, at, page[at] + sum(sizes), page_at)
    if record is None:
        return None
    values: list[Any] = []
    place = page[at]
    for kind, size in zip(types[:WIDTH], sizes, strict=False):
        data = record[place : place + size]
        place += size
        if kind >= _BLOB:
            if kind & 1:
                return None  # text: no column of ours
            values.append(data)
        elif kind in (_ZERO, _ONE):
            values.append(kind - _ZERO)
        elif kind:
            values.append(int.from_bytes(data, "big", signed=True))
        else:
            values.append(None)
    values[0] = key
    return tuple(values)


def varint(data: bytes, at: int) -> tuple[int, int]:
    """Return the variable-length integer at a place, and the place behind it; 0 where the data end."""
    value = 0
    for place in range(at, min(at + 9, len(data))):
        byte = data[place]
        if place == at + 8:
            return value << 8 | byte, place + 1
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, place + 1
    return 0, len(data) + 1


def _size(kind: int) -> int:
    if kind >= _BLOB:
        return (kind - _BLOB) // 2
    return _INTEGER_BYTES[kind] if kind < len(_INTEGER_BYTES) else 8 if kind == _FLOAT else 0


def _whole(page: bytes, at: int, size: int, page_at: Callable[[int], bytes | None]) -> bytes | None:
    """Return the bytes of a record, gathered from overflow pages where it has such."""
    if size <= _MOST_LOCAL:
        return page[at : at + size] if at + size <= len(page) else None
    local = _LEAST_LOCAL + (size - _LEAST_LOCAL) % (PAGE_BYTES - 4)
    if local > _MOST_LOCAL:
        local = _LEAST_LOCAL
    if size > 16 * PAGE_BYTES or at + local + 4 > len(page):
        return None
    record = page[at : at + local]
    following = int.from_bytes(page[at + local : at + local + 4], "big")
    while len(record) < size:
        more = page_at(following)
        if more is None:
            return None
        following = int.from_bytes(more[:4], "big")
        record += more[4 : 4 + size - len(record)]
    return record
