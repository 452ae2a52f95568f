# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The 32 MHz counter of the virtual concentrator, and its value latched at the last PPS.

The counter advances only while the chip is clocked by a radio. It is kept unwrapped inside; the registers show its
low 32 bits. PPS edges fall on the whole seconds of the emulator's own time, from whenever the latch is enabled.

Not modelled: start-up of the crystal, jitter, temperature; whether silicon keeps or clears the count while the clock is
away (here: kept); the latch of a PPS edge in the very cycle of a read.
"""

from __future__ import annotations

from typing import Final

TICKS_PER_US: Final = 32
_NS_PER_S: Final = 1_000_000_000


class Counter:
    """A counter that follows the emulator's time in nanoseconds.

    Attributes:
        rate_error_ppb: how much too fast the crystal is, in parts per billion.
        pps_present: whether a GNSS delivers pulses.
    """

    def __init__(self, start_us: int = 0) -> None:
        self._start_ticks = start_us * TICKS_PER_US
        self.rate_error_ppb = 0
        self.pps_present = True
        self._anchor_ns = 0
        self._anchor_ticks = self._start_ticks
        self._running = False
        self._pps_enabled = False
        self._pps_from_ns = 0
        self._pps_ticks = 0

    @property
    def running(self) -> bool:
        """Whether the counter is clocked."""
        return self._running

    def reset(self, now_ns: int) -> None:
        """Restart from the start value, not clocked, with the PPS latch cleared and disabled."""
        self._anchor_ns = now_ns
        self._anchor_ticks = self._start_ticks
        self._running = False
        self._pps_enabled = False
        self._pps_ticks = 0

    def run(self, now_ns: int, *, running: bool) -> None:
        """Give or take the clock."""
        if running != self._running:
            self._latch(now_ns)
            self._anchor(now_ns)
            self._running = running
            self._pps_from_ns = now_ns

    def enable_pps(self, now_ns: int, *, enabled: bool) -> None:
        """Open or close the PPS latch."""
        if enabled != self._pps_enabled:
            self._latch(now_ns)
            self._pps_enabled = enabled
            self._pps_from_ns = now_ns

    def set_pps_present(self, now_ns: int, *, present: bool) -> None:
        """Start or stop the pulses."""
        self._latch(now_ns)
        self.pps_present = present
        self._pps_from_ns = now_ns

    def set_rate_error(self, now_ns: int, ppb: int) -> None:
        """Detune the crystal from now on."""
        self._latch(now_ns)
        self._anchor(now_ns)
        self.rate_error_ppb = ppb
        self._pps_from_ns = now_ns

    def ticks(self, now_ns: int) -> int:
        """Return the unwrapped count; instants before the last change of clock are extrapolated."""
        if not self._running:
            return self._anchor_ticks
        elapsed = now_ns - self._anchor_ns
        elapsed += elapsed * self.rate_error_ppb // _NS_PER_S
        return self._anchor_ticks + elapsed * TICKS_PER_US // 1000

    def time_ns(self, ticks: int) -> int:
        """Return the first nanosecond at which the unwrapped count has reached `ticks`."""
        needed = -(-(ticks - self._anchor_ticks) * 1000 // TICKS_PER_US)
        needed = needed * _NS_PER_S // (_NS_PER_S + self.rate_error_ppb)
        while self.ticks(self._anchor_ns + needed) < ticks and self._running:
            needed += 1
        return self._anchor_ns + needed

    def pps_ticks(self, now_ns: int) -> int:
        """Return the unwrapped count at the last PPS edge; 0 before the first."""
        self._latch(now_ns)
        return self._pps_ticks

    def _anchor(self, now_ns: int) -> None:
        self._anchor_ticks = self.ticks(now_ns)
        self._anchor_ns = now_ns

    def _latch(self, now_ns: int) -> None:
        edge_ns = now_ns - now_ns % _NS_PER_S
        if self._running and self._pps_enabled and self.pps_present and edge_ns >= self._pps_from_ns:
            self._pps_ticks = self.ticks(edge_ns)
