# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The short form of bad backhauls, hostile networks, full brokers and kills; `make soak` has the long one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.link import inside

PERMITTED = inside("true")
ROUNDS = 3
SECONDS = 2
LIMIT_S = 850
COMMON = (
    "silent 5 s",
    "hole",
    "lossy",
    "swallowing",
    "portal behind TLS",
    "proxy that cuts",
)
"""Of `tests.e2e.scenarios`; what the transports share below TLS is played over one of them."""
CHOSEN = {
    "https": ("refused 5 s", "portal", "portal redirecting", "no such name", "silent name server"),
    "mqtt": (
        *("slow", "portal with TLS", "lying name server", "default limits", "short queues", "amnesia"),
        *("message limit", "packet limit", "no connection left", "server busy", "quota exceeded"),
    ),
}


def start(out: Path, transport: str) -> subprocess.Popen[str]:
    words = ["--short", "--seconds", str(SECONDS), "--rounds", str(ROUNDS), "--out", str(out)]
    words += ["--mqtt"] if transport == "mqtt" else []
    return subprocess.Popen(
        [sys.executable, "-m", "tests.e2e.outages", *words, "--only", *COMMON, *CHOSEN[transport]],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.timeout(900)
def test_bad_links_hostile_networks_full_brokers_and_kills_cost_nothing_and_are_named(tmp_path: Path) -> None:
    """Both transports at a time: they mostly wait."""
    if PERMITTED is None or subprocess.run(PERMITTED, check=False, capture_output=True).returncode != 0:
        pytest.skip("this kernel gives no namespaces (unshare --net --mount) or no /dev/net/tun")
    reports = {transport: tmp_path / f"{transport}.json" for transport in CHOSEN}
    running = {transport: start(out, transport) for transport, out in reports.items()}
    try:
        for transport, program in running.items():
            said, _ = program.communicate(timeout=LIMIT_S)
            assert program.returncode == 0, f"{transport}: {said}"
    finally:
        for program in running.values():
            program.terminate()

    for transport, out in reports.items():
        report: dict[str, Any] = json.loads(out.read_text())
        assert report["good"], transport
        assert sum(report["kills"].values()) == ROUNDS
        episodes = {episode["scenario"]: episode for episode in report["episodes"]}
        assert set(episodes) == {*COMMON, *CHOSEN[transport]}
        assert all(episode["heard"] for episode in episodes.values()), transport
        for name in ("lossy", "hole", "proxy that cuts"):
            assert episodes[name]["arrived"], f"{transport}, {name}: it has to work then, not only afterwards"
