# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""From the moment the chip stamps to the moment the packet ended on air.

The chip stamps a packet when it has decoded it, which is up to 0.3 s after its last symbol. The corrections
are those of Semtech's software, to the microsecond, so that gateways of both kinds agree; all of it is
integer arithmetic in picoseconds [HAL 2.1.0 timestamp_counter_correction].
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from drivers.sx1302.lora import low_data_rate

PS_PER_US: Final = 1_000_000
FFT_SAMPLE_PS: Final = 250_000
"""Duration of one sample of the demodulator at 125 kHz."""

FILTER_DELAY_PS: Final = 16_000_000
FILTER_CONSTANT_PS: Final = 2_031_250
HEADER_NIBBLES: Final = 5

CACHED_SHAPES: Final = 4096
"""Packets repeat their shape; the correction is computed once for each."""

FSK_DELAY_BITS_US: Final = 680_000
FSK_DELAY_US: Final = 20


@lru_cache(maxsize=CACHED_SHAPES)
def lora_correction_us(
    bandwidth_hz: int, spreading_factor: int, coding_rate: int, payload_bytes: int, *, crc: bool
) -> int:
    """Return what to add to a legacy time stamp to have the end of the packet; negative.

    Args:
        bandwidth_hz: 125000, 250000 or 500000.
        spreading_factor: 5 to 12.
        coding_rate: 1 to 4.
        payload_bytes: 0 to 255.
        crc: the packet carries a payload CRC.
    """
    speed = bandwidth_hz // 125_000
    sample = FFT_SAMPLE_PS // speed
    sf, chips = spreading_factor, 1 << spreading_factor
    ppm = int(low_data_rate(bandwidth_hz, sf))
    crc_bytes = 2 if crc else 0

    # How many nibbles the last block of payload symbols carries; a payload may also fit into the header's
    # block.
    header_nibbles = sf if sf <= 6 else sf - 2
    block_nibbles = sf - 2 * ppm
    fits = 2 * (payload_bytes + crc_bytes) - (sf - 7) <= 0 or (payload_bytes == 0 and not crc)
    if fits:
        last_nibbles = header_nibbles
    else:
        nibbles = 2 * (payload_bytes + crc_bytes) + HEADER_NIBBLES
        last_nibbles = (nibbles - header_nibbles) % block_nibbles or block_nibbles

    channel_filter = FILTER_DELAY_PS // speed + FILTER_CONSTANT_PS
    first_ffts = sample * ((chips - 6) + 2 * (chips * ((sf + 1) // 2 - 1) + 6)) + 4 * sample
    if fits:
        ffts = 2 * chips * sample + 3 * sample
        demapping = 4 * sample + 3 * chips * sample // 4 + (sf - 2) * sample
        decoding = 8 * sample + (9 + 4) * sample * last_nibbles
    else:
        ffts = (5 - 2 * ppm) * (chips * sample + 7 * sample) + 2 * sample
        demapping = 4 * sample + chips * sample + block_nibbles * sample
        decoding = 8 * sample + (9 + coding_rate) * sample * last_nibbles
    total = channel_filter + first_ffts + ffts + demapping + decoding
    return -((total + PS_PER_US // 2) // PS_PER_US)


@lru_cache(maxsize=CACHED_SHAPES)
def lora_precision_correction_us(
    bandwidth_hz: int, spreading_factor: int, coding_rate: int, payload_bytes: int, *, crc: bool
) -> int:
    """Return what to add to a precision time stamp, which marks the end of the header.

    Args are those of `lora_correction_us`. The low data rate rule is the vendor's, which ignores the
    bandwidth.
    """
    speed = bandwidth_hz // 125_000
    symbol_us = 8 * (1 << spreading_factor) // speed
    channel_filter = FILTER_DELAY_PS // speed + FILTER_CONSTANT_PS
    symbols = payload_symbols(spreading_factor, coding_rate, payload_bytes, crc=crc)
    total = symbols * symbol_us * PS_PER_US - channel_filter - PS_PER_US // 2
    return total // PS_PER_US if total >= 0 else -(-total // PS_PER_US)


def payload_symbols(
    spreading_factor: int, coding_rate: int, payload_bytes: int, *, crc: bool, implicit_header: bool = False
) -> int:
    """Return the symbols that follow the header's block, low data rate from SF11 on."""
    low_rate = spreading_factor >= 11
    bits = 8 * payload_bytes + (16 if crc else 0) - 4 * spreading_factor + (8 if spreading_factor >= 7 else 0)
    bits += 0 if implicit_header else 20
    per_block = 4 * (spreading_factor - (2 if low_rate else 0))
    return -(-max(bits, 0) // per_block) * (coding_rate + 4)


def fsk_correction_us(bitrate_bps: int) -> int:
    """Return what to add to the time stamp of an FSK packet to have its end."""
    return FSK_DELAY_BITS_US // bitrate_bps - FSK_DELAY_US
