# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""A real /dev/spidev0.0 with the virtual concentrator behind it: a character device in user space (CUSE).

Unmodified programs open it as they open the kernel's: permissions, udev, the sandbox of a service and the marshalling
of ioctl are real. Needs root and the module `cuse`; meant for a virtual machine, since the node is everybody's.

The kernel sends a request per read of /dev/cuse and takes an answer per write [linux/fuse.h, cuse.c]. An ioctl on
memory of the caller is asked again until all of it has come along: first the rows of a message, then their buffers.

Not modelled: speed and word size of the bus, modes other than 0, delays. udev sees the subsystem `cuse`, not `spidev`.
"""

from __future__ import annotations

import errno
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from drivers.emulator.kernel import Answering, opened, wait_for_node

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

DEVICE: Final = Path("/dev/cuse")
BUFFER_BYTES: Final = 4096
"""The most that spidev transfers in one message unless told otherwise [spidev.c, bufsiz]."""

_REQUEST: Final = struct.Struct("<IIQQIII4x")
_REPLY: Final = struct.Struct("<IiQ")
_INIT, _OPEN, _READ, _WRITE, _RELEASE, _FLUSH, _INTERRUPT, _IOCTL = 4096, 14, 15, 16, 18, 25, 36, 39
_UNRESTRICTED_IOCTL: Final = 1
_RETRY: Final = 4
_MAJOR, _MINOR = 7, 40
_TRANSFER_LIMIT_BYTES: Final = 1 << 17
_ASKED: Final = struct.Struct("<QIIQII")
_SIZED: Final = struct.Struct("<QQI")
_WRITE_HEAD_BYTES: Final = 40
_ROW: Final = struct.Struct("<QQIIHBB4x")
_SPI_MAGIC: Final = ord("k")
_MESSAGE: Final = 0
_READS: Final = 2
_SETTINGS: Final = {1: 1, 2: 1, 3: 1, 4: 4, 5: 4}
"""What spidev lets be read and set, and the bytes of each: mode, LSB first, word size, speed, mode in 32 bits."""

_READ_LIMIT_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class _Row:
    """One segment of a message: where it is read from and written to in the caller's memory; 0 for nothing."""

    tx_address: int
    rx_address: int
    length: int
    deselects: bool


class Spidev:
    """What the driver spidev does, as answers to the kernel's requests; without a device of its own.

    Args:
        name: of the node in /dev.
        transfer: exchanges what goes over the bus while the chip is selected.
    """

    def __init__(self, name: str, transfer: Callable[[bytes], bytes]) -> None:
        self._name = name
        self._transfer = transfer
        self._settings = {1: 0, 2: 0, 3: 8, 4: 500_000}

    def answer(self, request: bytes) -> bytes | None:
        """Return the answer to a request; None where none is wanted."""
        if len(request) < _REQUEST.size:
            return None
        _, operation, unique, *_ = _REQUEST.unpack_from(request)
        body = request[_REQUEST.size :]
        if operation == _INTERRUPT:
            return None
        try:
            data = self._carry_out(operation, body)
        except OSError as error:
            return _REPLY.pack(_REPLY.size, -(error.errno or errno.EIO), unique)
        except (struct.error, ValueError):
            return _REPLY.pack(_REPLY.size, -errno.EINVAL, unique)
        return _REPLY.pack(_REPLY.size + len(data), 0, unique) + data

    def _carry_out(self, operation: int, body: bytes) -> bytes:
        if operation == _INIT:
            name = f"DEVNAME={self._name}\0".encode()
            limit = _TRANSFER_LIMIT_BYTES
            return struct.pack("<8I40x", _MAJOR, _MINOR, 0, _UNRESTRICTED_IOCTL, limit, limit, 0, 0) + name
        if operation == _OPEN:
            return struct.pack("<QIi", 1, 0, 0)
        if operation in {_RELEASE, _FLUSH}:
            return b""
        if operation == _READ:
            _, _, size = _SIZED.unpack_from(body)
            return self._exchange(bytes(size))
        if operation == _WRITE:
            _, _, size = _SIZED.unpack_from(body)
            self._exchange(body[_WRITE_HEAD_BYTES : _WRITE_HEAD_BYTES + size])
            return struct.pack("<I4x", size)
        if operation == _IOCTL:
            return self._ioctl(body)
        raise OSError(errno.ENOSYS, "no such operation")

    def _ioctl(self, body: bytes) -> bytes:
        _, _, command, argument, given, wanted = _ASKED.unpack_from(body)
        data = body[_ASKED.size : _ASKED.size + given]
        number, magic, size, direction = command & 0xFF, command >> 8 & 0xFF, command >> 16 & 0x3FFF, command >> 30
        if magic != _SPI_MAGIC:
            raise OSError(errno.ENOTTY, "not of spidev")
        if number == _MESSAGE and direction != _READS:
            return self._message(argument, size, data, wanted)
        if _SETTINGS.get(number) != size:
            raise OSError(errno.ENOTTY, "no such setting")
        key = 1 if number == 5 else number
        if direction == _READS:
            if not wanted:
                return _retry([], [(argument, size)])
            return _done(0, self._settings[key].to_bytes(4, "little")[:size])
        if not given:
            return _retry([(argument, size)], [])
        self._settings[key] = int.from_bytes(data, "little")
        return _done(0, b"")

    def _message(self, argument: int, size: int, data: bytes, room: int) -> bytes:
        if not size or size % _ROW.size:
            raise OSError(errno.EINVAL, "no whole rows")
        if not data:
            return _retry([(argument, size)], [])
        rows = [_Row(tx, rx, length, bool(change)) for tx, rx, length, _, _, _, change in _ROW.iter_unpack(data[:size])]
        if sum(row.length for row in rows) > BUFFER_BYTES:
            raise OSError(errno.EMSGSIZE, "longer than spidev's buffer")
        sent = [(row.tx_address, row.length) for row in rows if row.tx_address and row.length]
        wanted = [(row.rx_address, row.length) for row in rows if row.rx_address and row.length]
        if len(data) != size + sum(length for _, length in sent) or room != sum(length for _, length in wanted):
            return _retry([(argument, size), *sent], wanted)
        return _done(sum(row.length for row in rows), self._run(rows, data[size:]))

    def _run(self, rows: Sequence[_Row], sent: bytes) -> bytes:
        """Exchange the rows, each time until the chip is deselected, and return what the caller wants to have."""
        answer, window, at = bytearray(), bytearray(), 0
        received = bytearray()
        for index, row in enumerate(rows):
            if row.tx_address:
                window += sent[at : at + row.length]
                at += row.length
            else:
                window += bytes(row.length)
            if row.deselects or index == len(rows) - 1:
                received += self._exchange(bytes(window))
                window.clear()
        at = 0
        for row in rows:
            if row.rx_address:
                answer += received[at : at + row.length]
            at += row.length
        return bytes(answer)

    def _exchange(self, frame: bytes) -> bytes:
        if len(frame) > BUFFER_BYTES:
            raise OSError(errno.EMSGSIZE, "longer than spidev's buffer")
        return self._transfer(frame) if frame else b""


def _retry(inputs: Sequence[tuple[int, int]], outputs: Sequence[tuple[int, int]]) -> bytes:
    """Ask the kernel to come again with memory of the caller: (address, length) to bring, and to take away."""
    where = b"".join(struct.pack("<QQ", *vector) for vector in (*inputs, *outputs))
    return struct.pack("<iIII", 0, _RETRY, len(inputs), len(outputs)) + where


def _done(result: int, data: bytes) -> bytes:
    return struct.pack("<iIII", result, 0, 0, 0) + data


class CuseSpi:
    """A spidev node that is there until it is closed.

    Args:
        name: of the node, e.g. "spidev0.0".
        transfer: exchanges one frame.

    Raises:
        BusError: the kernel has no CUSE, this user may not use it, or no node appears.
    """

    def __init__(self, name: str, transfer: Callable[[bytes], bytes]) -> None:
        file = opened(DEVICE, hint="this needs root and the kernel's module: modprobe cuse", code="CG-EMU-009")
        self._answering = Answering(file, _READ_LIMIT_BYTES, Spidev(name, transfer).answer, name=f"cuse-{name}")
        wait_for_node(Path("/dev"), name, "dmesg says why")

    def __enter__(self) -> CuseSpi:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Take the node away; who has it open gets errors."""
        self._answering.close()
