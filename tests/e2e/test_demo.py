# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The main job, as a user starts it: the whole path through an outage and hard kills, judged by its own audit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import civigate, one_line, until

LIMIT_S = 110


def demo(*options: str) -> dict[str, Any]:
    """Run the demonstration and return its account; it must say so itself that all is well."""
    done = subprocess.run(
        [sys.executable, "-m", "agent.cli.main", "demo", "--json", *options],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    account: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return account


@pytest.mark.parametrize("transport", [[], ["--mqtt"]], ids=["https", "mqtt"])
def test_nothing_is_lost_or_doubled_through_an_outage_and_two_kills(transport: list[str]) -> None:
    account = demo("--frames", "3000", "--rate", "0", "--outage", "8", "--kills", "2", *transport)

    assert account["heard"] == 3000
    assert account["lost"] == 0
    assert account["duplicated"] == 0
    assert account["chain_ok"] is True
    assert account["kills"] == 2
    assert account["outage_s"] >= 8
    assert account["delivered"] == account["spooled"] > 2000
    assert account["heard"] == account["bad_crc"] + account["filtered"] + account["spooled"]
    assert account["bytes_per_frame"] <= 70


def test_frames_at_their_own_pace_survive_kills_that_fall_anywhere() -> None:
    account = demo("--frames", "500", "--rate", "60", "--outage", "2", "--kills", "3", "--seed", "7")

    assert account["lost"] == 0
    assert account["duplicated"] == 0
    assert account["chain_ok"] is True
    assert account["kills"] == 3
    assert account["sent"] == 500
    assert account["heard"] == 500 - account["not_heard"]


def test_a_folder_with_a_long_and_odd_name_serves(tmp_path: Path) -> None:
    """Longer than the address of a Unix socket, with a quotation mark, as people's folders are."""
    folder = tmp_path / ("a long name " * 8) / 'and "quoted" für alle'

    account = demo("--frames", "40", "--rate", "0", "--outage", "0", "--kills", "0", "--keep", str(folder))

    assert account["lost"] == 0
    assert (folder / "receiver" / "ledger.db").exists()


def test_a_folder_that_was_used_before_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "gateway.toml").write_text("mine")

    one_line(civigate("demo", "--keep", tmp_path), str(tmp_path), "not empty")

    assert (tmp_path / "gateway.toml").read_text() == "mine"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_nothing_goes_on_after_the_demonstration_was_ended(tmp_path: Path, number: signal.Signals) -> None:
    folder = tmp_path / "kept"
    command = [sys.executable, "-m", "agent.cli.main", "demo", "--kills", "0", "--keep", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        agent_log = folder / "agent.log"
        until(lambda: agent_log.exists() and b"to=receiving" in agent_log.read_bytes(), "the agent to receive")
        assert _processes_of(folder)

        process.send_signal(number)
        process.wait(LIMIT_S)

        assert process.returncode == 128 + number
        assert not _processes_of(folder)
    finally:
        process.kill()


def _processes_of(folder: Path) -> list[int]:
    """Return the processes that name a folder in their command line [proc(5)]."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                line = (entry / "cmdline").read_bytes()
            except OSError:
                continue  # ended meanwhile
            if os.fsencode(folder) + b"/" in line:
                found.append(int(entry.name))
    return found
