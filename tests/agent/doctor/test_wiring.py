# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The doctor on /dev/spidev0.0, /dev/gpiochip0 and /dev/i2c-1, as `civigate emulate -- civigate doctor` has them."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from drivers.boards import load_board
from drivers.emulator import Emulator
from drivers.emulator.emulator import Pins, pins_of
from drivers.emulator.program import run_program
from tests.agent.doctor.scene import Look, Scene

PROGRAM = """
import sys, time
from agent.cli.main import main
from agent.doctor import context
from drivers.linux.clock import SystemClock
SystemClock.sleep = lambda self, seconds: time.sleep(min(seconds, 0.001))  # an emulated chip needs no pauses
context.LISTEN_S = 0.2
sys.stdout = open(sys.argv[1], "w")
sys.exit(main(sys.argv[2:]))
"""
BOARD = "seeed_wm1302"
PINS = pins_of(load_board(BOARD))


def look(folder: Path, emulator: Emulator, bus: str = "spi:/dev/spidev0.0", **tables: str) -> Look:
    """Run the doctor as a program whose devices are the emulator's."""
    with Scene(folder) as scene:
        scene.tables = {"concentrator": f'bus = "{bus}"\nboard = "{BOARD}"', **tables}
        output = folder / "said.json"
        command = [sys.executable, "-c", PROGRAM, str(output), "doctor", "--json", "-c", str(scene.write())]
        code = run_program(emulator, command)
        return Look(code, json.loads(output.read_text()))


def concentrator_lines(said: Look) -> dict[str, str]:
    checks = {"bus", "lines", "firmware", "chip", "reset", "radios", "reception", "temperature"}
    return {check: code for check, code in said.bad().items() if check in checks}


def test_a_healthy_board(folder: Path) -> None:
    emulator = Emulator(pins=PINS, celsius=31.5)
    said = look(folder, emulator)
    assert concentrator_lines(said) == {}
    assert said.one("lines")["evidence"] == "/dev/gpiochip0: reset GPIO17, active high; power GPIO18, active high"
    assert said.one("temperature")["values"] == {"board_celsius": 31.5}
    assert said.said["simulated"] is True
    stats = emulator.stats()
    assert not stats.running
    assert stats.complaints == 0


@pytest.mark.parametrize(
    ("pins", "check", "code"),
    [
        (replace(PINS, reset=25), "reset", "CG-DOC-305"),
        (replace(PINS, reset_active_high=False), "reset", "CG-DOC-306"),
    ],
    ids=["wrong reset pin", "reset the other way round"],
)
def test_wrong_lines(folder: Path, pins: Pins, check: str, code: str) -> None:
    said = look(folder, Emulator(pins=pins))
    assert concentrator_lines(said) == {check: code}, said.one(check)
    assert said.one("reception")["verdict"] == "skipped"
    assert said.code == 3


@pytest.mark.parametrize(("value", "code"), [(0x00, "CG-DOC-301"), (0xFF, "CG-DOC-302")])
def test_dead_spi(folder: Path, value: int, code: str) -> None:
    emulator = Emulator(pins=PINS)
    emulator.fault("miso", value=value)
    assert concentrator_lines(look(folder, emulator))["chip"] == code


def test_transfers_that_fail(folder: Path) -> None:
    emulator = Emulator(pins=PINS)
    emulator.fault("bus_error", times=0)
    assert look(folder, emulator).one("chip")["code"] == "CG-DOC-208"


@pytest.mark.parametrize(
    ("options", "fault", "verdict", "code"),
    [({"celsius": None}, False, "skipped", "CG-DOC-351"), ({}, True, "skipped", "CG-DOC-351")],
    ids=["a board without", "one that does not answer"],
)
def test_a_missing_sensor(folder: Path, options: dict[str, Any], fault: bool, verdict: str, code: str) -> None:
    emulator = Emulator(pins=PINS, **options)
    if fault:
        emulator.fault("i2c")
    said = look(folder, emulator)
    finding = said.one("temperature")
    assert (finding["verdict"], finding["code"]) == (verdict, code)
    assert concentrator_lines(said) == {}, "the radio does without it"


def test_the_wrong_device(folder: Path) -> None:
    said = look(folder, Emulator(pins=PINS), bus="spi:/dev/spidev3.0")
    assert said.one("bus")["code"] in {"CG-DOC-201", "CG-DOC-202", "CG-DOC-209"}
    assert "/dev/spidev3.0" in said.one("bus")["evidence"]
    assert said.one("chip")["verdict"] == "fail"


def test_the_other_chip_select(folder: Path) -> None:
    said = look(folder, Emulator(pins=PINS), bus="spi:/dev/spidev0.1")
    assert said.one("chip")["code"] == "CG-DOC-301", "nothing is behind it"
