# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Four boots of the real agent, two of them without any time: what the platform then says of each frame is true."""

from __future__ import annotations

import json
import shutil
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from agent import report
from agent.clock import HostClock
from agent.demo import stage as stages
from agent.demo.air import Control
from agent.demo.stage import Stage
from tests.e2e.conftest import until

LIMIT_S = 120.0
YEAR_US = 365 * 86_400 * 1_000_000


class Gateway:
    """The agent of a stage, boot after boot, and when each frame was really heard."""

    def __init__(self, stage: Stage, clock: Path) -> None:
        self._stage = stage
        self._clock = clock
        self._control = Control(stage.control_socket)
        self._runtime = stage.gateway_toml.parent / "run"
        self._boot = 0
        self.heard_us: list[tuple[int, int]] = []
        """UTC before and after each frame."""

    def boot(self, wall_error_us: int) -> None:
        """Cut the power and start again, with a wall clock that is off."""
        if self._boot:
            until(lambda: self._said()["queued_frames"] == 0, "the frames to be committed", LIMIT_S)
            self._stage.cut_power()
            shutil.rmtree(self._runtime)  # in memory
        self._boot += 1
        self.tell(wall_error_us=wall_error_us, synchronised=False, began_us=HostClock().boottime_us())
        self._stage.start_agent()
        until(self._receives, "the concentrator to receive", LIMIT_S)

    def tell(self, **said: int) -> None:
        """Change what the host's clocks say."""
        known = json.loads(self._clock.read_text()) if self._clock.exists() else {}
        draft = self._clock.with_suffix(".new")
        draft.write_text(json.dumps(known | {"boot_id": f"{self._boot:032x}"} | said))
        draft.replace(self._clock)

    def hear(self, frames: int) -> None:
        for _ in range(frames):
            payload = f"80070000488{len(self.heard_us):05x}0514d4bb32ccac547d497dcb875a0e8194c3d210c96b07b6dc35f51e"
            before_us = time.time_ns() // 1000
            answer = self._control.ask(
                {"cmd": "inject", "freq_hz": 868_100_000, "sf": 7, "bw_hz": 125_000, "payload": payload}
            )
            assert answer["outcome"] == "fifo"
            self.heard_us.append((before_us, time.time_ns() // 1000))
            seen = len(self.heard_us)
            until(lambda seen=seen: self._committed() >= seen, "the frame to be kept", LIMIT_S)  # type: ignore[misc]  # bound now

    def rows(self) -> Iterator[dict[str, Any]]:
        with closing(sqlite3.connect(f"file:{self._stage.ledger}?mode=ro", uri=True)) as db:
            db.row_factory = sqlite3.Row
            for row in db.execute("SELECT * FROM reception ORDER BY seq"):
                yield dict(row)

    def _receives(self) -> bool:
        try:
            radio = json.loads((self._runtime / report.FILE_NAME).read_text())["radio"]
        except FileNotFoundError:
            return False
        return radio is not None and radio["state"] == "receiving"

    def _said(self) -> dict[str, Any]:
        said: dict[str, Any] = json.loads((self._runtime / report.FILE_NAME).read_text())["spool"]
        return said

    def _committed(self) -> int:
        with closing(sqlite3.connect(f"file:{self._stage.spool}?mode=ro", uri=True)) as db:
            (last,) = db.execute(
                "SELECT max(coalesce((SELECT max(seq) FROM frame), 0), (SELECT last_row FROM spool))"
            ).fetchone()
        return int(last)


@pytest.mark.timeout(900)
def test_what_the_platform_says_of_each_frame_holds_the_truth(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = stage.gateway_toml.parent / "clock.json"
    monkeypatch.setattr(stages, "CIVIGATE", (sys.executable, "-m", "tests.e2e.lying_clock", str(clock)))
    gateway = Gateway(stage, clock)
    gateway.boot(-56 * YEAR_US)  # 1970, as far as the host knows
    gateway.hear(2)
    until(lambda: any(row["utc_us"] for row in gateway.rows()), "an anchor of the platform", LIMIT_S)
    stage.relay.cut()
    gateway.boot(+37 * YEAR_US)
    gateway.hear(2)
    gateway.tell(wall_error_us=-3 * YEAR_US)
    gateway.hear(1)
    gateway.boot(-56 * YEAR_US)
    gateway.hear(2)
    gateway.boot(-5 * YEAR_US)
    gateway.hear(1)
    gateway.tell(wall_error_us=0, synchronised=True)  # NTP, late
    stage.relay.restore()
    gateway.hear(1)
    count = len(gateway.heard_us)

    def settled() -> bool:
        rows = list(gateway.rows())
        return len(rows) == count and all(row["utc_us"] is not None for row in rows)

    until(settled, "everything to arrive, with a time", LIMIT_S)
    stage.stop_agent()
    rows = list(gateway.rows())
    for row, (before_us, after_us) in zip(rows, gateway.heard_us, strict=True):
        assert row["utc_us"] - row["utc_error_us"] <= after_us
        assert row["utc_us"] + row["utc_error_us"] >= before_us
    assert [int(row["phy_payload"][11:16], 16) for row in rows] == list(range(count))
    bounded = [row for row in rows if row["utc_source"] is None]
    assert {row["boot"] for row in bounded} == {f"{2:032x}", f"{3:032x}"}
    lasted_us = gateway.heard_us[-1][1] - gateway.heard_us[0][0]
    assert all(row["utc_error_us"] < lasted_us for row in bounded)
    for one, following in pairwise(rows):
        if one["boot"] == following["boot"]:
            assert one["boottime_us"] < following["boottime_us"]
    assert stage.receiver_status()["ok"]
