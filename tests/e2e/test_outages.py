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
ROUNDS = 4


@pytest.mark.timeout(900)
@pytest.mark.parametrize("transport", ["https", "mqtt"])
def test_bad_links_and_kills_of_everything_cost_nothing(tmp_path: Path, transport: str) -> None:
    if PERMITTED is None or subprocess.run(PERMITTED, check=False, capture_output=True).returncode != 0:
        pytest.skip("this kernel gives no network namespace (unshare --net) or no /dev/net/tun")
    out = tmp_path / "report.json"
    words = ["--only", "refused 5 s", "silent 5 s", "lossy", "hole", "--seconds", "5", "--rounds", str(ROUNDS)]
    words += ["--mqtt"] if transport == "mqtt" else []

    done = subprocess.run(
        [sys.executable, "-m", "tests.e2e.outages", "--out", str(out), *words],
        capture_output=True,
        text=True,
        timeout=850,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    report: dict[str, Any] = json.loads(out.read_text())
    assert report["good"]
    assert sum(report["kills"].values()) == ROUNDS
    refused, silent, lossy, hole = report["episodes"]
    assert refused["heard"]
    assert silent["heard"]
    assert lossy["arrived"]
    assert hole["arrived"] > 0.2 * hole["heard"], "it has to work then, not only afterwards"
