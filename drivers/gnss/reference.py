# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""A pulse whose second is known: the concentrator's counter tied to GPS time and UTC, with a bound on the error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from drivers.gnss.leapseconds import GPS_EPOCH_UNIX_S

TICKS_PER_S: Final = 32_000_000
TICK_NS: Final = 32
"""Of the counter, rounded up; it counts whole ticks."""

NS_PER_S: Final = 1_000_000_000
RATE_LIMIT_PPM: Final = 50
"""How far the concentrator's crystal may be off, and how far it may depart from what was measured. Boards have
temperature-compensated ones of 2 ppm."""


@dataclass(frozen=True, slots=True)
class Reference:
    """The counter at the beginning of a second, and how fast it counts.

    Attributes:
        pulse_ticks: the 32 MHz counter at the pulse, 64 bits (`Pulse.counter_ticks`).
        host_ns: CLOCK_MONOTONIC at the pulse.
        host_error_ns: `host_ns` is not farther off.
        gps_s: the second that began, seconds since 1980-01-06 without leap seconds.
        leap_s: GPS ahead of UTC in it.
        delay_ns: by how much the pulse reaches the counter after the beginning of the second.
        accuracy_ns: how far pulse and counter value may be off.
        span_ticks: ticks that were counted in `span_s`.
        span_s: how long the rate was measured, seconds; 0 when it is not known yet.
        gps_doubt_s: whole seconds by which GPS time may be off, because the receiver told UTC and leap seconds are not
            certain; 0 as a rule.
        utc_doubt_s: whole seconds by which UTC may be off, likewise.
    """

    pulse_ticks: int
    host_ns: int
    host_error_ns: int
    gps_s: int
    leap_s: int
    delay_ns: int = 0
    accuracy_ns: int = 0
    span_ticks: int = TICKS_PER_S
    span_s: int = 0
    gps_doubt_s: int = 0
    utc_doubt_s: int = 0

    @property
    def pulse_gps_ns(self) -> int:
        """GPS time of the pulse at the counter, nanoseconds since 1980-01-06."""
        return self.gps_s * NS_PER_S + self.delay_ns

    @property
    def pulse_utc_ns(self) -> int:
        """UTC of the pulse at the counter, nanoseconds since 1970-01-01 (POSIX count)."""
        return self._utc(self.pulse_gps_ns)

    @property
    def drift_ppb(self) -> int | None:
        """How much too fast the counter is, parts per billion; None while that is not known."""
        if self.span_s == 0:
            return None
        nominal = self.span_s * TICKS_PER_S
        return round((self.span_ticks - nominal) * 1_000_000_000 / nominal)

    def gps_ns(self, counter_ticks: int) -> int:
        """Return the GPS time of a counter value, nanoseconds since 1980-01-06.

        Args:
            counter_ticks: 64 bits, of the same run of the chip; before or after the pulse.
        """
        return self.pulse_gps_ns + _scaled(counter_ticks - self.pulse_ticks, self._span_s * NS_PER_S, self.span_ticks)

    def utc_ns(self, counter_ticks: int) -> int:
        """Return the UTC of a counter value, nanoseconds since 1970-01-01.

        It is the POSIX count, which gives the second after an inserted one the same number; a leap second between the
        pulse and the counter value is not known here.
        """
        return self._utc(self.gps_ns(counter_ticks))

    def counter_ticks(self, gps_ns: int) -> int:
        """Return the counter value at a GPS time; in the past or in the future."""
        return self.pulse_ticks + _scaled(gps_ns - self.pulse_gps_ns, self.span_ticks, self._span_s * NS_PER_S)

    def counter_ticks_at_utc(self, utc_ns: int) -> int:
        """Return the counter value at a UTC, POSIX count."""
        return self.counter_ticks(utc_ns + (self.leap_s - GPS_EPOCH_UNIX_S) * NS_PER_S)

    def error_ns(self, counter_ticks: int) -> int:
        """Return how far `gps_ns` of a counter value may be off; grows with its distance from the pulse."""
        return self._error_ns(counter_ticks) + self.gps_doubt_s * NS_PER_S

    def utc_error_ns(self, counter_ticks: int) -> int:
        """Return how far `utc_ns` of a counter value may be off."""
        return self._error_ns(counter_ticks) + self.utc_doubt_s * NS_PER_S

    @property
    def _span_s(self) -> int:
        return self.span_s or self.span_ticks // TICKS_PER_S

    def _error_ns(self, counter_ticks: int) -> int:
        away_ns = abs(counter_ticks - self.pulse_ticks) * NS_PER_S // TICKS_PER_S
        return self.accuracy_ns + TICK_NS + away_ns * RATE_LIMIT_PPM // 1_000_000

    def _utc(self, gps_ns: int) -> int:
        return gps_ns + (GPS_EPOCH_UNIX_S - self.leap_s) * NS_PER_S


def _scaled(value: int, numerator: int, denominator: int) -> int:
    """Return `value * numerator / denominator`, rounded to the nearest."""
    return (2 * value * numerator + denominator) // (2 * denominator)
