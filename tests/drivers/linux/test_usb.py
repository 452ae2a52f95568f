# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The USB bus on a pseudo-terminal, with the emulator's bridge at the other end, and with a bridge that raves."""

from __future__ import annotations

import os
import threading
import time
import tty
from contextlib import suppress
from typing import TYPE_CHECKING, Self

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.boards import load_board
from drivers.emulator.usb import Bridge, UsbPort
from drivers.errors import BusError, DriverError
from drivers.linux.usb import UsbBridge
from drivers.sx1302.concentrator import Concentrator
from drivers.sx1302.spi import AddressSpace
from drivers.sx1302.transmission import LoraTransmission
from tests.drivers.bench import Bench, packet, synthetic_firmware

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SHORT_S = 0.2
VERSION = 0x5606


class Scene:
    """An emulated concentrator on a pseudo-terminal."""

    def __init__(self, folder: Path) -> None:
        self.bench = Bench(board="semtech_sx1302css868gw1")
        self.link = folder / "ttyACM0"
        self.port = UsbPort(self.bench.emulator, self.link, time.monotonic_ns)

    def bridge(self) -> UsbBridge:
        return UsbBridge(str(self.link), answer_limit_s=SHORT_S)

    def concentrator(self, bridge: UsbBridge) -> Concentrator:
        return Concentrator(
            bridge,
            bridge.reset_line(),
            bridge.power_line(),
            board=self.bench.board,
            plan=self.bench.plan,
            firmware=synthetic_firmware(),
            clock=self.bench.clock,
            temperature=bridge.temperature,
            airtime=self.bench.airtime,
        )


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    scene = Scene(tmp_path)
    with scene.port:
        yield scene


def _numbers(concentrator: Concentrator) -> list[int]:
    return [int.from_bytes(one.payload[:2], "big") for one in concentrator.receive().packets]


def test_a_concentrator_on_usb_starts_receives_and_survives_its_process(scene: Scene) -> None:
    bridge = scene.bridge()
    concentrator = scene.concentrator(bridge)
    concentrator.start()
    for number in range(60):
        scene.bench.emulator.inject(packet(number, size=60))
    assert _numbers(concentrator) == list(range(49))
    assert scene.bench.emulator.lines() == {"reset": False, "power": True}
    assert not scene.bench.emulator.complaints()
    scene.bench.emulator.inject(packet(100))
    bridge.close()
    with_bridge = scene.bridge()
    heir = scene.concentrator(with_bridge)
    assert [int.from_bytes(one.payload[:2], "big") for one in heir.recover().packets][-1] == 100
    with_bridge.close()


def test_many_frames_travel_in_one_request(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    fed: list[int] = []
    original = Bridge.feed

    def feed(self: Bridge, data: bytes) -> bytes:
        answer = original(self, data)
        fed.append(len(answer))
        return answer

    bridge = scene.bridge()
    monkeypatch.setattr(Bridge, "feed", feed)
    read_version = bytes.fromhex("0056060000")
    answers = bridge.transfer_all([read_version] * 300)
    assert answers == [bytes.fromhex("0000000010")] * 300
    assert sum(length > 0 for length in fed) == 2
    space = AddressSpace(bridge)
    space.write(0x2000, bytes(range(256)) * 32)
    bridge.close()


def test_a_transmission_is_programmed_in_a_few_requests(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    requests = 0
    original = Bridge.feed

    def feed(self: Bridge, data: bytes) -> bytes:
        nonlocal requests
        answer = original(self, data)
        requests += bool(answer)
        return answer

    bridge = scene.bridge()
    concentrator = scene.concentrator(bridge)
    concentrator.start()
    monkeypatch.setattr(Bridge, "feed", feed)
    downlink = LoraTransmission(869_525_000, 14, 125_000, 9, 1, bytes(50))
    concentrator.transmit(downlink, concentrator.counter_us() + 50_000)
    assert requests <= 8  # 1 to read the counter before, 37 writes in the vendor's software make one
    scene.bench.clock.sleep(1)
    assert [one.payload for one in scene.bench.emulator.txlog()] == [bytes(50)]
    bridge.close()


@pytest.mark.parametrize(("how", "times"), [("stall", 1), ("stall", 2), ("short", 1), ("short", 2), ("refuse", 1)])
def test_a_spoilt_answer_is_an_error_and_the_next_request_is_in_step_again(scene: Scene, how: str, times: int) -> None:
    """What is spoilt a second time is the first ping after it."""
    bridge = scene.bridge()
    space = AddressSpace(bridge)
    scene.bench.emulator.fault("usb", how=how, times=times)
    with pytest.raises(BusError) as caught:
        space.read(VERSION, 1)
    assert caught.value.retryable
    assert space.read(VERSION, 1) == b"\x10"
    bridge.close()


def test_an_unplugged_bridge_is_opened_again_when_it_is_back(scene: Scene) -> None:
    bridge = scene.bridge()
    space = AddressSpace(bridge)
    scene.bench.emulator.fault("usb_unplug")
    _wait(lambda: not scene.link.exists())
    for _ in range(2):
        with pytest.raises(BusError, match=r"is gone|does not exist"):
            space.read(VERSION, 1)
    scene.bench.emulator.clear_faults()
    _wait(scene.link.exists)
    assert space.read(VERSION, 1) == b"\x10"
    bridge.close()


def test_temperature_comes_from_the_bridge(scene: Scene) -> None:
    bridge = scene.bridge()
    assert bridge.temperature() == 25.0
    bridge.close()
    with pytest.raises(BusError, match="is closed"):
        bridge.transfer(b"\0\0\0\0\0")


def test_one_bridge_has_one_user(scene: Scene) -> None:
    bridge = scene.bridge()
    with pytest.raises(BusError) as caught:
        scene.bridge()
    assert caught.value.code == "CG-USB-003"
    bridge.close()


def test_a_device_that_is_not_there_or_no_serial_port_is_named(tmp_path: Path) -> None:
    with pytest.raises(BusError, match="does not exist") as caught:
        UsbBridge(str(tmp_path / "ttyACM9"))
    assert caught.value.code == "CG-USB-001"
    (tmp_path / "file").write_text("")
    with pytest.raises(BusError) as caught:
        UsbBridge(str(tmp_path / "file"))
    assert "\n" not in str(caught.value)


class Raving:
    """The far end of a pseudo-terminal that answers each request with what a function says."""

    def __init__(self, answer: Callable[[bytes], bytes]) -> None:
        self._answer = answer
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        self.path = os.ttyname(self._slave)
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        os.write(self._slave, b"\xfe\xfe\xfe\xfe\xfe")
        self._thread.join(5)
        os.close(self._master)
        os.close(self._slave)

    def _run(self) -> None:
        while not (data := os.read(self._master, 8192)).endswith(b"\xfe\xfe\xfe\xfe\xfe"):
            answer = self._answer(data)
            if answer:
                os.write(self._master, answer)


def ping(request: bytes, version: bytes = b"V01.00.00") -> bytes:
    return request[:1] + b"\x00\x15\x40" + bytes(12) + version


@pytest.mark.parametrize("version", [b"V00.02.06", b"V0x.00.00", b"\xff" * 9])
def test_old_firmware_of_the_bridge_is_refused_by_name(version: bytes) -> None:
    with Raving(lambda request: ping(request, version)) as end, pytest.raises(BusError) as caught:
        UsbBridge(end.path, answer_limit_s=SHORT_S)
    assert caught.value.code == "CG-USB-008"
    assert "rlz_010000" in caught.value.hint


def test_a_device_that_says_nothing_is_given_up_in_time() -> None:
    begin = time.monotonic()
    with Raving(lambda _: b"") as end, pytest.raises(BusError, match=r"0 bytes of answer within 0\.05 s"):
        UsbBridge(end.path, answer_limit_s=0.05)
    assert time.monotonic() - begin < 5


def test_a_late_answer_is_not_taken_for_that_to_the_next_question() -> None:
    late: list[bytes] = []
    asked = 0

    def answer(request: bytes) -> bytes:
        nonlocal asked
        if request[3] == 0:
            before = b"".join(late)
            late.clear()
            return before + ping(request)
        asked += 1
        right = request[:1] + b"\x00\x0a\x45" + bytes.fromhex("0001000005") + bytes(4) + bytes((asked,))
        if asked == 1:
            late.append(right)
            return b""
        return right

    with Raving(answer) as end:
        bridge = UsbBridge(end.path, answer_limit_s=SHORT_S)
        frame = bytes.fromhex("0056060000")
        with pytest.raises(BusError, match="0 bytes of answer"):
            bridge.transfer(frame)
        assert bridge.transfer(frame)[-1] == 2
        bridge.close()


@settings(max_examples=40, deadline=None)
@given(noise=st.lists(st.binary(max_size=40), min_size=1, max_size=4))
def test_whatever_bytes_come_only_a_bus_error_leaves(noise: list[bytes]) -> None:
    answers = iter(noise)

    def answer(request: bytes) -> bytes:
        return ping(request) if request[3:4] == b"\0" else next(answers, b"")

    with Raving(answer) as end:
        bridge = _opened(end.path, answer_limit_s=0.01)
        for _ in noise:
            with suppress(BusError):
                assert len(bridge.transfer(b"\0\0\0\0\0")) == 5
        bridge.close()


def _opened(path: str, *, answer_limit_s: float) -> UsbBridge:
    """Open it with a limit that a busy machine now and then does not keep."""
    for _ in range(50):
        with suppress(BusError):
            return UsbBridge(path, answer_limit_s=answer_limit_s)
    raise AssertionError("fifty times not opened")


@settings(max_examples=30, deadline=None)
@given(noise=st.lists(st.one_of(st.none(), st.binary(max_size=60)), min_size=1, max_size=12))
def test_whatever_a_board_answers_also_to_pings_only_driver_errors_leave_and_it_ends(
    noise: list[bytes | None],
) -> None:
    """None stands for a good ping, in answer to whatever was asked."""
    answers = iter(noise)

    def answer(request: bytes) -> bytes:
        said = next(answers, b"")
        return ping(request) if said is None else said

    bench = Bench(board="semtech_sx1302css868gw1")
    with Raving(answer) as end, suppress(BusError):
        bridge = UsbBridge(end.path, answer_limit_s=0.005)
        concentrator = Concentrator(
            bridge,
            bridge.reset_line(),
            bridge.power_line(),
            board=bench.board,
            plan=bench.plan,
            firmware=synthetic_firmware(),
            clock=bench.clock,
            temperature=bridge.temperature,
        )
        for attempt in (concentrator.recover, concentrator.start, concentrator.receive, bridge.temperature):
            with suppress(DriverError):
                attempt()
        bridge.close()


def test_the_usb_boards_name_their_device() -> None:
    assert load_board("miromico_gwc_02_lw_868").usb_device == "/dev/ttyACM0"


def _wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "waited 10 seconds in vain"
        time.sleep(0.001)
