# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The host's own time."""

from __future__ import annotations

import time


class SystemClock:
    """CLOCK_MONOTONIC and real sleep."""

    def monotonic_ns(self) -> int:
        """Nanoseconds of CLOCK_MONOTONIC, never going back."""
        return time.monotonic_ns()

    def sleep(self, seconds: float) -> None:
        """Wait; returns no earlier than `seconds` later."""
        time.sleep(seconds)
