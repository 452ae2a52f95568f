# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The USB variant of the board: a bridge microcontroller that speaks a byte protocol and passes SPI frames on.

A request is `id, size (2 bytes, big-endian), order, payload`, its answer `id, size, order | 0x40, payload`; an order
that is unknown or whose payload makes no sense is answered with order 0xFF [HAL 2.1.0 loragw_mcu.c]. The bridge sits
on a pseudo-terminal, which programs open as they open /dev/ttyACM0.

Not modelled: USB itself, its packets and its millisecond; what the bridge does with a request that stays incomplete
(here: forgets it after a second); its bootloader, which here is an unplugging.
"""

from __future__ import annotations

import os
import select
from enum import IntEnum
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Final

from drivers.emulator.terminal import Terminal

if TYPE_CHECKING:
    from collections.abc import Callable

    from drivers.emulator.emulator import Emulator

VERSION: Final = b"V01.00.00"
UNIQUE_ID: Final = bytes(range(1, 13))
PAYLOAD_LIMIT_BYTES: Final = 4200
SUB_REQUEST_LIMIT: Final = 255

_HEADER_BYTES: Final = 4
_ANSWER: Final = 0x40
_COMMAND_ERROR: Final = 0xFF
_STALE_NS: Final = 1_000_000_000
_PORT_A: Final = 0
_PIN_POWER: Final = 1
_PIN_RESET: Final = 2
_PIN_SX1261_RESET: Final = 8
_DEFAULT_CELSIUS: Final = 25.0
_JOIN_S: Final = 5.0
_FAREWELL_S: Final = 0.1
_FAREWELLS: Final = 20
_WAKE_BYTES: Final = 64


class Order(IntEnum):
    """What a request asks for."""

    PING = 0x00
    GET_STATUS = 0x01
    BOOTLOADER = 0x02
    RESET = 0x03
    WRITE_GPIO = 0x04
    MULTIPLE_SPI = 0x05


class SubOrder(IntEnum):
    """What a sub-request of MULTIPLE_SPI asks for."""

    TRANSFER = 0x01
    READ_MODIFY_WRITE = 0x02


class SubStatus(IntEnum):
    """How a sub-request went."""

    OK = 0
    FAILED = 1
    WRONG_PARAMETER = 2


class _OrderError(Exception):
    """The payload does not fit the order."""


class Bridge:
    """The protocol, without the wire: bytes in, bytes out.

    Attributes:
        unplugged: the host has sent it to its bootloader, so that it is no longer there.
    """

    def __init__(self, emulator: Emulator, monotonic_ns: Callable[[], int]) -> None:
        self._emulator = emulator
        self._monotonic_ns = monotonic_ns
        self._started_ns = monotonic_ns()
        self._buffer = bytearray()
        self._last_ns = self._started_ns
        self.unplugged = False

    def feed(self, data: bytes) -> bytes:
        """Take bytes from the host and return the answers to the requests that are now complete."""
        now_ns = self._monotonic_ns()
        if now_ns - self._last_ns > _STALE_NS:
            self._buffer.clear()
        self._last_ns = now_ns
        self._buffer += data
        answers = bytearray()
        while len(self._buffer) >= _HEADER_BYTES:
            size = self._buffer[1] << 8 | self._buffer[2]
            if size > PAYLOAD_LIMIT_BYTES:
                answers += _frame(self._buffer[0], _COMMAND_ERROR, b"")
                self._buffer.clear()
                break
            end = _HEADER_BYTES + size
            if len(self._buffer) < end:
                break
            answers += self._answer(self._buffer[0], self._buffer[3], bytes(self._buffer[_HEADER_BYTES:end]))
            del self._buffer[:end]
        return bytes(answers)

    def _answer(self, identifier: int, order: int, payload: bytes) -> bytes:
        try:
            body = self._carry_out(order, payload)
        except _OrderError:
            return _frame(identifier, _COMMAND_ERROR, b"")
        return self._spoil(_frame(identifier, order | _ANSWER, body))

    def _carry_out(self, order: int, payload: bytes) -> bytes:
        if order == Order.PING:
            return UNIQUE_ID + VERSION
        if order == Order.GET_STATUS:
            uptime_ms = (self._monotonic_ns() - self._started_ns) // 1_000_000
            celsius = self._emulator.celsius
            centidegrees = round((_DEFAULT_CELSIUS if celsius is None else celsius) * 100)
            return (uptime_ms & 0xFFFFFFFF).to_bytes(4, "big") + centidegrees.to_bytes(2, "big", signed=True)
        if order == Order.BOOTLOADER:
            self.unplugged = True
            return b""
        if order == Order.RESET and len(payload) == 1:
            self._emulator.drive_reset(active=True)
            self._emulator.drive_reset(active=False)
            return bytes((SubStatus.OK,))
        if order == Order.WRITE_GPIO and len(payload) == 3:
            self._write_gpio(*payload)
            return bytes((SubStatus.OK,))
        if order == Order.MULTIPLE_SPI:
            return self._multiple_spi(payload)
        raise _OrderError

    def _write_gpio(self, port: int, pin: int, level: int) -> None:
        if (port, pin) == (_PORT_A, _PIN_POWER):
            self._emulator.drive_power(active=bool(level))
        elif (port, pin) == (_PORT_A, _PIN_RESET):
            self._emulator.drive_reset(active=bool(level))
        elif (port, pin) == (_PORT_A, _PIN_SX1261_RESET):
            self._emulator.drive_sx1261_reset(active=not level)

    def _multiple_spi(self, payload: bytes) -> bytes:
        answers = bytearray()
        at = count = 0
        while at < len(payload):
            count += 1
            rest = payload[at:]
            if len(rest) < 5 or count > SUB_REQUEST_LIMIT:
                raise _OrderError
            if rest[1] == SubOrder.TRANSFER:
                end = 5 + (rest[3] << 8 | rest[4])
                if len(rest) < end:
                    raise _OrderError
                answers += self._transfer(rest[0], rest[2], rest[5:end])
            elif rest[1] == SubOrder.READ_MODIFY_WRITE and len(rest) >= 6:
                end = 6
                answers += self._read_modify_write(rest[0], rest[2] << 8 | rest[3], rest[4], rest[5])
            else:
                raise _OrderError
            at += end
        return bytes(answers)

    def _transfer(self, identifier: int, target: int, frame: bytes) -> bytes:
        status, answer = SubStatus.OK, b""
        try:
            answer = self._emulator.transfer(frame, target)
        except ValueError:
            status = SubStatus.WRONG_PARAMETER
        except OSError:
            status = SubStatus.FAILED
        return bytes((identifier, SubOrder.TRANSFER, status, len(answer) >> 8, len(answer) & 0xFF)) + answer

    def _read_modify_write(self, identifier: int, address: int, mask: int, value: int) -> bytes:
        where = (address & 0x7FFF).to_bytes(2, "big")
        try:
            old = self._emulator.transfer(b"\0" + where + bytes(2))[4]
            new = (old & ~mask) | (value & mask)
            self._emulator.transfer(bytes((0, where[0] | 0x80, where[1], new)))
        except OSError:
            return bytes((identifier, SubOrder.READ_MODIFY_WRITE, SubStatus.FAILED, 0, 0))
        return bytes((identifier, SubOrder.READ_MODIFY_WRITE, SubStatus.OK, old, new))

    def _spoil(self, answer: bytes) -> bytes:
        fault = self._emulator.take_usb_fault()
        if fault == "stall":
            return b""
        if fault == "short":
            return answer[: len(answer) // 2]
        if fault == "refuse":
            return _frame(answer[0], _COMMAND_ERROR, b"")
        return answer


def _frame(identifier: int, order: int, payload: bytes) -> bytes:
    return bytes((identifier, len(payload) >> 8, len(payload) & 0xFF, order)) + payload


class UsbPort:
    """A pseudo-terminal with the bridge at its other end, under a name of the user's choice.

    Args:
        emulator: the virtual concentrator.
        link: path that will lead to the terminal; a dangling or older link is replaced.
        monotonic_ns: the clock.

    Raises:
        BusError: the link cannot be made.
    """

    def __init__(self, emulator: Emulator, link: Path, monotonic_ns: Callable[[], int]) -> None:
        self._emulator = emulator
        self._link = link
        self._monotonic_ns = monotonic_ns
        self._bridge = Bridge(emulator, monotonic_ns)
        self._terminal: Terminal | None = Terminal(link)
        self._wake_read, self._wake_write = os.pipe()
        self._lost_supply, self._stopping = emulator.usb_unplugged, False
        emulator.on_usb_plug = self._note_plug
        self._thread = Thread(target=self._run, name="usb-bridge", daemon=True)
        self._thread.start()

    def __enter__(self) -> UsbPort:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove the terminal and its link."""
        self._stopping = True
        self._wake()
        self._thread.join(_JOIN_S)
        self._emulator.on_usb_plug = None
        self._remove()
        os.close(self._wake_read)
        os.close(self._wake_write)

    def _note_plug(self) -> None:
        # By the time our thread looks, the plug may have been pulled and put in again.
        self._lost_supply |= self._emulator.usb_unplugged
        self._wake()

    def _wake(self) -> None:
        os.write(self._wake_write, b"\0")

    def _run(self) -> None:
        while not self._stopping:
            if self._lost_supply:
                # It forgets what it was doing, even that it was in its bootloader.
                self._lost_supply = False
                self._remove()
                self._bridge = Bridge(self._emulator, self._monotonic_ns)
            if self._bridge.unplugged and self._terminal is not None:
                self._await_reader(self._terminal)
                self._remove()
            elif self._terminal is None and not (self._bridge.unplugged or self._emulator.usb_unplugged):
                self._terminal = Terminal(self._link)
            terminal = self._terminal
            ready, _, _ = select.select([self._wake_read, *([terminal.master] if terminal else [])], [], [])
            if self._wake_read in ready:
                os.read(self._wake_read, _WAKE_BYTES)
            elif terminal is not None:
                # Where nobody reads, a USB host would have dropped the data, too.
                terminal.write_all(self._bridge.feed(terminal.read()))

    def _await_reader(self, terminal: Terminal) -> None:
        """Give the host time to read the last answer; a board takes longer to come back as its bootloader."""
        for _ in range(_FAREWELLS):
            woken, _, _ = select.select([self._wake_read], [], [], _FAREWELL_S)
            if woken or not terminal.unread:
                return

    def _remove(self) -> None:
        if self._terminal is not None:
            self._terminal.close()
            self._terminal = None
