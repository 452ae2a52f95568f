# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Looks at GPIO lines without taking them: which controller has them, and who holds them.

Two requests of the kernel's interface are all that is needed; the library that drives lines would claim them
[Linux include/uapi/linux/gpio.h].
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from drivers.boards import GpioLine

HEADER_LABELS: Final = ("pinctrl-bcm2835", "pinctrl-bcm2711", "pinctrl-rp1")
"""As in `drivers.linux.gpio`, which cannot be imported where lgpio is not."""

_CHIP_INFO: Final = struct.Struct("=32s32sI")
_LINE_INFO: Final = struct.Struct("=32s32sIIQ160s16s")
_GET_CHIP_INFO: Final = 0x8044B401
_GET_LINE_INFO: Final = 0xC100B405
_FLAG_USED: Final = 1


def find(line: GpioLine) -> Path:
    """Return the device of the controller that has a line.

    Raises:
        OSError: there is none of that label, or it may not be opened.
    """
    wanted = HEADER_LABELS if line.controller is None else (line.controller,)
    seen, refused = [], None
    for device in sorted(Path("/dev").glob("gpiochip*")):
        try:
            label = _label(device)
        except PermissionError as error:
            refused = error
            continue
        except OSError as error:
            label = error.strerror or str(error)
        if label in wanted:
            return device
        seen.append(f"{device.name} ({label})")
    if refused is not None:
        raise refused
    there = ", ".join(seen) or "none"
    raise OSError(errno.ENODEV, f"no GPIO controller {' or '.join(wanted)}; there: {there}")


def holder(device: Path, line: int) -> str | None:
    """Return who holds a line of a controller; None when nobody does.

    Raises:
        OSError: it has no such line, or may not be opened.
    """
    request = bytearray(_LINE_INFO.pack(b"", b"", line, 0, 0, b"", b""))
    _ask(device, _GET_LINE_INFO, request)
    _, consumer, _, _, flags, _, _ = _LINE_INFO.unpack(bytes(request))
    if not flags & _FLAG_USED:
        return None
    return consumer.rstrip(b"\0").decode("utf-8", "replace") or "the kernel"


def _label(device: Path) -> str:
    request = bytearray(_CHIP_INFO.size)
    _ask(device, _GET_CHIP_INFO, request)
    return str(_CHIP_INFO.unpack(bytes(request))[1].rstrip(b"\0").decode("utf-8", "replace"))


def _ask(device: Path, number: int, request: bytearray) -> None:
    descriptor = os.open(device, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.ioctl(descriptor, number, request)
    finally:
        os.close(descriptor)
