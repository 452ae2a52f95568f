# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""`civigate emulate` plays a scenario, a recording and a GNSS receiver; what is wrong with them is one line."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from drivers.emulator import Emulator
from drivers.emulator.control import answer
from drivers.emulator.play import Air, Player
from drivers.emulator.scenario import load_scenario
from tests.drivers.emulator.test_cli import emulate
from tests.drivers.emulator.test_emulator import ManualClock
from tests.drivers.emulator.test_scenario import ABP

CAPTURE = {"ts": "2020-03-03T16:41:31.250Z", "phy": "40da1d0126800000011234", "freq": 867900000, "sf": 7}
LIMIT_S = 60.0


def ask(path: Path, command: str) -> Any:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(LIMIT_S)
        connection.connect(str(path))
        connection.sendall(json.dumps({"cmd": command}).encode() + b"\n")
        return json.loads(connection.makefile().readline())


def wait_until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + LIMIT_S
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_the_command_plays_devices_a_recording_and_gnss(tmp_path: Path) -> None:
    scenario, capture = tmp_path / "city.toml", tmp_path / "capture.jsonl"
    scenario.write_text(ABP + "first_s = 0.1")
    capture.write_text(json.dumps(CAPTURE))
    control, gnss = tmp_path / "control", tmp_path / "gnss"
    options = ["--spi-socket", str(tmp_path / "spi"), "--control", str(control), "--air", str(scenario)]
    options += ["--replay", str(capture), "--replay-speed", "10", "--gnss", str(gnss), "--gnss-with", "rmc=14"]
    with emulate(*options) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            assert gnss.is_char_device()
            wait_until(lambda: len(ask(control, "rxlog")["rx"]) == 2)
            heard = ask(control, "rxlog")["rx"]
            assert {entry["id"] for entry in heard} == {"26011BDA 0.1", "capture.jsonl:1"}
            wait_until(lambda: all(entry["outcome"] != "pending" for entry in ask(control, "rxlog")["rx"]))
            outcomes = {entry["outcome"] for entry in ask(control, "rxlog")["rx"]}
            assert outcomes == {"not_received: the chip is not receiving (GLOBAL_EN = 0)"}
            (device,) = ask(control, "devices")["devices"]
            assert (device["name"], device["dev_addr"], device["transmissions"]) == ("26011BDA", "26011BDA", 1)
        finally:
            process.terminate()
        assert process.wait(LIMIT_S) == 0
    assert not gnss.is_symlink()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--replay-speed", "0"], "0.01 to 1000000"),
        (["--gnss-with", "rmc=12"], "'rmc=12': expected 13 or 14"),
    ],
)
def test_wrong_options_are_explained(tmp_path: Path, options: list[str], said: str) -> None:
    with emulate("--spi-socket", str(tmp_path / "a"), "--control", str(tmp_path / "b"), *options) as process:
        assert process.wait(LIMIT_S) == 2
        assert process.stderr is not None
        assert said in process.stderr.read()


def test_the_player_stops_when_it_is_told(tmp_path: Path) -> None:
    (tmp_path / "city.toml").write_text(ABP + "first_s = 0")
    emulator = Emulator()
    assert json.loads(answer(emulator, b'{"cmd":"devices"}')) == {"ok": True, "devices": []}
    with Player(Air(emulator, load_scenario(tmp_path / "city.toml"))):
        wait_until(lambda: emulator.stats().injected == 1)
    told = json.loads(answer(emulator, b'{"cmd":"devices"}'))["devices"]
    assert [(device["name"], device["frames"]) for device in told] == [("26011BDA", 1)]


FAULTS = """
[[fault]]
at_s = 2
kind = "none"
[[fault]]
at_s = 0
kind = "version"
value = 7
[[fault]]
at_s = 1.5
kind = "i2c"
[[fault]]
at_s = 1
kind = "pps_lost"
"""


def test_faults_happen_at_their_time_and_those_of_the_beginning_before_anything_else(tmp_path: Path) -> None:
    (tmp_path / "city.toml").write_text(FAULTS)
    clock = ManualClock()
    emulator = Emulator(monotonic_ns=clock)
    air = Air(emulator, load_scenario(tmp_path / "city.toml"))
    active = [emulator.faults()]
    assert emulator.bus().transfer(bytes.fromhex("0056060000"))[4] == 7
    for _ in range(4):
        assert 0 < air.advance() <= 0.5
        clock.pass_us(500_000)
        air.advance()
        active.append(emulator.faults())
    one, two, three = ["version"], ["pps_lost", "version"], ["i2c", "pps_lost", "version"]
    assert active == [one, one, two, three, []]


def test_a_fault_of_a_sensor_that_is_not_there_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "city.toml").write_text("[[fault]]\nat_s = 0\nkind = 'i2c'\n[[fault]]\nat_s = 0\nkind = 'stall'")
    emulator = Emulator(celsius=None)
    Air(emulator, load_scenario(tmp_path / "city.toml"))
    assert emulator.faults() == ["stall"]
