# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What the vendor's software read out of the FIFO in recorded runs comes out as what it reported."""

from __future__ import annotations

import pytest

from drivers.boards import load_board
from drivers.plans import ChannelPlan, load_plan
from drivers.sx1302.counter import CounterSample
from drivers.sx1302.fifo import parse
from drivers.sx1302.fine import PulseHistory
from drivers.sx1302.merge import Merger
from drivers.sx1302.packet import CrcStatus, Modulation, RxPacket
from drivers.sx1302.rx import Decoder
from tests.drivers.bench import multi_sf_only
from tests.drivers.recorded import trace

POPPED = b"\x00\x40\x00"
SAMPLE = CounterSample(1 << 40, 0)


def _fetches(name: str) -> list[bytes]:
    """What each visit to the FIFO brought."""
    device = "usb.0" if name.startswith("usb") else "spidev0.0"
    return [frame.miso[4:] for frame in trace(name, device) if frame.mosi[:3] == POPPED]


def _packets(name: str, plan: ChannelPlan, *, fine: bool = False) -> list[RxPacket]:
    decoder = Decoder(load_board("semtech_corecell_eu868"), plan, PulseHistory() if fine else None)
    packets = []
    for data in _fetches(name):
        parsed = parse(data)
        assert (parsed.faults, parsed.rest) == ({}, b"")
        for record in parsed.records:
            packet = decoder.decode(record, SAMPLE, 25.0)
            assert isinstance(packet, RxPacket)
            packets.append(packet)
    return packets


@pytest.mark.parametrize("name", ["hal_rx_sx1250", "usb_hal_rx"])
def test_nine_packets_of_all_spreading_factors_and_sizes(name: str) -> None:
    packets = _packets(name, multi_sf_only())
    assert [p.datarate for p in packets] == [7, 8, 9, 10, 11, 12, 5, 6, 7]
    assert [p.coding_rate for p in packets] == [1, 2, 3, 4, 1, 1, 1, 1, 1]
    assert [len(p.payload) for p in packets] == [1, 12, 20, 51, 64, 16, 16, 255, 0]
    assert [p.if_chain for p in packets] == [0, 1, 2, 3, 4, 5, 6, 7, 0]
    assert {p.crc for p in packets} == {CrcStatus.OK}
    # The program prints the offset of a packet that hits its channel as that of the channel's own rounding.
    assert packets[0].frequency_offset_hz == -98
    assert packets[0].rssi_channel_dbm == pytest.approx(0x87 - 215.4 + 1.02, abs=0.01)


def test_the_packet_forwarders_lora_fsk_service_and_damaged_packets() -> None:
    lora, fsk, service, damaged = _packets("pktfwd_eu868", load_plan("eu868"))
    assert (lora.frequency_hz, lora.datarate, lora.payload.hex()) == (
        868_100_000,
        9,
        "40010203048000010001aabbccdd11223344",
    )
    assert lora.snr_db == 7.25
    assert lora.rssi_channel_dbm == pytest.approx(-79.4, abs=0.05)
    assert (fsk.modulation, fsk.frequency_hz, fsk.payload.hex()) == (Modulation.FSK, 868_800_000, "0102030405")
    assert (service.bandwidth_hz, service.datarate, service.payload.hex()) == (250_000, 7, "aabbccddeeff")
    assert [p.crc for p in (lora, fsk, service, damaged)] == [CrcStatus.OK] * 3 + [CrcStatus.BAD]
    assert (damaged.datarate, damaged.snr_db) == (10, -12.5)


def test_the_two_demodulations_of_a_packet_of_the_sx1303_are_one() -> None:
    packets = _packets("pktfwd_sx1303_ftime", load_plan("eu868"), fine=True)
    assert [packet.modem for packet in packets] == [0, 8]
    (kept,) = Merger(twins=True).merge(packets, 0)
    assert (kept.payload, len(kept.copies)) == (packets[0].payload, 1)
