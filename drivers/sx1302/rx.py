# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""From a FIFO record in the chip's units to a packet in those of the field.

What depends on the channel alone is computed once, when the decoder is made; what depends on the shape of
the packet is cached. A full FIFO is sixty packets, and a Pi Zero has better things to do.
"""

from __future__ import annotations

import binascii
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from drivers.plans import FSK_BANDWIDTH_HZ, MULTI_SF_BANDWIDTH_HZ
from drivers.sx1302.channelizer import if_error_hz
from drivers.sx1302.counter import before, before_ticks
from drivers.sx1302.fifo import FSK_MODEM, SERVICE_MODEM, Fault
from drivers.sx1302.fine import fine_timestamp_ns
from drivers.sx1302.packet import CrcStatus, Modulation, RxPacket
from drivers.sx1302.timestamp import fsk_correction_us, lora_correction_us, lora_precision_correction_us

if TYPE_CHECKING:
    from drivers.boards import Board
    from drivers.plans import ChannelPlan
    from drivers.sx1302.counter import CounterSample
    from drivers.sx1302.fifo import FifoRecord
    from drivers.sx1302.fine import PulseHistory

SERVICE_IF_CHAIN: Final = 8
FSK_IF_CHAIN: Final = 9

RSSI_PER_CELSIUS2: Final = 20.41
RSSI_PER_CELSIUS: Final = 2162.56
RSSI_TEMPERATURE_SCALE: Final = 65_536
"""How the SX1250's RSSI drifts with temperature: (20.41 t^2 + 2162.56 t) / 65536 dB [HAL 2.1.0]."""

FSK_RSSI: Final = (90.636423, 0.420835, 0.007129, -0.000026)
"""Polynomial, constant first, that makes the FSK modem's RSSI linear [HAL 2.1.0]."""

OFFSET_FRACTION_BITS: Final = 20
"""A frequency offset counts bandwidth / 2^20."""


@dataclass(frozen=True, slots=True)
class _Channel:
    """What is known of a packet by the path it came through."""

    frequency_hz: int
    rf_chain: int
    bandwidth_hz: int
    if_hz: int
    if_error_hz: int
    bitrate_bps: int


def payload_crc16(payload: bytes) -> int:
    """Return the CRC16 the chip reports beside a LoRa payload.

    It is CRC-16/XMODEM of all but the last two bytes, exclusive-or the last two bytes.
    """
    return binascii.crc_hqx(payload[:-2], 0) ^ int.from_bytes(payload[-2:], "big")


def temperature_term_db(temperature_celsius: float) -> float:
    """Return what to add to the RSSI of an SX1250 at that temperature."""
    t = temperature_celsius
    return (RSSI_PER_CELSIUS2 * t + RSSI_PER_CELSIUS) * t / RSSI_TEMPERATURE_SCALE


def frequency_offset_hz(raw: int, bandwidth_hz: int) -> int:
    """Return a frequency offset in Hz, truncated towards zero."""
    size_hz = abs(raw) * bandwidth_hz >> OFFSET_FRACTION_BITS
    return size_hz if raw >= 0 else -size_hz


class Decoder:
    """Turns records into packets for one board and plan.

    Args:
        board: for the RSSI offset.
        plan: for what each IF chain listens to.
        pulses: of the GNSS receiver, if the chip stamps packets at the end of the header (fine time stamps); None when
            it stamps them at their end.
    """

    def __init__(self, board: Board, plan: ChannelPlan, pulses: PulseHistory | None = None) -> None:
        self._rssi_offset_db = board.rssi_offset_db
        self._pulses = pulses
        channels = {
            index: _Channel(
                channel.frequency_hz,
                channel.rf_chain,
                MULTI_SF_BANDWIDTH_HZ,
                plan.if_hz(channel),
                if_error_hz(plan.if_hz(channel)),
                bitrate_bps=0,
            )
            for index, channel in enumerate(plan.multi_sf)
        }
        if plan.service:
            service = plan.service
            if_hz = plan.if_hz(service)
            channels[SERVICE_IF_CHAIN] = _Channel(
                service.frequency_hz, service.rf_chain, service.bandwidth_hz, if_hz, if_error_hz(if_hz), bitrate_bps=0
            )
        if plan.fsk:
            fsk = plan.fsk
            channels[FSK_IF_CHAIN] = _Channel(
                fsk.frequency_hz,
                fsk.rf_chain,
                FSK_BANDWIDTH_HZ,
                plan.if_hz(fsk),
                if_error_hz=0,
                bitrate_bps=fsk.bitrate_bps,
            )
        self._channels = channels

    def decode(self, record: FifoRecord, sample: CounterSample, temperature_celsius: float) -> RxPacket | Fault:
        """Return the packet, or the fault that makes it none.

        Args:
            record: out of the FIFO.
            sample: the counter, sampled after the record was fetched.
            temperature_celsius: of the radios.
        """
        channel = self._channels.get(record.if_chain)
        if channel is None or _modem_if_chain(record) != record.if_chain:
            return Fault.RANGE
        crc = CrcStatus.NONE
        if record.crc_present:
            crc = CrcStatus.BAD if record.crc_error else CrcStatus.OK
        offset_db = self._rssi_offset_db + temperature_term_db(temperature_celsius)
        if record.modem == FSK_MODEM:
            return _fsk_packet(record, channel, crc, offset_db, before(sample, record.ticks))
        if crc is CrcStatus.OK and record.payload and payload_crc16(record.payload) != record.crc16:
            return Fault.CRC16
        return self._lora_packet(record, channel, crc, offset_db, sample)

    def _lora_packet(
        self, record: FifoRecord, channel: _Channel, crc: CrcStatus, offset_db: float, sample: CounterSample
    ) -> RxPacket:
        correct = lora_correction_us if self._pulses is None else lora_precision_correction_us
        correction_us = correct(
            channel.bandwidth_hz,
            record.spreading_factor,
            record.coding_rate,
            len(record.payload),
            crc=record.crc_present,
        )
        offset_hz = frequency_offset_hz(record.frequency_offset, channel.bandwidth_hz) + channel.if_error_hz
        fine_ns = None
        if self._pulses is not None and record.timing_set and crc is CrcStatus.OK and record.modem < SERVICE_MODEM:
            fine_ns = fine_timestamp_ns(
                record,
                before_ticks(sample, record.ticks),
                self._pulses,
                frequency_hz=channel.frequency_hz,
                offset_hz=offset_hz,
                if_hz=channel.if_hz,
            )
        return RxPacket(
            payload=record.payload,
            frequency_hz=channel.frequency_hz,
            modulation=Modulation.LORA,
            bandwidth_hz=channel.bandwidth_hz,
            datarate=record.spreading_factor,
            coding_rate=record.coding_rate,
            crc=crc,
            rssi_channel_dbm=record.rssi_channel + offset_db,
            rssi_signal_dbm=record.rssi_signal + offset_db,
            snr_db=record.snr_quarter_db / 4,
            frequency_offset_hz=offset_hz,
            if_chain=record.if_chain,
            rf_chain=channel.rf_chain,
            modem=record.modem,
            counter_us=max(before(sample, record.ticks) + correction_us, 0),
            fine_timestamp_ns=fine_ns,
        )


def _modem_if_chain(record: FifoRecord) -> int:
    """The IF chain a record must name: the single-channel modems have one each."""
    if record.modem == FSK_MODEM:
        return FSK_IF_CHAIN
    return SERVICE_IF_CHAIN if record.modem == SERVICE_MODEM else min(record.if_chain, SERVICE_IF_CHAIN - 1)


def _fsk_packet(record: FifoRecord, channel: _Channel, crc: CrcStatus, offset_db: float, stamp_us: int) -> RxPacket:
    """The FSK modem measures neither SNR nor signal RSSI; the unit of its frequency offset is not known."""
    raw = record.rssi_channel
    linear = FSK_RSSI[0] + raw * (FSK_RSSI[1] + raw * (FSK_RSSI[2] + raw * FSK_RSSI[3]))
    return RxPacket(
        payload=record.payload,
        frequency_hz=channel.frequency_hz,
        modulation=Modulation.FSK,
        bandwidth_hz=channel.bandwidth_hz,
        datarate=channel.bitrate_bps,
        coding_rate=0,
        crc=crc,
        rssi_channel_dbm=linear + offset_db,
        rssi_signal_dbm=None,
        snr_db=None,
        frequency_offset_hz=0,
        if_chain=record.if_chain,
        rf_chain=channel.rf_chain,
        modem=record.modem,
        counter_us=max(stamp_us + fsk_correction_us(channel.bitrate_bps), 0),
    )
