# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Visits to the receive FIFO: what it holds is popped, and noted outside of the process before anything else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from drivers.errors import ChipError, DriverError
from drivers.sx1302.recovery import FIFO_BYTES
from drivers.sx1302.registers import field

if TYPE_CHECKING:
    from drivers.bus import Clock
    from drivers.sx1302.popped import Popped
    from drivers.sx1302.spi import AddressSpace

FILL_LEVEL = field("RX_TOP_RX_BUFFER_NB_BYTES_MSB_RX_BUFFER_NB_BYTES")
FILL_LEVEL_MASK: Final = 0x1FFF

LINGER_S: Final = 0.002
LINGER_LOOKS: Final = 3
"""A visit that found something looks again after a moment, at most so often: copies of what it found come within it.
How far apart the chip stores copies is assumed; only hardware can show it."""


class FifoReader:
    """Takes bytes out of the FIFO.

    Args:
        space: the chip's.
        clock: host time.
        popped: outlives the process.
    """

    def __init__(self, space: AddressSpace, clock: Clock, popped: Popped) -> None:
        self._space = space
        self._clock = clock
        self._popped = popped
        self.undecoded = b""
        """What was popped and not decoded yet; whoever decodes it leaves the beginning of an unfinished frame."""

    @property
    def popped(self) -> bytes:
        """What nobody is known to have kept: of the last visit, or of an earlier process."""
        return self._popped.data

    def chip_started(self) -> None:
        """Forget what was popped: the chip begins anew."""
        self.undecoded = b""
        self._popped.only(b"")

    def visit(self) -> tuple[int, bool]:
        """Add what is in the FIFO to `undecoded`; return its fill level, bytes, and whether anything came.

        What came before and was decoded is kept by now. Until all is decoded, a failing bus costs nothing: the same
        bytes are taken up again by the next visit.

        Raises:
            BusError: the bus fails.
            ChipError: the link breaks down.
        """
        self._popped.only(self.undecoded)
        fill_bytes, data = self.drain()
        self._add(data)
        came = bool(data)
        for _ in range(LINGER_LOOKS):
            if not data:
                break
            self._clock.sleep(LINGER_S)
            try:
                data = self.drain()[1]
            except DriverError:
                # The next visit meets it again; what is here is handed up before.
                break
            self._add(data)
        return fill_bytes, came

    def drain(self) -> tuple[int, bytes]:
        """Pop what there is; return the fill level and the bytes.

        The level is two bytes, high one first, that the chip may change while they are read. It only ever
        grows, so a torn reading is too small: zero is then found out at the next visit, and of two readings
        the larger is taken [HAL 2.1.0 rx_buffer_fetch].

        Raises:
            BusError: the bus fails.
            ChipError: the level cannot be.
        """
        level = self._fill_level()
        if level == 0:
            return 0, b""
        level = max(level, self._fill_level())
        if level > FIFO_BYTES:
            raise ChipError(
                f"says that {level} of {FIFO_BYTES} bytes are in the FIFO",
                op="receive",
                where=FILL_LEVEL.name,
                hint="the SPI link broke down: check that the board sits firmly and has power",
                code="CG-CHIP-004",
                retryable=True,
            )
        return level, self._space.read_fifo(level)

    def _add(self, data: bytes) -> None:
        if data:
            self._popped.add(data)
            self.undecoded += data

    def _fill_level(self) -> int:
        return int.from_bytes(self._space.read(FILL_LEVEL.address, 2), "big") & FILL_LEVEL_MASK
