# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Fine time stamps of the SX1303: when a packet's preamble ended, in nanoseconds since the last PPS.

A second modem demodulates each packet once more and measures how the symbols' timing drifts. From that, the chip's
stamp at the end of the header, and the pulses before and after it, the moment follows to some tens of nanoseconds.
The arithmetic is that of Semtech's software, so that gateways of both kinds agree
[HAL 2.1.0 precise_timestamp_calculate].
"""

from __future__ import annotations

from collections import deque
from enum import StrEnum
from itertools import accumulate
from typing import TYPE_CHECKING, Final

from drivers.sx1302.registers import field

if TYPE_CHECKING:
    from collections.abc import Iterator

    from drivers.sx1302.fifo import FifoRecord
    from drivers.sx1302.pps import Pulse
    from drivers.sx1302.regmap import Setting

MAX_TS_METRICS = field("RX_TOP_RX_BUFFER_TIMESTAMP_CFG_MAX_TS_METRICS")
TIMESTAMP_ENABLE = field("RX_TOP_TIMESTAMP_ENABLE")
TIMESTAMP_NB_SYMB = field("RX_TOP_TIMESTAMP_NB_SYMB")
LEGACY_TIMESTAMP = field("RX_TOP_RX_BUFFER_LEGACY_TIMESTAMP")

METRIC_PAIRS: Final = 32
METRIC_PAIRS_OF: Final = {10: 16, 11: 8, 12: 4}
"""Pairs that count, by spreading factor; the others are noise."""

TICK_NS: Final = 31.25
GROUP_DELAY_TICKS: Final = 2138
"""By how much this chip stamps earlier than the older gateway design with fine time stamps."""

SAMPLE_TICKS: Final = 256
"""Of the counter, in a sample at 125 kHz."""

PREAMBLE_TO_HEADER_SYMBOLS: Final = 12
SHORT_SF_SYMBOLS: Final = 2
"""More, for SF5 and SF6."""

NOTCH_REACH_KHZ: Final = 75.0
NOTCH_TICKS: Final = (10.2922, -0.01275, -0.0101, 2.4e-6, 1.7e-6)
"""Polynomial over the IF in kHz, constant first: how the DC notch filter delays a channel close to it."""

SECOND_NS: Final = 1_000_000_000
SECOND_TICKS: Final = 32_000_000

KEPT_PULSES: Final = 16
"""As many as the vendor's software wants to have seen before it trusts them."""

CRYSTAL_RATIO: Final = (0.8, 1.2)
"""Pulses that say that the crystal is farther off are not those of a GNSS receiver [HAL 2.1.0]."""


class FineTimestamps(StrEnum):
    """Which packets get a fine time stamp; each costs a second modem."""

    ALL_SF = "all_sf"
    """All spreading factors."""

    HIGH_CAPACITY = "high_capacity"
    """SF5 to SF10: the slow ones would occupy two modems for seconds."""

    @property
    def double_demodulation(self) -> int:
        """The spreading factors as the arbiter wants them, bit 0 for SF5."""
        return 0xFF if self is FineTimestamps.ALL_SF else 0x3F


class PulseHistory:
    """The last pulses of one run of the chip's counter."""

    def __init__(self) -> None:
        self._ticks: deque[int] = deque(maxlen=KEPT_PULSES)

    def clear(self) -> None:
        """Forget all: the counter starts anew."""
        self._ticks.clear()

    def note(self, pulse: Pulse) -> None:
        """Take the next pulse."""
        self._ticks.append(pulse.counter_ticks)

    def since(self, ticks: int) -> tuple[int, float] | None:
        """Return how long before a moment its second began, in ticks, and the true duration of a tick as a ratio.

        Args:
            ticks: the moment, by the 32 MHz counter, 64 bits.

        Returns:
            None before enough pulses came, and when that second's pulse is not known or cannot be right.
        """
        pulses = self._ticks
        if len(pulses) < KEPT_PULSES:
            return None
        at = next((index for index in reversed(range(KEPT_PULSES)) if pulses[index] <= ticks), None)
        if at is None:
            return None
        low = max(at - 1, 0)
        between = pulses[low + 1] - pulses[low]
        # A look that came late may have missed a pulse; the seconds between two are whole all the same.
        ratio = max(round(between / SECOND_TICKS), 1) * SECOND_TICKS / between
        return (ticks - pulses[at], ratio) if CRYSTAL_RATIO[0] <= ratio <= CRYSTAL_RATIO[1] else None


def settings() -> Iterator[Setting]:
    """Stamp packets at the end of the header, and add timing metrics."""
    yield LEGACY_TIMESTAMP, 0
    yield MAX_TS_METRICS, METRIC_PAIRS
    yield TIMESTAMP_ENABLE, 1
    yield TIMESTAMP_NB_SYMB, 0


def notch_delay_ticks(if_hz: int) -> float:
    """Return how long the DC notch filter delays a channel, in 32 MHz ticks."""
    khz = if_hz / 1000
    if abs(khz) > NOTCH_REACH_KHZ:
        return 0.0
    delay = 0.0
    for coefficient in reversed(NOTCH_TICKS):
        delay = delay * khz + coefficient
    return delay


def preamble_to_header_ticks(spreading_factor: int, frequency_hz: int, offset_hz: int) -> int:
    """Return the time from the end of the preamble to the end of the header, for the sender's crystal.

    Args:
        spreading_factor: 5 to 12, at 125 kHz.
        frequency_hz: of the channel.
        offset_hz: of the packet against it.
    """
    chips = 1 << spreading_factor
    symbols = PREAMBLE_TO_HEADER_SYMBOLS + (SHORT_SF_SYMBOLS if spreading_factor <= 6 else 0)
    ticks = SAMPLE_TICKS * chips * symbols + SAMPLE_TICKS * (chips // 4 - 1)
    return ticks + int(ticks * (offset_hz / frequency_hz) + 0.5)


def metrics_mean_ticks(record: FifoRecord) -> float:
    """Return the mean of the timing metrics, whose bytes are steps from one value to the next."""
    pairs = min(len(record.metrics) // 2, METRIC_PAIRS_OF.get(record.spreading_factor, METRIC_PAIRS))
    if pairs == 0:
        return 0.0
    steps = memoryview(record.metrics)[: 2 * pairs].cast("b")
    return sum(accumulate(steps)) / (2 * pairs)


def fine_timestamp_ns(
    record: FifoRecord, stamp_ticks: int, pulses: PulseHistory, *, frequency_hz: int, offset_hz: int, if_hz: int
) -> int | None:
    """Return when the preamble of a packet ended, in nanoseconds since the last PPS.

    Args:
        record: of a multi-SF modem, its payload CRC found good.
        stamp_ticks: the record's stamp, unwrapped to 64 bits.
        pulses: up to the reading after the record was fetched.
        frequency_hz: of the channel.
        offset_hz: of the packet against it.
        if_hz: of the channel against its radio.

    Returns:
        None when the packet was not measured, or the pulses do not allow it.
    """
    if not record.timing_set or not record.metrics:
        return None
    start = stamp_ticks - preamble_to_header_ticks(record.spreading_factor, frequency_hz, offset_hz)
    start += GROUP_DELAY_TICKS
    found = pulses.since(start)
    if found is None:
        return None
    since, ratio = found
    exact_ns = (since + metrics_mean_ticks(record) + notch_delay_ticks(if_hz)) * TICK_NS * ratio
    return int(exact_ns) if 0 <= exact_ns <= SECOND_NS else None
