# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What went over the SPI last, for whoever has to understand a failure."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from drivers.bus import SpiBus

KEPT_FRAMES: Final = 4000


class Trace:
    """The last frames, of every bus that was opened through it."""

    def __init__(self) -> None:
        self._frames: deque[tuple[int, bytes, bytes]] = deque(maxlen=KEPT_FRAMES)
        self._began_ns = time.monotonic_ns()

    def of(self, bus: SpiBus) -> SpiBus:
        """Return a bus whose frames are kept."""
        return _TracedBus(bus, self)

    def note(self, sent: Sequence[bytes], came: Sequence[bytes]) -> None:
        """Keep frames."""
        at_us = (time.monotonic_ns() - self._began_ns) // 1000
        self._frames.extend((at_us, one, other) for one, other in zip(sent, came, strict=True))

    def write(self, path: Path) -> None:
        """Write them as text: microseconds, what was sent, what came back; none, no file."""
        if self._frames:
            lines = (f"{at_us} {sent.hex()} {came.hex()}\n" for at_us, sent, came in tuple(self._frames))
            path.write_text("".join(lines))


class _TracedBus:
    """A bus that is looked at."""

    def __init__(self, inner: SpiBus, trace: Trace) -> None:
        self._inner = inner
        self._trace = trace

    def transfer(self, frame: bytes) -> bytes:
        """Exchange one frame."""
        return self.transfer_all([frame])[0]

    def transfer_all(self, frames: Sequence[bytes]) -> list[bytes]:
        """Exchange several frames."""
        came = self._inner.transfer_all(frames)
        self._trace.note(frames, came)
        return came

    def close(self) -> None:
        """Release the device."""
        self._inner.close()
