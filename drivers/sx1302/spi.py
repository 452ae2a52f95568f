# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The SX1302's frames on SPI, and its address space behind them.

One frame is one assertion of chip select, mode 0, most significant bit first. The first byte names the
device behind the select, the next two a 15-bit address, big-endian, with the top bit set for a write [HAL
2.1.0 loragw_spi.c]:

    write   target  1|address  address  data...
    read    target  0|address  address  turn-around  data...

Within a frame the address counts up, except in the window of the receive FIFO, where each byte read pops one.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Final

from drivers.errors import BusError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from drivers.bus import SpiBus

WRITE_FLAG: Final = 0x8000
READ_HEADER_BYTES: Final = 4
"""Target, two address bytes and the turn-around byte; data starts behind them."""

BODY_LIMIT_BYTES: Final = 1024
"""Longest body of one frame; what Semtech's own software uses and tests, far below spidev's 4096."""

RX_FIFO_ADDRESS: Final = 0x4000
"""Window of the receive FIFO; as raw RAM (debug) 4096 bytes from here."""


class Target(IntEnum):
    """The device a frame is for: the SX1302 multiplexes the radios' SPI."""

    SX1302 = 0x00
    RADIO_A = 0x01
    RADIO_B = 0x02


def write_frame(address: int, data: bytes) -> bytes:
    """Return the frame that writes `data` from `address` (0 to 0x7FFF) on."""
    return bytes((Target.SX1302,)) + (address | WRITE_FLAG).to_bytes(2, "big") + data


def read_frame(address: int, length: int) -> bytes:
    """Return the frame that reads `length` bytes from `address` (0 to 0x7FFF) on."""
    return bytes((Target.SX1302,)) + address.to_bytes(2, "big") + bytes(length + 1)


class AddressSpace:
    """Reads and writes of any length; knows frames and bodies, and nothing of what lives at an address."""

    def __init__(self, bus: SpiBus) -> None:
        self._bus = bus

    def read(self, address: int, length: int) -> bytes:
        """Return `length` bytes from consecutive addresses.

        Raises:
            BusError: the transfer did not complete.
        """
        return self._read(address, length, step=1)

    def read_fifo(self, length: int) -> bytes:
        """Pop `length` bytes off the receive FIFO.

        Raises:
            BusError: the transfer did not complete; bytes already popped are gone.
        """
        return self._read(RX_FIFO_ADDRESS, length, step=0)

    def read_twice(self, address: int, length: int) -> tuple[bytes, bytes]:
        """Return two readings of the same bytes, one right after the other, as a check against torn values.

        Raises:
            BusError: the transfer did not complete.
        """
        frame = read_frame(address, length)
        first, second = self._exchange([frame, frame])
        return first[READ_HEADER_BYTES:], second[READ_HEADER_BYTES:]

    def write(self, address: int, data: bytes) -> None:
        """Write `data` to consecutive addresses.

        Raises:
            BusError: the transfer did not complete.
        """
        self.write_all([(address, data)])

    def write_all(self, writes: Iterable[tuple[int, bytes]]) -> None:
        """Write several stretches, each from its address on, in this order.

        Raises:
            BusError: the transfer did not complete; what came first may have arrived.
        """
        frames = [
            write_frame(address + start, data[start : start + BODY_LIMIT_BYTES])
            for address, data in writes
            for start in range(0, len(data), BODY_LIMIT_BYTES)
        ]
        if frames:
            self._exchange(frames)

    def radio(self, target: Target, command: bytes) -> bytes:
        """Send a command to a radio and return what it answered, byte for byte under the command.

        Raises:
            BusError: the transfer did not complete.
        """
        return self._exchange([bytes((target,)) + command])[0][1:]

    def _read(self, address: int, length: int, *, step: int) -> bytes:
        frames = [
            read_frame(address + step * start, min(BODY_LIMIT_BYTES, length - start))
            for start in range(0, length, BODY_LIMIT_BYTES)
        ]
        return b"".join(answer[READ_HEADER_BYTES:] for answer in self._exchange(frames))

    def _exchange(self, frames: list[bytes]) -> list[bytes]:
        one = len(frames) == 1
        answers = [self._bus.transfer(frames[0])] if one else self._bus.transfer_all(frames)
        if [len(answer) for answer in answers] != [len(frame) for frame in frames]:
            sent, got = sum(map(len, frames)), sum(map(len, answers))
            raise BusError(
                f"{got} bytes came back for {sent} sent",
                op="transfer",
                where="SPI bus",
                hint="the bus is unreliable: check the cable and that no other program uses the device",
                code="CG-SPI-001",
                retryable=True,
            )
        return answers
