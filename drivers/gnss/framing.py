# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""NMEA sentences and UBX frames out of a stream of bytes, whatever lies between them.

A beginning that leads to nothing costs its own first bytes and never what follows: noise that looks like the header of
a long frame does not swallow the sentence behind it. Only frames with a right checksum come out.
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass
from enum import Enum
from functools import reduce
from operator import xor
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

SENTENCE_LIMIT_BYTES: Final = 256
"""The standard says 82; receivers of several systems, and their makers' own sentences, are longer."""
UBX_PAYLOAD_LIMIT_BYTES: Final = 1024
"""Longer frames exist (raw measurements); nobody here wants them."""
UBX_SYNC: Final = b"\xb5\x62"
_UBX_HEAD_BYTES: Final = 6
_UBX_AROUND_BYTES: Final = 8
_CHUNKS_LIMIT: Final = 4096

_START = re.compile(rb"\$|\xb5\x62|\xb5\Z")
# Printable, without the reserved $ and *, and the checksum behind it; the end of the line is not waited for.
_SENTENCE = re.compile(rb"\$([ -#%%-)+-~]{5,%d})\*([0-9A-Fa-f]{2})" % SENTENCE_LIMIT_BYTES)
_SENTENCE_BEGUN = re.compile(rb"\$[ -#%%-)+-~]{0,%d}(?:\*[0-9A-Fa-f]?)?\Z" % SENTENCE_LIMIT_BYTES)


class Protocol(Enum):
    """The language of a frame."""

    NMEA = "nmea"
    UBX = "ubx"


@dataclass(frozen=True, slots=True)
class Frame:
    """A sentence or message whose checksum is right.

    Attributes:
        protocol: its language.
        data: all of it: from `$` to the checksum, without the line's end; or from the first sync byte to the checksum.
        before_ns: CLOCK_MONOTONIC at which its first byte was not there yet.
        after_ns: CLOCK_MONOTONIC at which its first byte was there.
    """

    protocol: Protocol
    data: bytes
    before_ns: int
    after_ns: int


class Splitter:
    """Finds frames in what a port reads.

    Attributes:
        noise_bytes: that belonged to no frame; line ends count as such.
        damaged: frames with a wrong checksum.
    """

    def __init__(self) -> None:
        self.noise_bytes = 0
        self.damaged = 0
        self._buffer = bytearray()
        self._position = 0
        """Of the buffer's first byte, in the stream."""
        self._judged = 0
        """Up to here damaged frames are counted."""
        self._chunks: deque[tuple[int, int, int]] = deque(maxlen=_CHUNKS_LIMIT)
        """End in the stream, before, after."""

    def clear(self) -> None:
        """Forget what has begun: the stream was interrupted."""
        self.noise_bytes += len(self._buffer)
        self._position += len(self._buffer)
        self._buffer.clear()
        self._chunks.clear()

    def feed(self, data: bytes, before_ns: int, after_ns: int) -> list[Frame]:
        """Take the next bytes and return the frames that they complete.

        Args:
            data: any number of bytes.
            before_ns: CLOCK_MONOTONIC at which none of them was there yet.
            after_ns: CLOCK_MONOTONIC at which all of them were.
        """
        self._buffer += data
        self._chunks.append((self._position + len(self._buffer), before_ns, after_ns))
        frames = []
        kept, at, pending = 0, 0, None
        while (found := _START.search(self._buffer, at)) is not None:
            start = found.start()
            protocol, size = _measure(self._buffer, start)
            at = start + 1
            if size > 0:
                frames.append(self._frame(protocol, start, size))
                at, pending = start + size, None
                kept += size
            elif size == _INCOMPLETE:
                pending = start if pending is None else pending
            elif size == _DAMAGED and self._position + start >= self._judged:
                self._judged = self._position + start + 1
                self.damaged += 1
        end = len(self._buffer) if pending is None else pending
        self.noise_bytes += end - kept
        del self._buffer[:end]
        self._position += end
        while self._chunks and self._chunks[0][0] <= self._position:
            self._chunks.popleft()
        return frames

    def _frame(self, protocol: Protocol, start: int, size: int) -> Frame:
        at = self._position + start
        before_ns, after_ns = next((before, after) for end, before, after in self._chunks if end > at)
        return Frame(protocol, bytes(self._buffer[start : start + size]), before_ns, after_ns)


_INCOMPLETE: Final = 0
_DAMAGED: Final = -1
_NOTHING: Final = -2


def _measure(buffer: bytearray, start: int) -> tuple[Protocol, int]:
    """Return the size of the frame that begins here, or what is wrong with it."""
    if buffer[start] == UBX_SYNC[0]:
        return Protocol.UBX, _measure_ubx(buffer, start)
    sentence = _SENTENCE.match(buffer, start)
    if sentence is not None:
        right = reduce(xor, sentence[1]) == int(sentence[2], 16)
        return Protocol.NMEA, len(sentence[0]) if right else _DAMAGED
    return Protocol.NMEA, _INCOMPLETE if _SENTENCE_BEGUN.match(buffer, start) else _NOTHING


def _measure_ubx(buffer: bytearray, start: int) -> int:
    if len(buffer) - start < _UBX_HEAD_BYTES:
        return _INCOMPLETE
    payload_bytes = int.from_bytes(buffer[start + 4 : start + 6], "little")
    if payload_bytes > UBX_PAYLOAD_LIMIT_BYTES:
        return _NOTHING
    size = payload_bytes + _UBX_AROUND_BYTES
    if len(buffer) - start < size:
        return _INCOMPLETE
    sums = ubx_checksum(buffer[start + 2 : start + size - 2])
    return size if sums == buffer[start + size - 2 : start + size] else _DAMAGED


def ubx_checksum(body: bytes | bytearray) -> bytes:
    """Return the two sums over class, id, length and payload [u-blox interface description, UBX checksum]."""
    return bytes(_sums(body))


def _sums(body: bytes | bytearray) -> Iterator[int]:
    first = second = 0
    for byte in body:
        first += byte
        second += first
    yield first & 0xFF
    yield second & 0xFF
