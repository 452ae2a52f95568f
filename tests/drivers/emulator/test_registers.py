# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The register file keeps what a host may write, and nothing else; a reset restores it all."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.emulator.registers import RegisterFile
from drivers.sx1302.registers import ADDRESSES, FIELDS
from tests.drivers.emulator.bench import Bench

# Reads of these say something about the present, not about what was stored.
LIVE = {0x5606, 0x5781, 0x5211, 0x5411, *range(0x58C4, 0x58CA), *range(0x6101, 0x6109), 0x6181}


def expected(values: dict[str, int]) -> dict[int, int]:
    bytes_ = dict.fromkeys(ADDRESSES, 0)
    for row in FIELDS:
        bytes_[row.address] = row.insert(bytes_[row.address], values.get(row.name, row.reset))
    return bytes_


def test_every_field_has_its_reset_value(bench: Bench) -> None:
    for address, value in expected({}).items():
        if address not in LIVE:
            assert bench.read(address) == bytes((value,)), hex(address)


@pytest.mark.parametrize("seed", range(3))
def test_what_is_written_reads_back_in_every_writable_field(seed: int) -> None:
    random = Random(seed)
    registers = RegisterFile()
    values = {row.name: random.randint(row.minimum, row.maximum) for row in FIELDS if row.writable and row.checkable}
    for address, byte in expected(values).items():
        # bits that nobody may write are driven high, to see them ignored
        writable = sum(row.mask for row in FIELDS if row.address == address and row.name in values)
        registers.write(address, byte & writable | ~writable & 0xFF)
    for address, byte in expected(values).items():
        assert registers.read(address) == byte, hex(address)


@given(address=st.sampled_from(sorted(ADDRESSES)), value=st.integers(0, 255))
def test_a_write_changes_writable_bits_only(address: int, value: int) -> None:
    registers = RegisterFile()
    before = registers.read(address)
    registers.write(address, value)
    kept = sum(row.mask for row in FIELDS if row.address == address and row.writable and row.checkable)
    assert registers.read(address) == (before & ~kept) | (value & kept)


def test_addresses_without_a_name_read_zero_and_ignore_writes(bench: Bench) -> None:
    bench.write(0x56F0, 0xFF)
    assert bench.read(0x56F0) == b"\0"


def test_a_burst_advances_the_address(bench: Bench) -> None:
    bench.write(0x5800, 0x1C, 0xCD, 0x1E)
    assert bench.read(0x5800, 3) == b"\x1c\xcd\x1e"


def test_the_reset_line_restores_registers_and_keeps_ram(receiving: Bench) -> None:
    ram = bytes(receiving.chip.fifo.ram)
    program = bytes(receiving.chip.agc.memory)
    receiving.chip.drive_reset(receiving.now_ns, active=True)
    assert receiving.transfer("0056060000") == bytes(5), "a chip in reset does not answer"
    receiving.chip.drive_reset(receiving.now_ns, active=False)
    for address, value in expected({}).items():
        if address not in LIVE:
            assert receiving.read(address) == bytes((value,)), hex(address)
    assert receiving.chip.resets == 1
    assert bytes(receiving.chip.fifo.ram) == ram
    assert bytes(receiving.chip.agc.memory) == program


def test_without_power_nothing_answers_and_ram_forgets(receiving: Bench) -> None:
    ram = bytes(receiving.chip.fifo.ram)
    receiving.chip.drive_power(receiving.now_ns, on=False)
    assert receiving.transfer("0056060000") == bytes(5)
    receiving.chip.drive_power(receiving.now_ns, on=True)
    assert receiving.read(0x5606) == b"\x10"
    assert not receiving.chip.gate.receiving
    assert bytes(receiving.chip.fifo.ram) != ram


@given(frame=st.binary(min_size=1, max_size=64))
def test_no_frame_upsets_the_chip(frame: bytes) -> None:
    assert len(Bench().transfer(frame)) == len(frame)
