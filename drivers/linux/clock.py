# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The host's own time."""

from __future__ import annotations

import time


class SystemClock:
    """CLOCK_MONOTONIC_RAW and real sleep.

    A time daemon slews CLOCK_MONOTONIC by up to 500 ppm, against which a good crystal looks like a chip that restarted.
    """

    def monotonic_ns(self) -> int:
        """Nanoseconds of CLOCK_MONOTONIC_RAW, never going back."""
        return time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW)

    def sleep(self, seconds: float) -> None:
        """Wait; returns no earlier than `seconds` later."""
        time.sleep(seconds)
