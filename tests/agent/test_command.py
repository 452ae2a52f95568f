# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What all commands share: they write into any locale, and colour only where it is wanted."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from agent import report
from agent.clock import HostClock
from agent.command import in_colour, is_plain

NAME = "Überlingen ✓"


def run(*arguments: str, module: str = "agent.cli.main") -> subprocess.CompletedProcess[bytes]:
    """Run a command where output is ISO 8859-1, as in the locale de_DE."""
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        capture_output=True,
        env=os.environ | {"PYTHONIOENCODING": "latin-1"},
        timeout=90,
    )


def write(folder: Path, **said: object) -> None:
    clock = HostClock()
    whole: dict[str, object] = {"version": report.VERSION, "pid": 2**22 + 1, "boot_id": clock.boot_id}
    report.write(folder, whole | {"boottime_us": clock.boottime_us(), "gateway": {"name": NAME, "eui": None}} | said)


def test_what_a_terminal_has_no_sign_for_ends_no_command(tmp_path: Path) -> None:
    write(tmp_path)
    shown = run("status", "--runtime-dir", str(tmp_path))
    assert shown.stderr == b""
    assert shown.returncode == 1
    assert "Überlingen ?" in shown.stdout.decode("latin-1")
    assert "? the agent has ended without a word" in shown.stdout.decode("latin-1")


def test_json_is_the_same_in_every_locale(tmp_path: Path) -> None:
    write(tmp_path)
    shown = run("status", "--runtime-dir", str(tmp_path), "--json")
    assert json.loads(shown.stdout)["report"]["gateway"]["name"] == NAME
    file = tmp_path / "gateway.toml"
    file.write_text(f'[gateway]\nname = "{NAME}"\n[concentrator]\nboard = "rak_2287"\n', encoding="utf-8")
    shown = run("config", "explain", str(file), "--json")
    assert f'"{NAME}"' in [line["value"] for line in json.loads(shown.stdout)]


def test_so_does_the_receivers(tmp_path: Path) -> None:
    folder = tmp_path / NAME
    folder.mkdir()
    file = folder / "receiver.toml"
    file.write_bytes(run("config", "example", module="receiver.cli.main").stdout)
    shown = run("config", "explain", str(file), "--json", module="receiver.cli.main")
    assert json.loads(shown.stdout)
    shown = run("config", "check", str(file), module="receiver.cli.main")
    assert "Überlingen ?" in shown.stdout.decode("latin-1")


def test_no_command_tells_a_number_that_json_lacks(tmp_path: Path) -> None:
    write(tmp_path, uptime_s=1)
    path = tmp_path / report.FILE_NAME
    path.write_text(path.read_text().replace('"uptime_s": 1', '"uptime_s": 1e400, "odd": [NaN, -Infinity]'))
    shown = run("status", "--runtime-dir", str(tmp_path), "--json")
    assert b"Infinity" not in shown.stdout
    assert b"NaN" not in shown.stdout
    assert json.loads(shown.stdout)["report"]["odd"] == [None, None]


@pytest.mark.parametrize(
    ("environment", "colour"),
    [
        ({"TERM": "xterm"}, True),
        ({"TERM": "xterm", "NO_COLOR": ""}, True),
        ({"TERM": "xterm", "NO_COLOR": "1"}, False),
        ({"TERM": "dumb"}, False),
        ({"TERM": "unknown"}, False),
    ],
)
def test_colour_is_for_who_wants_it(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], colour: bool) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    master, slave = pty.openpty()
    with os.fdopen(slave, "w") as terminal, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", terminal)
        assert in_colour() is colour
    os.close(master)
    assert is_plain() is (environment["TERM"] != "xterm")
    assert not in_colour()  # into a file
