# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What a signed message says first: its kind, so that one kind is never taken for another, and its version."""

from __future__ import annotations

from enum import IntEnum

from agent.batch import cbor
from agent.batch.errors import MalformedError, UnsupportedVersionError
from agent.batch.model import FORMAT_VERSION

MAX_PAYLOAD_BYTES = 32768


class Kind(IntEnum):
    """First element of every signed payload."""

    BATCH = 1
    RECEIPT = 2
    REFUSAL = 3
    SUCCESSION = 4


def payload_of(payload: bytes, *, where: str, kind: Kind | None = None) -> list[cbor.Item]:
    """Read a signed payload.

    Args:
        payload: the bytes that are signed.
        where: what errors name.
        kind: what it must be, in the version that is read here; None for anything.

    Raises:
        MalformedError: CG-BAT-001 for the encoding, CG-BAT-006 for another kind.
        UnsupportedVersionError: CG-BAT-007.
    """
    item = cbor.decode(payload, where=where, max_bytes=MAX_PAYLOAD_BYTES)
    if not isinstance(item, list):
        raise MalformedError("payload is not an array", where=where, code="CG-BAT-006")
    if kind is None:
        return item
    match item:
        case [int(found), int(version), *_] if found == kind:
            if version != FORMAT_VERSION:
                raise UnsupportedVersionError(
                    f"version {version}, this program reads {FORMAT_VERSION}", where=where, code="CG-BAT-007"
                )
            return item
        case _:
            raise MalformedError(f"not a {kind.name.lower()}", where=where, code="CG-BAT-006")
