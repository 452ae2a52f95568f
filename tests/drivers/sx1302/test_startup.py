# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The start leaves chip and radios exactly as the vendor's software does, and says what is wrong when it cannot."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from drivers.boards import load_board
from drivers.emulator import Model
from drivers.errors import ChipError, HandshakeTimeoutError, ProfileError
from drivers.plans import Listening, TransmitBand, load_plan
from drivers.sx1302.concentrator import State
from drivers.sx1302.fine import FineTimestamps
from drivers.sx1302.registers import ADDRESSES, field, reset_value, writable_mask
from drivers.sx1302.spi import AddressSpace
from tests.drivers.bench import Bench, multi_sf_only
from tests.drivers.recorded import registers_after_start, trace

if TYPE_CHECKING:
    from collections.abc import Callable

    from drivers.plans import ChannelPlan

OTP_ADDRESS = 0x6180
"""Left over from reading the EUI, which the recorded programs do at another moment or not at all."""


def _writable_registers(bench: Bench) -> dict[int, int]:
    space = AddressSpace(bench.emulator.bus())
    return {a: space.read(a, 1)[0] for a in ADDRESSES if writable_mask(a) and a != OTP_ADDRESS}


EU868 = load_plan("eu868")
ASKS_FOR_LISTENING = replace(
    EU868, transmit=(TransmitBand(863_000_000, 870_000_000, 14, listening=Listening(128, -70)),)
)


@pytest.mark.parametrize(
    ("plan", "model", "fine_timestamps", "sx1261", "recorded"),
    [
        (EU868, Model.SX1302, None, False, "pktfwd_eu868"),
        (EU868, Model.SX1302, None, True, "pktfwd_eu868"),
        (load_plan("us915_1"), Model.SX1302, None, False, "pktfwd_us915"),
        (EU868, Model.SX1303, FineTimestamps.ALL_SF, False, "pktfwd_sx1303_ftime_eu868"),
        (multi_sf_only(), Model.SX1302, None, False, "hal_rx_multisf_only"),
        (ASKS_FOR_LISTENING, Model.SX1302, None, True, "pktfwd_lbt_eu868"),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_register_file_equals_the_vendors(
    plan: ChannelPlan, model: Model, fine_timestamps: FineTimestamps | None, sx1261: bool, recorded: str
) -> None:
    bench = Bench(plan, model=model, fine_timestamps=fine_timestamps, sx1261=sx1261)
    bench.concentrator().start()
    differing = registers_after_start(recorded)
    found = _writable_registers(bench)
    assert found == {a: differing.get(a, reset_value(a)) for a in found}
    assert bench.emulator.complaints() == []


@pytest.mark.parametrize(
    ("plan", "recorded"),
    [("eu868", "pktfwd_eu868"), ("us915_1", "pktfwd_us915_start_stop"), ("eu868", "hal_rx_sx1250")],
)
@pytest.mark.parametrize("radio", [1, 2])
def test_radio_commands_equal_the_vendors(plan: str, recorded: str, radio: int) -> None:
    bench = Bench(plan)
    bench.concentrator().start()
    ours = [frame for frame in bench.bus.sent if frame[0] == radio]
    theirs = [frame.mosi for frame in trace(recorded) if frame.mosi[0] == radio]
    assert ours == theirs


def test_a_start_takes_two_fifths_of_the_vendors_messages() -> None:
    bench = Bench()
    bench.concentrator().start()
    assert len(bench.bus.sent) <= 280  # 707 in the recorded start
    assert max(map(len, bench.bus.sent)) == 1024 + 4


def test_single_ended_input_is_written_to_that_radio_alone() -> None:
    bench = Bench(board="seeed_wm1302")
    bench.concentrator().start()
    assert [frame[0] for frame in bench.bus.sent if frame[1:4] == bytes.fromhex("0d08e2")] == [1]


def test_a_plan_with_one_radio_leaves_the_other_off() -> None:
    bench = Bench("kr920")
    concentrator = bench.started()
    assert bench.emulator.stats().running
    assert _writable_registers(bench)[field("AGC_MCU_RF_EN_B_RADIO_EN").address] == 0
    assert concentrator.state is State.RUNNING


def test_starting_again_needs_nothing_but_the_reset() -> None:
    bench = Bench()
    concentrator = bench.started()
    concentrator.start()
    concentrator.stop()
    concentrator.start()
    assert (bench.emulator.stats().resets, bench.emulator.complaints()) == (3, [])
    assert bench.emulator.stats().running


def test_a_clock_radio_that_the_plan_leaves_off_is_refused() -> None:
    board = replace(load_board("semtech_corecell_eu868"), clock_radio=1)
    with pytest.raises(ProfileError, match="clocks the chip"):
        Bench("kr920", board=board).concentrator()


def _answers(byte: int) -> Callable[[bytes, bytes], bytes]:
    return lambda frame, _: bytes((byte,)) * len(frame)


def _fixed(register: str, byte: int) -> Callable[[bytes, bytes], bytes]:
    """A register that always reads the same."""
    address = field(register).address

    def meddle(frame: bytes, answer: bytes) -> bytes:
        first = int.from_bytes(frame[1:3], "big")
        if frame[0] or not first <= address < first + len(frame) - 4:
            return answer
        at = 4 + address - first
        return answer[:at] + bytes((byte,)) + answer[at + 1 :]

    return meddle


def _silent_radio(frame: bytes, answer: bytes) -> bytes:
    return bytes(len(frame)) if frame[0] else answer


def _failed_calibration(frame: bytes, answer: bytes) -> bytes:
    return answer[:4] + b"\x10" if frame[:2] == b"\x02\x17" else answer


def _forgetful_memory(frame: bytes, answer: bytes) -> bytes:
    return answer[:-1] + b"\x55" if frame[:3] == b"\x00\x0c\x00" else answer


@pytest.mark.parametrize(
    ("meddle", "message", "hint", "code"),
    [
        (_answers(0x00), "nothing answers on SPI", "SPI device, reset line and power line", "CG-CHIP-001"),
        (_answers(0xFF), "nothing answers on SPI", "has power", "CG-CHIP-001"),
        (_fixed("COMMON_VERSION_VERSION", 0x21), "0x21, which is neither", "SX1303", "CG-CHIP-002"),
        (_silent_radio, "SX1250 A: status 0x00 instead of mode STANDBY_RC", "reset line", "CG-RADIO-003"),
        (_failed_calibration, "SX1250 B: image calibration failed", "off and on", "CG-RADIO-002"),
        (_forgetful_memory, "AGC: 1 of 8192 bytes read back differently", "spi_clock_hz", "CG-MCU-001"),
        (_fixed("AGC_MCU_CTRL_PARITY_ERROR", 0x11), "parity error", "3.3 V", "CG-MCU-002"),
        (_fixed("ARB_MCU_ARB_DEBUG_STS_0_ARB_DEBUG_STS_0", 1), "reports version 1, its image", "", "CG-MCU-003"),
        (
            _fixed("AGC_MCU_MCU_MAIL_BOX_RD_DATA_BYTE1_MCU_MAIL_BOX_RD_DATA", 14),
            "gains of radio A, half duplex: sent",
            "",
            "CG-MCU-004",
        ),
    ],
)
def test_each_fault_of_the_start_is_told_with_its_place_and_the_next_step(
    meddle: Callable[[bytes, bytes], bytes], message: str, hint: str, code: str
) -> None:
    bench = Bench()
    bench.bus.meddle = meddle
    concentrator = bench.concentrator()
    with pytest.raises(ChipError, match=message) as caught:
        concentrator.start()
    assert hint in caught.value.hint
    assert caught.value.code == code
    assert concentrator.state is State.OFF
    bench.bus.meddle = None
    concentrator.start()


@pytest.mark.parametrize(
    ("register", "status", "message"),
    [
        ("AGC_MCU_MCU_AGC_STATUS_MCU_AGC_STATUS", 0x00, r"AGC .*: boot: status 0x00 instead of 0x01 for 1 s"),
        ("AGC_MCU_MCU_AGC_STATUS_MCU_AGC_STATUS", 0x14, r"AGC .*: boot: status 0x14"),
        ("ARB_MCU_MCU_ARB_STATUS_MCU_ARB_STATUS", 0x01, r"ARB .*: resume: status 0x01 instead of 0x00"),
    ],
)
def test_a_microcontroller_that_hangs_is_not_waited_for_for_ever(register: str, status: int, message: str) -> None:
    bench = Bench()
    bench.bus.meddle = _fixed(register, status)
    begin_ns = bench.clock.now_ns
    with pytest.raises(HandshakeTimeoutError, match=message) as caught:
        bench.concentrator().start()
    assert caught.value.retryable
    assert bench.clock.now_ns - begin_ns < 4_000_000_000


def test_a_reset_line_that_is_not_connected_is_found_out() -> None:
    bench = Bench()
    bench.started()
    with pytest.raises(ChipError, match="not at their reset value") as caught:
        bench.concentrator(wired=False).start()
    assert "number and polarity of the reset line" in caught.value.hint


def test_a_counter_that_stands_still_is_a_clock_that_is_missing() -> None:
    bench = Bench()
    frozen = bytes(4) + bytes.fromhex("0000000000000001")
    bench.bus.meddle = lambda frame, answer: frozen if frame[:3] == b"\x00\x61\x01" and len(frame) == 12 else answer
    with pytest.raises(ChipError, match="stands still") as caught:
        bench.concentrator().start()
    assert "clock_radio" in caught.value.hint
