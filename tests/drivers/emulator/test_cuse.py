# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The answers behind a CUSE node, against the kernel's side of the conversation played here [fs/fuse/ioctl.c]."""

from __future__ import annotations

import errno
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.emulator import Emulator
from drivers.emulator.cuse import BUFFER_BYTES, Spidev

VERSION_REGISTER = bytes((0, 0x56, 0x06, 0, 0))
_HEADER = "<IIQQIII4x"
_READ, _WRITE = 2, 1


class Kernel:
    """The kernel between a program and the driver: brings and takes away memory of the program as it is asked to."""

    def __init__(self, spidev: Spidev) -> None:
        self.spidev = spidev
        self.memory: dict[int, bytearray] = {}
        self.rounds = 0

    def request(self, operation: int, body: bytes) -> tuple[int, bytes]:
        answer = self.spidev.answer(struct.pack(_HEADER, 40 + len(body), operation, 77, 0, 0, 0, 0) + body)
        assert answer is not None
        length, error, unique = struct.unpack_from("<IiQ", answer)
        assert (length, unique) == (len(answer), 77)
        return error, answer[16:]

    def ioctl(self, number: int, size: int, direction: int, argument: int) -> int:
        command = direction << 30 | size << 16 | ord("k") << 8 | number
        given, room = b"", 0
        places: list[tuple[int, int]] = []
        for _ in range(4):
            self.rounds += 1
            asked = struct.pack("<QIIQII", 1, 0, command, argument, len(given), room)
            error, answer = self.request(39, asked + given)
            if error:
                return error
            result, flags, inputs, outputs = struct.unpack_from("<iIII", answer)
            data = answer[16:]
            if not flags & 4:
                assert len(data) <= room
                for address, length in places:
                    self.memory[address][:length], data = data[:length], data[length:]
                return int(result)
            vectors = list(struct.iter_unpack("<QQ", data))
            assert len(vectors) == inputs + outputs
            given = b"".join(bytes(self.memory[address][:length]) for address, length in vectors[:inputs])
            places = vectors[inputs:]
            room = sum(length for _, length in places)
        raise AssertionError("asked for the same again and again")

    def message(self, *rows: tuple[bytes | None, bool, int, bool]) -> tuple[int, list[bytes]]:
        """Exchange rows of (what is sent or None, whether the answer is wanted, length, whether it deselects)."""
        packed = b""
        for index, (sent, wanted, length, deselects) in enumerate(rows):
            tx, rx = 0x1000 * (index + 1), 0x1000 * (index + 1) + 0x800000
            self.memory[tx], self.memory[rx] = bytearray(sent or b""), bytearray(length)
            packed += struct.pack("<QQIIHBB4x", tx * (sent is not None), rx * wanted, length, 0, 0, 8, deselects)
        self.memory[1] = bytearray(packed)
        result = self.ioctl(0, len(packed), _WRITE, 1)
        return result, [bytes(self.memory[0x1000 * (index + 1) + 0x800000]) for index in range(len(rows))]


@pytest.fixture
def kernel() -> Kernel:
    emulator = Emulator()
    return Kernel(Spidev("spidev0.0", emulator.transfer))


def test_it_introduces_itself_as_a_node_of_that_name(kernel: Kernel) -> None:
    error, answer = kernel.request(4096, bytes(16))
    assert error == 0
    assert struct.unpack_from("<II", answer) == (7, 40)
    assert answer[72:] == b"DEVNAME=spidev0.0\0"


def test_a_transfer_in_both_directions_reads_the_version_of_the_chip(kernel: Kernel) -> None:
    result, answers = kernel.message((VERSION_REGISTER, True, 5, False))
    assert result == 5
    assert answers[0][4] == 0x10
    assert kernel.rounds == 3, "rows, then buffers, then the transfer"


def test_rows_under_one_chip_select_are_one_frame_as_the_vendors_software_sends_them(kernel: Kernel) -> None:
    result, answers = kernel.message((VERSION_REGISTER[:4], False, 4, False), (None, True, 1, False))
    assert result == 5
    assert answers[1] == b"\x10"


def test_a_row_that_deselects_ends_the_frame(kernel: Kernel) -> None:
    frame = (VERSION_REGISTER, True, 5, True)
    result, answers = kernel.message(frame, frame)
    assert result == 10
    assert [answer[4] for answer in answers] == [0x10, 0x10]


def test_settings_are_kept_and_told(kernel: Kernel) -> None:
    kernel.memory[9] = bytearray(struct.pack("<I", 2_000_000))
    assert kernel.ioctl(4, 4, _WRITE, 9) == 0
    kernel.memory[9] = bytearray(4)
    assert kernel.ioctl(4, 4, _READ, 9) == 0
    assert struct.unpack("<I", kernel.memory[9]) == (2_000_000,)
    assert kernel.ioctl(3, 1, _READ, 9) == 0
    assert kernel.memory[9][0] == 8


def test_a_message_beyond_the_buffer_is_refused_as_by_spidev(kernel: Kernel) -> None:
    result, _ = kernel.message((bytes(BUFFER_BYTES + 1), True, BUFFER_BYTES + 1, False))
    assert result == -errno.EMSGSIZE


def test_a_bus_that_fails_gives_the_error_of_the_kernel() -> None:
    emulator = Emulator()
    emulator.fault("bus_error")
    result, _ = Kernel(Spidev("spidev0.0", emulator.transfer)).message((VERSION_REGISTER, True, 5, False))
    assert result == -errno.EIO


def test_what_is_not_of_spidev_is_refused(kernel: Kernel) -> None:
    assert kernel.ioctl(200, 8, _READ, 9) == -errno.ENOTTY
    assert kernel.request(3, bytes(8))[0] == -errno.ENOSYS


@given(operation=st.sampled_from([4096, 14, 15, 16, 18, 25, 36, 39, 1]), body=st.binary(max_size=120))
def test_no_request_ends_it(operation: int, body: bytes) -> None:
    spidev = Spidev("spidev0.0", bytes)
    request = struct.pack(_HEADER, 40 + len(body), operation, 5, 0, 0, 0, 0) + body
    answer = spidev.answer(request)
    assert (answer is None) == (operation == 36)
    if answer is not None:
        assert struct.unpack_from("<I", answer)[0] == len(answer)
