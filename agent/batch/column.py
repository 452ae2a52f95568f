# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""A column: many integers of one field, in as few bits as their range needs.

Equal integers are written as that one integer. Others become `[base, step, width, bits]`: each value is
`base + step * code`, each code has `width` bits, and the bits lie in planes: first the highest bit of every code, then
the next one of every code. Bits are filled from the most significant of each byte; what is left of the last byte is
zero. The planes matter to the compression that follows: high bits of codes resemble each other more than codes do.

A column with values that may be missing (None) gives code 0 to them, and `base + step * (code - 1)` to the others; when
all are missing the column is left out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from agent.batch.cbor import Item
from agent.batch.fields import bad_field

MAX_WIDTH = 56
"""Bits of a code: a difference of differences of numbers up to 2^53."""


def pack(values: Sequence[int]) -> Item:
    """Write a column.

    Args:
        values: at least one.
    """
    base, top = min(values), max(values)
    if base == top:
        return base
    codes = [value - base for value in values]
    step = math.gcd(*codes)
    if step > 1:
        codes = [code // step for code in codes]
    return _planes(base, step, codes)


def pack_optional(values: Sequence[int | None]) -> Item | None:
    """Write a column with values that may be missing; None when all are."""
    present = [value for value in values if value is not None]
    if len(present) == len(values):
        base, top = min(present), max(present)
        if base == top:
            return base
        step = math.gcd(*[value - base for value in present])
        return _planes(base, step, [(value - base) // step + 1 for value in present])
    if not present:
        return None
    base = min(present)
    step = math.gcd(*[value - base for value in present]) or 1
    return _planes(base, step, [0 if value is None else (value - base) // step + 1 for value in values])


def unpack(item: Item | None, count: int, low: int, high: int, *, where: str) -> list[int]:
    """Read a column of `count` values, all from `low` to `high`.

    Raises:
        MalformedError: CG-BAT-011.
    """
    if isinstance(item, int):
        values = [item] * count
        bottom = top = item
    else:
        base, step, codes = _codes(item, count, where)
        values = [base + step * code for code in codes]
        bottom, top = min(values), max(values)
    if bottom < low or top > high:
        raise bad_field(f"value outside {low} to {high}", where)
    return values


def unpack_optional(item: Item | None, count: int, low: int, high: int, *, where: str) -> list[int | None]:
    """Read a column of `count` values from `low` to `high`, each of which may be missing.

    Raises:
        MalformedError: CG-BAT-011.
    """
    if item is None:
        return [None] * count
    if isinstance(item, int):
        return list(unpack(item, count, low, high, where=where))
    base, step, codes = _codes(item, count, where)
    top = max(codes)
    if base < low or (top and base + step * (top - 1) > high):
        raise bad_field(f"value outside {low} to {high}", where)
    base -= step
    return [base + step * code if code else None for code in codes]


def _planes(base: int, step: int, codes: list[int]) -> Item:
    width = max(codes).bit_length()
    form = f"0{width}b"
    rows = "".join([format(code, form) for code in codes])
    planes = "".join([rows[plane::width] for plane in range(width)])
    size = (len(planes) + 7) // 8
    return [base, step, width, int(planes.ljust(size * 8, "0"), 2).to_bytes(size, "big")]


def _codes(item: Item | None, count: int, where: str) -> tuple[int, int, list[int]]:
    match item:
        case [int(base), int(step), int(width), bytes(raw)]:
            pass
        case _:
            raise bad_field("neither an integer nor [base, step, width, bits]", where)
    if step < 1 or not 1 <= width <= MAX_WIDTH:
        raise bad_field(f"step {step}, width {width}: step from 1, width 1 to {MAX_WIDTH}", where)
    used = count * width
    if len(raw) != (used + 7) // 8:
        raise bad_field(f"{len(raw)} bytes for {count} codes of {width} bits", where)
    planes = format(int.from_bytes(raw, "big"), f"0{len(raw) * 8}b")
    if "1" in planes[used:]:
        raise bad_field("bits set behind the last code", where)
    planes = planes[:used]
    return base, step, [int(planes[index::count], 2) for index in range(count)]
