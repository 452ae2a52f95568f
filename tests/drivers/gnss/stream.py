# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Bytes as a receiver sends them."""

from __future__ import annotations

from functools import reduce
from operator import xor

from drivers.gnss.framing import Frame, Splitter


def sentence(body: str) -> bytes:
    """Return a sentence with its checksum."""
    return b"$%b*%02X" % (body.encode(), reduce(xor, body.encode(), 0))


def split(data: bytes, piece: int) -> list[Frame]:
    """Return the frames in bytes that come piece by piece."""
    splitter = Splitter()
    frames = []
    for number, at in enumerate(range(0, len(data), piece)):
        frames += splitter.feed(data[at : at + piece], number, number + 1)
    return frames
