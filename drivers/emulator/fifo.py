# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The receive FIFO of the virtual concentrator: a ring of 4096 bytes in RAM.

Reading pops a byte but leaves it in the RAM until a later frame overwrites it; with the direct interface the RAM can
be looked at as it is. A frame that does not fit entirely is dropped and the FIFO stays as it was. A chip reset
clears the pointers and leaves the RAM.

Not modelled: torn reads of the byte count (there is a fault for that); a frame becoming visible byte by
byte; what silicon does on an overflow, and on a read of an empty FIFO (here: zeros), is unknown.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

SIZE: Final = 4096


class RxFifo:
    """Ring with a count of everything ever pushed and popped.

    Attributes:
        ram: the memory behind the ring.
        last_read: address of the byte popped last; 0 after a reset.
        last_written: address of the byte pushed last; 0 after a reset.
    """

    def __init__(self, noise: bytes) -> None:
        self.ram = bytearray(noise)
        self.last_read = 0
        self.last_written = 0
        self._pushed = 0
        self._popped = 0
        self._frame_ends: deque[tuple[int, Callable[[], None]]] = deque()

    @property
    def nb_bytes(self) -> int:
        """Bytes waiting, 0 to 4096."""
        return self._pushed - self._popped

    def reset(self) -> None:
        """Clear the pointers; the RAM keeps its content."""
        self._pushed = self._popped = 0
        self.last_read = self.last_written = 0
        self._frame_ends.clear()

    def push(self, frame: bytes, on_read: Callable[[], None]) -> bool:
        """Append a frame and return True, or return False when it does not fit.

        Args:
            frame: 1 to 4096 bytes.
            on_read: called once the host has popped the frame's last byte.
        """
        if len(frame) > SIZE - self.nb_bytes:
            return False
        at = self._pushed % SIZE
        head = min(len(frame), SIZE - at)
        self.ram[at : at + head] = frame[:head]
        self.ram[: len(frame) - head] = frame[head:]
        self._pushed += len(frame)
        self.last_written = (self._pushed - 1) % SIZE
        self._frame_ends.append((self._pushed, on_read))
        return True

    def pop(self, length: int) -> bytes:
        """Remove and return `length` bytes, filled up with zeros when the FIFO runs empty."""
        taken = min(length, self.nb_bytes)
        if taken == 0:
            return bytes(length)
        at = self._popped % SIZE
        head = min(taken, SIZE - at)
        data = bytes(self.ram[at : at + head] + self.ram[: taken - head])
        self._popped += taken
        self.last_read = (self._popped - 1) % SIZE
        while self._frame_ends and self._frame_ends[0][0] <= self._popped:
            self._frame_ends.popleft()[1]()
        return data + bytes(length - taken)
