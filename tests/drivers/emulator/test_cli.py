# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""`civigate emulate` in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from drivers.emulator.remote import SocketBus

RUN = """
import argparse, sys
from agent.cli import emulate
parser = argparse.ArgumentParser()
emulate.add_parser(parser.add_subparsers())
args = parser.parse_args(sys.argv[1:])
sys.exit(args.func(args))
"""


def emulate(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", RUN, "emulate", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_until_it_is_told_to_stop(tmp_path: Path, number: signal.Signals) -> None:
    spi, control = tmp_path / "spi", tmp_path / "control"
    options = ("--model", "sx1303", "--eui", "00:16:C0:01:00:00:00:07", "--counter-start", "1000")
    with emulate("--spi-socket", str(spi), "--control", str(control), *options) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        bus = SocketBus(spi)
        assert bus.transfer(bytes.fromhex("0056060000"))[4] == 0x12
        eui = b""
        for address in range(8):
            bus.transfer(bytes((0x00, 0xE1, 0x80, address)))
            eui += bus.transfer(bytes.fromhex("0061810000"))[4:]
        assert eui.hex() == "0016c00100000007"
        process.send_signal(number)
        assert process.wait(60) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--eui", "0102"], "16 hexadecimal digits"),
        (["--counter-start", "134217728"], "0 to 134217727"),
        (["--model", "sx1301"], "sx1302"),
        ([], "--spi-socket"),
    ],
)
def test_wrong_options_are_explained(tmp_path: Path, options: list[str], said: str) -> None:
    sockets = ["--spi-socket", str(tmp_path / "a"), "--control", str(tmp_path / "b")] if options else []
    with emulate(*sockets, *options) as process:
        assert process.wait(60) == 2
        assert process.stderr is not None
        assert said in process.stderr.read()
