# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Numbers of the LoRa modulation as the SX1302's registers want them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

BANDWIDTH_CODE: Final[Mapping[int, int]] = {125_000: 4, 250_000: 5, 500_000: 6}
"""Register code of a bandwidth in Hz."""

PUBLIC_SYNC_PEAKS: Final = (6, 8)
PRIVATE_SYNC_PEAKS: Final = (2, 4)
"""Positions of the two sync symbols: the nibbles of the sync word (0x34, 0x12), doubled."""

DRIFT_MANTISSA_MIN: Final = 2048
"""The 12-bit mantissa of the drift is shifted up until its highest bit is set."""


def sync_peaks(spreading_factor: int, *, public: bool) -> tuple[int, int]:
    """Return the positions of the sync symbols; SF5 and SF6 know only the private sync word [HAL 2.1.0]."""
    return PUBLIC_SYNC_PEAKS if public and spreading_factor >= 7 else PRIVATE_SYNC_PEAKS


def low_data_rate(bandwidth_hz: int, spreading_factor: int) -> bool:
    """Say whether the modem's low data rate optimisation is on (symbols of 16 ms and longer)."""
    return (bandwidth_hz, spreading_factor) in {(125_000, 11), (125_000, 12), (250_000, 12)}


def frequency_to_time_drift(bandwidth_hz: int, radio_hz: int) -> tuple[int, int]:
    """Return how far a crystal error moves the symbol clock, as (mantissa 0 to 4095, exponent).

    The vendor's software computes it from radio A for all channels, and so do we, to stay comparable.
    """
    mantissa, exponent = (bandwidth_hz << 20) // radio_hz, 0
    while mantissa < DRIFT_MANTISSA_MIN:
        mantissa, exponent = mantissa * 2, exponent + 1
    return mantissa, exponent
