# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""A frame as it is kept: integers only, so that spool and batch give back bit for bit what the radio delivered."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class Modulation(IntEnum):
    """Modulation of a frame (batch format, data-rate table)."""

    LORA = 0
    FSK = 1


class CrcStatus(IntEnum):
    """State of the payload CRC (batch format, crc column)."""

    OK = 0
    BAD = 1
    NONE = 2


@dataclass(frozen=True, slots=True)
class Session:
    """One run of the concentrator between two resets: the time base of its counter.

    Attributes:
        boot_id: the kernel's boot id, 16 bytes (/proc/sys/kernel/random/boot_id).
        number: counts chip starts over the life of the spool, from 1.
    """

    boot_id: bytes
    number: int


@dataclass(frozen=True, slots=True)
class Frame:
    """One received frame.

    Attributes:
        session: boot and chip start the two times below belong to.
        boottime_us: CLOCK_BOOTTIME at the end of the packet, microseconds.
        counter_us: concentrator counter at the end of the packet, unwrapped to 64 bits, microseconds.
        frequency_hz: centre of the receiving channel.
        modulation: LoRa or FSK.
        bandwidth_hz: 125000, 250000 or 500000.
        datarate: LoRa: spreading factor 5 to 12; FSK: bit/s.
        coding_rate: 1 to 4 for 4/5 to 4/8; 0 for FSK.
        crc: payload CRC state.
        rssi_ddbm: channel RSSI in tenths of a dBm.
        rssis_ddbm: signal RSSI in tenths of a dBm, None where the modem has none (FSK).
        snr_qdb: SNR in quarters of a dB, None where the modem has none (FSK).
        frequency_offset_hz: of the packet against the channel centre.
        if_chain: 0 to 7 multi-SF, 8 LoRa service, 9 FSK.
        rf_chain: radio, 0 or 1.
        phy_payload: the PHYPayload, 0 to 255 bytes.
        fine_timestamp_ns: nanoseconds since the last PPS, None without.
    """

    session: Session
    boottime_us: int
    counter_us: int
    frequency_hz: int
    modulation: Modulation
    bandwidth_hz: int
    datarate: int
    coding_rate: int
    crc: CrcStatus
    rssi_ddbm: int
    rssis_ddbm: int | None
    snr_qdb: int | None
    frequency_offset_hz: int
    if_chain: int
    rf_chain: int
    phy_payload: bytes
    fine_timestamp_ns: int | None = None
