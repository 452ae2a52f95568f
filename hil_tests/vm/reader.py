# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Sticks and card readers: plugged in and pulled out while the machine runs, real USB to it."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from pathlib import Path

from hil_tests.vm.machine import Machine
from hil_tests.vm.qmp import QmpError
from hil_tests.vm.stick import mtools

STICK_BYTES = 64 << 20
_BEGIN_BYTES = 1 << 20
_SECTOR_BYTES, _TABLE_AT, _FAT32_LBA = 512, 446, 0x0C
_LIMIT_S = 120.0


class Usb:
    """One USB socket of the machine.

    Args:
        machine: with power.
    """

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._count = 0

    def plug(self, disk: Path) -> None:
        """Plug a disk in, and wait until its partitions are there: /dev/sda1 and so on.

        Raises:
            AssertionError: the system does not find it.
        """
        self._count += 1
        node = f"usb{self._count}"
        qmp = self._machine.qmp
        qmp.call("blockdev-add", driver="raw", node_name=node, file={"driver": "file", "filename": str(disk)})
        qmp.call("device_add", driver="usb-storage", id=node, drive=node, bus="usb.0", removable=True)
        self._wait(lambda: self._machine.shell.run("test -b /dev/sda1").code == 0, "the disk")

    def pull(self) -> None:
        """Pull it out.

        Raises:
            AssertionError: the system still has it.
        """
        node = f"usb{self._count}"
        self._machine.qmp.call("device_del", id=node)
        self._wait(lambda: self._machine.shell.run("test -b /dev/sda").code != 0, "the disk to be gone")
        self._wait(lambda: self._let_go(node), "QEMU to let go of it")

    def _let_go(self, node: str) -> bool:
        try:
            self._machine.qmp.call("blockdev-del", node_name=node)
        except QmpError:
            return False
        return True

    @staticmethod
    def _wait(condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + _LIMIT_S
        while not condition():
            assert time.monotonic() < deadline, f"waited {_LIMIT_S:g} s for {what}"
            time.sleep(0.3)


class Stick:
    """A stick as it is bought: one FAT partition.

    Args:
        path: of the file; made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        begin, size = _BEGIN_BYTES // _SECTOR_BYTES, (STICK_BYTES - _BEGIN_BYTES) // _SECTOR_BYTES
        partition = struct.pack("<4xB3xII", _FAT32_LBA, begin, size)
        with path.open("wb") as file:
            file.write((bytes(_TABLE_AT) + partition).ljust(_SECTOR_BYTES - 2, b"\0") + b"\x55\xaa")
            file.truncate(STICK_BYTES)
        self._image = f"{path}@@{_BEGIN_BYTES}"
        mtools("mformat", "-i", self._image, "-v", "STICK", "-T", str(size), "-h", "16", "-s", "63", "::")

    def read(self, folder: Path) -> list[Path]:
        """Copy all files from it into a folder, as a laptop does; return them."""
        mtools("mcopy", "-n", "-i", self._image, "::/*", str(folder))
        return sorted(folder.iterdir())

    def write(self, file: Path) -> None:
        """Copy a file onto it."""
        mtools("mcopy", "-o", "-i", self._image, str(file), f"::/{file.name}")
