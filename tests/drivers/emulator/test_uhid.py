# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The USB adapter of eight lines, asked and told as the kernel's driver does [hid-cp2112.c]."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.emulator import Emulator
from drivers.emulator.emulator import Pins
from drivers.emulator.uhid import Adapter, answer, creation


def ask(adapter: Adapter, number: int) -> bytes:
    reply = answer(adapter, struct.pack("<IIBB", 9, 42, number, 0) + bytes(8))
    assert reply is not None
    kind, identifier, error, size = struct.unpack_from("<IIHH", reply)
    assert (kind, identifier, error) == (10, 42, 0)
    return reply[12 : 12 + size]


def tell(adapter: Adapter, data: bytes) -> None:
    reply = answer(adapter, struct.pack("<IIBBH", 13, 43, data[0], 0, len(data)) + data)
    assert reply == struct.pack("<IIH", 14, 43, 0)


@pytest.fixture
def told() -> list[tuple[int, bool]]:
    return []


@pytest.fixture
def adapter(told: list[tuple[int, bool]]) -> Adapter:
    return Adapter(lambda line, high: told.append((line, high)))


def test_it_is_the_adapter_that_the_kernel_has_a_driver_for() -> None:
    event = creation()
    kind, name = struct.unpack_from("<I128s", event)
    size, bus, vendor, product = struct.unpack_from("<HHII", event, 260)
    assert (kind, bus, vendor, product) == (11, 3, 0x10C4, 0xEA90)
    assert name.rstrip(b"\0").startswith(b"CP2112")
    assert event[280 : 280 + size].endswith(b"\xc0")
    assert len(event) == 4 + 128 + 64 + 64 + 4 + 16 + 4096


def test_it_names_the_part_that_the_driver_wants(adapter: Adapter) -> None:
    assert ask(adapter, 5) == bytes((5, 0x0C, 3))
    assert len(ask(adapter, 6)) == 14


def test_a_line_is_driven_when_it_is_an_output(adapter: Adapter, told: list[tuple[int, bool]]) -> None:
    tell(adapter, bytes((4, 0x08, 0x08)))
    assert told == [], "still an input"
    tell(adapter, bytes((2, 0x08, 0, 0, 0)))
    assert told == [(3, True)]
    tell(adapter, bytes((4, 0x00, 0x08)))
    assert told == [(3, True), (3, False)]
    assert ask(adapter, 2)[1] == 0x08
    assert ask(adapter, 3)[1] == 0x00


def test_the_same_level_again_is_no_edge(adapter: Adapter, told: list[tuple[int, bool]]) -> None:
    tell(adapter, bytes((2, 0x0C, 0, 0, 0)))
    told.clear()
    tell(adapter, bytes((4, 0x00, 0x0C)))
    tell(adapter, bytes((2, 0x0C, 0, 0, 0)))
    assert told == []


def test_a_line_that_is_made_an_input_again_is_let_go() -> None:
    """A probe lets its lines go; a board whose power stayed off with that could not be found afterwards."""
    released: list[int] = []
    adapter = Adapter(lambda line, high: None, released.append)
    tell(adapter, bytes((2, 0x0C, 0, 0, 0)))
    tell(adapter, bytes((2, 0x08, 0, 0, 0)))
    assert released == [2]


def test_a_pulse_on_the_line_resets_the_virtual_chip() -> None:
    emulator = Emulator(pins=Pins(reset=3, reset_active_high=True, power=2, power_active_high=True))
    adapter = Adapter(lambda line, high: emulator.set_gpio(line, high=high))
    tell(adapter, bytes((4, 0x04, 0x0C)))
    tell(adapter, bytes((2, 0x0C, 0, 0, 0)))
    before = emulator.stats().resets
    tell(adapter, bytes((4, 0x08, 0x08)))
    assert emulator.lines()["reset"]
    tell(adapter, bytes((4, 0x00, 0x08)))
    assert emulator.stats().resets == before + 1


@given(st.binary(max_size=40), st.sampled_from([0, 9, 10, 13, 250]))
def test_no_event_ends_it(body: bytes, kind: int) -> None:
    answer(Adapter(lambda line, high: None), struct.pack("<I", kind) + body)
