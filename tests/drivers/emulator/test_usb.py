# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The USB bridge answers what Semtech's software sends as it was answered then, and survives everything else."""

from __future__ import annotations

import json
import lzma
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.emulator import Emulator
from drivers.emulator.firmware import synthetic_agc, synthetic_arb
from drivers.emulator.usb import Bridge, UsbPort
from drivers.errors import BusError
from tests.drivers.emulator.test_emulator import ManualClock
from tests.drivers.recorded import FOLDER

serial = pytest.importorskip("serial")

PING = bytes.fromhex("11000000")
PONG = bytes.fromhex("11001540") + bytes(range(1, 13)) + b"V01.00.00"
READ_VERSION = bytes.fromhex("22000a05") + bytes.fromhex("0001000005 0056060000")
VERSION = bytes.fromhex("22000a45") + bytes.fromhex("0001000005 0000000010")
TIMED_REGISTERS = ("006101", "005211", "0058c8", "004000")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def emulator(clock: ManualClock) -> Emulator:
    return Emulator(monotonic_ns=clock)


@pytest.fixture
def bridge(emulator: Emulator, clock: ManualClock) -> Bridge:
    return Bridge(emulator, clock)


def conversation(trace: str) -> Iterator[tuple[int, bytes, bytes | None]]:
    """Yield time, request and answer of a recorded run; firmware is replaced by synthetic images."""
    images = (synthetic_agc(), synthetic_arb())
    body = b""
    text = lzma.decompress((FOLDER / f"hal_trace_{trace}.jsonl.xz").read_bytes()).decode()
    for row in map(json.loads, text.splitlines()):
        if row.get("dev") == "usb.0" and "body" in row:
            head = bytes.fromhex(row["mosi"])
            address, length = (head[1] & 0x7F) << 8 | head[2], row["body_len"]
            part = images[address >> 13][address & 0x1FFF :][:length]
            body = head + (part if row["body"] == "mosi" else bytes(length))
        elif row.get("dev") == "usb":
            header = bytes.fromhex(row["hdr"])
            if row["req"] is None:
                payload, answer = b"\0\1\0" + len(body).to_bytes(2, "big") + body, None
            else:
                payload, answer = bytes.fromhex(row["req"]), bytes.fromhex(row["ack_body"])
            assert len(payload) == row["req_len"]
            yield row["t_us"], header + payload, answer


@pytest.mark.parametrize("trace", ["usb_hal_rx", "usb_hal_tx"])
def test_a_recorded_run_is_answered_alike(trace: str, bridge: Bridge, emulator: Emulator, clock: ManualClock) -> None:
    begin_ns = clock.now_ns
    compared = 0
    for at_us, request, expected in conversation(trace):
        clock.now_ns = begin_ns + at_us * 1000
        answer = bridge.feed(request)
        assert answer[0] == request[0], "the answer carries the request's id"
        assert answer[3] == request[3] | 0x40
        assert len(answer) - 4 == answer[1] << 8 | answer[2]
        timed = request[3] == 0x01 or any(register in request.hex() for register in TIMED_REGISTERS)
        if expected is not None and not timed:
            assert answer[4:] == expected, request.hex()
            compared += 1
    assert compared > 300
    assert not emulator.complaints()
    # the program drives the reset line when it opens and when it closes
    assert emulator.stats().resets == 2


def test_a_recorded_transmission_is_captured(bridge: Bridge, emulator: Emulator, clock: ManualClock) -> None:
    begin_ns = clock.now_ns
    for at_us, request, _ in conversation("usb_hal_tx"):
        clock.now_ns = begin_ns + at_us * 1000
        bridge.feed(request)
    (emission,) = emulator.txlog()
    assert (emission.modulation, emission.parameters["sf"], len(emission.payload)) == ("LORA", 7, 20)


def test_status_tells_uptime_and_temperature(bridge: Bridge, clock: ManualClock) -> None:
    clock.pass_us(1_234_000)
    assert bridge.feed(bytes.fromhex("33000001")) == bytes.fromhex("33000641") + (1234).to_bytes(4, "big") + b"\x09\xc4"


def test_gpio_drives_reset_and_power(bridge: Bridge, emulator: Emulator) -> None:
    for pin, level, lines in (
        (2, 1, {"reset": True, "power": True}),
        (2, 0, {"reset": False, "power": True}),
        (1, 0, {"reset": False, "power": False}),
        (1, 1, {"reset": False, "power": True}),
        (7, 1, {"reset": False, "power": True}),
    ):
        assert bridge.feed(bytes((0, 0, 3, 4, 0, pin, level))) == bytes.fromhex("0000014400")
        assert emulator.lines() == lines
    assert bridge.feed(bytes.fromhex("0000010300")) == bytes.fromhex("0000014300")
    assert emulator.stats().resets == 2


def test_requests_may_be_cut_and_joined(bridge: Bridge) -> None:
    both = PING + READ_VERSION
    assert bridge.feed(both) == PONG + VERSION
    assert b"".join(bridge.feed(both[at : at + 1]) for at in range(len(both))) == PONG + VERSION


def test_sub_requests_are_carried_out_in_order(bridge: Bridge) -> None:
    write = bytes.fromhex("01 01 00 0004 00d80015")
    change = bytes.fromhex("02 02 5800 0f 0a")
    read = bytes.fromhex("03 01 00 0005 0058000000")
    payload = write + change + read
    answer = bridge.feed(bytes((9, 0, len(payload), 5)) + payload)
    assert answer[4:] == bytes.fromhex("01 01 00 0004 00000000 02 02 00 15 1a 03 01 00 0005 000000001a")


@pytest.mark.parametrize(
    "request_",
    [
        bytes.fromhex("05000077"),
        bytes.fromhex("0500010405"),
        bytes.fromhex("05000203ffff"),
        bytes.fromhex("0500010500"),
        bytes.fromhex("050006050001000005ff"),
        bytes.fromhex("05000505000300 0000"),
        bytes.fromhex("05ffff05"),
    ],
)
def test_what_makes_no_sense_is_a_command_error(bridge: Bridge, request_: bytes) -> None:
    assert bridge.feed(request_) == bytes.fromhex("050000ff")
    assert bridge.feed(PING) == PONG


def test_a_request_that_stays_incomplete_is_forgotten(bridge: Bridge, clock: ManualClock) -> None:
    assert bridge.feed(READ_VERSION[:-1]) == b""
    clock.pass_us(1_100_000)
    assert bridge.feed(PING) == PONG


@given(data=st.lists(st.binary(max_size=200), max_size=10))
def test_no_bytes_upset_the_bridge(data: list[bytes]) -> None:
    clock = ManualClock()
    bridge = Bridge(Emulator(monotonic_ns=clock), clock)
    for part in data:
        bridge.feed(part)
    clock.pass_us(1_100_000)
    if not bridge.unplugged:
        assert bridge.feed(PING) == PONG


@pytest.mark.parametrize(
    ("how", "answer"), [("stall", b""), ("short", PONG[:12]), ("refuse", bytes.fromhex("110000ff"))]
)
def test_faults_spoil_answers(bridge: Bridge, emulator: Emulator, how: str, answer: bytes) -> None:
    emulator.fault("usb", how=how, times=2)
    assert [bridge.feed(PING) for _ in range(3)] == [answer, answer, PONG]


def test_a_failing_bus_behind_the_bridge_is_a_status(bridge: Bridge, emulator: Emulator) -> None:
    emulator.fault("bus_error", times=2)
    assert bridge.feed(READ_VERSION)[4:] == bytes.fromhex("0001010000")
    change = bytes.fromhex("02 02 5800 0f 0a")
    assert bridge.feed(bytes((9, 0, len(change), 5)) + change)[4:] == bytes.fromhex("0202010000")


class Port(Protocol):
    """As much of a serial port as is needed here."""

    def write(self, data: bytes) -> int: ...

    def read(self, size: int) -> bytes: ...


def exchange(port: Port, request: bytes, length: int) -> bytes:
    port.write(request)
    return bytes(port.read(length))


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "waited 30 seconds in vain"
        time.sleep(0.001)


def test_a_serial_port_leads_to_the_bridge(tmp_path: Path) -> None:
    emulator, link = Emulator(), tmp_path / "ttyACM0"
    link.symlink_to("/nowhere")
    with UsbPort(emulator, link, ManualClock()):
        for _ in range(2):
            with serial.Serial(str(link), 115200, timeout=30) as port:
                assert exchange(port, PING, len(PONG)) == PONG
                assert exchange(port, READ_VERSION, len(VERSION)) == VERSION
                big = bytes.fromhex("0001001004 00400000") + bytes(4096)
                header = bytes((1, len(big) >> 8, len(big) & 0xFF, 5))
                assert len(exchange(port, header + big, 4 + len(big))) == 4 + len(big)
    assert not link.is_symlink()


def test_the_bridge_can_be_unplugged_and_plugged_in_again(tmp_path: Path) -> None:
    emulator, link = Emulator(), tmp_path / "ttyACM0"
    with UsbPort(emulator, link, ManualClock()):
        with serial.Serial(str(link), 115200, timeout=30) as port:
            assert exchange(port, PING, len(PONG)) == PONG
            emulator.fault("usb_unplug")
            wait_until(lambda: not link.is_symlink())
            with pytest.raises(OSError, match=r"Input/output error|read failed|write failed"):
                exchange(port, PING, len(PONG))
        emulator.clear_faults()
        wait_until(link.exists)
        with serial.Serial(str(link), 115200, timeout=30) as port:
            assert exchange(port, PING, len(PONG)) == PONG


def test_the_bootloader_is_answered_before_the_board_vanishes_until_it_is_plugged_in_again(tmp_path: Path) -> None:
    emulator, link = Emulator(), tmp_path / "ttyACM0"
    with UsbPort(emulator, link, ManualClock()):
        with serial.Serial(str(link), 115200, timeout=30) as port:
            assert exchange(port, bytes.fromhex("12000002"), 4) == bytes.fromhex("12000042")
            wait_until(lambda: not link.is_symlink())
        emulator.fault("usb_unplug")
        emulator.clear_faults()
        wait_until(link.exists)
        with serial.Serial(str(link), 115200, timeout=30) as port:
            assert exchange(port, PING, len(PONG)) == PONG


def test_a_file_in_the_place_of_the_link_is_left_alone(tmp_path: Path) -> None:
    link = tmp_path / "file"
    link.write_text("mine")
    with pytest.raises(BusError, match="File exists"):
        UsbPort(Emulator(), link, ManualClock())
    assert link.read_text() == "mine"
