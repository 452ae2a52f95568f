# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Batches in files, as they are carried on a stick: one after the other as they travel, a CBOR sequence [RFC 8742]."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from agent.batch.model import MAX_WIRE_BYTES
from receiver.errors import EvidenceError

_BYTES = 2
_ARRAY = 4
_UNSIGNED = 0
_MEMBERS = 4


def read_batches(path: Path) -> Iterator[bytes]:
    """Give the batches of a file, one at a time, as bytes that `open_wire` reads.

    Raises:
        EvidenceError: CG-EVI-001, the file cannot be read; CG-EVI-002, from some place on it is no row of batches.
    """
    try:
        with path.open("rb") as file:
            while True:
                start = file.tell()
                wire = _item(file)
                if wire is None:
                    what = f"no batch at byte {start}"
                    hint = "the file was cut short or damaged; what stands before is good, export the rest again"
                    raise EvidenceError(what, where=str(path), hint=hint, code="CG-EVI-002")
                if not wire:
                    return
                yield wire
    except OSError as error:
        if isinstance(error, EvidenceError):
            raise
        what, hint = f"cannot be read: {error.strerror}", "check the path and its permissions"
        raise EvidenceError(what, where=str(path), hint=hint, code="CG-EVI-001") from error


def _item(file: BinaryIO) -> bytes | None:
    """Read one array of byte strings and integers; empty at the end of the file, None where there is no such thing."""
    item = file.read(1)
    if not item:
        return b""
    if item[0] != _ARRAY << 5 | _MEMBERS:
        return None
    for _ in range(_MEMBERS):
        head = file.read(1)
        if not head or head[0] >> 5 not in (_UNSIGNED, _BYTES) or head[0] & 0x1F > 27:
            return None
        extra = file.read((0, 1, 2, 4, 8)[max(0, (head[0] & 0x1F) - 23)])
        length = int.from_bytes(extra, "big") if extra else head[0] & 0x1F
        if head[0] >> 5 == _UNSIGNED:
            length = 0
        if len(item) + length > MAX_WIRE_BYTES:
            return None
        content = file.read(length)
        if len(content) != length:
            return None
        item += head + extra + content
    return item
