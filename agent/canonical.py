# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""JSON in its one canonical form [RFC 8785], for what is signed and must be read by people and programs alike.

Names in the order of their UTF-16 code units, no white space, numbers as ECMAScript writes them, text with only the
escapes that JSON demands. Not of this form, and refused: numbers that a double cannot hold exactly as an integer or at
all, and text that is not Unicode.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Final

Json = Mapping[str, "Json"] | Sequence["Json"] | str | int | float | bool | None

MAX_INTEGER: Final = 1 << 53
_FIXED_DIGITS: Final = 21
_SMALLEST_FIXED: Final = -6


def encode(value: object) -> bytes:
    """Return the canonical form of a JSON value.

    Raises:
        ValueError: no JSON value, a number out of range, or text that is not Unicode.
    """
    return _text(value).encode("utf-8")


def decode(data: bytes) -> object:
    """Read JSON of any form, but of one meaning: each name once, and only numbers that there are.

    Raises:
        ValueError: it is not.
    """
    try:
        return json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_once,
            parse_constant=_no_number,
            parse_int=_double,
            parse_float=_double,
        )
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _text(value: object) -> str:
    match value:
        case None | bool():
            return json.dumps(value)
        case int():
            if abs(value) > MAX_INTEGER:
                raise ValueError(f"{str(value)[:40]}: beyond the integers that every reader of JSON knows")
            return str(value)
        case float():
            return number(value)
        case str():
            return json.dumps(value, ensure_ascii=False)
        case Mapping():
            if not all(isinstance(name, str) for name in value):
                raise ValueError("a name that is no text")
            names = sorted(value, key=lambda name: name.encode("utf-16-be"))
            return "{" + ",".join(f"{_text(name)}:{_text(value[name])}" for name in names) + "}"
        case list() | tuple():
            return "[" + ",".join(map(_text, value)) + "]"
        case _:
            raise ValueError(f"{type(value).__name__}: JSON has none")


def number(value: float) -> str:
    """Write a number as ECMAScript does [ECMA-262, Number::toString].

    Raises:
        ValueError: infinite, or not a number.
    """
    if not math.isfinite(value):
        raise ValueError(f"{value}: JSON has no such number")
    if value == 0:
        return "0"
    sign = "-" if value < 0 else ""
    # repr gives the shortest digits that lead back to the same double, as ECMAScript wants them
    mantissa, _, exponent = f"{abs(value)!r}".partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    point = len(whole.lstrip("0")) or len(digits) - len(fraction)
    point += int(exponent or 0)
    digits = digits.rstrip("0")
    if len(digits) <= point <= _FIXED_DIGITS:
        return sign + digits + "0" * (point - len(digits))
    if 0 < point <= _FIXED_DIGITS:
        return f"{sign}{digits[:point]}.{digits[point:]}"
    if _SMALLEST_FIXED < point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    head, tail = digits[0], digits[1:]
    return f"{sign}{head}{'.' + tail if tail else ''}e{point - 1:+d}"


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice in one object")
    return found


def _double(text: str) -> int | float:
    """Read a number as what all readers take it for, a double; an integer where it is exactly one."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:40]}: beyond what a double holds")
    whole = "." not in text and "e" not in text.lower()
    return int(text) if whole and abs(value) < MAX_INTEGER else value


def _no_number(text: str) -> object:
    raise ValueError(f"{text}: JSON has no such number")
