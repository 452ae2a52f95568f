# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The microcontrollers run the right image, in the right order, or stay silent as on a mast."""

from __future__ import annotations

import pytest

from drivers.emulator.firmware import identify, parity_holds, synthetic_agc, synthetic_arb
from tests.drivers.emulator.bench import Bench

AGC, ARB = 0x5780, 0x6080
MEMORY = {AGC: 0x0000, ARB: 0x2000}
STATUS = {AGC: 0x5781, ARB: 0x6081}
CLEARED, PROGRAMMING, RUN = 0x14, 0x16, 0x10
AGC_HANDSHAKES = [0x80, 0x20, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0A, 0x0B, 0x0F]


def clocked(bench: Bench) -> Bench:
    """Radio A supplied, in reception, and selected as the chip's clock."""
    bench.write(0x5783, 0x0C)
    bench.transfer("0182ffffff")
    bench.write(0x57C0, 0x05)
    return bench


def load(bench: Bench, control: int, image: bytes) -> None:
    bench.write(control, PROGRAMMING)
    for at in range(0, len(image), 1024):
        bench.write(MEMORY[control] + at, *image[at : at + 1024])
    bench.write(control, CLEARED)
    bench.write(control, RUN)


def status(bench: Bench, control: int) -> int:
    return bench.read(STATUS[control])[0]


def parity_error(bench: Bench, control: int) -> bool:
    return bool(bench.read(control)[0] & 1)


def command(bench: Bench, code: int, *parameters: int) -> None:
    for index, parameter in enumerate(parameters):
        bench.write(0x578C - index, parameter)
    bench.write(0x5789, code)


def test_synthetic_images_follow_the_structure_and_are_known() -> None:
    for image, version in ((synthetic_agc(), 10), (synthetic_arb(), 2), (synthetic_agc(3), 3)):
        assert len(image) == 8192
        assert parity_holds(image)
        program = identify(image)
        assert program is not None
        assert program.version == version
    with pytest.raises(ValueError, match="256"):
        synthetic_agc(256)


def test_the_agc_asks_for_its_parameters_in_order_and_echoes_them(bench: Bench) -> None:
    load(clocked(bench), AGC, synthetic_agc())
    assert status(bench, AGC) == 1
    assert bench.read(0x5790) == b"\x0a"
    seen = []
    for code in AGC_HANDSHAKES:
        command(bench, code, 7, 8, 9)
        seen.append(status(bench, AGC))
        if code == 0x06:
            assert bench.read(0x578E, 3) == bytes((9, 8, 7)), "byte 0 lies at the highest address"
    assert seen == [2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 15, 0]
    assert bench.chip.agc.ready
    assert not bench.chip.complaints


@pytest.mark.parametrize("step", range(len(AGC_HANDSHAKES)))
def test_the_agc_refuses_what_is_not_due(bench: Bench, step: int) -> None:
    load(clocked(bench), AGC, synthetic_agc())
    for code in AGC_HANDSHAKES[:step]:
        command(bench, code, 1)
    before = status(bench, AGC)
    for wrong in {0, *AGC_HANDSHAKES} - {AGC_HANDSHAKES[step]}:
        command(bench, wrong, 1)
        assert status(bench, AGC) == before
    assert bench.chip.complained == len(AGC_HANDSHAKES)
    command(bench, AGC_HANDSHAKES[step], 1)
    assert status(bench, AGC) != before


def test_the_arb_waits_for_its_start_command(bench: Bench) -> None:
    load(clocked(bench), ARB, synthetic_arb())
    assert status(bench, ARB) == 1
    assert bench.read(0x608D) == b"\x02"
    bench.write(0x608A, 7)
    assert status(bench, ARB) == 1
    bench.write(0x608A, 1)
    assert status(bench, ARB) == 0
    assert bench.chip.arb.ready


@pytest.mark.parametrize(
    ("control", "image"),
    [(AGC, synthetic_arb()), (ARB, synthetic_agc()), (AGC, bytes(8192)), (ARB, bytes(8192))],
    ids=["arb in agc", "agc in arb", "nothing in agc", "nothing in arb"],
)
def test_a_wrong_image_stays_silent(bench: Bench, control: int, image: bytes) -> None:
    load(clocked(bench), control, image)
    assert not parity_error(bench, control)
    assert status(bench, control) == 0
    assert bench.chip.complained == 1


def test_another_version_is_reported(bench: Bench) -> None:
    load(clocked(bench), AGC, synthetic_agc(1))
    assert bench.read(0x5790) == b"\x01"


@pytest.mark.parametrize("control", [AGC, ARB])
@pytest.mark.parametrize("bit", [0, 13, 14, 15])
def test_a_flipped_bit_is_a_parity_error(bench: Bench, control: int, bit: int) -> None:
    image = bytearray(synthetic_agc() if control == AGC else synthetic_arb())
    image[2 * 1234 + bit // 8] ^= 1 << bit % 8
    load(clocked(bench), control, bytes(image))
    assert parity_error(bench, control)
    assert status(bench, control) == 0
    bench.write(control, CLEARED)
    assert not parity_error(bench, control)


def test_program_memory_belongs_to_the_host_only_while_programming(bench: Bench) -> None:
    load(clocked(bench), AGC, synthetic_agc())
    bench.write(0x0000, 0xFF)
    assert bench.read(0x0000, 1) == synthetic_agc()[:1]
    bench.write(AGC, PROGRAMMING)
    bench.write(0x5600, 1)
    bench.write(0x0000, 0xFF)
    assert bench.read(0x0000, 1) == synthetic_agc()[:1]
    assert bench.chip.complained == 2


def test_nothing_runs_without_a_clock(bench: Bench) -> None:
    load(bench, AGC, synthetic_agc())
    assert status(bench, AGC) == 0
    clocked(bench)
    assert status(bench, AGC) == 1


def test_stopping_forgets_the_handshake(bench: Bench) -> None:
    load(clocked(bench), AGC, synthetic_agc())
    command(bench, 0x80)
    bench.write(AGC, CLEARED)
    assert status(bench, AGC) == 0
    bench.write(AGC, RUN)
    assert status(bench, AGC) == 1
