# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Steps 3, 4 and 13 to 16 of the start: time stamps, pins, and what lies between radios and demodulators."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Final

from drivers.sx1302.registers import field

if TYPE_CHECKING:
    from collections.abc import Iterator

    from drivers.sx1302.regmap import Setting

LEGACY_TIMESTAMP = field("RX_TOP_RX_BUFFER_LEGACY_TIMESTAMP")
GPIO_SELECTION = tuple(field(f"GPIO_GPIO_SEL_{pin}_SELECTION") for pin in range(8))
GPIO_DIRECTION = field("GPIO_GPIO_DIR_L_DIRECTION")
GPIO_OUTPUT = field("GPIO_GPIO_OUT_L_OUT_VALUE")
GPS_EN = field("TIMESTAMP_GPS_CTRL_GPS_EN")
GPS_POL = field("TIMESTAMP_GPS_CTRL_GPS_POL")

PA_LNA_LUT = tuple(
    (field(f"AGC_MCU_LUT_TABLE_{radio}_PA_LUT"), field(f"AGC_MCU_LUT_TABLE_{radio}_LNA_LUT")) for radio in "AB"
)
RSSI_BB_ALPHA = tuple(field(f"RADIO_FE_RSSI_BB_FILTER_ALPHA_RADIO_{radio}_RSSI_BB_FILTER_ALPHA") for radio in "AB")
RSSI_DEC_ALPHA = tuple(field(f"RADIO_FE_RSSI_DEC_FILTER_ALPHA_RADIO_{radio}_RSSI_DEC_FILTER_ALPHA") for radio in "AB")
RSSI_BB_DEFAULT = tuple(field(f"RADIO_FE_RSSI_DB_DEF_RADIO_{radio}_RSSI_DB_DEFAULT_VALUE") for radio in "AB")
RSSI_DEC_DEFAULT = tuple(field(f"RADIO_FE_RSSI_DEC_DEF_RADIO_{radio}_RSSI_DEC_DEFAULT_VALUE") for radio in "AB")
DC_NOTCH_EN = tuple(field(f"RADIO_FE_CTRL0_RADIO_{radio}_DC_NOTCH_EN") for radio in "AB")
HOST_FILTER_GAIN = tuple(field(f"RADIO_FE_CTRL0_RADIO_{radio}_HOST_FILTER_GAIN") for radio in "AB")

PLL_DIV_CTRL_AGC = tuple(field(f"TX_TOP_{radio}_TX_RFFE_IF_CTRL2_PLL_DIV_CTRL_AGC") for radio in "AB")
TX_IF_DST = tuple(field(f"TX_TOP_{radio}_TX_RFFE_IF_CTRL_TX_IF_DST") for radio in "AB")
TX_MODE = tuple(field(f"TX_TOP_{radio}_TX_RFFE_IF_CTRL_TX_MODE") for radio in "AB")
TX_CLK_EDGE = tuple(field(f"TX_TOP_{radio}_TX_RFFE_IF_CTRL_TX_CLK_EDGE") for radio in "AB")


class PinSource(IntEnum):
    """What drives a pin of the SX1302."""

    REGISTER = 0
    AGC = 1
    STATUS = 9


PIN_SOURCES: Final = (
    PinSource.REGISTER,  # lit when the configuration is done
    PinSource.REGISTER,
    PinSource.STATUS,  # on while transmitting
    PinSource.REGISTER,
    PinSource.STATUS,  # on while receiving
    PinSource.REGISTER,
    PinSource.REGISTER,
    PinSource.AGC,  # input: listen-before-talk verdict of the SX1261
)
PINS_OUTPUT: Final = 0x7F
"""Direction of pins 0 to 7: all but the last drive."""

CONFIGURATION_DONE: Final = 0x01
"""Level of pin 0 once the chip receives."""

HALF_DUPLEX_LUT: Final = (0x4, 0x2)
"""PA and LNA truth tables over (PA_EN, LNA_EN): each amplifier runs alone."""


def legacy_timestamp_settings() -> Iterator[Setting]:
    """Time stamps at the end of a packet, for every packet one, as the SX1301 did."""
    yield LEGACY_TIMESTAMP, 1


def pin_settings() -> Iterator[Setting]:
    """Who drives the SX1302's pins 0 to 7."""
    yield from zip(GPIO_SELECTION, PIN_SOURCES, strict=True)
    yield GPIO_DIRECTION, PINS_OUTPUT


def radio_path_settings() -> Iterator[Setting]:
    """RSSI filters, DC notch and filter gain of both radio paths, and the amplifier switching."""
    for radio in range(2):
        pa_lut, lna_lut = PA_LNA_LUT[radio]
        yield from zip((pa_lut, lna_lut), HALF_DUPLEX_LUT, strict=True)
        yield RSSI_BB_ALPHA[radio], 3
        yield RSSI_DEC_ALPHA[radio], 7
        yield RSSI_BB_DEFAULT[radio], 23
        yield RSSI_DEC_DEFAULT[radio], 66
        yield DC_NOTCH_EN[radio], 1
        yield HOST_FILTER_GAIN[radio], 0x0B


def transmit_path_settings() -> Iterator[Setting]:
    """What of the transmit path never changes with SX1250 radios."""
    for radio in range(2):
        yield PLL_DIV_CTRL_AGC[radio], 1
        yield TX_IF_DST[radio], 1
        yield TX_MODE[radio], 1
        yield TX_CLK_EDGE[radio], 0


def pps_settings() -> Iterator[Setting]:
    """Latch the counter at the rising edge of the GNSS receiver's pulse."""
    yield GPS_EN, 1
    yield GPS_POL, 1
