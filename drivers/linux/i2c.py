# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""A device with registers on a Linux I2C bus; needs no library, the kernel's own interface is two structures."""

from __future__ import annotations

import ctypes
import fcntl
import os
from typing import Final

from drivers.errors import BusError

_I2C_RDWR: Final = 0x0707
_I2C_M_RD: Final = 0x0001


class _Message(ctypes.Structure):
    _fields_ = (
        ("addr", ctypes.c_uint16),
        ("flags", ctypes.c_uint16),
        ("len", ctypes.c_uint16),
        ("buf", ctypes.POINTER(ctypes.c_uint8)),
    )


class _Transaction(ctypes.Structure):
    _fields_ = (("msgs", ctypes.POINTER(_Message)), ("nmsgs", ctypes.c_uint32))


class LinuxI2cDevice:
    """One address on an I2C bus.

    The bus is open only while something is transferred: that is seldom, and nobody has to close it.

    Args:
        bus: e.g. /dev/i2c-1.
        address: 7 bits.
    """

    def __init__(self, bus: str, address: int) -> None:
        self._bus = bus
        self._address = address

    def read(self, register: int) -> int:
        """Return a register, 0 to 255.

        Raises:
            BusError: there is no such bus, it may not be opened, or the device does not acknowledge.
        """
        answer = (ctypes.c_uint8 * 1)()
        self._transfer([(0, (ctypes.c_uint8 * 1)(register)), (_I2C_M_RD, answer)])
        return int(answer[0])

    def write(self, register: int, value: int) -> None:
        """Set a register, 0 to 255.

        Raises:
            BusError: there is no such bus, it may not be opened, or the device does not acknowledge.
        """
        self._transfer([(0, (ctypes.c_uint8 * 2)(register, value))])

    def _transfer(self, parts: list[tuple[int, ctypes.Array[ctypes.c_uint8]]]) -> None:
        messages = (_Message * len(parts))(
            *(
                _Message(self._address, flags, len(data), ctypes.cast(data, ctypes.POINTER(ctypes.c_uint8)))
                for flags, data in parts
            )
        )
        try:
            file = os.open(self._bus, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            hint = "switch I2C on (dtparam=i2c_arm=on in config.txt), and add the user to the group i2c"
            raise self._error("open", error, hint, "CG-I2C-001") from error
        try:
            fcntl.ioctl(file, _I2C_RDWR, _Transaction(messages, len(parts)))
        except OSError as error:
            hint = "the board works without its temperature sensor as well"
            raise self._error("transfer", error, hint, "CG-I2C-002", retryable=True) from error
        finally:
            os.close(file)

    def _error(self, op: str, error: OSError, hint: str, code: str, *, retryable: bool = False) -> BusError:
        where = f"{self._bus} address 0x{self._address:02X}"
        what = error.strerror or str(error)
        return BusError(what, op=op, where=where, hint=hint, code=code, retryable=retryable)
