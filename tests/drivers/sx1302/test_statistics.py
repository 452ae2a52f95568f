# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What was listened to: counted by the driver and by the chip, through wraps and restarts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from drivers.emulator import AirPacket
from drivers.errors import BusError
from drivers.sx1302.packet import CrcStatus, Modulation
from drivers.sx1302.statistics import ChannelStatistics, Listened
from tests.drivers.bench import Bench, packet

if TYPE_CHECKING:
    from drivers.sx1302.concentrator import Concentrator


def _listen(bench: Bench, concentrator: Concentrator, seconds: float) -> None:
    for _ in range(round(seconds * 10)):
        concentrator.receive()
        bench.clock.sleep(0.1)


def test_channels_are_counted_with_their_levels() -> None:
    bench = Bench()
    concentrator = bench.started()
    assert concentrator.listened == Listened()
    for number in range(80):
        bench.emulator.inject(AirPacket(freq_hz=868_100_000, payload=bytes((number,)), rssi_dbm=-100, snr_db=-5))
        concentrator.receive()
    bench.emulator.inject(AirPacket(freq_hz=868_100_000, payload=b"damaged", rssi_dbm=-20, crc=CrcStatus.BAD))
    bench.emulator.inject(AirPacket(freq_hz=868_800_000, modulation=Modulation.FSK, payload=b"fsk", rssi_dbm=-60))
    concentrator.receive()
    near, fsk = (concentrator.listened.channels[chain] for chain in (0, 9))
    assert (near.frames, near.bad_crc, near.noise_dbm) == (81, 1, None)
    assert near.rssi_dbm == pytest.approx(-95, abs=1)
    assert near.snr_db == pytest.approx(-4.1, abs=0.2)
    assert (fsk.frames, fsk.snr_db) == (1, None)
    assert concentrator.listened.channels.keys() == {0, 9}


def test_the_chips_counters_are_followed_round_and_through_a_restart() -> None:
    bench = Bench()
    concentrator = bench.started()
    for _ in range(6):
        for number in range(50):
            bench.emulator.inject(packet(number))
        bench.emulator.inject(AirPacket(freq_hz=868_100_000, payload=b"abc", crc=CrcStatus.BAD))
        bench.emulator.inject(AirPacket(freq_hz=868_300_000, sf=7, bw_hz=250_000, payload=b"service"))
        _listen(bench, concentrator, 11)
    expected = {
        "multi_sf_good": 300,
        "multi_sf_payload_errors": 6,
        "service_good": 6,
        "detections": 306,
        "allocations": 306,
    }
    assert concentrator.listened.counters == expected
    concentrator.start()
    bench.emulator.inject(packet(1))
    _listen(bench, concentrator, 11)
    assert concentrator.listened.counters == {
        name: count + (name in {"multi_sf_good", "detections", "allocations"}) for name, count in expected.items()
    }


def test_reading_them_costs_a_fifth_of_a_message_per_second() -> None:
    bench = Bench()
    concentrator = bench.started()
    _listen(bench, concentrator, 120)
    counters = [frame for frame in bench.bus.sent if frame[:3] in {b"\x00\x58\xca", b"\x00\x60\x8d"}]
    assert len(counters) <= 26


def test_the_noise_of_each_channel_is_measured_in_turn() -> None:
    bench = Bench(sx1261=True)
    concentrator = bench.started()
    bench.emulator.set_channel(-112)
    for number in range(25):
        bench.emulator.inject(packet(number))
        _listen(bench, concentrator, 31)
    channels = concentrator.listened.channels
    assert [channels[chain].noise_dbm for chain in range(10)] == [-112.0] * 10
    assert channels[0].frames == 25
    assert channels[1] == ChannelStatistics(noise_dbm=-112.0)


def test_an_sx1261_that_dies_later_costs_the_noise_and_nothing_else() -> None:
    bench = Bench(sx1261=True)
    concentrator = bench.started()

    def dead(frame: bytes, answer: bytes) -> bytes:
        raise BusError(f"{len(frame)} {len(answer)}", op="transfer", where="bus", hint="", code="CG-TEST")

    assert bench.bus_1261 is not None
    bench.bus_1261.meddle = dead
    _listen(bench, concentrator, 65)
    bench.emulator.inject(packet(1))
    assert len(concentrator.receive().packets) == 1
    assert concentrator.listened.channels[0].noise_dbm is None
