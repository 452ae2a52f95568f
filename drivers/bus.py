# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The seams to the outside: buses, an output line, a serial port, a clock.

The chip driver sees nothing else of the machine. On a Pi they are served by `drivers.linux`, in tests and demo by
`drivers.emulator`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class SpiBus(Protocol):
    """A full-duplex SPI device; one frame is one assertion of chip select."""

    def transfer(self, frame: bytes) -> bytes:
        """Send one frame and return what came back meanwhile, of the same length.

        Args:
            frame: 1 to 4096 bytes (the default `bufsiz` of Linux spidev).

        Raises:
            BusError: the transfer did not complete.
        """

    def transfer_all(self, frames: Sequence[bytes]) -> list[bytes]:
        """Send several frames in order, each under its own chip select, and return their answers.

        A bus with a costly round trip (the USB bridge) sends them as one request.
        """

    def close(self) -> None:
        """Release the device; closing twice is harmless."""


class OutputLine(Protocol):
    """A digital output: a reset line, a power switch."""

    def set(self, *, active: bool) -> None:
        """Drive the line to its active or inactive level; polarity belongs to the board profile.

        Raises:
            BusError: the line cannot be driven.
        """

    def close(self) -> None:
        """Release the line; closing twice is harmless."""


class I2cDevice(Protocol):
    """A device with registers of one byte on an I2C bus."""

    def read(self, register: int) -> int:
        """Return a register, 0 to 255.

        Raises:
            BusError: the device does not acknowledge.
        """

    def write(self, register: int, value: int) -> None:
        """Set a register, 0 to 255.

        Raises:
            BusError: the device does not acknowledge.
        """


class SerialPort(Protocol):
    """A serial line, 8 bits, no parity, one stop bit."""

    @property
    def paced(self) -> bool:
        """Whether bytes come as fast as the rate says, as on a wire; False behind USB, where the rate means nothing."""

    def read(self, limit_bytes: int) -> bytes:
        """Return what has come, at most `limit_bytes`; waits a short time for the first byte, and may return none.

        Raises:
            BusError: the port is gone.
        """

    def write(self, data: bytes) -> None:
        """Send bytes.

        Raises:
            BusError: the port is gone, or does not take them.
        """

    def set_rate(self, baud: int) -> None:
        """Go on at another rate; what has come at the old one is thrown away.

        Raises:
            BusError: the port is gone, or does not know the rate.
        """

    def close(self) -> None:
        """Release the port; closing twice is harmless."""


class Clock(Protocol):
    """The host's monotonic time; handed in, so that tests decide how it passes."""

    def monotonic_ns(self) -> int:
        """Nanoseconds of a clock that nobody slews and that never goes back (CLOCK_MONOTONIC_RAW)."""

    def sleep(self, seconds: float) -> None:
        """Wait; returns no earlier than `seconds` later."""
