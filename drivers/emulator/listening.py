# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The receiver of an emulated device: a short window, in which it hears a downlink only if it really would.

A downlink is heard when enough of its preamble falls into the window, and frequency, spreading factor, bandwidth, sync
word, header, polarity and power are right; the reason is told when it is not.

The window is as LoRaMac-node makes it: long enough for the clock's error, around the middle of a preamble that is on
time. Not modelled: interference at the device, FSK, payload CRCs, time to wake up.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Final

from drivers.emulator.air import LORAWAN_SYNC_WORD
from drivers.emulator.airtime import LoraShape
from drivers.emulator.medium import (
    FREQUENCY_REACH,
    NEEDED_PREAMBLE_SYMBOLS,
    PREAMBLE_SYMBOLS,
    SNR_FLOOR_DB,
    noise_dbm,
)

if TYPE_CHECKING:
    from drivers.emulator.tx import Emission

CLOCK_ERROR_US: Final = 10_000
"""What devices provide for [LoRaMac-node, SystemMaxRxError]; the specification allows 20 us [LoRaWAN 1.0.4 L2]."""

LEAST_SYMBOLS: Final = 6
"""Shortest window [LoRaMac-node, MinRxSymbols]."""

_NS_PER_US: Final = 1_000


@dataclass(frozen=True, slots=True)
class Window:
    """A time and a channel in which a device listens.

    Attributes:
        name: RX1 or RX2.
        due_us: when a downlink that is on time begins, by the device's clock; in the emulator's time.
        freq_hz: true frequency of its receiver.
        sf: spreading factor, 7 to 12.
        bw_hz: bandwidth.
    """

    name: str
    due_us: int
    freq_hz: int
    sf: int
    bw_hz: int = 125_000

    @property
    def symbol_us(self) -> int:
        """Duration of a symbol."""
        return LoraShape(self.sf, self.bw_hz, 1, 0, crc=False).symbol_us

    @property
    def length_us(self) -> int:
        """How long it is open when nothing is found."""
        symbol = self.symbol_us
        spare = ceil(((2 * LEAST_SYMBOLS - PREAMBLE_SYMBOLS) * symbol + 2 * CLOCK_ERROR_US) / symbol)
        return max(spare, LEAST_SYMBOLS) * symbol

    @property
    def opens_us(self) -> int:
        """When it opens."""
        return self.due_us + PREAMBLE_SYMBOLS // 2 * self.symbol_us - self.length_us // 2

    @property
    def closes_us(self) -> int:
        """When it closes, unless a preamble has been found."""
        return self.opens_us + self.length_us

    def misses(self, emission: Emission, level_dbm: float, noise_figure_db: float) -> str | None:
        """Say why this window misses a transmission of the gateway; None when it does not.

        Args:
            emission: the transmission; its start must be known.
            level_dbm: its power at the device.
            noise_figure_db: of the device.
        """
        parameters = emission.parameters
        if emission.modulation != "LORA":
            return f"it is {emission.modulation}"
        if abs(emission.freq_hz - self.freq_hz) > FREQUENCY_REACH * self.bw_hz:
            return f"{emission.freq_hz - self.freq_hz:+.0f} Hz off"
        if (parameters["sf"], parameters["bw_hz"]) != (self.sf, self.bw_hz):
            found = f"SF{parameters['sf']} BW{int(parameters['bw_hz']) // 1000}"
            return f"{found} instead of SF{self.sf} BW{self.bw_hz // 1000}"
        if not parameters["invert_iq"]:
            return "its polarity is not inverted"
        if parameters["sync_word"] != LORAWAN_SYNC_WORD:
            return f"sync word 0x{int(parameters['sync_word']):02X}"
        if parameters["implicit_header"]:
            return "it has no header"
        if parameters["low_data_rate"] is not LoraShape(self.sf, self.bw_hz, 1, 0, crc=False).low_data_rate:
            return "low-data-rate optimisation set wrongly"
        return self._timing(emission) or self._power(level_dbm, noise_figure_db)

    def _timing(self, emission: Emission) -> str | None:
        assert emission.start_ns is not None
        start_us = emission.start_ns // _NS_PER_US
        preamble_end_us = start_us + int(emission.parameters["preamble"]) * self.symbol_us
        heard_us = min(self.closes_us, preamble_end_us) - max(self.opens_us, start_us)
        if heard_us >= NEEDED_PREAMBLE_SYMBOLS * self.symbol_us:
            return None
        late_us = start_us - self.due_us
        return f"{late_us} us late" if late_us > 0 else f"{-late_us} us early"

    def _power(self, level_dbm: float, noise_figure_db: float) -> str | None:
        snr_db = level_dbm - noise_dbm(self.bw_hz, noise_figure_db)
        if snr_db >= SNR_FLOOR_DB[self.sf]:
            return None
        return f"too weak: SNR {snr_db:.1f} dB, SF{self.sf} needs {SNR_FLOOR_DB[self.sf]:g}"
