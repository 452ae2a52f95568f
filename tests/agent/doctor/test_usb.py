# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The right line for each fault of a concentrator on USB."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from drivers.emulator import Emulator
from drivers.emulator.usb import UsbPort
from tests.agent.doctor.scene import Scene

Capsys = pytest.CaptureFixture[str]
STOPPED = {"agent": "CG-DOC-010", "platform": "CG-DOC-631"}


@pytest.fixture
def plugged(scene: Scene) -> Iterator[Scene]:
    """Return a gateway with a USB board, whose agent does not run."""
    link = scene.folder / "ttyACM0"
    scene.tables["concentrator"] = f'bus = "usb:{link}"\nboard = "rak_2287"'
    assert scene.emulator is not None
    with UsbPort(scene.emulator, link, time.monotonic_ns):
        yield scene


def test_a_healthy_board(plugged: Scene, capsys: Capsys) -> None:
    look = plugged.look(capsys)
    assert look.bad() == STOPPED
    for check in ("bus", "chip", "radios", "reception", "temperature"):
        assert look.one(check)["verdict"] == "ok", look.one(check)


@pytest.mark.parametrize("how", ["stall", "refuse"])
def test_a_bridge_that_does_not_answer_as_it_must(plugged: Scene, capsys: Capsys, how: str) -> None:
    assert plugged.emulator is not None
    plugged.emulator.fault("usb", how=how, times=0)
    look = plugged.look(capsys)
    assert look.bad() == {**STOPPED, "chip": "CG-DOC-214", "firmware": "CG-DOC-331"}


def test_a_board_that_is_not_plugged_in(plugged: Scene, capsys: Capsys) -> None:
    assert plugged.emulator is not None
    plugged.emulator.fault("usb_unplug")
    deadline = time.monotonic() + 30
    while (plugged.folder / "ttyACM0").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    look = plugged.look(capsys)
    assert look.one("bus")["code"] == "CG-DOC-211"
    assert look.one("chip")["code"] == "CG-DOC-211"


def test_a_chip_that_is_silent_behind_its_bridge(plugged: Scene, capsys: Capsys) -> None:
    assert isinstance(plugged.emulator, Emulator)
    plugged.emulator.fault("miso", value=0)
    assert plugged.look(capsys).one("chip")["code"] == "CG-DOC-301"
