# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The life of a gateway, looked at as it goes: agent, platform and concentrator as processes of their own."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from agent.cli.main import main
from agent.demo.stage import GATEWAY_EUI, Stage
from drivers.emulator import AirPacket, Emulator
from drivers.emulator.gnss import GnssPort, GnssSettings
from drivers.emulator.remote import Server
from tests.agent.doctor.scene import Look, synchronised
from tests.e2e.test_gnss import PulsesOnUtc, configure

LIMIT_S = 240.0
OF_THE_MACHINE = {"disk", "card", "power", "network"}
"""What is said of the machine that the tests run on is not ours to judge."""


def until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline, f"waited {LIMIT_S} s for {what}"
        time.sleep(0.05)


class Life:
    """A gateway with a platform, and a GNSS receiver whose seconds are the host's."""

    def __init__(self, stage: Stage, emulator: Emulator, capsys: pytest.CaptureFixture[str]) -> None:
        self.stage = stage
        self.emulator = emulator
        self._capsys = capsys
        self._sent = 0

    def status(self) -> dict[str, Any]:
        with suppress(OSError, ValueError):
            said: dict[str, Any] = json.loads((self.stage.gateway_toml.parent / "run/status.json").read_text())
            return said
        return {}

    def radio(self) -> str:
        return str((self.status().get("radio") or {}).get("state"))

    def gnss(self, name: str) -> Any:
        return (self.status().get("gnss") or {}).get(name)

    def start(self) -> None:
        before = self.status().get("pid")
        self.stage.start_agent()
        until(lambda: self.status().get("pid") != before and self.radio() == "receiving", "the agent to receive")

    def hear(self, count: int) -> None:
        for _ in range(count):
            self._sent += 1
            payload = f"800700004880{self._sent:04x}0514d4bb32ccac547d497dcb875a0e8194c3d210c96b07b6dc35f51e"
            self.emulator.inject(AirPacket(freq_hz=868_100_000, sf=7, payload=bytes.fromhex(payload)))

        def delivered() -> bool:
            status = self.status()
            destinations = status.get("destinations") or [{}]
            first = destinations[0]
            heard = (status.get("radio") or {}).get("heard") == self._sent
            return heard and bool(first.get("newest")) and first.get("through") == first.get("newest")

        until(delivered, "all frames to be delivered")

    def look(self, *options: str) -> Look:
        self._capsys.readouterr()
        code = main(["doctor", "-c", str(self.stage.gateway_toml), "--json", *options])
        return Look(code, json.loads(self._capsys.readouterr().out))

    def bad(self) -> dict[str, str]:
        return {check: code for check, code in self.look().bad().items() if check not in OF_THE_MACHINE}


@pytest.fixture
def life(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Life]:
    synchronised(monkeypatch)
    clock = PulsesOnUtc()
    emulator = Emulator(eui=bytes.fromhex(GATEWAY_EUI), monotonic_ns=clock)
    clock.align(emulator)
    spi, device = folder / "own-spi.sock", folder / "ttyGNSS"
    with (
        Stage(folder, mqtt=False) as stage,
        closing(Server(emulator, spi, folder / "own-control.sock")),
        GnssPort(emulator, device, GnssSettings()),
    ):
        stage.set()
        configure(stage, spi, device)
        yield Life(stage, emulator, capsys)


@pytest.mark.timeout(600)
def test_a_life_with_a_doctor(life: Life) -> None:
    life.start()
    life.hear(30)
    until(lambda: life.gnss("time_age_s") is not None, "the receiver's time")
    resets = life.emulator.stats().resets
    look = life.look()
    assert {c: code for c, code in look.bad().items() if c not in OF_THE_MACHINE} == {}, look.said["findings"]
    for check in (
        *("agent", "chip", "radios", "reception", "gnss", "pulse", "clock"),
        *("spool", "key", "platform", "filter", "heard"),
    ):
        assert look.one(check)["verdict"] == "ok", look.one(check)
    assert look.one("heard")["evidence"].startswith("30 frames in the last")
    assert look.one("filter")["evidence"] == "city: 30 of 30 sound frames were for it"
    assert life.emulator.stats().resets == resets, "a running agent's chip is not touched"

    life.emulator.fault("pps_lost")
    until(lambda: life.gnss("pulse_age_s") > 6, "the pulses to stop")
    assert life.bad() == {"pulse": "CG-DOC-413"}
    life.emulator.clear_faults()
    until(lambda: life.gnss("pulse_age_s") < 3, "the pulses to come back")
    assert life.bad() == {}

    life.emulator.fault("miso", value=0)
    # what is said of it gets clearer from attempt to attempt: first a counter that is wrong, then that nothing answers
    until(lambda: "answers" in str((life.status().get("radio") or {}).get("detail")), "the radio to fail")
    assert life.look().one("chip")["code"] == "CG-DOC-303"
    life.emulator.clear_faults()
    until(lambda: life.radio() == "receiving", "the radio to recover")
    assert life.bad() == {"reception": "CG-DOC-345"}, "and it is not forgotten that it failed"

    life.stage.relay.cut()
    assert life.look().one("platform")["code"] == "CG-DOC-612"
    life.stage.relay.restore()

    life.stage.cut_power()
    look = life.look()
    assert look.one("agent")["code"] == "CG-DOC-011"
    assert look.one("chip")["code"] == "CG-DOC-308", "what it holds may be the only copy"

    life.start()
    life.stage.stop_agent()
    assert life.bad() == {"agent": "CG-DOC-010"}, "and the concentrator was started by the doctor itself"
    assert not life.emulator.stats().running
