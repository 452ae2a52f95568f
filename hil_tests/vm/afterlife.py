# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What comes of a card after a power cut: the agent starts on what is left, and delivers to the platform as it was.

The agent is the real one, on this host instead of in a second boot of the machine: a start takes seconds. Platform and
ledger are a copy from the moment of the cut, so that a hundred cuts of one run do not know of each other.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from drivers.emulator import Emulator
from drivers.emulator.remote import Server
from hil_tests.vm.platform import Platform

_AGENT = (sys.executable, "-m", "agent.cli.main")
DELIVERY_LIMIT_S = 240.0
_STOP_LIMIT_S = 120.0


@dataclass(frozen=True, slots=True)
class Afterlife:
    """What was delivered in the end.

    Attributes:
        recovered: frames that were in the spool after the cut.
        delivered: how often each payload stands in the ledger.
        verifies: the receiver finds chain and sums in order.
        agent: what the agent has said.
    """

    recovered: int
    delivered: Counter[bytes]
    verifies: bool
    agent: str


def live_on(state: Path, config: str, platform: Platform, ledger: Path, folder: Path) -> Afterlife:
    """Start the agent on recovered state and let it deliver everything.

    Args:
        state: folder with spool, key and certificates; is written to.
        config: gateway.toml as it was in the machine.
        platform: whose twin it delivers to.
        ledger: the platform's, as it was at the cut.
        folder: for everything else; made.
    """
    folder.mkdir(parents=True)
    spool = state / "spool.db"
    for path in (state, *state.rglob("*")):  # the service's in the machine, whom nobody is here
        os.chown(path, os.geteuid(), os.getegid())
    recovered = _count(spool)
    with (
        tempfile.TemporaryDirectory(prefix="cg-al-") as short,
        platform.twin(folder / "platform", ledger) as twin,
        Server(Emulator(), Path(short) / "spi", Path(short) / "control"),
    ):
        run = folder / "run"
        run.mkdir()
        text = config.replace(platform.url, twin.url).replace("/var/lib/civigate", str(state))
        text = re.sub(r"(?m)^board = .*$", f'board = "semtech_corecell_eu868"\nbus = "emulator:{short}/spi"', text)
        text = text.replace("[gateway]", f'[gateway]\nstate_dir = "{state}"\nruntime_dir = "{run}"', 1)
        told = folder / "gateway.toml"
        told.write_text(text)
        log = folder / "agent.log"
        with log.open("wb") as output:
            agent = subprocess.Popen([*_AGENT, "run", "-c", str(told)], stdout=output, stderr=output)
        try:
            _wait_until_done(agent, run / "status.json", spool, log)
        finally:
            agent.send_signal(signal.SIGTERM)
            try:
                agent.wait(_STOP_LIMIT_S)
            except subprocess.TimeoutExpired:
                agent.kill()
                agent.wait()
        verifies = bool(twin.ask("status", "--json")["ok"])
        return Afterlife(recovered, twin.delivered(), verifies, log.read_text(errors="replace"))


def _wait_until_done(agent: subprocess.Popen[bytes], status: Path, spool: Path, log: Path) -> None:
    """Wait until nothing waits any more, neither sealed nor unsealed."""
    deadline = time.monotonic() + DELIVERY_LIMIT_S
    while True:
        assert agent.poll() is None, f"the agent has ended: {log.read_text(errors='replace')[-3000:]}"
        assert time.monotonic() < deadline, f"not all is delivered: {log.read_text(errors='replace')[-3000:]}"
        try:
            links = json.loads(status.read_text())["destinations"]
        except (OSError, ValueError):
            links = []
        idle = links and all(one["phase"] == "online" and not one["waiting"] and not one["in_flight"] for one in links)
        if idle and _count(spool) == 0:
            return
        time.sleep(0.2)


def _count(spool: Path) -> int:
    with closing(sqlite3.connect(f"file:{spool}?mode=ro", uri=True, timeout=60)) as db:
        (count,) = db.execute("SELECT count(*) FROM frame").fetchone()
        return int(count)


def copy_state(state: Path, folder: Path) -> Path:
    """Copy recovered state, so that what was found stays as it was."""
    shutil.copytree(state, folder)
    return folder
