# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""A radio answers while it has supply, is out of reset, and belongs to the host."""

from __future__ import annotations

import pytest

from tests.drivers.emulator.bench import Bench

GET_STATUS, GET_ERRORS = "c000", "17000000"
STANDBY_RC, STANDBY_XOSC = 0x22, 0x32


def powered(bench: Bench) -> Bench:
    for address in (0x5783, 0x5784):
        bench.write(address, 0x04)
        bench.write(address, 0x0C)
    return bench


@pytest.mark.parametrize("radio", ["01", "02"])
def test_a_radio_comes_up_in_standby(bench: Bench, radio: str) -> None:
    assert powered(bench).transfer(radio + GET_STATUS) == bytes((0, STANDBY_RC, STANDBY_RC))


@pytest.mark.parametrize("enables", [0x00, 0x04, 0x08], ids=["off", "in reset", "no supply"])
def test_a_radio_without_supply_or_in_reset_is_not_there(bench: Bench, enables: int) -> None:
    bench.write(0x5783, enables)
    assert bench.transfer("01" + GET_STATUS) == bytes(3)


def test_a_second_start_without_reset_finds_no_radio(receiving: Bench) -> None:
    # the most frequent failure in the field: the AGC still owns the radios
    receiving.write(0x5783, 0x04)
    receiving.write(0x5783, 0x0C)
    receiving.transfer("018000")
    assert receiving.transfer("01" + GET_STATUS) == bytes(3)
    assert "AGC owns" in receiving.chip.complaints[-1]


def test_a_radio_of_another_kind_is_not_understood(bench: Bench) -> None:
    powered(bench).modify(0x5601, clear_bits=0x01)
    assert bench.transfer("01" + GET_STATUS) == bytes(3)
    assert bench.transfer("02" + GET_STATUS)[2] == STANDBY_RC


def test_modes_follow_commands_and_show_with_the_next(bench: Bench) -> None:
    powered(bench)
    assert bench.transfer("018001")[1:] == bytes((STANDBY_RC,)) * 2
    assert bench.transfer("01" + GET_STATUS)[2] == STANDBY_XOSC
    bench.transfer("0182ffffff")
    assert bench.transfer("01" + GET_STATUS)[2] >> 4 == 5


def test_the_frequency_reads_back(bench: Bench) -> None:
    powered(bench).transfer("018636380000")
    assert bench.transfer("011d088b0000000000")[5:] == bytes.fromhex("36380000")
    assert bench.chip.radios[0].frequency_hz == 867_500_000


def test_image_calibration_reports_what_it_cannot_do(bench: Bench) -> None:
    powered(bench).transfer("0198d7db")
    assert bench.transfer("01" + GET_ERRORS)[3:5] == bytes(2)
    bench.transfer("019800ff")
    assert bench.transfer("01" + GET_ERRORS)[4] == 0x10


def test_reset_forgets_everything(bench: Bench) -> None:
    powered(bench).transfer("018636380000")
    bench.transfer("018001")
    bench.write(0x5783, 0x04)
    bench.write(0x5783, 0x0C)
    assert bench.transfer("01" + GET_STATUS)[2] == STANDBY_RC
    assert bench.chip.radios[0].frequency_hz == 0


def test_the_counter_stands_still_without_a_clocking_radio(bench: Bench) -> None:
    powered(bench).write(0x57C0, 0x05)
    bench.wait_us(1000)
    assert bench.counter() == 0
    bench.transfer("0182ffffff")
    bench.wait_us(1000)
    assert bench.counter() == 32_000
    bench.write(0x5783, 0x00)
    bench.wait_us(1000)
    assert bench.counter() == 32_000
