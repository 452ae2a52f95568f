# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Copies of one transmission become one packet; what a device repeats stays what it is."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.emulator import Model
from drivers.errors import BusError
from drivers.sx1302.fine import FineTimestamps
from drivers.sx1302.merge import COPY_US, TWIN_US, Merger
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


def merge(packets: list[RxPacket], *, twins: bool) -> tuple[RxPacket, ...]:
    return Merger(twins=twins).merge(packets, 0)


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


def test_a_copy_that_comes_after_its_packet_is_left_out_and_counted() -> None:
    merger = Merger()
    assert merger.merge([PACKET], 0) == (PACKET,)
    assert merger.merge([GHOST, replace(GHOST, counter_us=6_000_000)], 49 * MS) == (
        replace(GHOST, counter_us=6_000_000),
    )
    assert (merger.take_late(), merger.take_late()) == (1, 0)


def test_nothing_is_remembered_for_ever() -> None:
    merger = Merger()
    for number in range(5000):
        one = replace(PACKET, counter_us=10_000 * number, payload=number.to_bytes(2, "big"))
        assert merger.merge([one], 10 * MS * number) == (one,)
    assert len(merger._groups) <= 102


SHAPES = st.tuples(st.sampled_from((7, 8)), st.sampled_from((b"a", b"b", b"cc")))


@given(sent=st.lists(st.tuples(SHAPES, st.integers(1_000, 400_000)), max_size=12), data=st.data())
def test_each_transmission_comes_out_once_and_every_reception_is_accounted_for(
    sent: list[tuple[tuple[int, bytes], int]], data: st.DataObject
) -> None:
    # Devices that repeat the same bytes a millisecond later, each heard on up to three channels, in any number of
    # fetches.
    merger = Merger()
    end_us, heard, out = 1_000_000, 0, list[RxPacket]()
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
        for part in (copies[:cut], copies[cut:]):
            out += merger.merge(part, end_us * 1000)
        if cut in (0, len(copies)):
            assert out[-1].rssi_channel_dbm == -40.0
        heard += len(copies)
    assert len(out) == len(truth)
    assert [(p.datarate, p.payload) for p in out] == [(sf, payload) for _, sf, payload in truth]
    assert all(0 <= p.counter_us - us <= 10 for p, (us, _, _) in zip(out, truth, strict=True))
    assert sum(1 + len(p.copies) for p in out) + merger.take_late() == heard


def _split_after(bench: Bench, first: int) -> None:
    """Let the next visit see so many bytes at first, and the rest a moment later."""
    looks = iter([first, first])

    def meddle(frame: bytes, answer: bytes) -> bytes:
        if frame[:3] == b"\x00\x58\xc8" and (level := next(looks, None)) is not None:
            return answer[:4] + level.to_bytes(2, "big")
        return answer

    bench.bus.meddle = meddle


def test_two_demodulations_a_moment_apart_are_one_packet() -> None:
    bench = Bench(model=Model.SX1303, fine_timestamps=FineTimestamps.ALL_SF)
    concentrator = bench.started()
    bench.clock.sleep(1)
    bench.emulator.inject(packet(1, sf=9))
    _split_after(bench, 43)
    (kept,) = concentrator.receive().packets
    assert len(kept.copies) == 1
    assert concentrator.receive().packets == ()


def test_nothing_is_held_back_when_the_process_may_be_killed_at_any_moment() -> None:
    bench = Bench()
    concentrator = bench.started()
    bench.emulator.inject(packet(1))
    assert _numbers(concentrator.receive().packets) == [1]


def test_what_a_visit_found_is_handed_up_before_a_fault_is_told() -> None:
    bench = Bench()
    concentrator = bench.started()
    bench.emulator.inject(packet(1))
    looks = 0

    def broken(frame: bytes, answer: bytes) -> bytes:
        nonlocal looks
        looking = frame[:3] == b"\x00\x58\xc8"
        looks += looking
        if looking and looks > 2:
            raise BusError(f"{len(frame)} {len(answer)}", op="transfer", where="bus", hint="", code="CG-TEST")
        return answer

    bench.bus.meddle = broken
    assert _numbers(concentrator.receive().packets) == [1]
    with pytest.raises(BusError):
        concentrator.receive()
    bench.bus.meddle = None
    assert concentrator.receive().packets == ()
