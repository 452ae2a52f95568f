# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""A concentrator on a Linux spidev device."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

import spidev

from drivers.errors import BusError

if TYPE_CHECKING:
    from collections.abc import Sequence

DEVICE: Final = re.compile(r"/dev/spidev(\d+)\.(\d+)")
MODE_0: Final = 0
FRAME_LIMIT_BYTES: Final = 4096
"""The kernel's default buffer; spidev would split a longer transfer into two chip selects."""


class SpidevBus:
    """A spidev device, opened for the concentrator alone.

    Args:
        device: e.g. /dev/spidev0.0.
        clock_hz: the highest rate to clock at.

    Raises:
        BusError: there is no such device, or it may not be opened.
    """

    def __init__(self, device: str, clock_hz: int) -> None:
        self._device = device
        match = DEVICE.fullmatch(device)
        if match is None:
            raise self._error("open", "is no spidev device", "write a path like /dev/spidev0.0", "CG-SPI-002")
        self._spi = spidev.SpiDev()
        self._closed = False
        try:
            self._spi.open(int(match[1]), int(match[2]))
            self._spi.mode = MODE_0
            self._spi.max_speed_hz = clock_hz
        except FileNotFoundError as error:
            others = ", ".join(sorted(str(path) for path in Path("/dev").glob("spidev*"))) or "none"
            hint = f"switch SPI on (dtparam=spi=on in config.txt, then reboot); devices there are: {others}"
            raise self._error("open", "does not exist", hint, "CG-SPI-003") from error
        except PermissionError as error:
            hint = "add the user that runs this to the group of the device (ls -l shows it, mostly spi)"
            raise self._error("open", "may not be opened by this user", hint, "CG-SPI-004") from error
        except OSError as error:
            hint = "check that no other program uses the device"
            raise self._error("open", error.strerror or str(error), hint, "CG-SPI-005") from error

    def transfer(self, frame: bytes) -> bytes:
        """Send one frame and return what came back meanwhile, of the same length.

        Args:
            frame: 1 to 4096 bytes.

        Raises:
            BusError: the transfer did not complete, or the bus is closed.
        """
        if self._closed:
            raise self._error("transfer", "is closed", "open it again", "CG-SPI-006")
        if not 1 <= len(frame) <= FRAME_LIMIT_BYTES:
            hint = "this is a defect of the program; please report it"
            raise self._error("transfer", f"frame of {len(frame)} bytes", hint, "CG-SPI-007")
        try:
            return bytes(self._spi.xfer2(frame))
        except OSError as error:
            hint = "the SPI controller gave up: check overlay and wiring, then restart"
            what = error.strerror or str(error)
            raise self._error("transfer", what, hint, "CG-SPI-008", retryable=True) from error

    def transfer_all(self, frames: Sequence[bytes]) -> list[bytes]:
        """Send several frames in order, each under its own chip select, and return their answers.

        Raises:
            BusError: a transfer did not complete; those before it did.
        """
        return [self.transfer(frame) for frame in frames]

    def close(self) -> None:
        """Release the device; closing twice is harmless."""
        self._closed = True
        self._spi.close()

    def _error(self, op: str, what: str, hint: str, code: str, *, retryable: bool = False) -> BusError:
        return BusError(what, op=op, where=self._device, hint=hint, code=code, retryable=retryable)
