# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""H20: a reference node that is unplugged in the middle of a test is a fault of the bench, in every report.

A test within a test: another run of pytest, whose tests speak with a module on a pseudo-terminal when its plug is
pulled. So it needs no hands, and is the same on every bench.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

from hil_tests.marks import hil

ROOT = Path(__file__).resolve().parents[1]
LIMIT_S = 100
INNER = """
import threading
from functools import partial

import pytest

from drivers.emulator import Emulator
from drivers.linux.tty import TtyPort
from hil_tests.bench.roles import RadioSettings
from hil_tests.bench.virtual import VirtualNode, VirtualPath
from hil_tests.fakes.lora_e5 import FakeLoraE5
from hil_tests.fakes.rak3172 import FakeRak3172
from hil_tests.marks import hil
from hil_tests.nodes.lora_e5 import LoraE5
from hil_tests.nodes.rak3172 import Rak3172


@hil("H07")
@pytest.mark.parametrize(("module", "driver"), [(FakeRak3172, Rak3172), (FakeLoraE5, LoraE5)])
def test_h07_something(bench, tmp_path, module, driver):
    with module(tmp_path / "tty", VirtualNode(Emulator(), VirtualPath(), lambda: False)) as fake:
        node = driver(partial(TtyPort, str(fake.link), 9600))
        node.configure(RadioSettings(868_100_000, 7))
        node.transmit(b"before")
        threading.Thread(target=fake.unplug).start()
        while True:
            node.transmit(b"and then")
"""


@hil("H20")
def test_h20_a_pulled_plug_is_the_benchs_fault(tmp_path: Path) -> None:
    test, report = tmp_path / "test_inner.py", tmp_path / "report"
    test.write_text(INNER)
    command = [sys.executable, "-m", "pytest", "-p", "hil_tests.conftest", "-p", "no:cacheprovider", "-q", str(test)]
    done = subprocess.run(
        [*command, "--rootdir", str(tmp_path), "--hil-report", str(report)],
        check=False,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        cwd=ROOT,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "2 errors" in done.stdout, done.stdout
    suite = ET.parse(report / "junit.xml").getroot()[0]
    assert (suite.get("failures"), suite.get("errors")) == ("0", "2")
    (certificate,) = report.glob("*.json")
    said = json.loads(certificate.read_text())["certificate"]
    assert said["verdict"] == "INCOMPLETE"
    (line,) = [one for one in said["tests"] if one["id"] == "H07"]
    assert line["outcome"] == "ERROR"
    assert "node" in line["reasons"][0]
    assert "the bench, not the board" in (report / "report.html").read_text()
