# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What the agent takes of its host, and how warm that is."""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

STATM = Path("/proc/self/statm")
THERMAL_ZONE = Path("/sys/class/thermal/thermal_zone0/temp")
"""Of the processor, on every Raspberry Pi."""
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class HostView:
    """One look.

    Attributes:
        resident_bytes: memory of this process; None where the kernel does not tell.
        cpu_s: that this process has used since it began.
        threads: of this process.
        temperature_celsius: of the processor; None where nothing measures it.
    """

    resident_bytes: int | None
    cpu_s: float
    threads: int
    temperature_celsius: float | None


def look() -> HostView:
    """Look."""
    resident_bytes, temperature_celsius = None, None
    with suppress(OSError, ValueError, IndexError):
        resident_bytes = int(STATM.read_text(encoding="ascii").split()[1]) * _PAGE_BYTES
    with suppress(OSError, ValueError):
        temperature_celsius = int(THERMAL_ZONE.read_text(encoding="ascii")) / 1000
    return HostView(resident_bytes, time.process_time(), threading.active_count(), temperature_celsius)
