# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""SIGKILL at random moments, many times: nothing offered is lost, nothing doubled, no batch number used twice."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

from tests.agent.spool.crashing import FRAMES_PER_LOOK, NAMES, FolderPlatform, look_frames, open_writer

KILLS = 50


def test_killed_again_and_again(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.agent.spool.crashing", str(tmp_path), str(KILLS), "1"],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert len(told["confirmed"]) > 10 * KILLS
    platform = FolderPlatform(tmp_path)
    with open_writer(tmp_path) as spool, spool.reader() as reader:
        for name in NAMES:
            while True:
                assert spool.flush()
                if not reader.unacknowledged(name):
                    break
                platform.deliver(spool, reader, name)
        assert reader.check() == []
        totals = {status.destination: status for status in reader.status().streams}
    sure = set(told["confirmed"])
    for bit, name in enumerate(NAMES):
        (stream,) = (tmp_path / "platform" / name).iterdir()
        ledger = platform.load(stream)
        got = Counter(int.from_bytes(frame.phy_payload[:4], "big") for frame in ledger.frames())
        assert max(got.values()) == 1, "doubled"
        expected = {i for look in sure for i, route in zip(*look_frames(look), strict=True) if route >> bit & 1}
        assert expected <= set(got), "lost"
        assert {index // FRAMES_PER_LOOK for index in set(got) - expected} <= set(told["caught"]), "invented"
        assert ledger.account().spooled == ledger.account().heard - ledger.account().filtered == len(got)
        assert totals[name].delivered == len(got)
        assert len(ledger.batches) > KILLS
        assert ledger.receipt(bytes.fromhex(stream.name)).beyond == ()
