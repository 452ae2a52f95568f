# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Fine time stamps: the end of the preamble within its second, exact to a fraction of a microsecond, or none at all."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.emulator import AirPacket, Model
from drivers.errors import ChipError
from drivers.sx1302.counter import WRAP_US
from drivers.sx1302.fifo import FifoRecord, parse
from drivers.sx1302.fine import (
    GROUP_DELAY_TICKS,
    SECOND_TICKS,
    FineTimestamps,
    PulseHistory,
    fine_timestamp_ns,
    metrics_mean_ticks,
    notch_delay_ticks,
    preamble_to_header_ticks,
)
from drivers.sx1302.packet import CrcStatus, Modulation, RxPacket
from drivers.sx1302.pps import Pulse
from drivers.sx1302.registers import field
from drivers.sx1302.spi import AddressSpace
from tests.drivers.bench import Bench
from tests.drivers.recorded import vectors
from tests.drivers.sx1302.fifo_frames import FifoFrame

if TYPE_CHECKING:
    from drivers.sx1302.concentrator import Concentrator

FREQUENCY_HZ = 868_100_000
GROUP_DELAY_NS = GROUP_DELAY_TICKS * 31.25


def _bench(mode: FineTimestamps = FineTimestamps.ALL_SF, counter_start_us: int = 0) -> Bench:
    return Bench(model=Model.SX1303, fine_timestamps=mode, counter_start_us=counter_start_us)


def _listen(bench: Bench, concentrator: Concentrator, seconds: float) -> list[RxPacket]:
    packets: list[RxPacket] = []
    for _ in range(round(seconds * 50)):
        packets += concentrator.receive().packets
        bench.clock.sleep(0.02)
    return packets


def _uplink(sf: int = 7, size: int = 20, crc: CrcStatus = CrcStatus.OK) -> AirPacket:
    return AirPacket(freq_hz=FREQUENCY_HZ, sf=sf, payload=bytes(range(size)), crc=crc)


def _true_ns(sent: AirPacket, end_us: int) -> float:
    """End of the preamble of a packet that ended then, in its second: pulses come at whole seconds of that time."""
    symbols = 8 + 4.25 + (2 if sent.sf <= 6 else 0)
    to_header_ns = (symbols - 8 + 8) * sent.shape.symbol_us * 1000
    header_end_ns = (end_us - sent.header_lead_us) * 1000
    # The vendor's formula counts one sample less than 12.25 (14.25) symbols, and a group delay on top.
    return (header_end_ns - to_header_ns + 256 * 31.25 + GROUP_DELAY_NS) % 1e9


@pytest.mark.parametrize("sf", range(5, 13))
@pytest.mark.parametrize("counter_start_us", [0, WRAP_US - 20_000_000])
def test_the_end_of_the_preamble_within_its_second(sf: int, counter_start_us: int) -> None:
    bench = _bench(counter_start_us=counter_start_us)
    concentrator = bench.started()
    assert _listen(bench, concentrator, 18) == []
    sent = _uplink(sf)
    for share in (0.07, 0.5, 0.93):
        now_us = bench.emulator.now_us()
        end_us = now_us - now_us % 1_000_000 + 4_000_000 + round(share * 1e6)
        bench.emulator.inject(sent, end_us=end_us)
        (got,) = _listen(bench, concentrator, 6)
        assert got.fine_timestamp_ns is not None
        # The emulator counts whole microseconds here and there, and a demodulated frequency has its resolution.
        assert got.fine_timestamp_ns == pytest.approx(_true_ns(sent, end_us), abs=3_000)
        truth = bench.emulator.rxlog()[0][-1].counter_us
        assert got.counter_us == pytest.approx(truth, abs=2)
        assert len(got.copies) == 1


def test_a_crystal_that_is_off_is_measured_by_the_pulses() -> None:
    bench = _bench()
    bench.emulator.fault("rate", ppb=20_000)
    concentrator = bench.started()
    _listen(bench, concentrator, 18)
    sent = _uplink()
    end_us = bench.emulator.now_us() // 1_000_000 * 1_000_000 + 2_950_000
    bench.emulator.inject(sent, end_us=end_us)
    (got,) = _listen(bench, concentrator, 4)
    assert got.fine_timestamp_ns == pytest.approx(_true_ns(sent, end_us), abs=3_000)


def test_high_capacity_leaves_slow_packets_with_one_modem() -> None:
    bench = _bench(FineTimestamps.HIGH_CAPACITY)
    concentrator = bench.started()
    _listen(bench, concentrator, 18)
    seen = []
    for sf in (10, 11):
        bench.emulator.inject(_uplink(sf))
        (got,) = concentrator.receive().packets
        seen.append((got.datarate, got.fine_timestamp_ns is not None, len(got.copies)))
    assert seen == [(10, True, 1), (11, False, 0)]
    mask = AddressSpace(bench.emulator.bus()).read(field("ARB_MCU_ARB_DEBUG_CFG_3_ARB_DEBUG_CFG_3").address, 1)
    assert mask == b"\x3f"


def test_without_pulses_for_long_enough_there_is_none() -> None:
    bench = _bench()
    concentrator = bench.started()

    def heard() -> RxPacket:
        bench.emulator.inject(_uplink())
        (got,) = _listen(bench, concentrator, 0.5)
        return got

    _listen(bench, concentrator, 14)
    assert heard().fine_timestamp_ns is None
    _listen(bench, concentrator, 4)
    assert heard().fine_timestamp_ns is not None
    bench.emulator.fault("pps_lost")
    _listen(bench, concentrator, 2)
    assert heard().fine_timestamp_ns is None
    # When the counter has been round, the stale latch looks young.
    _listen(bench, concentrator, 132.7)
    assert heard().fine_timestamp_ns is None
    bench.emulator.clear_faults()
    _listen(bench, concentrator, 3)
    assert heard().fine_timestamp_ns is not None


def test_damaged_packets_and_other_modems_have_none() -> None:
    bench = _bench()
    concentrator = bench.started()
    _listen(bench, concentrator, 18)
    bench.emulator.inject(_uplink(crc=CrcStatus.BAD))
    bench.emulator.inject(AirPacket(freq_hz=868_300_000, sf=7, bw_hz=250_000, payload=b"service"))
    bench.emulator.inject(AirPacket(freq_hz=868_800_000, modulation=Modulation.FSK, payload=b"fsk"))
    packets = concentrator.receive().packets
    assert [packet.fine_timestamp_ns for packet in packets] == [None] * 3
    truth = [entry.counter_us for entry in bench.emulator.rxlog()[0]]
    assert [packet.counter_us for packet in packets] == pytest.approx(truth, abs=2)


def test_an_sx1302_is_refused_before_its_radios_are_touched() -> None:
    bench = Bench(fine_timestamps=FineTimestamps.ALL_SF)
    with pytest.raises(ChipError, match="model 2 is no SX1303") as caught:
        bench.concentrator().start()
    assert (caught.value.code, caught.value.retryable) == ("CG-CHIP-012", False)
    assert "fine_timestamps" in caught.value.hint
    assert not [frame for frame in bench.bus.sent if frame[0]]


def test_a_process_that_stamps_otherwise_does_not_touch_the_time_of_what_another_left() -> None:
    bench = _bench()
    bench.started()
    bench.emulator.inject(_uplink())
    bench.fine_timestamps = None
    fetch = bench.concentrator().recover()
    assert (fetch.packets, fetch.faults) == ((), {"other_plan": 2})


def test_what_a_dead_process_left_is_merged_and_dated_but_has_no_fine_time_stamp() -> None:
    bench = _bench()
    dead = bench.started()
    _listen(bench, dead, 18)
    bench.emulator.inject(_uplink())
    (got,) = bench.concentrator().recover().packets
    (truth,), _ = bench.emulator.rxlog()
    assert truth.counter_us is not None
    assert (got.counter_us - truth.counter_us) % WRAP_US in (0, 1)
    assert (got.fine_timestamp_ns, len(got.copies)) == (None, 1)


def test_notch_delay_equals_the_vendors() -> None:
    rows = [row for row in vectors("vectors_misc.csv") if row["kind"] == "dc_notch_delay"]
    assert len(rows) == 41
    for row in rows:
        found = notch_delay_ticks(round(float(row["in1"]) * 1000))
        assert found == pytest.approx(float(row["out1"]), abs=1e-6), row


def _record(**parts: object) -> FifoRecord:
    (record,) = parse(replace(FifoFrame(status=0x10, metrics=bytes(64)), **parts).encode()).records  # type: ignore[arg-type]
    return record


def _history(pulses: int = 16, first: int = 1_000, between: int = SECOND_TICKS) -> PulseHistory:
    history = PulseHistory()
    for number in range(pulses):
        history.note(Pulse(first + number * between, 0, 0))
    return history


@pytest.mark.parametrize(("sf", "counted"), [(7, 32), (9, 32), (10, 16), (11, 8), (12, 4)])
def test_only_the_metrics_that_mean_something_count(sf: int, counted: int) -> None:
    steps = bytes([1] + [0] * (2 * counted - 1)) + bytes([0x80] * (64 - 2 * counted))
    assert metrics_mean_ticks(_record(spreading_factor=sf, metrics=steps)) == 1.0
    assert metrics_mean_ticks(_record(metrics=b"\x01\xff" * 32)) == 0.5


@pytest.mark.parametrize(
    ("history", "seen"),
    [
        (_history(), True),
        (_history(15), False),
        (_history(between=SECOND_TICKS // 2), False),
        (_history(between=2 * SECOND_TICKS), False),
    ],
)
def test_pulses_that_cannot_be_right_are_not_believed(history: PulseHistory, seen: bool) -> None:
    start = 1_000 + 15 * SECOND_TICKS + SECOND_TICKS // 2
    stamp = start - GROUP_DELAY_TICKS + preamble_to_header_ticks(7, FREQUENCY_HZ, 0)
    found = fine_timestamp_ns(_record(), stamp, history, frequency_hz=FREQUENCY_HZ, offset_hz=0, if_hz=200_000)
    assert (found == 500_000_000) is seen


@given(
    jitter=st.lists(st.integers(-3, 3), min_size=16, max_size=16),
    ppm=st.integers(-40, 40),
    missing=st.integers(1, 14),
    at_ns=st.integers(0, 999_999_000),
)
def test_a_missed_pulse_costs_the_second_behind_it_alone(jitter: list[int], ppm: int, missing: int, at_ns: int) -> None:
    second = SECOND_TICKS + SECOND_TICKS * ppm // 1_000_000
    seconds = [number for number in range(17) if number != missing]
    history = PulseHistory()
    for number, off in zip(seconds, jitter, strict=True):
        history.note(Pulse(10**12 + number * second + off, 0, 0))
    for number in (missing + 1, missing):
        start = 10**12 + number * second + at_ns * second // 10**9
        stamp = start - GROUP_DELAY_TICKS + preamble_to_header_ticks(8, FREQUENCY_HZ, 0)
        found = fine_timestamp_ns(
            _record(spreading_factor=8), stamp, history, frequency_hz=FREQUENCY_HZ, offset_hz=0, if_hz=200_000
        )
        if number == missing and at_ns > 1000:
            assert found is None
        elif found is not None:
            apart = abs(found - at_ns)
            assert min(apart, 10**9 - apart) <= 500
