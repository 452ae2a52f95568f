# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Reference nodes against modules that speak their dialect, with the bad habits of real ones; their air is the
emulator's, so that a started concentrator hears what they say they have sent."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.emulator import Emulator
from drivers.errors import BusError
from drivers.linux.tty import TtyPort
from drivers.sx1302.concentrator import Concentrator
from drivers.sx1302.packet import RxPacket
from drivers.sx1302.transmission import LoraTransmission, Trigger
from hil_tests.bench.roles import BenchError, RadioSettings, ReferenceNode
from hil_tests.bench.trace import Trace
from hil_tests.bench.virtual import VirtualDoor, VirtualNode, VirtualPath
from hil_tests.fakes.device import FakeModule
from hil_tests.fakes.lora_e5 import DEV_EUI, FakeLoraE5
from hil_tests.fakes.rak3172 import NEW_FIRMWARE, OLD_FIRMWARE, FakeRak3172
from hil_tests.nodes import lora_e5, rak3172
from hil_tests.nodes.dialogue import Dialogue
from hil_tests.nodes.lora_e5 import LoraE5
from hil_tests.nodes.rak3172 import Rak3172

CHANNEL = RadioSettings(868_100_000, 9, power_dbm=17)
LIMIT_S = 30.0


@pytest.fixture(scope="module")
def radio() -> Iterator[tuple[Emulator, Concentrator]]:
    """Return an emulator and a concentrator that receives, for all tests: to start one takes seconds."""
    emulator = Emulator()
    concentrator = VirtualDoor(emulator, Trace()).open_concentrator()
    concentrator.start()
    yield emulator, concentrator
    concentrator.close()


@pytest.fixture
def air() -> VirtualNode:
    return VirtualNode(Emulator(), VirtualPath(), lambda: False)


def rak(link: Path) -> Rak3172:
    return Rak3172(partial(TtyPort, str(link), rak3172.BAUD))


def e5(link: Path) -> LoraE5:
    return LoraE5(partial(TtyPort, str(link), lora_e5.BAUD))


RAKS = {
    "new": {},
    "old": {"firmware": OLD_FIRMWARE},
    "in P2P mode, receiving": {"lorawan": False},
    "busy": {"busy": 2},
    "event before OK": {"early_events": True},
    "unsolicited events": {"chatter": True},
}
E5S = {"plain": {}, "busy": {"busy": 2}}


@pytest.fixture(params=[("rak", name) for name in RAKS] + [("e5", name) for name in E5S], ids=" ".join)
def module(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Callable[..., FakeModule], Path]]:
    kind, name = request.param
    link = tmp_path / "ttyNODE"
    if kind == "rak":
        yield partial(FakeRak3172, link, **RAKS[name]), link  # type: ignore[arg-type]
    else:
        yield partial(FakeLoraE5, link, **E5S[name]), link  # type: ignore[arg-type]


def driver_of(fake: FakeModule) -> Rak3172 | LoraE5:
    return rak(fake.link) if isinstance(fake, FakeRak3172) else e5(fake.link)


def test_the_gateway_hears_what_the_node_sends(
    module: tuple[Callable[..., FakeModule], Path], radio: tuple[Emulator, Concentrator]
) -> None:
    (emulator, concentrator), path = radio, VirtualPath()
    path.attenuate(90)
    with module[0](air=VirtualNode(emulator, path, lambda: False)) as fake:
        node: ReferenceNode = driver_of(fake)
        assert node.identify().serial
        for settings in (CHANNEL, replace(CHANNEL, sf=12, frequency_hz=867_500_000, power_dbm=8)):
            node.configure(settings)
            report = node.transmit(b"from the node")
            assert report.settings == settings
            packet = received(concentrator)
            assert (packet.payload, packet.frequency_hz, packet.datarate) == (
                b"from the node",
                settings.frequency_hz,
                settings.sf,
            )
            assert packet.rssi_channel_dbm == pytest.approx(settings.power_dbm - 90, abs=1.0)


def test_the_node_hears_what_the_gateway_sends(
    module: tuple[Callable[..., FakeModule], Path], radio: tuple[Emulator, Concentrator]
) -> None:
    emulator, concentrator = radio
    with module[0](air=VirtualNode(emulator, VirtualPath(), lambda: False)) as fake:
        node = driver_of(fake)
        node.configure(replace(CHANNEL, inverted=True))
        node.listen()
        concentrator.transmit(LoraTransmission(868_100_000, 14, 125_000, 9, 1, b"to the node"), Trigger.IMMEDIATE)
        heard = node.heard(LIMIT_S)
        assert heard is not None
        assert heard.payload == b"to the node"
        assert heard.rssi_dbm < -50
        node.configure(CHANNEL)  # ends listening
        node.transmit(b"and on")


def test_a_private_sync_word_is_not_heard(tmp_path: Path, radio: tuple[Emulator, Concentrator]) -> None:
    emulator, concentrator = radio
    with FakeRak3172(tmp_path / "tty", VirtualNode(emulator, VirtualPath(), lambda: False)) as fake:
        node = rak(fake.link)
        node.configure(replace(CHANNEL, public=False))
        node.transmit(b"not for gateways")
        assert all(one.payload != b"not for gateways" for one in concentrator.receive().packets)
        assert emulator.rxlog()[0][-1].outcome.startswith("not_received")


def test_identities(tmp_path: Path, air: VirtualNode) -> None:
    with FakeRak3172(tmp_path / "new", air) as new, FakeRak3172(tmp_path / "old", air, firmware=OLD_FIRMWARE) as old:
        assert rak(new.link).identify().firmware == NEW_FIRMWARE
        assert rak(old.link).identify().firmware == OLD_FIRMWARE
    with FakeLoraE5(tmp_path / "e5", air) as fake:
        assert e5(fake.link).identify().serial == DEV_EUI


def test_old_firmware_is_told_the_bandwidth_in_khz(tmp_path: Path, air: VirtualNode) -> None:
    with FakeRak3172(tmp_path / "tty", air, firmware=OLD_FIRMWARE) as fake:
        rak(fake.link).configure(CHANNEL)
        assert "AT+P2P=868100000:9:125:0:8:17" in fake.commands


@pytest.mark.parametrize(
    ("settings", "words"),
    [(replace(CHANNEL, power_dbm=30), "AT_PARAM_ERROR"), (replace(CHANNEL, sf=4), "AT_PARAM_ERROR")],
)
def test_what_the_module_refuses_is_the_benchs_fault(
    tmp_path: Path, air: VirtualNode, settings: RadioSettings, words: str
) -> None:
    with FakeRak3172(tmp_path / "tty", air) as fake, pytest.raises(BenchError, match=words):
        rak(fake.link).configure(settings)


def test_an_e5_that_takes_other_settings_than_it_was_given_is_not_believed(tmp_path: Path, air: VirtualNode) -> None:
    with FakeLoraE5(tmp_path / "tty", air, rounds=True) as fake, pytest.raises(BenchError, match="868000000"):
        e5(fake.link).configure(CHANNEL)


def test_an_e5_has_one_coding_rate(tmp_path: Path, air: VirtualNode) -> None:
    with FakeLoraE5(tmp_path / "tty", air) as fake, pytest.raises(BenchError, match="4/5 alone"):
        e5(fake.link).configure(replace(CHANNEL, coding_rate=2))


@pytest.mark.parametrize("kind", ["rak", "e5"])
def test_a_transmission_that_is_never_confirmed_is_no_success(
    tmp_path: Path, air: VirtualNode, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rak3172, "SENT_S", 0.3)
    monkeypatch.setattr(lora_e5, "SENT_S", 0.3)
    link = tmp_path / "tty"
    fake: FakeModule = FakeRak3172(link, air, deaf=True) if kind == "rak" else FakeLoraE5(link, air, deaf=True)
    with fake:
        node = driver_of(fake)
        node.configure(CHANNEL)
        with pytest.raises(BenchError, match=r"does not say|no answer"):
            node.transmit(b"into the void")


@pytest.mark.parametrize("kind", ["rak", "e5"])
def test_a_plug_that_is_pulled_is_the_benchs_fault(tmp_path: Path, air: VirtualNode, kind: str) -> None:
    link = tmp_path / "tty"
    fake: FakeModule = FakeRak3172(link, air) if kind == "rak" else FakeLoraE5(link, air)
    with fake:
        node = driver_of(fake)
        node.configure(CHANNEL)
        node.listen()
        pulled = threading.Thread(target=fake.unplug)
        pulled.start()
        with pytest.raises(BenchError, match="port is gone"):
            node.heard(LIMIT_S)
        pulled.join()
    with pytest.raises(BenchError, match="does not exist"):
        driver_of(fake)


class _Scripted:
    """A port that brings bytes in pieces as they are given, then nothing."""

    paced = True

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = pieces

    def read(self, limit_bytes: int) -> bytes:
        return self._pieces.pop(0) if self._pieces else b""

    def write(self, data: bytes) -> None:
        raise BusError("closed", op="write", where="test", hint="none", code="CG-TTY-004")

    def set_rate(self, baud: int) -> None:
        pass

    def close(self) -> None:
        pass


@given(
    lines=st.lists(st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=20), max_size=8),
    cuts=st.lists(st.integers(1, 5), min_size=1),
)
def test_lines_come_whole_however_they_are_cut(lines: list[str], cuts: list[int]) -> None:
    data = "".join(f"\r\n{line}\r\n" for line in lines).encode()
    pieces = []
    for cut in cuts * (len(data) + 1):
        if not data:
            break
        pieces.append(data[:cut])
        data = data[cut:]
    talk = Dialogue(lambda: _Scripted(pieces), "node")
    heard = [talk.hear(time.monotonic() + LIMIT_S) for _ in lines]
    assert heard == lines


@given(st.binary(max_size=5000))
def test_rubbish_on_the_port_ends_nothing(data: bytes) -> None:
    talk = Dialogue(lambda: _Scripted([data]), "node")
    while talk.hear(time.monotonic()) is not None:
        pass


def received(concentrator: Concentrator) -> RxPacket:
    deadline = time.monotonic() + LIMIT_S
    while not (packets := concentrator.receive().packets):
        assert time.monotonic() < deadline
    return packets[0]
