# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""A serial port of the machine, for receivers that just talk."""

from __future__ import annotations

import errno
from contextlib import suppress
from pathlib import Path
from typing import Final

import serial  # type: ignore[import-untyped]  # it has no types, and its stubs are no dependency of ours

from drivers.errors import BusError

WAIT_S: Final = 0.02
"""For the first byte of a reading: so well is known when bytes came."""
WRITE_LIMIT_S: Final = 1.0


class TtyPort:
    """A port below /dev, opened for us alone.

    Args:
        device: e.g. /dev/serial0, or a link to it.
        baud: bits per second.
        wait_s: longest wait for the first byte of a reading.

    Raises:
        BusError: there is no such port, it may not be opened, or somebody else has it.
    """

    def __init__(self, device: str, baud: int, *, wait_s: float = WAIT_S) -> None:
        self._device = device
        # USB modems (CDC ACM) take any rate and ignore it.
        self.paced = not Path(device).resolve().name.startswith("ttyACM")
        try:
            self._port = serial.Serial(
                device, baud, timeout=wait_s, write_timeout=WRITE_LIMIT_S, exclusive=True, rtscts=False, dsrdtr=False
            )
        except (OSError, ValueError) as error:  # serial.SerialException is an OSError
            raise self._cannot_open(error) from error

    def read(self, limit_bytes: int) -> bytes:
        """Return what has come; see `SerialPort`.

        Raises:
            BusError: the port is gone.
        """
        try:
            data: bytes = self._port.read(max(1, min(self._port.in_waiting, limit_bytes)))
        except (OSError, TypeError) as error:  # TypeError: pyserial on a port that vanished while it read
            raise self._gone("read", error) from error
        return data

    def write(self, data: bytes) -> None:
        """Send bytes.

        Raises:
            BusError: the port is gone, or does not take them.
        """
        try:
            self._port.write(data)
        except (OSError, TypeError) as error:
            raise self._gone("write", error) from error

    def set_rate(self, baud: int) -> None:
        """Go on at another rate.

        Raises:
            BusError: the port is gone, or does not know the rate.
        """
        try:
            self._port.baudrate = baud
            self._port.reset_input_buffer()
        except (OSError, ValueError, TypeError) as error:
            raise self._gone(f"set {baud} baud", error) from error

    def close(self) -> None:
        """Release the port."""
        with suppress(OSError):
            self._port.close()

    def _cannot_open(self, error: Exception) -> BusError:
        number = getattr(error, "errno", None)
        if not Path(self._device).exists():
            what, code = "does not exist", "CG-TTY-001"
            hint = "plug the receiver in, or correct the device; on a Pi, switch the serial port on (raspi-config)"
        elif number in {errno.EACCES, errno.EPERM}:
            what, code = "may not be opened by this user", "CG-TTY-002"
            hint = "add the user that runs this to the group of the device (ls -l shows it, mostly dialout)"
        else:
            what, code = str(error), "CG-TTY-003"
            hint = "no other program may use the port: not gpsd, and no serial console (raspi-config)"
        return BusError(what, op="open", where=self._device, hint=hint, code=code, retryable=True)

    def _gone(self, op: str, error: Exception) -> BusError:
        hint = "check the plug; it is opened again by itself"
        return BusError(f"is gone: {error}", op=op, where=self._device, hint=hint, code="CG-TTY-004", retryable=True)
