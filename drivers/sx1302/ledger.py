# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The airtime that was used in the past hour, band by band: what a duty cycle is judged by.

A duty cycle is a share of *any* hour [EN 300 220-1]. So each transmission stays on the account until an
hour after its end; ends are rounded up to a minute, which keeps the account small and errs on the safe side.
Times are CLOCK_MONOTONIC_RAW of the host: nothing can set it, and should it stand still while the host sleeps, an entry
only stays longer.

An account without memory is one that is used up: who does not know what was sent an hour ago must not send.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from drivers.plans import TransmitBand

WINDOW_S: Final = 3600
STEP_S: Final = 60
"""Granularity of the account; with it a band never has more than some 65 entries."""

WINDOW_US: Final = WINDOW_S * 1_000_000
NS_PER_S: Final = 1_000_000_000

SLACK_S: Final = 1
"""How much later than planned a transmission may end."""

AHEAD_S: Final = 3600
"""Farthest end of a transmission that an account believes in; the chip can be told 134 s ahead."""

REBOOT_US: Final = 3_000_000
"""What may have been sent, and not been written down, when the power failed: the longest LoRaWAN packet at SF12."""

MEMORY_LIMIT_BYTES: Final = 65_536
RANGES_LIMIT: Final = 64
_FORMAT: Final = 1

Range = tuple[int, int]
"""Lower and upper edge of a band, Hz."""


@dataclass(frozen=True, slots=True)
class Use:
    """How much of a band's share of time is used.

    Attributes:
        band: which.
        used_us: airtime in the past hour.
        limit_us: what an hour may have.
    """

    band: TransmitBand
    used_us: int
    limit_us: int


class AirtimeLedger:
    """Accounts of the airtime of a plan's bands.

    Args:
        bands: of the plan.
        now_ns: CLOCK_MONOTONIC_RAW.
        keep: called with `memory` after each charge, to be written down; must not wait.
    """

    def __init__(self, bands: Iterable[TransmitBand], now_ns: int, keep: Callable[[str], None] | None = None) -> None:
        self._bands = tuple(bands)
        self._keep = keep
        self._accounts: dict[Range, dict[int, int]] = {(band.low_hz, band.high_hz): {} for band in self._bands}
        self._last_end_ns: dict[Range, int] = dict.fromkeys(self._accounts, now_ns)
        for band in self._bands:
            self._assume(band, now_ns)

    @classmethod
    def unused(
        cls, bands: Iterable[TransmitBand], now_ns: int, keep: Callable[[str], None] | None = None
    ) -> AirtimeLedger:
        """Return accounts of a transmitter that is known not to have sent for an hour."""
        ledger = cls(bands, now_ns, keep)
        for account in ledger._accounts.values():
            account.clear()
        return ledger

    @classmethod
    def recalled(
        cls,
        bands: Iterable[TransmitBand],
        now_ns: int,
        memory: str,
        *,
        same_boot: bool,
        keep: Callable[[str], None] | None = None,
    ) -> AirtimeLedger:
        """Return accounts as an earlier process has left them.

        Args:
            bands: of the plan, which may be another than then.
            now_ns: CLOCK_MONOTONIC_RAW.
            memory: what the earlier process kept.
            same_boot: the host has not been started anew since. If it has, all was sent before that, at the latest
                when the clock was zero, and `REBOOT_US` more.
            keep: as above.

        Raises:
            ValueError: the memory makes no sense.
        """
        accounts = _read(memory)
        ledger = cls.unused(bands, now_ns, keep)
        latest = _step(now_ns + AHEAD_S * NS_PER_S)
        for (low_hz, high_hz), old in accounts.items():
            for edges in ledger._touched(low_hz, high_hz):
                for step, airtime_us in old.items():
                    ledger._add(edges, min(step, latest) if same_boot else 0, airtime_us)
        if not same_boot:
            for edges in ledger._accounts:
                ledger._add(edges, 0, REBOOT_US)
        return ledger

    def check(self, band: TransmitBand, now_ns: int, start_ns: int, airtime_us: int) -> int | None:
        """Return None when a band has room for a transmission, else when it has: CLOCK_MONOTONIC_RAW, nanoseconds.

        Args:
            band: of this ledger.
            now_ns: CLOCK_MONOTONIC_RAW; what is on the account now counts, also if it will be too old at the start.
            start_ns: when the transmission begins.
            airtime_us: how long it lasts; not more than the band's share of an hour.
        """
        edges = (band.low_hz, band.high_hz)
        pause_ends_ns = self._last_end_ns[edges] + band.pause_ms * 1_000_000
        if band.pause_ms and start_ns < pause_ends_ns:
            return pause_ends_ns
        limit_us = share_us(band)
        if band.duty_cycle >= 1 or self.used_us(band, now_ns) + airtime_us <= limit_us:
            return None
        left = sorted(self._accounts[edges].items())
        used_us = sum(us for _, us in left)
        free_step = left[-1][0]
        for step, us in left:
            used_us -= us
            if used_us + airtime_us <= limit_us:
                free_step = step
                break
        return (free_step + 1) * STEP_S * NS_PER_S + WINDOW_S * NS_PER_S

    def used_us(self, band: TransmitBand, at_ns: int) -> int:
        """Return the airtime that the hour before a moment had, in microseconds."""
        oldest = _oldest(at_ns)
        return sum(us for step, us in self._accounts[band.low_hz, band.high_hz].items() if step >= oldest)

    def uses(self, now_ns: int) -> tuple[Use, ...]:
        """Return how much of each limited band is used."""
        limited = (band for band in self._bands if band.duty_cycle < 1)
        return tuple(Use(band, self.used_us(band, now_ns), share_us(band)) for band in limited)

    def charge(self, low_hz: int, high_hz: int, now_ns: int, end_ns: int, airtime_us: int) -> None:
        """Put a transmission on the accounts of all bands that its signal touches.

        Args:
            low_hz: lower edge of the signal.
            high_hz: upper edge of the signal.
            now_ns: CLOCK_MONOTONIC_RAW.
            end_ns: when it ends, give or take `SLACK_S`.
            airtime_us: how long it lasts.
        """
        for edges in self._touched(low_hz, high_hz):
            account = self._accounts[edges]
            for old in [step for step in account if step < _oldest(now_ns)]:
                del account[old]
            self._add(edges, _step(end_ns + SLACK_S * NS_PER_S), airtime_us)
            self._last_end_ns[edges] = max(self._last_end_ns[edges], end_ns)
        if self._keep is not None:
            self._keep(self.memory())

    def memory(self) -> str:
        """Return what a later process needs to know, as JSON."""
        ranges = [[low, high, sorted(account.items())] for (low, high), account in self._accounts.items()]
        return json.dumps({"format": _FORMAT, "ranges": ranges}, separators=(",", ":"))

    def _assume(self, band: TransmitBand, now_ns: int) -> None:
        """Take all for used that may be used."""
        if band.duty_cycle < 1:
            account = self._accounts[band.low_hz, band.high_hz]
            step = _step(now_ns)
            account[step] = max(account.get(step, 0), share_us(band))

    def _touched(self, low_hz: int, high_hz: int) -> list[Range]:
        return [edges for edges in self._accounts if edges[0] < high_hz and low_hz < edges[1]]

    def _add(self, edges: Range, step: int, airtime_us: int) -> None:
        account = self._accounts[edges]
        account[step] = account.get(step, 0) + airtime_us


def share_us(band: TransmitBand) -> int:
    """Return what an hour may have of a band, in microseconds."""
    return int(band.duty_cycle * WINDOW_US)


def _step(at_ns: int) -> int:
    return at_ns // (STEP_S * NS_PER_S)


def _oldest(at_ns: int) -> int:
    """Return the first step whose transmissions may have ended in the hour before a moment."""
    return _step(at_ns - WINDOW_S * NS_PER_S)


def _read(memory: str) -> Mapping[Range, Mapping[int, int]]:
    try:
        told: Any = json.loads(memory)
        if told["format"] != _FORMAT or len(told["ranges"]) > RANGES_LIMIT:
            raise ValueError("of another format")
        accounts = {
            (_whole(low), _whole(high)): {_whole(step): _whole(us) for step, us in account}
            for low, high, account in told["ranges"]
        }
    except (KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"no memory of airtime: {error}") from error
    return accounts


def _whole(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 53:
        raise ValueError(f"found {value!r}")
    return value
