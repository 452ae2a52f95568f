# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The short form of the bad backhauls; `make soak` has the long one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.link import inside

PERMITTED = inside("true")


def outages(out: Path, *arguments: str) -> list[dict[str, Any]]:
    """Run the program, as a person would, and return its report."""
    if PERMITTED is None or subprocess.run(PERMITTED, check=False, capture_output=True).returncode != 0:
        pytest.skip("this kernel gives no network namespace (unshare --net) or no /dev/net/tun")
    done = subprocess.run(
        [sys.executable, "-m", "tests.e2e.outages", "--out", str(out), *arguments],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report: list[dict[str, Any]] = json.loads(out.read_text())
    return report


@pytest.mark.timeout(700)
@pytest.mark.parametrize("transport", ["https", "mqtt"])
def test_a_port_that_refuses_and_a_link_that_is_silent_cost_nothing(tmp_path: Path, transport: str) -> None:
    words = ["--mqtt"] if transport == "mqtt" else []
    for outcome in outages(tmp_path / "report.json", "--only", "refused 5 s", "silent 5 s", *words):
        assert outcome["good"]
        assert outcome["in_outage"]


@pytest.mark.timeout(700)
@pytest.mark.parametrize("transport", ["https", "mqtt"])
def test_packets_that_vanish_or_are_too_large_cost_nothing(tmp_path: Path, transport: str) -> None:
    words = ["--mqtt"] if transport == "mqtt" else []
    for outcome in outages(tmp_path / "report.json", "--only", "lossy", "hole", "--seconds", "8", *words):
        assert outcome["good"]
        assert outcome["arrived_meanwhile"] > 0.3 * outcome["in_outage"], "it has to work then, not only afterwards"


@pytest.mark.timeout(700)
def test_kills_of_everything_cost_nothing(tmp_path: Path) -> None:
    (outcome,) = outages(tmp_path / "report.json", "--mqtt", "--rounds", "5")
    assert outcome["good"]
    assert sum(outcome["kills"].values()) == 5
