# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""A packet is received exactly when the registers say so, and if not, the log says why."""

from __future__ import annotations

import pytest

from drivers.emulator.air import AirPacket
from drivers.emulator.chip import Model
from drivers.sx1302.packet import CrcStatus, Modulation
from tests.drivers.emulator.bench import Bench, uplink

CHANNELS_HZ = [868_100_000, 868_300_000, 868_500_000, *range(867_100_000, 868_000_000, 200_000)]


@pytest.mark.parametrize("sf", range(5, 13))
@pytest.mark.parametrize("freq_hz", CHANNELS_HZ)
def test_every_rate_is_received_on_every_channel(receiving: Bench, sf: int, freq_hz: int) -> None:
    assert receiving.hear(uplink(sf=sf, freq_hz=freq_hz)).outcome == "fifo"
    frame = receiving.fetch()
    assert frame[3] == CHANNELS_HZ.index(freq_hz)
    assert frame[4] == sf << 4 | 1 << 1 | 1


def test_while_the_chip_starts_it_says_that_it_receives_only_once_every_modem_does(bench: Bench) -> None:
    said: list[bool] = []

    def look() -> None:
        said.append(bench.chip.gate.receiving)
        if said[-1]:
            for packet in (uplink(), service(), fsk()):
                bench.chip.gate.demodulator(packet)

    bench.start(after_each=look)

    assert said[-1]
    assert not said[0]


def fsk(**changes: object) -> AirPacket:
    return uplink(**({"modulation": Modulation.FSK, "freq_hz": 868_800_000} | changes))


def service(**changes: object) -> AirPacket:
    return uplink(**({"sf": 7, "bw_hz": 250_000, "freq_hz": 868_300_000} | changes))


def test_the_service_modem_and_the_fsk_modem_receive(receiving: Bench) -> None:
    assert receiving.hear(service()).outcome == "fifo"
    assert receiving.hear(fsk()).outcome == "fifo"
    frames = receiving.fetch()
    assert (frames[3], frames[5]) == (8, 16)
    assert (frames[36 + 3], frames[36 + 5]) == (9, 17)


@pytest.mark.parametrize(
    ("address", "bits", "packet", "reason"),
    [
        (0x5605, 0x08, uplink(), "GLOBAL_EN"),
        (0x5605, 0x02, uplink(), "multi-SF modems are disabled"),
        (0x5605, 0x01, service(), "service modem is disabled"),
        (0x5605, 0x04, fsk(), "FSK modem is disabled"),
        (0x5821, 0x01, uplink(), "channel 0 is disabled"),
        (0x5822, 0x20, uplink(sf=10), "SF10 is disabled"),
        (0x5B22, 0x08, service(), "service modem is disabled"),
        (0x5783, 0x04, uplink(freq_hz=867_100_000), "radio A is not receiving"),
        (0x5784, 0x08, uplink(), "radio B is not receiving"),
    ],
)
def test_what_is_switched_off_does_not_receive(
    receiving: Bench, address: int, bits: int, packet: AirPacket, reason: str
) -> None:
    assert receiving.hear(packet).outcome == "fifo"
    receiving.modify(address, clear_bits=bits)
    outcome = receiving.hear(packet).outcome
    assert outcome.startswith("not_received: ")
    assert reason in outcome


@pytest.mark.parametrize(
    ("packet", "reason"),
    [
        (uplink(freq_hz=868_150_000), "no channel"),
        (uplink(freq_hz=868_140_000), "no channel"),
        (uplink(freq_hz=915_000_000), "no channel"),
        (uplink(sync_word=0x12), "sync word 0x12"),
        (uplink(sf=5, sync_word=0x34), "sync word 0x34"),
        (uplink(invert_iq=True), "polarity"),
        (uplink(bw_hz=500_000), "not set to SF7 BW500"),
        (service(sf=8), "not set to SF8 BW250"),
        (service(freq_hz=868_500_000), "not at 868500000"),
        (fsk(bitrate=100_000), "100000 bit/s"),
        (fsk(fsk_sync=b"\xc1\x94"), "sync word"),
        (fsk(freq_hz=868_840_000), "not at"),
    ],
)
def test_what_does_not_fit_is_not_received(receiving: Bench, packet: AirPacket, reason: str) -> None:
    reception = receiving.hear(packet)
    assert reason in reception.outcome
    assert reception.counter_us is None
    assert receiving.fetch() == b""


@pytest.mark.parametrize("offset_hz", [-30_000, -1_000, 0, 1_000, 30_000])
def test_a_packet_slightly_off_its_channel_is_received_with_its_offset(receiving: Bench, offset_hz: int) -> None:
    assert receiving.hear(uplink(freq_hz=868_100_000 + offset_hz)).outcome == "fifo"
    raw = int.from_bytes(receiving.fetch()[6:9], "little")
    measured_hz = (raw - (1 << 20) if raw >> 19 else raw) * 125_000 * 32 / (1 << 25)
    # the channel's true centre is 97.66 Hz above 868.1 MHz: its IF register counts in 488.28 Hz
    assert measured_hz == pytest.approx(offset_hz - 97.66, abs=0.2)


def test_a_chip_that_is_off_receives_nothing(bench: Bench) -> None:
    assert "GLOBAL_EN" in bench.hear(uplink()).outcome
    bench.write(0x5605, 0x0F)
    assert "AGC" in bench.hear(uplink()).outcome


def test_a_chip_in_reset_receives_nothing(receiving: Bench) -> None:
    receiving.chip.drive_reset(receiving.now_ns, active=True)
    assert "reset" in receiving.hear(uplink()).outcome


@pytest.mark.parametrize("control", [0x5780, 0x6080], ids=["agc", "arb"])
def test_a_stopped_microcontroller_ends_reception(receiving: Bench, control: int) -> None:
    receiving.modify(control, set_bits=0x04)
    assert "is not running" in receiving.hear(uplink()).outcome


def test_the_state_of_the_payload_crc_is_reported(receiving: Bench) -> None:
    for crc, present, error in ((CrcStatus.OK, 1, 0), (CrcStatus.BAD, 1, 1), (CrcStatus.NONE, 0, 0)):
        receiving.hear(uplink(crc=crc))
        frame = receiving.fetch()
        assert (frame[4] & 1, frame[9 + 13] & 1) == (present, error)
        assert sum(frame[:-1]) & 0xFF == frame[-1]


def test_packets_are_counted_by_modem_and_fate(receiving: Bench) -> None:
    for packet in (uplink(), uplink(), uplink(crc=CrcStatus.BAD), service(), fsk(crc=CrcStatus.BAD)):
        receiving.hear(packet)
    assert receiving.read(0x58CA, 9) == bytes((0, 1, 2, 0, 0, 1, 0, 1, 0))


def test_the_arb_counts_detections_for_the_chosen_rate(receiving: Bench) -> None:
    for packet in (uplink(sf=7), uplink(sf=7), uplink(sf=8), uplink(freq_hz=867_100_000)):
        receiving.hear(packet)
    assert receiving.read(0x608D, 8) == bytes((2, 0, 0, 1, 0, 0, 0, 0))


def precise(model: Model) -> Bench:
    receiving = Bench(model=model).start()
    receiving.modify(0x58C0, clear_bits=0x04)
    receiving.write(0x58C1, 32)
    receiving.write(0x58B3, 0x08)
    receiving.write(0x608C, 0x3F)
    return receiving


@pytest.mark.parametrize(("sf", "pairs"), [(7, 32), (10, 16), (11, None), (12, None)])
def test_precision_mode_brings_two_copies_with_the_end_of_the_header(sf: int, pairs: int | None) -> None:
    receiving = precise(Model.SX1303)
    packet = uplink(sf=sf)
    end_us = receiving.now_us + 3_000_000
    reception = receiving.hear(packet, end_us=end_us)
    receiving.wait_us(5_000_000)
    frames = receiving.fetch()
    first = frames[:36]
    assert int.from_bytes(first[28:32], "little") // 32 == (reception.counter_us or 0) - packet.header_lead_us
    if pairs is None:
        assert len(frames) == 36
        return
    second = frames[36:]
    assert len(second) == 36 + 2 * pairs
    assert (first[22] & 0x10, second[22] & 0x10) == (0, 0x10)
    assert (first[34], second[34]) == (0, pairs)
    assert second[9:22] == packet.payload


def test_an_sx1302_measures_no_fine_time() -> None:
    receiving = precise(Model.SX1302)
    receiving.hear(uplink())
    assert len(receiving.fetch()) == 2 * 36


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"sf": 4}, "sf"),
        ({"bw_hz": 62_500}, "bw_hz"),
        ({"coding_rate": 5}, "cr"),
        ({"payload": bytes(256)}, "payload"),
        ({"freq_hz": 2_400_000_000}, "freq_hz"),
        ({"rssi_dbm": float("nan")}, "rssi_dbm"),
        ({"snr_db": 40}, "snr_db"),
        ({"modulation": Modulation.FSK, "bitrate": 1}, "datarate"),
        ({"identifier": "x" * 129}, "id"),
    ],
)
def test_a_packet_that_cannot_be_is_refused(changes: dict[str, object], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        uplink(**changes)
