# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The part of CBOR that batches, receipts and refusals use, in its one deterministic encoding.

Allowed are unsigned and negative integers, byte strings, text strings, arrays and maps (major types 0 to 5) in core
deterministic encoding [RFC 8949 §4.2.1]: shortest heads, definite lengths, map keys in ascending bytewise order,
each once. Tags, floats and simple values are refused. `check` reads the bytes itself and knows the limits, so that
cbor2 sees only what is already known to be small and well formed.
"""

from __future__ import annotations

from typing import TypeAlias

import cbor2

from agent.batch.errors import MalformedError, UnwritableError

Item: TypeAlias = "int | bytes | str | list[Item] | dict[int | str, Item]"

MAX_DEPTH = 8
"""Arrays and maps within each other."""
MAX_ITEMS = 65536
"""Data items in one message, containers counted."""

_UINT, _NINT, _BYTES, _TEXT, _ARRAY, _MAP = range(6)
_ARGUMENT_BYTES = {24: 1, 25: 2, 26: 4, 27: 8}
_SMALLEST = {24: 24, 25: 1 << 8, 26: 1 << 16, 27: 1 << 32}


class _Scanner:
    """Walk over one message without building anything."""

    def __init__(self, data: bytes, where: str, max_items: int) -> None:
        self.data = data
        self.where = where
        self.budget = max_items

    def refuse(self, what: str, position: int) -> MalformedError:
        return MalformedError(f"{what} at byte {position}", where=self.where, code="CG-BAT-001")

    def head(self, position: int) -> tuple[int, int, int]:
        """Return major type, argument and position behind the head."""
        if position >= len(self.data):
            raise self.refuse("ends too early", position)
        major, info = divmod(self.data[position], 32)
        if major > _MAP:
            raise self.refuse("tag, float or simple value", position)
        if info < 24:
            return major, info, position + 1
        size = _ARGUMENT_BYTES.get(info)
        if size is None:
            raise self.refuse("indefinite or reserved length", position)
        end = position + 1 + size
        if end > len(self.data):
            raise self.refuse("ends too early", position)
        argument = int.from_bytes(self.data[position + 1 : end], "big")
        if argument < _SMALLEST[info]:
            raise self.refuse("integer not in its shortest form", position)
        return major, argument, end

    def item(self, position: int, depth: int) -> int:
        """Return the position behind the item that starts here."""
        self.budget -= 1
        if self.budget < 0:
            raise self.refuse("too many items", position)
        major, argument, end = self.head(position)
        if major in (_UINT, _NINT):
            return end
        if argument > len(self.data) - end:
            raise self.refuse("length beyond the end", position)
        if major == _BYTES:
            return end + argument
        if major == _TEXT:
            try:
                self.data[end : end + argument].decode()
            except UnicodeDecodeError:
                raise self.refuse("text that is not UTF-8", position) from None
            return end + argument
        if depth == 0:
            raise self.refuse("nested too deeply", position)
        if major == _ARRAY:
            for _ in range(argument):
                end = self.item(end, depth - 1)
            return end
        previous = b""
        for _ in range(argument):
            start = end
            end = self.item(start, 0)
            if self.data[start] >> 5 == _BYTES:
                raise self.refuse("map key that is neither integer nor text", start)
            key = self.data[start:end]
            if key <= previous:
                raise self.refuse("map keys out of order or repeated", start)
            previous = key
            end = self.item(end, depth - 1)
        return end


def check(data: bytes, *, where: str, max_bytes: int, max_items: int = MAX_ITEMS) -> None:
    """Check that bytes are exactly one item of the allowed kind in deterministic encoding.

    Args:
        data: the message.
        where: what the error names, e.g. "batch".
        max_bytes: the longest message that is looked at.
        max_items: most data items.

    Raises:
        MalformedError: CG-BAT-001, with the position of the first fault.
    """
    if len(data) > max_bytes:
        raise MalformedError(f"{len(data)} bytes, at most {max_bytes}", where=where, code="CG-BAT-001")
    scanner = _Scanner(data, where, max_items)
    end = scanner.item(0, MAX_DEPTH)
    if end != len(data):
        raise scanner.refuse("more bytes behind the message", end)


def decode(data: bytes, *, where: str, max_bytes: int, max_items: int = MAX_ITEMS) -> Item:
    """Decode one message after `check` has passed it.

    Raises:
        MalformedError: see `check`.
    """
    check(data, where=where, max_bytes=max_bytes, max_items=max_items)
    item: Item = cbor2.loads(data)
    return item


def encode(item: Item, *, where: str, max_bytes: int, max_items: int = MAX_ITEMS) -> bytes:
    """Encode one message; what comes out passes `check` with the same limits.

    cbor2 sorts map keys by length first [RFC 7049 §3.9]. For maps whose keys are all text, or all integers of one byte,
    that is the order of [RFC 8949 §4.2.1] as well; for any other map the check below says so.

    Raises:
        UnwritableError: the item is too large or of a kind that is not allowed.
    """
    data = cbor2.dumps(item, canonical=True)
    try:
        check(data, where=where, max_bytes=max_bytes, max_items=max_items)
    except MalformedError as error:
        raise UnwritableError(error.what, where=where) from error
    return data
