# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Frames, shadow registers and bursts, on a chip that is nothing but bytes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.errors import BusError
from drivers.sx1302.registers import ADDRESSES, FIELDS, Field, reset_value, uncheckable_mask
from drivers.sx1302.registers import field as register
from drivers.sx1302.regmap import RegisterMap
from drivers.sx1302.spi import AddressSpace, Target, read_frame, write_frame

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass
class _Bytes:
    """A bus with plain memory behind it; knows the frame format from its description, not from the driver."""

    memory: dict[int, int] = field(default_factory=lambda: {a: reset_value(a) for a in ADDRESSES})
    frames: list[bytes] = field(default_factory=list)

    def transfer(self, frame: bytes) -> bytes:
        self.frames.append(frame)
        address = (frame[1] & 0x7F) << 8 | frame[2]
        if frame[0] != 0:
            return bytes(len(frame) - 2) + b"\xab\xcd"
        if frame[1] & 0x80:
            self.memory.update(enumerate(frame[3:], address))
            return bytes(len(frame))
        fifo = address == 0x4000
        return bytes(4) + bytes(self.memory.get(address + (0 if fifo else i), i & 0xFF) for i in range(len(frame) - 4))

    def transfer_all(self, frames: Sequence[bytes]) -> list[bytes]:
        return [self.transfer(frame) for frame in frames]

    def close(self) -> None:
        """Nothing to release."""


def test_frames_are_those_of_the_recorded_traffic() -> None:
    assert write_frame(0x5643, b"\x00") == bytes.fromhex("00d64300")
    assert read_frame(0x5606, 1) == bytes.fromhex("0056060000")
    assert read_frame(0x58C8, 2) == bytes.fromhex("0058c8000000")


def test_long_bodies_are_cut_at_1024_and_only_the_fifo_stays_in_place() -> None:
    chip = _Bytes({})
    space = AddressSpace(chip)
    space.write(0x2000, bytes(range(256)) * 9)
    assert space.read(0x2000, 2304) == bytes(range(256)) * 9
    assert len(space.read_fifo(2049)) == 2049
    assert [(f[1:3].hex(), len(f)) for f in chip.frames] == [
        ("a000", 1027),
        ("a400", 1027),
        ("a800", 259),
        ("2000", 1028),
        ("2400", 1028),
        ("2800", 260),
        ("4000", 1028),
        ("4000", 1028),
        ("4000", 5),
    ]


def test_a_radio_sees_its_target_before_the_command() -> None:
    chip = _Bytes()
    assert AddressSpace(chip).radio(Target.RADIO_B, b"\xc0\x00\x00") == b"\x00\xab\xcd"
    assert chip.frames == [b"\x02\xc0\x00\x00"]


def test_a_bus_that_returns_too_little_is_an_error() -> None:
    class Short(_Bytes):
        def transfer(self, frame: bytes) -> bytes:
            return super().transfer(frame)[:-1]

    with pytest.raises(BusError, match="4 bytes came back for 5 sent"):
        AddressSpace(Short()).read(0x5606, 1)


writable = st.sampled_from([row for row in FIELDS if row.writable])
settings = st.lists(
    writable.flatmap(lambda row: st.tuples(st.just(row), st.integers(row.minimum, row.maximum))),
    max_size=60,
)


@given(assignments=settings)
def test_bursts_leave_what_single_writes_leave(assignments: list[tuple[Field, int]]) -> None:
    one_by_one, at_once = _Bytes(), _Bytes()
    singly, jointly = RegisterMap(AddressSpace(one_by_one)), RegisterMap(AddressSpace(at_once))
    singly.prime()
    jointly.prime()
    for row, value in assignments:
        singly.write(row, value)
    jointly.apply(assignments)
    # A pulse bit set by one write is not carried into the next; within one burst both reach the chip together.
    mask = {a: 0xFF & ~uncheckable_mask(a) for a in ADDRESSES}
    assert {a: at_once.memory[a] & m for a, m in mask.items()} == {a: one_by_one.memory[a] & m for a, m in mask.items()}
    assert all(
        jointly.holds([(row, row.extract(at_once.memory[row.address]))]) for row, _ in assignments if row.checkable
    )


def test_neighbours_travel_as_one_frame_and_unchanged_bytes_not_at_all() -> None:
    chip = _Bytes()
    registers = RegisterMap(AddressSpace(chip))
    registers.prime()
    primed = len(chip.frames)
    sync = [register(f"ARB_MCU_CHANNEL_SYNC_OFFSET_{i & ~1}{i | 1}_CHANNEL_{i}_OFFSET") for i in range(8)]
    registers.apply(zip(sync, (1, 5, 9, 13, 1, 5, 9, 13), strict=True))
    registers.apply(zip(sync, (1, 5, 9, 13, 1, 5, 9, 13), strict=True))
    assert [f.hex() for f in chip.frames[primed:]] == ["00e09d51d951d9"]


def test_a_field_of_an_unread_byte_is_read_once() -> None:
    chip = _Bytes()
    registers = RegisterMap(AddressSpace(chip))
    half = register("AGC_MCU_LUT_TABLE_A_PA_LUT"), register("AGC_MCU_LUT_TABLE_A_LNA_LUT")
    registers.write(half[0], 4)
    registers.write(half[1], 2)
    assert [f.hex() for f in chip.frames] == ["0057850000", "00d78540", "00d78542"]


def test_a_pulse_is_sent_each_time_and_never_carried_over() -> None:
    chip = _Bytes()
    registers = RegisterMap(AddressSpace(chip))
    registers.prime()
    primed = len(chip.frames)
    clear, trigger = register("TX_TOP_A_TX_TRIG_TX_FSM_CLR"), register("TX_TOP_A_TX_TRIG_TX_TRIG_IMMEDIATE")
    registers.apply([(clear, 1)])
    registers.apply([(clear, 1)])
    registers.write(trigger, 1)
    assert [f.hex() for f in chip.frames[primed:]] == ["00d20008", "00d20008", "00d20001"]


def test_read_only_fields_and_values_out_of_range_are_refused_before_anything_is_sent() -> None:
    chip = _Bytes()
    registers = RegisterMap(AddressSpace(chip))
    registers.prime()
    primed = len(chip.frames)
    with pytest.raises(ValueError, match="read-only"):
        registers.apply([(register("COMMON_PAGE_PAGE"), 1), (register("COMMON_VERSION_VERSION"), 1)])
    with pytest.raises(ValueError, match="outside 0 to 3"):
        registers.write(register("COMMON_PAGE_PAGE"), 4)
    assert len(chip.frames) == primed


def test_prime_tells_what_is_not_at_reset() -> None:
    chip = _Bytes()
    assert RegisterMap(AddressSpace(chip)).prime() == ()
    chip.memory[0x5601] ^= 0x08
    chip.memory[0x5606] = 0x10  # read-only, of no interest
    chip.memory[0x5200] ^= 0x08  # does not read back, of no interest
    assert RegisterMap(AddressSpace(chip)).prime() == (0x5601,)


def test_a_batch_is_one_exchange_in_the_order_of_its_writes() -> None:
    chip = _Counting()
    registers = RegisterMap(AddressSpace(chip))
    registers.prime()
    chip.exchanges.clear()
    with registers.batch():
        registers.write(PLAIN[0], 1)
        registers.write_memory(0x5300, b"payload")
        with registers.batch():
            registers.apply([(field_, 1) for field_ in PLAIN[1:4]])
        registers.write(PLAIN[0], 0)
        assert chip.exchanges == []
    assert len(chip.exchanges) == 1
    assert chip.frames[-1] == write_frame(PLAIN[0].address, bytes((registers._shadow[PLAIN[0].address],)))
    with registers.batch():
        registers.write(PLAIN[0], 1)
        assert registers.read(PLAIN[0]) == 1, "a reading sees what was written before it"


@dataclass
class _Counting(_Bytes):
    """Notes exchanges, and fails at one of its frames, before or after the chip has it."""

    exchanges: list[int] = field(default_factory=list)
    fails_at: int | None = None
    arrives: bool = False

    def transfer(self, frame: bytes) -> bytes:
        if self.fails_at is not None and len(self.frames) == self.fails_at:
            self.fails_at = None
            if self.arrives:
                super().transfer(frame)
            raise BusError("failed", op="transfer", where="test", hint="none", code="CG-TEST-001")
        return super().transfer(frame)

    def transfer_all(self, frames: Sequence[bytes]) -> list[bytes]:
        self.exchanges.append(len(frames))
        return super().transfer_all(frames)


PLAIN = [one for one in FIELDS if one.writable and one.checkable and one.address >= 0x5200][:60]
SETTINGS = st.lists(st.tuples(st.sampled_from(PLAIN), st.integers(0, 1)), min_size=1, max_size=20)


@given(first=SETTINGS, second=SETTINGS, fails_at=st.integers(0, 12), arrives=st.booleans())
def test_after_a_failure_nothing_is_taken_for_written_that_is_not(
    first: list[tuple[Field, int]], second: list[tuple[Field, int]], fails_at: int, arrives: bool
) -> None:
    chip = _Counting(arrives=arrives)
    registers = RegisterMap(AddressSpace(chip))
    registers.prime()
    chip.fails_at = len(chip.frames) + fails_at
    try:
        with registers.batch():
            registers.apply(first)
            for setting in first:
                registers.write(*setting)
    except BusError:
        pass
    chip.fails_at = None
    registers.apply(second)
    for wanted, value in dict(second).items():
        assert wanted.extract(chip.memory[wanted.address]) == value
