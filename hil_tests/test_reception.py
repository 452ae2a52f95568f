# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""H07, H08: every channel with every spreading factor, and RSSI against the level at the antenna."""

from __future__ import annotations

import pytest

from drivers.sx1302.concentrator import Concentrator
from drivers.sx1302.packet import CrcStatus, RxPacket
from hil_tests.bench import Bench, ReferenceNode, wait_for


def hear(concentrator: Concentrator) -> RxPacket:
    return wait_for(lambda: next(iter(concentrator.receive().packets), None), within_s=5.0, what="a packet")


def test_h07_every_channel_hears_every_spreading_factor(
    bench: Bench, node: ReferenceNode, concentrator: Concentrator
) -> None:
    last_us = 0
    for channel in bench.plan.multi_sf:
        for sf in range(7, 13):
            payload = bytes([sf]) * (sf + 8)
            node.send(payload, frequency_hz=channel.frequency_hz, sf=sf, rssi_dbm=-80, snr_db=5)
            packet = hear(concentrator)
            assert (packet.payload, packet.frequency_hz, packet.datarate) == (payload, channel.frequency_hz, sf)
            assert packet.crc is CrcStatus.OK
            assert packet.snr_db == pytest.approx(5, abs=bench.limits.snr_error_db)
            # SF12 takes longer to decode than SF7: only the end of packet orders them, and it may lie a little before
            assert packet.counter_us > last_us - 500_000
            last_us = packet.counter_us


def test_h08_rssi_follows_the_level(bench: Bench, node: ReferenceNode, concentrator: Concentrator) -> None:
    channel = bench.plan.multi_sf[0]
    for rssi_dbm in range(-120, -39, 10):
        node.send(b"level", frequency_hz=channel.frequency_hz, sf=7, rssi_dbm=rssi_dbm, snr_db=5)
        assert hear(concentrator).rssi_channel_dbm == pytest.approx(rssi_dbm, abs=bench.limits.rssi_error_db)
