# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Steps 8 and 10 of the start: the LoRa service modem, one spreading factor at any bandwidth.

Packets with explicit header only; the fields of the implicit mode are set to nothing, as the vendor's
software does for explicit headers [HAL 2.1.0 sx1302_lora_service_modem_configure].
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from drivers.sx1302.lora import BANDWIDTH_CODE, frequency_to_time_drift, low_data_rate, sync_peaks
from drivers.sx1302.registers import field

if TYPE_CHECKING:
    from collections.abc import Iterator

    from drivers.plans import ServiceChannel
    from drivers.sx1302.regmap import Setting

_PREFIX = "RX_TOP_LORA_SERVICE_FSK_"

MSP_PEAK_NB = field(_PREFIX + "DETECT_MSP2_MSP_PEAK_NB")
MSP2_PEAK_NB = field(_PREFIX + "DETECT_MSP2_MSP2_PEAK_NB")
USE_GAIN_SYMB = field(_PREFIX + "DETECT_ACC1_USE_GAIN_SYMB")
ACC_PNR = field(_PREFIX + "DETECT_ACC1_ACC_PNR")
FINE_SYNCH_EN = field(_PREFIX + "TXRX_CFG2_FINE_SYNCH_EN")
DC_NOTCH_ENABLE = field(_PREFIX + "DC_NOTCH_CFG1_ENABLE")
FORCE_DEFAULT_FIR = field(_PREFIX + "RX_DFE_AGC1_FORCE_DEFAULT_FIR")
DAGC_GAIN_DROP_COMP = field(_PREFIX + "DAGC_CFG_GAIN_DROP_COMP")
DAGC_TARGET_LVL = field(_PREFIX + "DAGC_CFG_TARGET_LVL")
GAIN_P_AUTO = field(_PREFIX + "FINE_TIMING1_GAIN_P_AUTO")
GAIN_P_PREAMB = field(_PREFIX + "FINE_TIMING1_GAIN_P_PREAMB")
GAIN_I_PAYLOAD = field(_PREFIX + "FINE_TIMING2_GAIN_I_PAYLOAD")
GAIN_I_EN = field(_PREFIX + "FINE_TIMING2_GAIN_I_EN")
IMPLICIT_HEADER = field(_PREFIX + "TXRX_CFG2_IMPLICIT_HEADER")
CRC_EN = field(_PREFIX + "TXRX_CFG2_CRC_EN")
CODING_RATE = field(_PREFIX + "TXRX_CFG1_CODING_RATE")
PAYLOAD_LENGTH = field(_PREFIX + "TXRX_CFG3_PAYLOAD_LENGTH")
MODEM_SF = field(_PREFIX + "TXRX_CFG0_MODEM_SF")
MODEM_BW = field(_PREFIX + "TXRX_CFG0_MODEM_BW")
PPM_OFFSET = field(_PREFIX + "TXRX_CFG1_PPM_OFFSET")
PREAMBLE_SYMB_NB_MSB = field(_PREFIX + "TXRX_CFG7_PREAMBLE_SYMB_NB")
PREAMBLE_SYMB_NB_LSB = field(_PREFIX + "TXRX_CFG6_PREAMBLE_SYMB_NB")
DRIFT_MANT_MSB = field(_PREFIX + "FREQ_TO_TIME0_FREQ_TO_TIME_DRIFT_MANT")
DRIFT_MANT_LSB = field(_PREFIX + "FREQ_TO_TIME1_FREQ_TO_TIME_DRIFT_MANT")
DRIFT_EXP = field(_PREFIX + "FREQ_TO_TIME2_FREQ_TO_TIME_DRIFT_EXP")
INVERT_TIME_SYMB = field(_PREFIX + "FREQ_TO_TIME3_FREQ_TO_TIME_INVERT_TIME_SYMB")
DAGC_IN_COMP = field(_PREFIX + "RX_DFE_AGC2_DAGC_IN_COMP")
MODEM_EN = field(_PREFIX + "TXRX_CFG1_MODEM_EN")
CADRXTX = field(_PREFIX + "TXRX_CFG2_CADRXTX")
MODEM_START = field(_PREFIX + "TXRX_CFG2_MODEM_START")
DFT_PEAK_EN = field(_PREFIX + "RX_CFG0_DFT_PEAK_EN")
SYNC_PEAKS = (field(_PREFIX + "FRAME_SYNCH0_PEAK1_POS"), field(_PREFIX + "FRAME_SYNCH1_PEAK2_POS"))

GAIN_P_PREAMB_OF_SF: Final = {5: 4, 6: 4, 7: 6, 8: 6, 9: 6, 10: 6, 11: 7, 12: 7}
GAIN_I_EN_OF_BANDWIDTH: Final = {125_000: 1, 250_000: 2, 500_000: 3}
"""For SF11 and SF12; below, the integral gain is off."""

CADRXTX_RX: Final = 1
DFT_PEAK_AUTO: Final = 3


def settings(channel: ServiceChannel, radio_hz: int) -> Iterator[Setting]:
    """Detection, timing and modulation of the service modem.

    Args:
        channel: what it listens for.
        radio_hz: centre frequency of radio A, as for the multi-SF modems.
    """
    sf, bandwidth_hz = channel.spreading_factor, channel.bandwidth_hz
    short = sf <= 6
    yield MSP_PEAK_NB, 7
    yield MSP2_PEAK_NB, 5
    yield USE_GAIN_SYMB, 1
    yield ACC_PNR, 52
    yield FINE_SYNCH_EN, int(short)
    yield DC_NOTCH_ENABLE, 0
    yield FORCE_DEFAULT_FIR, 1
    yield DAGC_GAIN_DROP_COMP, 1
    yield DAGC_TARGET_LVL, 1
    yield GAIN_P_AUTO, 3
    yield GAIN_I_PAYLOAD, 3
    yield GAIN_P_PREAMB, GAIN_P_PREAMB_OF_SF[sf]
    yield GAIN_I_EN, GAIN_I_EN_OF_BANDWIDTH[bandwidth_hz] if sf >= 11 else 0
    yield IMPLICIT_HEADER, 0
    yield CRC_EN, 0
    yield CODING_RATE, 0
    yield PAYLOAD_LENGTH, 0
    yield from modulation_settings(channel)
    yield PPM_OFFSET, int(low_data_rate(bandwidth_hz, sf))
    yield PREAMBLE_SYMB_NB_MSB, 0
    yield PREAMBLE_SYMB_NB_LSB, 12 if short else 8
    mantissa, exponent = frequency_to_time_drift(bandwidth_hz, radio_hz)
    yield DRIFT_MANT_MSB, mantissa >> 8
    yield DRIFT_MANT_LSB, mantissa & 0xFF
    yield DRIFT_EXP, exponent
    yield INVERT_TIME_SYMB, 1
    yield DAGC_IN_COMP, 1
    yield CADRXTX, CADRXTX_RX
    yield DFT_PEAK_EN, DFT_PEAK_AUTO


def modulation_settings(channel: ServiceChannel) -> Iterator[Setting]:
    """Spreading factor and bandwidth."""
    yield MODEM_SF, channel.spreading_factor
    yield MODEM_BW, BANDWIDTH_CODE[channel.bandwidth_hz]


def enable_settings() -> Iterator[Setting]:
    """Start the modem; comes after everything else is set."""
    yield MODEM_EN, 1
    yield MODEM_START, 1


def sync_word_settings(channel: ServiceChannel | None, *, public: bool) -> Iterator[Setting]:
    """The network's sync word, as positions of the two sync symbols; set even if the modem stays off."""
    sf = channel.spreading_factor if channel else MODEM_SF.reset
    yield from zip(SYNC_PEAKS, sync_peaks(sf, public=public), strict=True)
