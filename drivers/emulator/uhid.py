# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""A real gpiochip whose lines lead to the virtual board: a USB adapter of eight lines, played through /dev/uhid.

It is a Silicon Labs CP2112, for which the kernel has a driver (`hid-cp2112`); its controller is labelled "cp2112_gpio"
[AN495, hid-cp2112.c]. Lines 0 to 7 are GPIO lines 0 to 7 of the board. Needs root and the modules `uhid` and
`hid-cp2112`; meant for a virtual machine.

Not modelled: the adapter's I2C, its special functions of lines, inputs (they read low).
"""

from __future__ import annotations

import os
import struct
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from drivers.emulator.kernel import Answering, opened, wait_for_node

if TYPE_CHECKING:
    from collections.abc import Callable

DEVICE: Final = Path("/dev/uhid")
LABEL: Final = "cp2112_gpio"
LINES: Final = 8

_CREATE, _GET_REPORT, _GET_REPORT_REPLY, _SET_REPORT, _SET_REPORT_REPLY = 11, 9, 10, 13, 14
_BUS_USB, _VENDOR, _PRODUCT = 0x03, 0x10C4, 0xEA90
_EVENT_BYTES: Final = 4380
_DATA_BYTES: Final = 4096
_REPORTS: Final = range(0x01, 0x17)
_REPORT_BYTES: Final = 63
_GPIO_CONFIG, _GET_GPIO, _SET_GPIO, _VERSION, _SMBUS_CONFIG = 0x02, 0x03, 0x04, 0x05, 0x06
_PART_NUMBER, _DEVICE_VERSION = 0x0C, 0x03
_SMBUS_DEFAULTS: Final = struct.pack(">BIBBHHBH", _SMBUS_CONFIG, 100_000, 2, 0, 0, 0, 0, 0)
_CONTROLLER: Final = Path("/sys/devices/virtual/misc/uhid/*:10C4:EA90.*/gpiochip*")


class Adapter:
    """The adapter's reports: what the driver asks and sets; without a device of its own.

    Args:
        drive: called with a line, 0 to 7, and its new level.
        release: called with a line that is driven no more.
    """

    def __init__(self, drive: Callable[[int, bool], None], release: Callable[[int], None] = lambda _: None) -> None:
        self._drive = drive
        self._release = release
        self._outputs = 0
        self._latch = 0

    def report(self, number: int) -> bytes:
        """Return a feature report, its number first."""
        if number == _GPIO_CONFIG:
            return bytes((number, self._outputs, 0, 0, 0))
        if number == _GET_GPIO:
            return bytes((number, self._latch & self._outputs))
        if number == _VERSION:
            return bytes((number, _PART_NUMBER, _DEVICE_VERSION))
        return _SMBUS_DEFAULTS if number == _SMBUS_CONFIG else bytes((number,))

    def set_report(self, data: bytes) -> None:
        """Take a feature report, its number first."""
        if len(data) >= 2 and data[0] == _GPIO_CONFIG:
            begun, ended = data[1] & ~self._outputs, self._outputs & ~data[1]
            self._outputs = data[1]
            self._tell(begun)
            for line in _lines(ended):
                self._release(line)
        elif len(data) >= 3 and data[0] == _SET_GPIO:
            changed = (self._latch ^ data[1]) & data[2]
            self._latch ^= changed
            self._tell(changed & self._outputs)

    def _tell(self, lines: int) -> None:
        for line in _lines(lines):
            self._drive(line, bool(self._latch >> line & 1))


def _lines(mask: int) -> list[int]:
    return [line for line in range(LINES) if mask >> line & 1]


def creation() -> bytes:
    """Return the event that plugs the adapter in [linux/uhid.h, uhid_create2_req]."""
    items = b"".join(
        bytes((0x85, number, 0x95, _REPORT_BYTES, 0x75, 0x08, 0x09, 0x01, 0xB1, 0x02)) for number in _REPORTS
    )
    # a collection on a page of the vendor, with one feature report of bytes after the other
    descriptor = bytes.fromhex("0600ff0901a101150026ff00") + items + b"\xc0"
    return struct.pack(
        "<I128s64s64sHHIIII4096s",
        *(_CREATE, b"CP2112 HID USB-to-SMBus Bridge", b"civigate", b"virtual board", len(descriptor)),
        *(_BUS_USB, _VENDOR, _PRODUCT, 0x0100, 0, descriptor),
    )


def answer(adapter: Adapter, event: bytes) -> bytes | None:
    """Return the answer to an event of the kernel; None where none is wanted."""
    if len(event) < 12:
        return None
    kind, identifier, number = struct.unpack_from("<IIB", event)
    if kind == _GET_REPORT:
        data = adapter.report(number)
        return struct.pack("<IIHH", _GET_REPORT_REPLY, identifier, 0, len(data)) + data.ljust(_DATA_BYTES, b"\0")
    if kind == _SET_REPORT:
        (size,) = struct.unpack_from("<H", event, 10)
        adapter.set_report(event[12 : 12 + size])
        return struct.pack("<IIH", _SET_REPORT_REPLY, identifier, 0)
    return None


class UhidGpio:
    """The adapter, plugged in until it is closed.

    Args:
        drive: called with a line, 0 to 7, and its new level.
        release: called with a line that is driven no more.

    Raises:
        BusError: the kernel has no uhid, this user may not use it, or no driver takes the adapter.
    """

    def __init__(self, drive: Callable[[int, bool], None], release: Callable[[int], None]) -> None:
        file = opened(
            DEVICE, hint="this needs root and the kernel's modules: modprobe -a uhid hid-cp2112", code="CG-EMU-010"
        )
        os.write(file, creation())
        self._answering = Answering(file, _EVENT_BYTES, partial(answer, Adapter(drive, release)), name="uhid-gpio")
        wait_for_node(_CONTROLLER.parent, _CONTROLLER.name, "modprobe hid-cp2112")

    def __enter__(self) -> UhidGpio:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Unplug it."""
        self._answering.close()
