# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Stand-ins for the firmware go to an emulated chip, and to no other."""

from __future__ import annotations

from dataclasses import replace

import pytest

from drivers.errors import FirmwareError
from drivers.sx1302.emulated import MARK_ADDRESS, is_emulated, refuse_synthetic
from drivers.sx1302.firmware import FirmwareId, Mcu
from drivers.sx1302.registers import ADDRESSES
from drivers.sx1302.spi import AddressSpace, read_frame
from tests.drivers.bench import Bench, synthetic_firmware

READ_MARK = read_frame(MARK_ADDRESS, 8)


@pytest.mark.parametrize("real", [0x00, 0xFF])
def test_a_real_chip_gets_no_stand_in(real: int) -> None:
    bench = Bench()
    assert is_emulated(AddressSpace(bench.bus))
    bench.bus.meddle = lambda frame, answer: bytes((real,)) * len(answer) if frame == READ_MARK else answer
    assert not is_emulated(AddressSpace(bench.bus))
    with pytest.raises(FirmwareError, match="is for the emulator, and this chip is a real one") as caught:
        bench.concentrator().start()
    assert "civigate firmware import" in caught.value.hint
    assert max(map(len, bench.bus.sent)) < 1000, "no part of an image was sent"


def test_a_chip_is_not_asked_when_the_firmware_is_the_vendors() -> None:
    bench = Bench()
    vendors = FirmwareId(Mcu.AGC, 10, "SX1250", "V2.1.0")
    refuse_synthetic(AddressSpace(bench.bus), replace(synthetic_firmware(), agc_id=vendors, arb_id=vendors))
    assert bench.bus.sent == []


def test_the_mark_is_where_a_real_chip_has_no_register() -> None:
    assert not set(range(MARK_ADDRESS, MARK_ADDRESS + 8)) & set(ADDRESSES)
    Bench().emulator.bus().transfer(bytes((0, 0x80 | MARK_ADDRESS >> 8, MARK_ADDRESS & 0xFF)) + bytes(8))
