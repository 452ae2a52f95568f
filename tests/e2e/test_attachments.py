# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The whole agent on every way to a concentrator that there is, as its user starts it, with the real libraries.

USB: `civigate emulate --usb LINK`, and `civigate run` beside it. SPI: `civigate emulate -- civigate run`, where spidev
and lgpio find the devices of a Raspberry Pi.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.demo.air import Control
from tests.e2e.conftest import until

FRAME = bytes.fromhex("40123401260000000102030405060708")
LIMIT_S = 60.0


class Place:
    """A gateway's folder and its programs."""

    def __init__(self, folder: Path, bus: str, board: str, more: str = "") -> None:
        self.folder = folder
        self.control = folder / "air"
        self.log = folder / "log"
        self.config = folder / "gateway.toml"
        self.config.write_text(
            f"""\
[gateway]
state_dir = "{folder}/state"
runtime_dir = "{folder}/run"
[concentrator]
bus = "{bus}"
board = "{board}"
{more}
[spool]
commit_window_s = 0.1
[[destination]]
name = "city"
url = "https://localhost:9"
receipt_key = "civigate-key:ed25519:A6EHv_POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg"
[destination.filter]
dev_addr = ["26010000/16"]
"""
        )

    @contextmanager
    def program(self, *words: str | Path) -> Iterator[subprocess.Popen[bytes]]:
        """Run a command of civigate, and end it cleanly."""
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        command = [sys.executable, "-m", "agent.cli.main", *map(str, words)]
        with self.log.open("ab") as log, subprocess.Popen(command, stdout=log, stderr=log, env=environment) as process:
            try:
                yield process
                process.send_signal(signal.SIGTERM)
                assert process.wait(LIMIT_S) == 0, self.log.read_text()
            finally:
                process.kill()

    def said(self, words: str, times: int = 1) -> bool:
        """Say whether the programs have said something."""
        return self.log.exists() and self.log.read_text().count(words) >= times

    def hear(self, number: int) -> None:
        """Put a frame on the air."""
        packet = {"freq_hz": 868_300_000, "sf": 7, "payload": (FRAME + bytes((number,))).hex()}
        Control(self.control).ask({"cmd": "inject_many", "packets": [packet]})

    def hear_until_spooled(self, number: int) -> None:
        """Put a frame on the air, and wait until it and all before are in the spool."""
        self.hear(number)
        until(lambda: self.spooled() == list(range(1, number + 1)), f"frame {number} in the spool", LIMIT_S)

    def spooled(self) -> list[int]:
        """Return the numbers of the frames that are in the spool."""
        database = sqlite3.connect(f"file:{self.folder}/state/spool.db?mode=ro", uri=True)
        try:
            rows = database.execute("SELECT phy_payload FROM frame ORDER BY seq").fetchall()
        except sqlite3.OperationalError:
            return []
        finally:
            database.close()
        return [row[0][-1] for row in rows]


@pytest.fixture
def folder() -> Iterator[Path]:
    """Return a folder whose path is short: Unix socket paths are limited."""
    with tempfile.TemporaryDirectory(prefix="cg-") as name:
        yield Path(name)


def test_frames_come_to_the_spool_over_usb_and_after_an_unplug(folder: Path) -> None:
    link = folder / "ttyACM0"
    place = Place(folder, f"usb:{link}", "semtech_sx1302css868gw1")
    with place.program("emulate", "--usb", link, "--control", place.control):
        until(link.exists, "the emulated board", LIMIT_S)
        with place.program("run", "-c", place.config):
            until(lambda: place.said("to=receiving"), "reception", LIMIT_S)
            place.hear_until_spooled(1)
            air = Control(place.control)
            air.ask({"cmd": "fault", "kind": "usb_unplug"})
            until(lambda: place.said("to=fault"), "the unplugged board to be noticed", LIMIT_S)
            place.hear(2)
            air.ask({"cmd": "fault", "kind": "none"})
            until(lambda: place.spooled() == [1, 2], "what was heard meanwhile", LIMIT_S)
            until(lambda: place.said("to=receiving", times=2), "reception to go on", LIMIT_S)
            place.hear_until_spooled(3)


def test_frames_come_to_the_spool_through_spidev_and_lgpio(folder: Path) -> None:
    place = Place(folder, "spi:/dev/spidev0.0", "seeed_wm1302")
    run = (sys.executable, "-m", "agent.cli.main", "run", "-c", str(place.config))
    options = ("--board", "seeed_wm1302", "--control", str(place.control))
    with place.program("emulate", *options, "--", *run):
        until(lambda: place.said("to=receiving"), "reception", LIMIT_S)
        for number in (1, 2, 3):
            place.hear_until_spooled(number)
        stats = Control(place.control).ask({"cmd": "stats"})
        assert (stats["resets"], stats["complaints"]) == (1, 0), json.dumps(stats)
        assert Control(place.control).ask({"cmd": "gpio"})["power"]


def test_listen_before_talk_and_a_scan_through_the_second_chip_select(folder: Path) -> None:
    place = Place(folder, "spi:/dev/spidev0.0", "seeed_wm1302", 'sx1261 = "spi:/dev/spidev0.1"\nplan = "kr920"')
    emulate = ("emulate", "--board", "seeed_wm1302", "--sx1261", "--control", str(place.control), "--")
    civigate = (sys.executable, "-m", "agent.cli.main")
    with place.program(*emulate, *civigate, "run", "-c", str(place.config)):
        until(lambda: place.said("to=receiving"), "reception", LIMIT_S)
        assert not place.said("sx1261_fault"), place.log.read_text()
    scan = [*civigate, *emulate, *civigate, "scan", "-c", str(place.config), "--samples", "100"]
    done = subprocess.run(scan, capture_output=True, text=True, timeout=LIMIT_S)
    assert (done.returncode, done.stdout.count("MHz: noise")) == (0, 3), done.stderr


def test_without_an_emulated_chip_a_missing_firmware_is_told(folder: Path) -> None:
    place = Place(folder, "spi:/dev/spidev9.9", "seeed_wm1302")
    command = [sys.executable, "-m", "agent.cli.main", "run", "-c", str(place.config)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S)
    assert done.returncode == 3
    assert "civigate firmware import PATH" in done.stderr
    assert "Traceback" not in done.stderr
