# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Step 9 of the start: the FSK modem, as LoRaWAN uses it [HAL 2.1.0 sx1302_fsk_configure]."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from drivers.sx1302.registers import field

if TYPE_CHECKING:
    from collections.abc import Iterator

    from drivers.plans import FskChannel
    from drivers.sx1302.regmap import Setting

_PREFIX = "RX_TOP_LORA_SERVICE_FSK_"

PSIZE = field(_PREFIX + "FSK_CFG_1_PSIZE")
CH_BW_EXPO = field(_PREFIX + "FSK_CFG_1_CH_BW_EXPO")
SYNC_WORD_BYTES = tuple(field(f"{_PREFIX}FSK_REF_PATTERN_BYTE{byte}_FSK_REF_PATTERN") for byte in range(7, -1, -1))
"""Eight bytes of sync word, the first on air first; a shorter word is left-aligned."""

BIT_RATE_MSB = field(_PREFIX + "BIT_RATE_MSB_BIT_RATE")
BIT_RATE_LSB = field(_PREFIX + "BIT_RATE_LSB_BIT_RATE")
RX_INVERT = field(_PREFIX + "FSK_CFG_3_RX_INVERT")
MODEM_INVERT_IQ = field(_PREFIX + "FSK_CFG_3_MODEM_INVERT_IQ")
AUTO_AFC = field(_PREFIX + "FSK_CFG_3_AUTO_AFC")
RSSI_LENGTH = field(_PREFIX + "FSK_CFG_4_RSSI_LENGTH")
ERROR_OSR_TOL = field(_PREFIX + "FSK_CFG_4_ERROR_OSR_TOL")
PKT_MODE = field(_PREFIX + "FSK_CFG_0_PKT_MODE")
CRC_EN = field(_PREFIX + "FSK_CFG_0_CRC_EN")
DCFREE_ENC = field(_PREFIX + "FSK_CFG_0_DCFREE_ENC")
CRC_IBM = field(_PREFIX + "FSK_CFG_0_CRC_IBM")
PKT_LENGTH = field(_PREFIX + "FSK_PKT_LENGTH_PKT_LENGTH")
NODE_ADRS = field(_PREFIX + "FSK_NODE_ADRS_NODE_ADRS")
BROADCAST = field(_PREFIX + "FSK_BROADCAST_BROADCAST")
TIMEOUT_MSB = field(_PREFIX + "FSK_TIMEOUT_MSB_TIMEOUT")
TIMEOUT_LSB = field(_PREFIX + "FSK_TIMEOUT_LSB_TIMEOUT")

SYNC_WORD: Final = bytes((0xC1, 0x94, 0xC1))
"""LoRaWAN's FSK sync word [RP002-1.0.4 §4.3.2]."""

CLOCK_HZ: Final = 32_000_000
CHANNEL_WIDTH_125_KHZ: Final = 3
VARIABLE_LENGTH: Final = 1
WHITENING: Final = 2
CRC_CCITT: Final = 0
LONGEST_PACKET_BYTES: Final = 255
TIMEOUT: Final = 128


def settings(channel: FskChannel) -> Iterator[Setting]:
    """Modulation and packet format of the FSK modem."""
    yield PSIZE, len(SYNC_WORD) - 1
    yield from zip(SYNC_WORD_BYTES, SYNC_WORD.ljust(len(SYNC_WORD_BYTES), b"\x00"), strict=True)
    divider = CLOCK_HZ // channel.bitrate_bps
    yield BIT_RATE_MSB, divider >> 8
    yield BIT_RATE_LSB, divider & 0xFF
    yield CH_BW_EXPO, CHANNEL_WIDTH_125_KHZ
    yield RX_INVERT, 0
    yield MODEM_INVERT_IQ, 0
    yield RSSI_LENGTH, 4
    yield PKT_MODE, VARIABLE_LENGTH
    yield CRC_EN, 1
    yield DCFREE_ENC, WHITENING
    yield CRC_IBM, CRC_CCITT
    yield ERROR_OSR_TOL, 10
    yield PKT_LENGTH, LONGEST_PACKET_BYTES
    yield NODE_ADRS, 0
    yield BROADCAST, 0
    yield AUTO_AFC, 1
    yield TIMEOUT_MSB, TIMEOUT >> 8
    yield TIMEOUT_LSB, TIMEOUT & 0xFF
