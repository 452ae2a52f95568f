# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Steps 6, 7 and 10 of the start: correlators that find packets, and the 16 modems that demodulate them.

Values are those of Semtech's software for every board and region [HAL 2.1.0 sx1302_lora_correlator_configure,
sx1302_lora_modem_configure, sx1302_lora_syncword]; their meaning beyond the field names is not published.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from drivers.plans import MULTI_SF_BANDWIDTH_HZ, SPREADING_FACTORS
from drivers.sx1302.lora import frequency_to_time_drift, low_data_rate, sync_peaks
from drivers.sx1302.registers import field

if TYPE_CHECKING:
    from collections.abc import Iterator

    from drivers.plans import ChannelPlan
    from drivers.sx1302.regmap import Setting

ACC_PNR = {sf: field(f"RX_TOP_SF{sf}_CFG2_ACC_PNR") for sf in SPREADING_FACTORS}
MSP_PNR = {sf: field(f"RX_TOP_SF{sf}_CFG4_MSP_PNR") for sf in SPREADING_FACTORS}
MSP_PEAK_NB = {sf: field(f"RX_TOP_SF{sf}_CFG6_MSP_PEAK_NB") for sf in SPREADING_FACTORS}
MSP2_PEAK_NB = {sf: field(f"RX_TOP_SF{sf}_CFG7_MSP2_PEAK_NB") for sf in SPREADING_FACTORS}
ENABLE_ONLY_FIRST_DET_EDGE = field("RX_TOP_CORRELATOR_ENABLE_ONLY_FIRST_DET_EDGE_ENABLE_ONLY_FIRST_DET_EDGE")
ENABLE_ACC_CLEAR = field("RX_TOP_CORRELATOR_ENABLE_ACC_CLEAR_ENABLE_CORR_ACC_CLEAR")
CORR_SF_EN = field("RX_TOP_CORRELATOR_SF_EN_CORR_SF_EN")
CORR_CLOCK_EN = field("RX_TOP_CORR_CLOCK_ENABLE_CLK_EN")
CORR_EN = field("RX_TOP_CORRELATOR_EN_CORR_EN")

DC_NOTCH_ENABLE = field("RX_TOP_DC_NOTCH_CFG1_ENABLE")
FORCE_DEFAULT_FIR = field("RX_TOP_RX_DFE_AGC1_FORCE_DEFAULT_FIR")
DAGC_GAIN_DROP_COMP = field("RX_TOP_DAGC_CFG_GAIN_DROP_COMP")
DAGC_TARGET_LVL = field("RX_TOP_DAGC_CFG_TARGET_LVL")
MODEM_EN = (field("OTP_MODEM_EN_0_MODEM_EN"), field("OTP_MODEM_EN_1_MODEM_EN"))
SYNC_DELTA_MSB = field("RX_TOP_MODEM_SYNC_DELTA_MSB_MODEM_SYNC_DELTA")
SYNC_DELTA_LSB = field("RX_TOP_MODEM_SYNC_DELTA_LSB_MODEM_SYNC_DELTA")
CHANNEL_SYNC_OFFSET = tuple(field(f"ARB_MCU_CHANNEL_SYNC_OFFSET_{i & ~1}{i | 1}_CHANNEL_{i}_OFFSET") for i in range(8))
PPM_OFFSET = {sf: field(f"RX_TOP_MODEM_PPM_OFFSET{1 if sf <= 8 else 2}_PPM_OFFSET_SF{sf}") for sf in SPREADING_FACTORS}
FINE_TIMING_A_GAIN_P_AUTO = field("RX_TOP_FINE_TIMING_A_1_GAIN_P_AUTO")
FINE_TIMING_A_GAIN_P_PAYLOAD = field("RX_TOP_FINE_TIMING_A_1_GAIN_P_PAYLOAD")
FINE_TIMING_A_GAIN_I_EN_SF11 = field("RX_TOP_FINE_TIMING_A_5_GAIN_I_EN_SF11")
FINE_TIMING_A_GAIN_I_EN_SF12 = field("RX_TOP_FINE_TIMING_A_5_GAIN_I_EN_SF12")
FREQ_SYNCH_THR = field("RX_TOP_FREQ_TRACK4_FREQ_SYNCH_THR")
FREQ_TRACK_A_EN = {
    sf: field(f"RX_TOP_FREQ_TRACK_A_{0 if sf <= 8 else 1}_FREQ_TRACK_EN_SF{sf}") for sf in SPREADING_FACTORS
}
FREQ_TRACK_B_EN = {
    sf: field(f"RX_TOP_FREQ_TRACK_B_{0 if sf <= 8 else 1}_FREQ_TRACK_EN_SF{sf}") for sf in SPREADING_FACTORS
}
FINE_TIMING_B_GAIN_I_EN_SF11 = field("RX_TOP_FINE_TIMING_B_5_GAIN_I_EN_SF11")
FINE_TIMING_B_GAIN_I_EN_SF12 = field("RX_TOP_FINE_TIMING_B_5_GAIN_I_EN_SF12")
FINE_TIMING_B_ROUNDING = field("RX_TOP_FINE_TIMING_B_0_ROUNDING")
FINE_TIMING_B_MODE = field("RX_TOP_FINE_TIMING_B_0_MODE")
FINE_TIMING_B_GAIN_P_AUTO = field("RX_TOP_FINE_TIMING_B_1_GAIN_P_AUTO")
FINE_TIMING_B_GAIN_P_PREAMB = field("RX_TOP_FINE_TIMING_B_1_GAIN_P_PREAMB")
FINE_TIMING_B_GAIN_P_PAYLOAD = field("RX_TOP_FINE_TIMING_B_1_GAIN_P_PAYLOAD")
FINE_TIMING_B_GAIN_I_AUTO = field("RX_TOP_FINE_TIMING_B_2_GAIN_I_AUTO")
FINE_TIMING_B_GAIN_I_PREAMB = field("RX_TOP_FINE_TIMING_B_2_GAIN_I_PREAMB")
FINE_TIMING_B_GAIN_I_PAYLOAD = field("RX_TOP_FINE_TIMING_B_2_GAIN_I_PAYLOAD")
PREAMBLE_SYMB_NB_MSB = field("RX_TOP_TXRX_CFG7_PREAMBLE_SYMB_NB")
PREAMBLE_SYMB_NB_LSB = field("RX_TOP_TXRX_CFG6_PREAMBLE_SYMB_NB")
DRIFT_MANT_MSB = field("RX_TOP_FREQ_TO_TIME0_FREQ_TO_TIME_DRIFT_MANT")
DRIFT_MANT_LSB = field("RX_TOP_FREQ_TO_TIME1_FREQ_TO_TIME_DRIFT_MANT")
DRIFT_EXP = field("RX_TOP_FREQ_TO_TIME2_FREQ_TO_TIME_DRIFT_EXP")
INVERT_TIME_SYMB = field("RX_TOP_FREQ_TO_TIME3_FREQ_TO_TIME_INVERT_TIME_SYMB")
DFT_PEAK_EN = field("RX_TOP_RX_CFG0_DFT_PEAK_EN")

SYNC_PEAKS = {
    5: (
        field("RX_TOP_FRAME_SYNCH0_SF5_PEAK1_POS_SF5"),
        field("RX_TOP_FRAME_SYNCH1_SF5_PEAK2_POS_SF5"),
    ),
    6: (
        field("RX_TOP_FRAME_SYNCH0_SF6_PEAK1_POS_SF6"),
        field("RX_TOP_FRAME_SYNCH1_SF6_PEAK2_POS_SF6"),
    ),
    7: (
        field("RX_TOP_FRAME_SYNCH0_SF7TO12_PEAK1_POS_SF7TO12"),
        field("RX_TOP_FRAME_SYNCH1_SF7TO12_PEAK2_POS_SF7TO12"),
    ),
}
"""Positions of the sync symbols; the entry of 7 serves SF7 to SF12."""

SYNC_OFFSETS: Final = (1, 5, 9, 13, 1, 5, 9, 13)
"""Spread the detections of the eight channels over the symbol, for the arbiter."""

MODEM_SYNC_DELTA: Final = 126
PREAMBLE_SYMBOLS: Final = 10
DFT_PEAK_AUTO: Final = 3
"""The correction of time stamps takes this mode for granted."""

TRACKING_AUTO: Final = 3


def correlator_settings(plan: ChannelPlan) -> Iterator[Setting]:
    """Thresholds of packet detection, and what is listened for where."""
    for sf in SPREADING_FACTORS:
        yield ACC_PNR[sf], 52
        yield MSP_PNR[sf], 24
        yield MSP_PEAK_NB[sf], 7
        yield MSP2_PEAK_NB[sf], 5
    yield ENABLE_ONLY_FIRST_DET_EDGE, 0xFF
    yield ENABLE_ACC_CLEAR, 0xFF
    yield CORR_SF_EN, sum(1 << (sf - SPREADING_FACTORS[0]) for sf in plan.spreading_factors)
    channels = (1 << len(plan.multi_sf)) - 1
    yield CORR_CLOCK_EN, channels
    yield CORR_EN, channels


def modem_settings(radio_hz: int) -> Iterator[Setting]:
    """Everything the sixteen modems share.

    Args:
        radio_hz: centre frequency of radio A; it stands for all channels, as in the vendor's software.
    """
    yield DC_NOTCH_ENABLE, 0
    yield FORCE_DEFAULT_FIR, 1
    yield DAGC_GAIN_DROP_COMP, 1
    yield DAGC_TARGET_LVL, 1
    for enable in MODEM_EN:
        yield enable, 0xFF
    yield SYNC_DELTA_MSB, MODEM_SYNC_DELTA >> 8
    yield SYNC_DELTA_LSB, MODEM_SYNC_DELTA & 0xFF
    yield from zip(CHANNEL_SYNC_OFFSET, SYNC_OFFSETS, strict=True)
    for sf in SPREADING_FACTORS:
        yield PPM_OFFSET[sf], int(low_data_rate(MULTI_SF_BANDWIDTH_HZ, sf))
        yield FREQ_TRACK_A_EN[sf], TRACKING_AUTO
        yield FREQ_TRACK_B_EN[sf], 0
    yield FINE_TIMING_A_GAIN_P_AUTO, 3
    yield FINE_TIMING_A_GAIN_P_PAYLOAD, 3
    yield FINE_TIMING_A_GAIN_I_EN_SF11, 1
    yield FINE_TIMING_A_GAIN_I_EN_SF12, 1
    yield FREQ_SYNCH_THR, 15
    yield FINE_TIMING_B_GAIN_I_EN_SF11, 0
    yield FINE_TIMING_B_GAIN_I_EN_SF12, 0
    yield FINE_TIMING_B_ROUNDING, 1
    yield FINE_TIMING_B_MODE, 2
    yield FINE_TIMING_B_GAIN_P_AUTO, 0
    yield FINE_TIMING_B_GAIN_P_PREAMB, 6
    yield FINE_TIMING_B_GAIN_P_PAYLOAD, 2
    yield FINE_TIMING_B_GAIN_I_AUTO, 0
    yield FINE_TIMING_B_GAIN_I_PREAMB, 1
    yield FINE_TIMING_B_GAIN_I_PAYLOAD, 0
    yield PREAMBLE_SYMB_NB_MSB, PREAMBLE_SYMBOLS >> 8
    yield PREAMBLE_SYMB_NB_LSB, PREAMBLE_SYMBOLS & 0xFF
    mantissa, exponent = frequency_to_time_drift(MULTI_SF_BANDWIDTH_HZ, radio_hz)
    yield DRIFT_MANT_MSB, mantissa >> 8
    yield DRIFT_MANT_LSB, mantissa & 0xFF
    yield DRIFT_EXP, exponent
    yield INVERT_TIME_SYMB, 1
    yield DFT_PEAK_EN, DFT_PEAK_AUTO


def sync_word_settings(*, public: bool) -> Iterator[Setting]:
    """The network's sync word, as positions of the two sync symbols."""
    for sf, registers in SYNC_PEAKS.items():
        yield from zip(registers, sync_peaks(sf, public=public), strict=True)
