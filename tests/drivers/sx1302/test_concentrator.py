# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Reception on the emulator: what went on the air comes out, whatever happens in between."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from drivers.emulator import AirPacket
from drivers.emulator.emulator import DEFAULT_EUI
from drivers.errors import BusError, ChipError
from drivers.sx1302.concentrator import Concentrator, State
from drivers.sx1302.counter import WRAP_US
from drivers.sx1302.fifo import Fault
from drivers.sx1302.packet import CrcStatus, Modulation, RxPacket
from drivers.sx1302.popped import Popped
from drivers.sx1302.spi import RX_FIFO_ADDRESS
from tests.drivers.bench import Bench, packet

if TYPE_CHECKING:
    from pathlib import Path


def _numbers(packets: tuple[RxPacket, ...]) -> list[int]:
    return [int.from_bytes(p.payload[:2], "big") for p in packets]


def test_the_eui_is_the_chips() -> None:
    bench = Bench()
    concentrator = bench.concentrator()
    with pytest.raises(ChipError, match="read EUI: concentrator: is off"):
        _ = concentrator.eui
    concentrator.start()
    assert concentrator.eui == DEFAULT_EUI


@pytest.mark.parametrize("sf", range(5, 13))
@pytest.mark.parametrize("size", [0, 1, 255])
def test_a_lora_packet_arrives_as_it_was_sent(sf: int, size: int) -> None:
    bench = Bench()
    concentrator = bench.started()
    sent = AirPacket(freq_hz=867_900_000, sf=sf, payload=bytes(range(size)), coding_rate=3, rssi_dbm=-97, snr_db=-4.25)
    bench.clock.sleep(10)
    bench.emulator.inject(sent)
    fetch = concentrator.receive()
    (got,) = fetch.packets
    assert fetch.faults == {}
    assert (got.frequency_hz, got.datarate, got.coding_rate) == (867_900_000, sf, 3)
    assert (got.payload, got.crc, got.snr_db) == (sent.payload, CrcStatus.OK, -4.25)
    assert got.rssi_channel_dbm == pytest.approx(-97, abs=0.6)
    assert (got.if_chain, got.rf_chain, got.modulation) == (7, 0, Modulation.LORA)
    (truth,), _ = bench.emulator.rxlog()
    assert truth.counter_us is not None
    assert abs(got.counter_us - truth.counter_us) <= 1


def test_service_and_fsk_packets_arrive() -> None:
    bench = Bench()
    concentrator = bench.started()
    bench.clock.sleep(1)
    bench.emulator.inject(AirPacket(freq_hz=868_300_000, sf=7, bw_hz=250_000, payload=b"service"))
    bench.emulator.inject(AirPacket(freq_hz=868_800_000, modulation=Modulation.FSK, payload=b"fsk", rssi_dbm=-60))
    service, fsk = concentrator.receive().packets
    assert (service.payload, service.bandwidth_hz, service.datarate, service.if_chain) == (b"service", 250_000, 7, 8)
    assert (fsk.payload, fsk.modulation, fsk.datarate, fsk.if_chain) == (b"fsk", Modulation.FSK, 50_000, 9)
    assert (fsk.snr_db, fsk.rssi_signal_dbm, fsk.coding_rate) == (None, None, 0)
    assert fsk.rssi_channel_dbm == pytest.approx(-60, abs=1)
    for got, truth in zip((service, fsk), bench.emulator.rxlog()[0], strict=True):
        assert truth.counter_us is not None
        assert abs(got.counter_us - truth.counter_us) <= 1


@pytest.mark.parametrize("crc", list(CrcStatus))
def test_the_state_of_the_crc_is_told(crc: CrcStatus) -> None:
    bench = Bench()
    concentrator = bench.started()
    bench.emulator.inject(AirPacket(freq_hz=868_100_000, payload=b"abc", crc=crc))
    assert [p.crc for p in concentrator.receive().packets] == [crc]


def test_an_idle_visit_is_one_message() -> None:
    bench = Bench()
    concentrator = bench.started()
    for _ in range(20):
        concentrator.receive()
        bench.clock.sleep(0.02)
    assert len(bench.bus.sent) == 20


def test_the_counter_is_sampled_once_a_second_when_nothing_comes() -> None:
    bench = Bench()
    concentrator = bench.started()
    first = concentrator.receive()
    bench.clock.sleep(1.0)
    second = concentrator.receive()
    assert second.counter_us - first.counter_us == pytest.approx(1_000_000, abs=1000)
    assert second.host_monotonic_ns == bench.clock.now_ns


def test_a_full_fifo_is_emptied_in_chunks_and_said_to_have_been_full() -> None:
    bench = Bench()
    concentrator = bench.started()
    count = 4096 // (23 + 40)
    for number in range(count + 5):
        bench.emulator.inject(packet(number, size=40))
    bench.bus.sent.clear()
    fetch = concentrator.receive()
    assert _numbers(fetch.packets) == list(range(count))
    assert fetch.faults == {Fault.FULL: 1}
    assert [entry.outcome for entry in bench.emulator.rxlog()[0]].count("overflow") == 5
    assert [len(f) - 4 for f in bench.bus.sent if f[:3] == b"\x00\x40\x00"] == [1024, 1024, 1024, 1023]
    bench.emulator.inject(packet(999))
    assert _numbers(concentrator.receive().packets) == [999]


def test_the_counter_goes_on_beyond_its_wrap() -> None:
    bench = Bench(counter_start_us=WRAP_US - 400_000)
    concentrator = bench.started()
    seen = []
    for number in range(5):
        bench.clock.sleep(100.0)
        bench.emulator.inject(packet(number))
        seen.append(concentrator.receive().packets[0].counter_us)
    truth = [entry.counter_us for entry in bench.emulator.rxlog()[0]]
    assert all(abs(a - b) <= 1 for a, b in zip(seen, truth, strict=True) if b is not None)
    assert seen[-1] > 3 * WRAP_US


def test_a_process_that_stood_still_for_an_hour_still_knows_the_time() -> None:
    bench = Bench()
    concentrator = bench.started()
    bench.clock.sleep(3600)
    bench.emulator.inject(packet(1))
    (got,) = concentrator.receive().packets
    (truth,), _ = bench.emulator.rxlog()
    assert truth.counter_us is not None
    assert abs(got.counter_us - truth.counter_us) <= 1
    assert concentrator.counter_us() == pytest.approx(bench.emulator.counter_us(), abs=1)


def test_a_brown_out_is_no_wrap_and_ends_with_a_restart() -> None:
    bench = Bench()
    concentrator = bench.started()
    bench.clock.sleep(5)
    concentrator.receive()
    bench.emulator.drive_power(active=False)
    bench.emulator.drive_power(active=True)
    bench.clock.sleep(1)
    with pytest.raises(ChipError, match="the chip was restarted") as caught:
        concentrator.receive()
    assert caught.value.retryable
    assert concentrator.state is State.FAULT
    with pytest.raises(ChipError, match="the chip was restarted"):
        concentrator.receive()
    concentrator.start()
    bench.emulator.inject(packet(7))
    assert _numbers(concentrator.receive().packets) == [7]


def test_packets_in_hand_survive_a_counter_that_cannot_be_trusted() -> None:
    bench = Bench()
    concentrator = bench.started()
    bench.clock.sleep(5)
    bench.emulator.inject(packet(1))
    wrong = bytes(4) + bytes.fromhex("7000000070000000")
    bench.bus.meddle = lambda frame, answer: wrong if frame[:3] == b"\x00\x61\x01" else answer
    (got,) = concentrator.receive().packets
    assert got.counter_us == pytest.approx(bench.emulator.rxlog()[0][0].counter_us, abs=5_000)
    with pytest.raises(ChipError, match="the chip was restarted"):
        concentrator.receive()


def test_one_bad_reading_of_the_counter_is_read_again() -> None:
    bench = Bench()
    concentrator = bench.started()
    bench.clock.sleep(5)
    wrong = [bytes(4) + bytes.fromhex("7000000070000000")] * 2
    bench.bus.meddle = lambda frame, answer: wrong.pop() if wrong and frame[:3] == b"\x00\x61\x01" else answer
    assert concentrator.counter_us() == pytest.approx(bench.emulator.counter_us(), abs=1)


def test_damage_is_counted_and_the_next_frame_kept() -> None:
    bench = Bench()
    concentrator = bench.started()
    for number in range(3):
        bench.emulator.inject(packet(number))
    flipped = []

    def flip(frame: bytes, answer: bytes) -> bytes:
        if frame[:3] != b"\x00\x40\x00":
            return answer
        flipped.append(frame)
        at = 4 + 43 + 12
        return answer[:at] + bytes((answer[at] ^ 1,)) + answer[at + 1 :]

    bench.bus.meddle = flip
    fetch = concentrator.receive()
    assert flipped
    assert _numbers(fetch.packets) == [0, 2]
    assert fetch.faults == {Fault.CHECKSUM: 1}


def test_a_fill_level_beyond_the_fifo_is_a_dead_link() -> None:
    bench = Bench()
    concentrator = bench.started()
    bench.bus.meddle = lambda _, answer: b"\xff" * len(answer)
    with pytest.raises(ChipError, match="8191 of 4096 bytes"):
        concentrator.receive()


def test_a_torn_fill_level_costs_nothing() -> None:
    bench = Bench()
    concentrator = bench.started()
    for number in range(10):
        bench.emulator.inject(packet(number))
    readings = [b"\x01", None]

    def tear(frame: bytes, answer: bytes) -> bytes:
        if frame[:3] != b"\x00\x58\xc8":
            return answer
        high = readings.pop() if readings else None
        return answer[:4] + high + answer[5:] if high is not None else answer

    bench.bus.meddle = tear
    readings.reverse()
    assert readings[0] is None
    fetch = concentrator.receive()
    assert (_numbers(fetch.packets), fetch.faults) == (list(range(10)), {})


def test_a_fetch_that_ends_within_a_frame_is_completed_by_the_next() -> None:
    bench = Bench()
    concentrator = bench.started()
    for number in range(3):
        bench.emulator.inject(packet(number))
    levels = iter([3 * 43 - 10] * 2)
    bench.bus.meddle = lambda frame, answer: (
        answer[:4] + next(levels, 0).to_bytes(2, "big") if frame[:3] == b"\x00\x58\xc8" else answer
    )
    first = concentrator.receive()
    bench.bus.meddle = None
    second = concentrator.receive()
    assert (_numbers(first.packets), _numbers(second.packets)) == ([0, 1], [2])
    assert (first.faults, second.faults) == ({}, {})


def test_the_temperature_moves_the_rssi_and_its_failure_does_not_stop_reception() -> None:
    bench = Bench()
    readings = [0.0, 60.0]

    def temperature() -> float:
        if not readings:
            raise BusError("gone", op="read", where="sensor", hint="look", code="CG-TEST")
        return readings.pop(0)

    concentrator = bench.concentrator(temperature=temperature)
    concentrator.start()
    fetches = []
    for number in range(3):
        bench.emulator.inject(packet(number))
        fetches.append(concentrator.receive())
    rssi = [fetch.packets[0].rssi_channel_dbm for fetch in fetches]
    assert rssi[1] - rssi[0] == pytest.approx((20.41 * 3600 + 2162.56 * 60) / 65536)
    assert rssi[2] == rssi[1]
    assert [fetch.faults for fetch in fetches] == [{}, {}, {Fault.TEMPERATURE: 1}]


def test_recovery_brings_what_the_dead_process_left_and_what_it_had_taken() -> None:
    bench = Bench()
    dead = bench.started()
    for number in range(4):
        bench.emulator.inject(packet(number))
        bench.clock.sleep(0.1)
    taken = dead.receive().packets
    for number in range(4, 7):
        bench.emulator.inject(packet(number))
        bench.clock.sleep(0.1)
    heir = bench.concentrator()
    fetch = heir.recover()
    assert _numbers(fetch.packets) == list(range(7))
    assert fetch.faults == {}
    assert [p.counter_us % WRAP_US for p in fetch.packets[:4]] == [p.counter_us % WRAP_US for p in taken]
    assert not bench.emulator.stats().running
    age_us = fetch.counter_us - fetch.packets[-1].counter_us
    assert 100_000 <= age_us < 200_000
    assert _numbers(bench.concentrator().recover().packets) == list(range(7))
    heir.start()
    bench.emulator.inject(packet(9))
    assert _numbers(heir.receive().packets) == [9]


def test_recovery_after_the_ring_has_gone_round() -> None:
    bench = Bench()
    dead = bench.started()
    for number in range(300):
        bench.emulator.inject(packet(number))
        bench.clock.sleep(0.1)
        if number % 7 == 0:
            dead.receive()
    numbers = _numbers(bench.concentrator().recover().packets)
    assert numbers == list(range(numbers[0], 300))
    assert len(numbers) >= 4096 // 43 - 1


def test_frames_popped_but_not_kept_were_overwritten_by_what_came_in_during_the_rescue() -> None:
    bench = Bench()
    dead = bench.started()
    for number in range(35):
        bench.emulator.inject(packet(number))
    dead.receive()  # and dies before it has kept them
    for number in range(35, 70):
        bench.emulator.inject(packet(number))
    coming = iter(range(70, 105))

    def busy_air(frame: bytes, answer: bytes) -> bytes:
        if frame[1:3] == RX_FIFO_ADDRESS.to_bytes(2, "big"):
            for number in coming:
                bench.emulator.inject(packet(number))
        return answer

    bench.bus.meddle = busy_air
    assert _numbers(bench.concentrator().recover().packets)[:70] == list(range(70))


def test_what_was_popped_is_not_lost_when_the_ring_fills_before_the_next_process_looks(tmp_path: Path) -> None:
    bench = Bench(popped=tmp_path / "popped")
    dead = bench.started()
    for number in range(40):
        bench.emulator.inject(packet(number, size=40))
        bench.clock.sleep(0.1)
    dead.receive()  # and dies before it has kept them
    held = 4096 // (23 + 40)
    for number in range(40, 40 + held):
        bench.emulator.inject(packet(number, size=40))
        bench.clock.sleep(0.1)
    fetch = bench.concentrator().recover()
    assert _numbers(fetch.packets) == list(range(40 + held))
    truth = [entry.counter_us for entry in bench.emulator.rxlog()[0] if entry.counter_us is not None]
    assert [p.counter_us % WRAP_US for p in fetch.packets] == pytest.approx([us % WRAP_US for us in truth], abs=1)
    assert _numbers(bench.concentrator().recover().packets) == list(range(40 + held))


def test_more_than_the_ring_holds_comes_through_one_visit_and_a_death_behind_it(tmp_path: Path) -> None:
    bench = Bench(popped=tmp_path / "popped")
    dead = bench.started()
    coming = iter(range(300))

    def busy_air(frame: bytes, answer: bytes) -> bytes:
        if frame[1:3] == RX_FIFO_ADDRESS.to_bytes(2, "big"):
            for _, number in zip(range(25), coming, strict=False):
                bench.emulator.inject(packet(number, size=40))
        return answer

    bench.emulator.inject(packet(1000, size=40))
    bench.bus.meddle = busy_air
    taken = _numbers(dead.receive().packets)
    assert len(taken) * (23 + 40) > 4096
    bench.bus.meddle = None
    assert _numbers(bench.concentrator().recover().packets)[: len(taken)] == taken


def test_what_was_kept_is_forgotten(tmp_path: Path) -> None:
    bench = Bench(popped=tmp_path / "popped")
    concentrator = bench.started()
    bench.emulator.inject(packet(1))
    concentrator.receive()
    assert Popped(bench.popped).data
    concentrator.receive()
    assert not Popped(bench.popped).data
    bench.emulator.inject(packet(2))
    concentrator.receive()
    concentrator.start()
    assert not Popped(bench.popped).data


def test_recovery_does_not_bring_back_frames_from_before_a_reset() -> None:
    bench = Bench()
    earlier = bench.started()
    for number in range(100):
        bench.emulator.inject(packet(number, size=33))
        bench.clock.sleep(0.01)
        earlier.receive()
    earlier.start()
    assert _numbers(bench.concentrator().recover().packets) == []
    bench.started()
    for number in range(500, 503):
        bench.emulator.inject(packet(number))
    assert _numbers(bench.concentrator().recover().packets) == [500, 501, 502]


def test_a_bus_that_fails_after_the_fifo_was_read_loses_nothing() -> None:
    bench = Bench()
    concentrator = bench.started()
    bench.clock.sleep(2)
    bench.emulator.inject(packet(1))

    def fail(frame: bytes, answer: bytes) -> bytes:
        if frame[:3] == b"\x00\x61\x01":
            raise BusError("gave up", op="transfer", where="test", hint="", code="CG-TEST", retryable=True)
        return answer

    bench.bus.meddle = fail
    with pytest.raises(BusError, match="gave up"):
        concentrator.receive()
    bench.bus.meddle = None
    bench.emulator.inject(packet(2))
    assert _numbers(concentrator.receive().packets) == [1, 2]


def test_recovery_finds_nothing_on_a_chip_that_was_stopped_reset_or_is_absent() -> None:
    bench = Bench()
    assert bench.concentrator().recover().packets == ()
    concentrator = bench.started()
    bench.emulator.inject(packet(1))
    assert len(concentrator.recover().packets) == 1
    concentrator.stop()
    assert bench.concentrator().recover().packets == ()
    bench.bus.meddle = lambda _, answer: b"\xff" * len(answer)
    assert bench.concentrator().recover().packets == ()


def test_recovery_does_not_invent_frequencies_of_another_plan() -> None:
    bench = Bench()
    bench.started()
    bench.emulator.inject(packet(1))
    other = Bench("kr920")
    bench.plan = other.plan
    fetch = bench.concentrator().recover()
    assert (fetch.packets, fetch.faults) == ((), {Fault.OTHER_PLAN: 1})


def test_a_closed_concentrator_is_off() -> None:
    bench = Bench()
    concentrator = bench.started()
    concentrator.close()
    concentrator.close()
    with pytest.raises(ChipError, match="is off"):
        concentrator.receive()
    with pytest.raises(BusError, match="closed"):
        concentrator.start()


def _listen(concentrator: Concentrator, bench: Bench, seconds: int, step_s: float = 0.1) -> None:
    for _ in range(round(seconds / step_s)):
        concentrator.receive()
        bench.clock.sleep(step_s)


@pytest.mark.parametrize(
    ("fault", "parameters", "code"),
    [
        ("stall", {}, "CG-CHIP-010"),
        ("agc_stuck", {"status": 0x14}, "CG-CHIP-011"),
        ("version", {"value": 0xFF}, "CG-CHIP-008"),
    ],
)
def test_a_chip_that_is_ill_is_found_out_and_cured_by_a_start(
    fault: str, parameters: dict[str, int], code: str
) -> None:
    bench = Bench()
    concentrator = bench.started()
    bench.emulator.inject(packet(1))
    bench.emulator.fault(fault, **parameters)
    with pytest.raises(ChipError) as caught:
        _listen(concentrator, bench, 1000, step_s=1.0)
    assert caught.value.code == code
    assert caught.value.retryable
    with pytest.raises(ChipError) as again:
        concentrator.receive()
    assert again.value is caught.value
    bench.emulator.clear_faults()
    assert bench.emulator.stats().resets == 1
    concentrator.start(power_cycle=True)
    bench.emulator.inject(packet(2))
    assert _numbers(concentrator.receive().packets) == [2]


def test_modems_that_were_switched_off_are_found_out() -> None:
    bench = Bench()
    concentrator = bench.started()
    bench.emulator.transfer(bytes.fromhex("00d60500"))
    bench.clock.sleep(6)
    with pytest.raises(ChipError, match="reads 0x00: modems are off"):
        concentrator.receive()


def test_frames_that_were_in_the_chip_when_it_fell_ill_are_rescued() -> None:
    bench = Bench()
    concentrator = bench.started()
    bench.bus.meddle = _signs_of_a_stall
    _listen(concentrator, bench, 896, step_s=1.0)
    bench.emulator.inject(packet(1))
    bench.clock.sleep(6)
    with pytest.raises(ChipError, match="nothing was heard for 15 min"):
        concentrator.receive()
    assert _numbers(concentrator.recover().packets) == [1]


def _signs_of_a_stall(frame: bytes, answer: bytes) -> bytes:
    """Both parity flags, and the AGC in state 0x14: so a chip was seen that received nothing, and one that did."""
    if frame[:3] not in {b"\x00\x57\x80", b"\x00\x60\x80"} or len(answer) != 6:
        return answer
    return answer[:4] + bytes((answer[4] | 1, 0x14 if frame[1] == 0x57 else answer[5]))


def test_a_chip_with_the_signs_of_a_stall_that_receives_is_left_alone() -> None:
    bench = Bench()
    concentrator = bench.started()
    bench.bus.meddle = _signs_of_a_stall
    for number in range(4):
        _listen(concentrator, bench, 890, step_s=1.0)
        bench.emulator.inject(packet(number))
        assert _numbers(concentrator.receive().packets) == [number]
    # A packet that no modem could make sense of is a sign of life as well.
    _listen(concentrator, bench, 890, step_s=1.0)
    bench.emulator.inject(AirPacket(freq_hz=868_100_000, payload=b"abc", crc=CrcStatus.BAD))
    _listen(concentrator, bench, 890, step_s=1.0)
    assert concentrator.state is State.RUNNING
    assert 400 < concentrator.listened.counters["suspicious_looks"] < 600


def test_an_agc_that_is_busy_for_one_look_is_not_ill() -> None:
    bench = Bench()
    concentrator = bench.started()
    for _ in range(5):
        bench.emulator.fault("agc_stuck", status=0x10)
        _listen(concentrator, bench, 6)
        bench.emulator.clear_faults()
        _listen(concentrator, bench, 6)


def test_looking_after_the_chip_costs_less_than_a_message_a_second() -> None:
    bench = Bench()
    concentrator = bench.started()
    for _ in range(6000):
        concentrator.receive()
        bench.clock.sleep(0.01)
    polls, counter = 6000, 2 * 60
    assert len(bench.bus.sent) - polls - counter <= 60


@pytest.mark.parametrize("alone_s", [1, 100, 133, 140, 1000, 86_400])
def test_what_waited_in_a_chip_that_could_not_be_reached_is_dated_rightly(alone_s: int) -> None:
    bench = Bench(counter_start_us=77_000_000)
    unlucky = bench.started()
    for number in range(3):
        bench.clock.sleep(20)
        bench.emulator.inject(packet(number))
        unlucky.receive()
    looked_ns = bench.clock.now_ns
    # From the moment at which the bus broke down: in the FIFO at that time, and what came in the next minutes.
    for number in range(3, 6):
        bench.emulator.inject(packet(number))
        bench.clock.sleep(min(alone_s / 4, 100))
    bench.clock.sleep(max(alone_s - 300, 0))
    fetch = bench.concentrator().recover(looked_ns=looked_ns)
    assert _numbers(fetch.packets)[-3:] == [3, 4, 5]
    ages = [fetch.counter_us - p.counter_us for p in fetch.packets]
    now_us = bench.emulator.counter_us()
    truth = [now_us - entry.counter_us for entry in bench.emulator.rxlog()[0] if entry.counter_us is not None]
    assert ages == pytest.approx(truth, abs=2)
