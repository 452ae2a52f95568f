# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What the concentrator hands up: one received packet, in the units of the field."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class Modulation(IntEnum):
    """Modulation of a packet; the numbers are those of the batch format."""

    LORA = 0
    FSK = 1


class CrcStatus(IntEnum):
    """State of the payload CRC; the numbers are those of the batch format."""

    OK = 0
    BAD = 1
    NONE = 2


@dataclass(frozen=True, slots=True)
class RxPacket:
    """One packet out of the receive FIFO.

    Attributes:
        payload: PHYPayload, 0 to 255 bytes.
        frequency_hz: centre of the receiving channel as configured.
        modulation: LoRa or FSK.
        bandwidth_hz: 125000, 250000 or 500000.
        datarate: LoRa: spreading factor 5 to 12; FSK: bit/s.
        coding_rate: 1 to 4 for 4/5 to 4/8; 0 for FSK.
        crc: payload CRC state.
        rssi_channel_dbm: RSSI of the channel.
        rssi_signal_dbm: RSSI of the signal; None for FSK.
        snr_db: SNR in steps of 0.25 dB; None for FSK.
        frequency_offset_hz: of the packet against the channel centre.
        if_chain: 0 to 7 multi-SF, 8 LoRa service, 9 FSK.
        rf_chain: radio, 0 (A) or 1 (B).
        modem: 0 to 15 multi-SF, 16 service, 17 FSK.
        counter_us: end of packet by the concentrator's counter, unwrapped to 64 bits, microseconds since the
            chip's start; the low 32 bits are the `tmst` of the packet forwarder protocols.
        fine_timestamp_ns: end of preamble, nanoseconds since the last PPS (`ftime` of the packet forwarder protocols);
            None where it was not measured (SX1303 only) or without pulses.
        copies: `counter_us` of further receptions of the same transmission, which were merged into this one.
    """

    payload: bytes
    frequency_hz: int
    modulation: Modulation
    bandwidth_hz: int
    datarate: int
    coding_rate: int
    crc: CrcStatus
    rssi_channel_dbm: float
    rssi_signal_dbm: float | None
    snr_db: float | None
    frequency_offset_hz: int
    if_chain: int
    rf_chain: int
    modem: int
    counter_us: int
    fine_timestamp_ns: int | None = None
    copies: tuple[int, ...] = ()
