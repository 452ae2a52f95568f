# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""How many receptions there were on each channel at each data rate in the last hour and day: small for good."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from agent.local.sighting import Fate, Sighting

SLOT_US: Final = 600_000_000
"""What is told apart. The last hour is the slot of now and the five before it: 50 to 60 minutes."""
HOUR_SLOTS: Final = 6
DAY_SLOTS: Final = 144
MOST_ROWS: Final = 96
"""Channels times data rates: ten times eight, and some to spare. What comes beyond counts as data rate 0."""
_FATES: Final = tuple(Fate)


@dataclass(frozen=True, slots=True)
class Count:
    """Receptions on one channel at one data rate.

    Attributes:
        if_chain: 0 to 7 multi-SF, 8 LoRa service, 9 FSK; -1: any.
        frequency_hz: of the channel; 0: of any.
        modulation: "lora" or "fsk".
        datarate: LoRa: spreading factor; FSK: bit/s; 0: any.
        kept: frames that a destination gets.
        filtered: of others.
        bad_crc: damaged.
    """

    if_chain: int
    frequency_hz: int
    modulation: str
    datarate: int
    kept: int
    filtered: int
    bad_crc: int


@dataclass(frozen=True, slots=True)
class Heard:
    """What was heard.

    Attributes:
        since_us: CLOCK_BOOTTIME when counting began.
        hour: counts of the last hour, by channel and data rate; those that are not 0.
        day: of the last day.
    """

    since_us: int
    hour: Sequence[Count]
    day: Sequence[Count]


class _Row:
    """One channel at one data rate: a ring of slots for each fate, and their sums."""

    __slots__ = ("day", "hour", "slots")

    def __init__(self) -> None:
        self.slots = tuple(array("I", bytes(4 * DAY_SLOTS)) for _ in _FATES)
        self.hour = [0] * len(_FATES)
        self.day = [0] * len(_FATES)


class Tally:
    """Counts, and forgets what is older than a day. One thread counts; any may look.

    Args:
        now_us: CLOCK_BOOTTIME.
    """

    def __init__(self, now_us: int) -> None:
        self._since_us = now_us
        self._slot = now_us // SLOT_US
        self._rows: dict[tuple[int, int, str, int], _Row] = {}

    def take(self, seen: Sighting, now_us: int) -> None:
        """Count a reception."""
        self._advance(now_us // SLOT_US)
        key = (seen.if_chain, seen.frequency_hz, seen.modulation, seen.datarate)
        row = self._rows.get(key)
        if row is None:
            if len(self._rows) >= MOST_ROWS:
                key = (-1, 0, seen.modulation, 0)
            row = self._rows.setdefault(key, _Row())
        at = _FATES.index(seen.fate)
        row.slots[at][self._slot % DAY_SLOTS] += 1
        row.hour[at] += 1
        row.day[at] += 1

    def heard(self, now_us: int) -> Heard:
        """Return the counts."""
        hour, day = [], []
        behind = now_us // SLOT_US - self._slot
        for key, row in sorted(self._rows.items()):
            # Between receptions nobody moves the slots: what was counted last may be too old by now.
            in_hour = row.hour if behind <= 0 else self._sums(row, HOUR_SLOTS - behind)
            in_day = row.day if behind <= 0 else self._sums(row, DAY_SLOTS - behind)
            if any(in_hour):
                hour.append(Count(*key, *in_hour))
            if any(in_day):
                day.append(Count(*key, *in_day))
        return Heard(self._since_us, tuple(hour), tuple(day))

    def _sums(self, row: _Row, slots: int) -> list[int]:
        at = self._slot
        return [sum(ring[(at - back) % DAY_SLOTS] for back in range(max(slots, 0))) for ring in row.slots]

    def _advance(self, slot: int) -> None:
        if slot <= self._slot:
            return
        passed = range(self._slot + 1, slot + 1) if slot - self._slot < DAY_SLOTS else range(DAY_SLOTS)
        for row in self._rows.values():
            for ring in row.slots:
                for old in passed:
                    ring[old % DAY_SLOTS] = 0
        self._slot = slot
        for row in self._rows.values():
            row.hour, row.day = self._sums(row, HOUR_SLOTS), self._sums(row, DAY_SLOTS)
