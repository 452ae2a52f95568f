# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The FIFO parser: whatever comes, good frames are kept, damage is counted, nothing is raised."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from drivers.sx1302.fifo import Fault, FifoRecord, parse
from tests.drivers.sx1302.fifo_frames import FifoFrame, fifo_frames

GOOD = FifoFrame(payload=b"hello", crc16=7)
OTHER = FifoFrame(payload=b"world", if_chain=3)


def _as_frame(record: FifoRecord, status: int) -> FifoFrame:
    return FifoFrame(
        payload=record.payload,
        if_chain=record.if_chain,
        modem=record.modem,
        crc_present=record.crc_present,
        coding_rate=record.coding_rate,
        spreading_factor=record.spreading_factor,
        frequency_offset=record.frequency_offset,
        status=status,
        snr_quarter_db=record.snr_quarter_db,
        rssi_channel=record.rssi_channel,
        rssi_signal=record.rssi_signal,
        ticks=record.ticks,
        crc16=record.crc16,
        metrics=record.metrics,
    )


@given(frames=st.lists(fifo_frames(), max_size=8))
def test_frames_back_to_back_come_out_as_they_went_in(frames: list[FifoFrame]) -> None:
    parsed = parse(b"".join(frame.encode() for frame in frames))
    found = [_as_frame(r, f.status) for r, f in zip(parsed.records, frames, strict=True)]
    assert found == frames
    assert [r.crc_error for r in parsed.records] == [f.status in (1, 4, 8) for f in frames]
    assert [r.timing_set for r in parsed.records] == [f.status == 0x10 for f in frames]
    assert (parsed.faults, parsed.rest) == ({}, b"")


NO_SYNC_IN_IT = st.binary(min_size=1, max_size=40).map(lambda data: data.replace(b"\xa5", b"\xa4"))


@given(parts=st.lists(st.tuples(NO_SYNC_IN_IT, fifo_frames(st.binary(max_size=30))), max_size=6), tail=NO_SYNC_IN_IT)
def test_good_frames_between_garbage_are_kept(parts: list[tuple[bytes, FifoFrame]], tail: bytes) -> None:
    data = b"".join(garbage + frame.encode() for garbage, frame in parts) + tail
    parsed = parse(data)
    assert [r.payload for r in parsed.records] == [frame.payload for _, frame in parts]
    assert parsed.faults == {Fault.RESYNC: len(parts) + 1}
    assert parsed.rest == b""


@given(data=st.binary(max_size=2000), final=st.booleans())
@example(data=b"\xa5\xc0" * 700, final=True)
@example(data=b"\xa5\xc0" * 700, final=False)
@example(data=b"\xa5", final=False)
@example(data=b"\x00\xa5", final=True)
def test_arbitrary_bytes_are_survived(data: bytes, final: bool) -> None:
    parsed = parse(data, final=final)
    assert data.endswith(parsed.rest)
    assert sum(23 + len(r.payload) + len(r.metrics) for r in parsed.records) + len(parsed.rest) <= len(data)
    if final:
        assert parsed.rest == b""
        assert parsed.records or parsed.faults or not data


@given(data=st.data(), frames=st.lists(fifo_frames(st.binary(max_size=60)), min_size=1, max_size=5))
def test_a_frame_cut_anywhere_is_completed_by_the_next_fetch(data: st.DataObject, frames: list[FifoFrame]) -> None:
    stream = b"".join(frame.encode() for frame in frames)
    cut = data.draw(st.integers(0, len(stream)))
    first = parse(stream[:cut])
    second = parse(first.rest + stream[cut:])
    assert [r.payload for r in (*first.records, *second.records)] == [frame.payload for frame in frames]
    assert (first.faults, second.faults, second.rest) == ({}, {}, b"")


@given(
    frame=fifo_frames(st.binary(max_size=40)),
    position=st.integers(0, 1_000),
    bit=st.integers(0, 7),
)
def test_a_flipped_bit_costs_no_other_frame(frame: FifoFrame, position: int, bit: int) -> None:
    damaged = bytearray(frame.encode())
    position %= len(damaged)
    damaged[position] ^= 1 << bit
    before, after = FifoFrame(payload=b"before"), FifoFrame(payload=b"after", if_chain=5)
    parsed = parse(before.encode() + bytes(damaged) + after.encode(), final=True)
    payloads = [r.payload for r in parsed.records]
    assert payloads[0] == b"before"
    assert payloads[-1] == b"after"
    assert sum(parsed.faults.values()) >= 1


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        (GOOD.encode()[:-1] + b"\x00", Fault.CHECKSUM),
        (b"\x00\x00\x00", Fault.RESYNC),
        (GOOD.encode()[:-3], Fault.TRUNCATED),
    ],
)
def test_each_stretch_of_damage_counts_once(damage: bytes, fault: Fault) -> None:
    parsed = parse(damage + OTHER.encode() + damage + GOOD.encode(), final=True)
    assert [r.payload for r in parsed.records] == [b"world", b"hello"]
    assert parsed.faults == {fault: 2}


def test_an_end_that_never_comes_is_a_truncated_frame_and_hides_no_other() -> None:
    liar = b"\xa5\xc0\xff" + OTHER.encode()
    waiting = parse(liar)
    assert (waiting.records, waiting.rest) == ((), liar)
    parsed = parse(waiting.rest, final=True)
    assert [r.payload for r in parsed.records] == [b"world"]
    assert parsed.faults == {Fault.TRUNCATED: 1}


@pytest.mark.parametrize(
    "frame",
    [
        FifoFrame(modem=18),
        FifoFrame(if_chain=10),
        FifoFrame(spreading_factor=4),
        FifoFrame(spreading_factor=13),
        FifoFrame(coding_rate=0),
        FifoFrame(coding_rate=5),
    ],
)
def test_an_intact_frame_with_impossible_contents_is_counted_as_such(frame: FifoFrame) -> None:
    parsed = parse(frame.encode() + GOOD.encode())
    assert [r.payload for r in parsed.records] == [b"hello"]
    assert parsed.faults == {Fault.RANGE: 1}


def test_fsk_does_not_care_for_spreading_factor_and_coding_rate() -> None:
    frame = FifoFrame(if_chain=9, modem=17, spreading_factor=1, coding_rate=0)
    assert parse(frame.encode()).faults == {}
