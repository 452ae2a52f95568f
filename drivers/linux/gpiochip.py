# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Output lines by the kernel's own interface, for systems without lgpio: Debian has none in its archive.

The functions are named and shaped as those of lgpio that `drivers.linux.gpio` uses. Version 2 of the character device's
interface, of Linux 5.10 and later [linux/gpio.h].
"""

from __future__ import annotations

import ctypes
import fcntl
import os
from typing import Final

_FLAG_INPUT, _FLAG_OUTPUT = 1 << 2, 1 << 3
_ATTRIBUTE_VALUES: Final = 2
_CONSUMER: Final = b"civigate"


class error(RuntimeError):  # noqa: N801, N818 - named as in lgpio
    """The kernel has refused; the text is its own."""


class _ChipInfo(ctypes.Structure):
    _fields_ = (("name", ctypes.c_char * 32), ("label", ctypes.c_char * 32), ("lines", ctypes.c_uint32))


class _Attribute(ctypes.Structure):
    _fields_ = (("id", ctypes.c_uint32), ("padding", ctypes.c_uint32), ("values", ctypes.c_uint64))


class _ConfigAttribute(ctypes.Structure):
    _fields_ = (("attr", _Attribute), ("mask", ctypes.c_uint64))


class _LineConfig(ctypes.Structure):
    _fields_ = (
        ("flags", ctypes.c_uint64),
        ("num_attrs", ctypes.c_uint32),
        ("padding", ctypes.c_uint32 * 5),
        ("attrs", _ConfigAttribute * 10),
    )


class _LineRequest(ctypes.Structure):
    _fields_ = (
        ("offsets", ctypes.c_uint32 * 64),
        ("consumer", ctypes.c_char * 32),
        ("config", _LineConfig),
        ("num_lines", ctypes.c_uint32),
        ("event_buffer_size", ctypes.c_uint32),
        ("padding", ctypes.c_uint32 * 5),
        ("fd", ctypes.c_int32),
    )


class _LineValues(ctypes.Structure):
    _fields_ = (("bits", ctypes.c_uint64), ("mask", ctypes.c_uint64))


def _code(direction: int, number: int, kind: type[ctypes.Structure]) -> int:
    return direction << 30 | ctypes.sizeof(kind) << 16 | 0xB4 << 8 | number


_GET_CHIPINFO: Final = _code(2, 0x01, _ChipInfo)
_GET_LINE: Final = _code(3, 0x07, _LineRequest)
_SET_VALUES: Final = _code(3, 0x0F, _LineValues)

_claimed: dict[tuple[int, int], int] = {}
"""Descriptors of the lines in use, by that of their controller and their offset."""


def gpiochip_open(number: int) -> int:
    """Open a controller and return its handle.

    Raises:
        error: there is none of that number, or this user may not open it.
    """
    try:
        return os.open(f"/dev/gpiochip{number}", os.O_RDWR | os.O_CLOEXEC)
    except OSError as refusal:
        raise _refused(refusal) from refusal


def gpiochip_close(handle: int) -> None:
    """Release a controller and all its lines."""
    for controller, line in [key for key in _claimed if key[0] == handle]:
        gpio_free(controller, line)
    os.close(handle)


def gpio_get_chip_info(handle: int) -> tuple[int, int, str, str]:
    """Return 0, the number of lines, name and label of a controller."""
    info = _ChipInfo()
    _ioctl(handle, _GET_CHIPINFO, info)
    return 0, int(info.lines), info.name.decode(errors="replace"), info.label.decode(errors="replace")


def gpio_claim_output(handle: int, line: int, level: int) -> None:
    """Take a line and drive it, at once with that level.

    Raises:
        error: it is used by something else, or is not there.
    """
    request = _request(line)
    request.config.flags = _FLAG_OUTPUT
    request.config.num_attrs = 1
    request.config.attrs[0].attr.id = _ATTRIBUTE_VALUES
    request.config.attrs[0].attr.values = level
    request.config.attrs[0].mask = 1
    _claim(handle, line, request)


def gpio_claim_input(handle: int, line: int) -> None:
    """Take a line and make it an input.

    Raises:
        error: it is used by something else, or is not there.
    """
    request = _request(line)
    request.config.flags = _FLAG_INPUT
    _claim(handle, line, request)


def gpio_write(handle: int, line: int, level: int) -> None:
    """Change the level of a line that was claimed as an output."""
    _ioctl(_claimed[handle, line], _SET_VALUES, _LineValues(level, 1))


def gpio_free(handle: int, line: int) -> None:
    """Let go of a line; one that was not taken is left alone."""
    file = _claimed.pop((handle, line), None)
    if file is not None:
        os.close(file)


def _request(line: int) -> _LineRequest:
    request = _LineRequest(consumer=_CONSUMER, num_lines=1)
    request.offsets[0] = line
    return request


def _claim(handle: int, line: int, request: _LineRequest) -> None:
    gpio_free(handle, line)
    _ioctl(handle, _GET_LINE, request)
    _claimed[handle, line] = int(request.fd)


def _ioctl(file: int, code: int, argument: ctypes.Structure) -> None:
    try:
        fcntl.ioctl(file, code, argument)
    except OSError as refusal:
        raise _refused(refusal) from refusal


def _refused(refusal: OSError) -> error:
    return error(refusal.strerror or str(refusal))
