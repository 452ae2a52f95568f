# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The messages between the virtual concentrator's process and whoever uses its bus from another one.

A connection on the Unix stream socket is one opener of the device. Each message and each answer is a header of eight
bytes, little-endian, and a body:

    byte 0     operation; in an answer with bit 7 set; 0xFF is a refusal whose body says why, in UTF-8
    byte 1     what it is for: a chip select, a wire, a GPIO line, an I2C address; in an answer 0, or the number of the
               error that the kernel would have given (and then no body)
    bytes 2-3  number of items in the body
    bytes 4-7  length of the body, at most 4 MiB

    operation          body                                            body of the answer
    0x01 transfer      SPI frames, each behind its length in two bytes the same
    0x02 set wire      level, one byte
    0x03 set line      level, one byte
    0x04 get line                                                      level, one byte
    0x05 I2C           messages: 0 or 1 (read), length in two bytes,   what was read, each behind its length
                       and if it is written the data

What breaks the rules is refused and the connection closed; the chip does not notice.
"""

from __future__ import annotations

import errno
import struct
from enum import IntEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

HEADER: Final = struct.Struct("<BBHI")
ANSWER: Final = 0x80
REFUSED: Final = 0xFF
BODY_LIMIT_BYTES: Final = 4 << 20
ITEM_LIMIT: Final = 4096

_LENGTH: Final = struct.Struct("<H")


class Operation(IntEnum):
    """What is asked."""

    TRANSFER = 0x01
    SET_WIRE = 0x02
    SET_LINE = 0x03
    GET_LINE = 0x04
    I2C = 0x05


class Wire(IntEnum):
    """Wires besides the bus."""

    RESET = 0
    POWER = 1


class WireError(Exception):
    """What came does not follow the rules; the text says how."""


def pack_frames(frames: Sequence[bytes]) -> bytes:
    """Return the body of a transfer."""
    if len(frames) == 1:
        return _LENGTH.pack(len(frames[0])) + frames[0]
    parts: list[bytes] = []
    for frame in frames:
        parts += (_LENGTH.pack(len(frame)), frame)
    return b"".join(parts)


def unpack_frames(body: bytes, count: int) -> list[bytes]:
    """Return the frames of a transfer.

    Raises:
        WireError: the body is not `count` frames long.
    """
    frames: list[bytes] = []
    at = 0
    for _ in range(count):
        if at + 2 > len(body):
            raise WireError("body ends within a frame")
        end = at + 2 + (body[at] | body[at + 1] << 8)
        if end > len(body):
            raise WireError("body ends within a frame")
        frames.append(body[at + 2 : end])
        at = end
    if at != len(body):
        raise WireError(f"{len(body) - at} bytes behind the last frame")
    return frames


def unpack_i2c(body: bytes, count: int) -> list[bytes | int]:
    """Return the messages of an I2C transaction: data to write, or a number of bytes to read.

    Raises:
        WireError: the body is not `count` messages long.
    """
    messages: list[bytes | int] = []
    at = 0
    for _ in range(count):
        if at + 3 > len(body):
            raise WireError("body ends within a message")
        length = body[at + 1] | body[at + 2] << 8
        at += 3
        if body[at - 3]:
            messages.append(length)
            continue
        if at + length > len(body):
            raise WireError("body ends within a message")
        messages.append(body[at : at + length])
        at += length
    if at != len(body):
        raise WireError(f"{len(body) - at} bytes behind the last message")
    return messages


def message(operation: int, item: int, count: int, body: bytes) -> bytes:
    """Return a whole message or answer."""
    return HEADER.pack(operation, item, count, len(body)) + body


def failure(operation: int, error: OSError) -> bytes:
    """Return the answer that reports an error of the device."""
    return message(operation | ANSWER, error.errno or errno.EIO, 0, b"")


def receive(connection: socket.socket) -> tuple[int, int, int, bytes] | None:
    """Read one message; None when the peer has closed between messages.

    Raises:
        WireError: the length is beyond the limit, or the peer went away in the middle.
    """
    data = connection.recv(65536)
    if not data:
        return None
    while len(data) < HEADER.size:
        data += _more(connection, HEADER.size - len(data))
    operation, item, count, length = HEADER.unpack_from(data)
    if length > BODY_LIMIT_BYTES:
        raise WireError(f"body of {length} bytes: limit {BODY_LIMIT_BYTES}")
    missing = HEADER.size + length - len(data)
    if missing < 0:
        raise WireError("a second message before the answer to the first")
    if missing:
        parts = [data]
        while missing:
            more = _more(connection, missing)
            parts.append(more)
            missing -= len(more)
        data = b"".join(parts)
    return operation, item, count, data[HEADER.size :]


def _more(connection: socket.socket, length: int) -> bytes:
    data = connection.recv(min(length, 1 << 18))
    if not data:
        raise WireError("the peer went away in the middle of a message")
    return data
