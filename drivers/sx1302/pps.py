# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The pulses of a GNSS receiver, as the chip latches them: its counter at the last one stands beside the counter now.

The latch says nothing of its age. When the pulses stop it keeps its value, and every 134 s that value looks fresh
again, because the counter came round [sx1302_hal issues 112, 135]. So a pulse is what has *changed* since the latch was
looked at before, and is younger than a second and a bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from drivers.sx1302.counter import DRIFT_LIMIT_PPM, TICKS_PER_US, WRAP_US

if TYPE_CHECKING:
    from drivers.sx1302.counter import CounterReading, CounterSample

WRAP_TICKS: Final = WRAP_US * TICKS_PER_US
FRESH_TICKS: Final = 1_100_000 * TICKS_PER_US
"""A latched value that is older when it is first seen is not the last of a row of pulses."""


@dataclass(frozen=True, slots=True)
class Pulse:
    """The beginning of a second, as the concentrator saw it.

    Attributes:
        counter_ticks: the 32 MHz counter at the pulse, 64 bits, on the scale of `CounterSample.counter_us` times 32.
        host_ns: CLOCK_MONOTONIC at the pulse.
        host_error_ns: `host_ns` is not farther off.
        age_ns: how old it was when the chip was asked, by the chip's counter; `host_ns` is so much before that moment.
    """

    counter_ticks: int
    host_ns: int
    host_error_ns: int
    age_ns: int = 0


class PulseWatch:
    """Tells new pulses from a latch that only kept its value. One for each run of the chip's counter."""

    def __init__(self) -> None:
        self._latched: int | None = None

    def look(self, sample: CounterSample, reading: CounterReading) -> Pulse | None:
        """Return the pulse that came since the latch was looked at before; None when none came, or for the first look.

        Args:
            sample: the unwrapped counter of the reading.
            reading: what the chip said.
        """
        before, self._latched = self._latched, reading.pps_ticks
        age_ticks = (reading.ticks - reading.pps_ticks) % WRAP_TICKS
        if before in (None, reading.pps_ticks) or age_ticks > FRESH_TICKS:
            return None
        now_ticks = sample.counter_us // WRAP_US * WRAP_TICKS + reading.ticks
        age_ns = age_ticks * 1000 // TICKS_PER_US
        drift_ns = age_ns * DRIFT_LIMIT_PPM // 1_000_000
        # The counter was sampled somewhere within the reading, whose middle, in whole microseconds, is `host_ns`.
        error_ns = reading.bracket_us * 500 + 1000 + drift_ns
        return Pulse(now_ticks - age_ticks, reading.host_ns - age_ns, error_ns, age_ns)
