# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Copies of one transmission become one packet; what a device repeats stays what it is."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.emulator import AirPacket, Model
from drivers.errors import BusError, ChipError
from drivers.sx1302.fine import FineTimestamps
from drivers.sx1302.merge import COPY_US, TWIN_US, Merger, merge
from drivers.sx1302.packet import CrcStatus, Modulation, RxPacket
from tests.drivers.bench import Bench, packet

PACKET = RxPacket(
    payload=b"payload",
    frequency_hz=868_100_000,
    modulation=Modulation.LORA,
    bandwidth_hz=125_000,
    datarate=7,
    coding_rate=1,
    crc=CrcStatus.OK,
    rssi_channel_dbm=-40.0,
    rssi_signal_dbm=-41.0,
    snr_db=9.0,
    frequency_offset_hz=0,
    if_chain=2,
    rf_chain=1,
    modem=4,
    counter_us=5_000_000,
)
GHOST = replace(PACKET, frequency_hz=868_300_000, if_chain=3, rssi_channel_dbm=-95.0, snr_db=-3.0)
MS = 1_000_000


def _numbers(packets: tuple[RxPacket, ...]) -> list[int]:
    return [int.from_bytes(p.payload[:2], "big") for p in packets]


def test_of_copies_the_strongest_is_kept_and_the_others_are_counted() -> None:
    weak, weaker = replace(GHOST, counter_us=5_000_003), replace(GHOST, if_chain=4, counter_us=4_999_990)
    service = replace(GHOST, if_chain=8, modem=16, counter_us=5_000_049)
    (kept,) = merge([weak, PACKET, weaker, service], twins=False)
    assert kept == replace(PACKET, copies=(5_000_003, 4_999_990, 5_000_049))


def test_a_fine_time_stamp_is_that_of_the_right_channel() -> None:
    timed = replace(PACKET, fine_timestamp_ns=123, rssi_channel_dbm=-40.5, modem=12)
    ghosts = [GHOST, replace(GHOST, fine_timestamp_ns=456)]
    for copies in ([*ghosts, PACKET, timed], [timed, *ghosts, PACKET], [PACKET, *ghosts, timed]):
        (kept,) = merge(copies, twins=True)
        assert kept == replace(timed, copies=kept.copies)
        assert len(kept.copies) == 3


def test_an_intact_copy_is_better_than_a_strong_one() -> None:
    damaged = replace(PACKET, payload=b"paXload", crc=CrcStatus.BAD, counter_us=PACKET.counter_us + TWIN_US)
    faint = replace(PACKET, rssi_channel_dbm=-120.0)
    assert merge([damaged, faint], twins=True) == (replace(faint, copies=(damaged.counter_us,)),)
    assert merge([damaged, faint], twins=False) == (damaged, faint)
    late = replace(damaged, counter_us=PACKET.counter_us + TWIN_US + 1)
    assert merge([late, faint], twins=True) == (late, faint)
    assert merge([replace(damaged, crc=CrcStatus.OK), faint], twins=True) == (
        replace(damaged, crc=CrcStatus.OK),
        faint,
    )


@pytest.mark.parametrize(
    "other",
    [
        replace(PACKET, counter_us=5_000_000 + COPY_US),
        replace(PACKET, counter_us=5_000_000 - COPY_US),
        replace(PACKET, datarate=8),
        replace(PACKET, bandwidth_hz=250_000),
        replace(PACKET, payload=b"Payload"),
        replace(PACKET, modulation=Modulation.FSK),
    ],
)
def test_what_is_no_copy_stays(other: RxPacket) -> None:
    assert merge([PACKET, other], twins=True) == (PACKET, other)


def test_copies_of_the_next_fetch_are_waited_for_and_later_ones_counted() -> None:
    merger = Merger()
    merger.add([GHOST], 0)
    assert merger.release(49 * MS) == ()
    merger.add([PACKET], 49 * MS)
    assert merger.release(50 * MS) == (replace(PACKET, copies=(GHOST.counter_us,)),)
    merger.add([replace(GHOST, if_chain=5)], 60 * MS)
    assert (merger.release(200 * MS), merger.take_late(), merger.take_late()) == ((), 1, 0)


def test_nothing_is_remembered_for_ever() -> None:
    merger = Merger(0.0)
    for number in range(5000):
        merger.add([replace(PACKET, counter_us=10_000 * number, payload=number.to_bytes(2, "big"))], 10 * MS * number)
        assert len(merger.release(10 * MS * number)) == 1
    assert len(merger._groups) <= 102


SHAPES = st.tuples(st.sampled_from((7, 8)), st.sampled_from((b"a", b"b", b"cc")))


@given(
    sent=st.lists(st.tuples(SHAPES, st.integers(1_000, 400_000)), max_size=12),
    data=st.data(),
    window_ms=st.sampled_from((0, 50)),
)
def test_each_transmission_comes_out_once_and_every_reception_is_accounted_for(
    sent: list[tuple[tuple[int, bytes], int]], data: st.DataObject, window_ms: int
) -> None:
    # Devices that repeat the same bytes a millisecond later, each heard on up to three channels, in any number of
    # fetches.
    merger = Merger(window_ms / 1000)
    end_us, heard, out, now_ns = 1_000_000, 0, list[RxPacket](), 0
    truth: list[tuple[int, int, bytes]] = []
    for (sf, payload), pause_us in sent:
        end_us += pause_us
        truth.append((end_us, sf, payload))
        channels = data.draw(st.lists(st.integers(0, 8), min_size=1, max_size=3, unique=True))
        cut = data.draw(st.integers(0, len(channels)))
        copies = [
            replace(
                PACKET,
                payload=payload,
                datarate=sf,
                if_chain=channel,
                counter_us=end_us + data.draw(st.integers(0, 10)),
                rssi_channel_dbm=-40.0 if channel == channels[-1] else -90.0,
            )
            for channel in channels
        ]
        now_ns = end_us * 1000
        for part in (copies[:cut], copies[cut:]):
            merger.add(part, now_ns)
            out += merger.release(now_ns)
        heard += len(copies)
    out += merger.flush()
    late = merger.take_late()
    assert len(out) == len(truth)
    assert [(p.datarate, p.payload) for p in out] == [(sf, payload) for _, sf, payload in truth]
    assert all(0 <= p.counter_us - us <= 10 for p, (us, _, _) in zip(out, truth, strict=True))
    assert sum(1 + len(p.copies) for p in out) + late == heard
    if window_ms:
        assert late == 0
        assert all(p.rssi_channel_dbm == -40.0 for p in out)


def _twice(number: int) -> AirPacket:
    return packet(number, sf=9)


def test_two_demodulations_in_two_fetches_are_one_packet() -> None:
    bench = Bench(model=Model.SX1303, fine_timestamps=FineTimestamps.ALL_SF, merge_window_s=0.05)
    concentrator = bench.started()
    bench.clock.sleep(1)
    bench.emulator.inject(_twice(1))
    first = 43
    bench.bus.meddle = lambda frame, answer: (
        answer[:4] + first.to_bytes(2, "big") if frame[:3] == b"\x00\x58\xc8" else answer
    )
    seen = [concentrator.receive().packets]
    bench.bus.meddle = None
    for _ in range(6):
        bench.clock.sleep(0.01)
        seen.append(concentrator.receive().packets)
    (kept,) = [p for packets in seen for p in packets]
    assert len(kept.copies) == 1
    assert [_numbers(packets) for packets in seen].index([1]) == 5


def test_the_last_look_waits_for_nothing() -> None:
    bench = Bench(merge_window_s=0.05)
    concentrator = bench.started()
    bench.emulator.inject(packet(1))
    assert concentrator.receive().packets == ()
    bench.emulator.inject(packet(2))
    assert _numbers(concentrator.receive(last=True).packets) == [1, 2]
    assert concentrator.receive(last=True).packets == ()


def test_what_waits_for_copies_is_handed_up_before_a_fault_is_told() -> None:
    bench = Bench(merge_window_s=0.05)
    concentrator = bench.started()

    def broken(frame: bytes, answer: bytes) -> bytes:
        raise BusError(f"{len(frame)} {len(answer)}", op="transfer", where="bus", hint="", code="CG-TEST")

    bench.emulator.inject(packet(1))
    assert concentrator.receive().packets == ()
    bench.bus.meddle = broken
    assert _numbers(concentrator.receive().packets) == [1]
    with pytest.raises(BusError):
        concentrator.receive()
    bench.bus.meddle = None
    assert concentrator.receive().packets == ()
    bench.emulator.inject(packet(2))
    assert concentrator.receive().packets == ()
    bench.clock.sleep(6)
    bench.emulator.fault("stall")
    assert _numbers(concentrator.receive().packets) == [2]
    with pytest.raises(ChipError, match="wrong parity"):
        concentrator.receive()


def test_a_start_forgets_what_an_earlier_run_held() -> None:
    bench = Bench(merge_window_s=0.05)
    concentrator = bench.started()
    bench.emulator.inject(packet(1))
    assert concentrator.receive().packets == ()
    assert _numbers(concentrator.recover().packets) == [1]
    concentrator.start()
    assert concentrator.receive(last=True).packets == ()
