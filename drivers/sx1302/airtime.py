# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""How long a packet is on the air: what duty cycle and dwell time are judged by.

To the microsecond the result of the vendor's function, which takes the low data rate optimisation for granted from
SF11 on, whatever the bandwidth: at 250 and 500 kHz that is a little too long, never too short [HAL 2.1.0
lora_packet_time_on_air].
"""

from __future__ import annotations

from typing import Final

from drivers.sx1302.fsk import SYNC_WORD
from drivers.sx1302.timestamp import payload_symbols
from drivers.sx1302.transmission import FskTransmission, LoraTransmission

HEADER_SYMBOLS: Final = 8
SYNC_QUARTERS: Final = 17
SHORT_SF_SYNC_QUARTERS: Final = 25
"""Sync word and start of frame: 4.25 symbols, at SF5 and SF6 6.25."""

FSK_LENGTH_BYTES: Final = 1
FSK_CRC_BYTES: Final = 2


def airtime_us(transmission: LoraTransmission | FskTransmission) -> int:
    """Return the time on air in microseconds."""
    return _lora_us(transmission) if isinstance(transmission, LoraTransmission) else _fsk_us(transmission)


def _lora_us(transmission: LoraTransmission) -> int:
    sf = transmission.spreading_factor
    symbol_us = 8 * (1 << sf) * 125_000 // transmission.bandwidth_hz
    payload = payload_symbols(
        sf,
        transmission.coding_rate,
        len(transmission.payload),
        crc=transmission.crc,
        implicit_header=transmission.implicit_header,
    )
    quarters = 4 * (transmission.preamble_symbols + HEADER_SYMBOLS + payload)
    quarters += SHORT_SF_SYNC_QUARTERS if sf <= 6 else SYNC_QUARTERS
    return quarters * symbol_us // 4


def _fsk_us(transmission: FskTransmission) -> int:
    size = transmission.preamble_bytes + len(SYNC_WORD) + FSK_LENGTH_BYTES + len(transmission.payload)
    size += FSK_CRC_BYTES if transmission.crc else 0
    return -(-8_000_000 * size // transmission.bitrate_bps)
