# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The main job, as a user starts it: the whole path through an outage and hard kills, judged by its own audit."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

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
