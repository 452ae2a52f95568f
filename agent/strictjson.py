# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""JSON as RFC 8259 has it: what is no finite number is null, where it is read and where it is written."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

DEEPEST: Final = 64
"""Arrays and objects within each other; more than anything of ours has, and fewer than a program can recurse into."""


def loads(data: str | bytes) -> Any:
    """Read JSON; NaN, Infinity and what is too large for a float are None.

    Raises:
        ValueError: it is none, or nested deeper than DEEPEST.
    """
    try:
        said = json.loads(data, parse_constant=lambda _: None, parse_float=_finite)
    except RecursionError as error:
        raise ValueError("nested too deep") from error
    level, depth = [said], 0
    while level:
        if depth > DEEPEST:
            raise ValueError("nested too deep")
        level = [item for one in level for item in _items(one)]
        depth += 1
    return said


def dumps(
    said: object,
    *,
    default: Callable[[object], object] | None = None,
    ensure_ascii: bool = True,
    separators: tuple[str, str] | None = None,
) -> str:
    """Write JSON; what is no finite number is null.

    Raises:
        TypeError: JSON has no form for something in it.
        ValueError: the same.
    """
    try:
        return json.dumps(said, default=default, ensure_ascii=ensure_ascii, separators=separators, allow_nan=False)
    except ValueError:
        plain = json.loads(json.dumps(said, default=default), parse_constant=lambda _: None)
        return json.dumps(plain, ensure_ascii=ensure_ascii, separators=separators, allow_nan=False)


def _finite(text: str) -> float | None:
    number = float(text)
    return number if math.isfinite(number) else None


def _items(one: object) -> list[Any]:
    match one:
        case dict():
            return list(one.values())
        case list():
            return one
    return []
