# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""How long a packet is on the air, and how much later the chip has it decoded.

The driver turns stored timestamps into ends of packets; here the same quantities go the other way. They are
computed anew from the published formulas, so that a slip in the driver's arithmetic is not hidden by the same slip
in the emulator [AN1200.13; HAL 2.1.0 loragw_sx1302_timestamp.c; HAL 2.1.0 loragw_hal.c].

Not modelled: the decoding time of packets other than as Semtech's correction implies it; silicon may differ by the
error of that correction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_ROUND: Final = 500_000
_PS_PER_US: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class LoraShape:
    """What decides the duration of a LoRa packet.

    Attributes:
        sf: spreading factor, 5 to 12.
        bw_hz: 125000, 250000 or 500000.
        coding_rate: 1 to 4 for 4/5 to 4/8.
        size: payload in bytes, 0 to 255.
        crc: whether a payload CRC is sent.
    """

    sf: int
    bw_hz: int
    coding_rate: int
    size: int
    crc: bool

    @property
    def symbol_us(self) -> int:
        """Duration of a symbol, truncated to microseconds."""
        return (1 << self.sf) * 8 // (self.bw_hz // 125_000)

    @property
    def low_data_rate(self) -> bool:
        """Whether the modems use the low-data-rate optimisation."""
        return (self.bw_hz == 125_000 and self.sf >= 11) or (self.bw_hz == 250_000 and self.sf == 12)


def payload_symbols(shape: LoraShape, *, implicit: bool = False) -> int:
    """Return the symbols behind the eight of the header block, with the HAL's rule for the low data rate."""
    low_rate = 1 if shape.sf >= 11 else 0
    bits = 8 * shape.size + (16 if shape.crc else 0) - 4 * shape.sf
    bits += (8 if shape.sf >= 7 else 0) + (0 if implicit else 20)
    per_block = 4 * (shape.sf - 2 * low_rate)
    return -(-max(bits, 0) // per_block) * (shape.coding_rate + 4)


def lora_airtime_us(shape: LoraShape, *, preamble: int = 8, implicit: bool = False) -> int:
    """Return the time on air in microseconds."""
    quarter_symbols = 4 * (preamble + 8 + payload_symbols(shape, implicit=implicit))
    quarter_symbols += 25 if shape.sf < 7 else 17
    return quarter_symbols * shape.symbol_us // 4


def fsk_airtime_us(size: int, bitrate: int, *, preamble: int = 5, sync: int = 3, crc: bool = True) -> int:
    """Return the time on air of an FSK packet of variable length, in microseconds."""
    return (preamble + sync + 1 + size + (2 if crc else 0)) * 8_000_000 // bitrate


def lora_decode_delay_us(shape: LoraShape) -> int:
    """Return how long after the end of the packet the chip stores its time, in end-of-packet mode."""
    sf, scale = shape.sf, shape.bw_hz // 125_000
    tick = 250_000 // scale  # picoseconds
    chips = 1 << sf
    coded_bytes = shape.size + (2 if shape.crc else 0)
    ppm = 1 if shape.low_data_rate else 0
    header_bits = sf if sf < 7 else sf - 2
    in_first_block = 2 * coded_bytes <= sf - 7 or coded_bytes == 0

    filter_delay = 16_000_000 // scale + 2_031_250
    fine_fft = tick * (chips - 6 + 2 * (chips * ((sf + 1) // 2 - 1) + 6)) + 4 * tick
    if in_first_block:
        rate, last = 4, header_bits
        fft = 2 * chips * tick + 3 * tick
        demap = 4 * tick + 3 * chips * tick // 4 + (sf - 2) * tick
    else:
        bits_per_symbol = sf - 2 * ppm
        rate = shape.coding_rate
        last = (2 * coded_bytes + 5 - header_bits) % bits_per_symbol or bits_per_symbol
        fft = (5 - 2 * ppm) * (chips * tick + 7 * tick) + 2 * tick
        demap = 4 * tick + chips * tick + bits_per_symbol * tick
    decode = 8 * tick + (9 + rate) * tick * last
    return (filter_delay + fine_fft + fft + demap + decode + _ROUND) // _PS_PER_US


def lora_header_lead_us(shape: LoraShape) -> int:
    """Return how long before the end of the packet the chip stores its time, in precision mode.

    Negative for packets without payload, where only the filter's delay remains.
    """
    filter_delay = 16_000_000 // (shape.bw_hz // 125_000) + 2_031_250
    lead = payload_symbols(shape) * shape.symbol_us * _PS_PER_US - filter_delay - _ROUND
    return lead // _PS_PER_US if lead >= 0 else -(-lead // _PS_PER_US)


def fsk_decode_delay_us(bitrate: int) -> int:
    """Return how long after the end of an FSK packet the chip stores its time; negative when before."""
    return 20 - 680_000 // bitrate
