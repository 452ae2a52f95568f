# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Checks of single members of a body, on the way in and on the way out."""

from __future__ import annotations

from collections.abc import Collection

from agent.batch.cbor import Item
from agent.batch.errors import MalformedError, UnwritableError
from agent.batch.model import MAX_NUMBER

FIRST_OPTIONAL = 32
"""Members of body and frames from this number on may be ignored by a reader that does not know them."""


def bad_field(what: str, where: str) -> MalformedError:
    """Make the error for a member that cannot be read."""
    return MalformedError(what, where=f"batch body: {where}", code="CG-BAT-011")


def unwritable(what: str) -> UnwritableError:
    """Make the error for a value that the body has no place for."""
    return UnwritableError(what, where="batch body")


def natural(value: int, name: str) -> int:
    """Return a count or time that is to be written, if it is from 0 to 2^53 - 1."""
    if not 0 <= value <= MAX_NUMBER:
        raise unwritable(f"{name} {value}, must be 0 to {MAX_NUMBER}")
    return int(value)


def members_of(item: Item, last_known: int, where: str, known: Collection[int] = ()) -> dict[int, Item]:
    """Read a map with numbered members; those that may be ignored are left out, but for the `known` ones."""
    if not isinstance(item, dict):
        raise bad_field("not a map", where)
    members: dict[int, Item] = {}
    for key, value in item.items():
        if not isinstance(key, int) or key < 0 or last_known < key < FIRST_OPTIONAL:
            raise bad_field(f"member {key!r} is not known", where)
        if key <= last_known or key in known:
            members[key] = value
    return members


def number(item: Item | None, high: int, where: str) -> int:
    """Read an integer from 0 to `high`."""
    if not isinstance(item, int) or not 0 <= item <= high:
        raise bad_field(f"not an integer from 0 to {high}", where)
    return item


def member(item: Item | None, known: Collection[int], where: str) -> int:
    """Read one of a set of numbers."""
    if not isinstance(item, int) or item not in known:
        raise bad_field(f"not one of {sorted(known)}", where)
    return item


def byte_string(item: Item | None, size: int, where: str) -> bytes:
    """Read a byte string of a given size."""
    if not isinstance(item, bytes) or len(item) != size:
        raise bad_field(f"not a byte string of {size} bytes", where)
    return item


def sequence(item: Item | None, limit: int, where: str) -> list[Item]:
    """Read an array with at most `limit` elements."""
    if not isinstance(item, list) or len(item) > limit:
        raise bad_field(f"not an array of at most {limit}", where)
    return item
