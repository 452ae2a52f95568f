# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""A card that fails under the running agent: named where a person looks, survived, left again, nothing lost.

The disk's answers are those of the kernel's system calls, changed by strace while it is attached to the agent; a folder
that is gone is really gone. What a full file system does at every position is in tests/agent/spool/crowded.py.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from agent import report
from agent.demo.air import Control
from agent.demo.stage import Stage
from agent.spool.writer import check
from tests.e2e.conftest import civigate, until

LIMIT_S = 120.0


class Gateway:
    """The agent of a stage, heard and looked at."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._control = Control(stage.control_socket)
        self._runtime = stage.gateway_toml.parent / "run"
        self.sent = 0
        stage.start_agent()
        until(lambda: bool(self._control.ask({"cmd": "stats"})["running"]), "the concentrator to receive", LIMIT_S)

    @property
    def pid(self) -> int:
        return int(self.said()["pid"])

    def said(self) -> dict[str, Any]:
        said: dict[str, Any] = json.loads((self._runtime / report.FILE_NAME).read_text())
        return said

    def hear(self) -> None:
        """Send a frame of our own, unlike all before."""
        self.sent += 1
        payload = f"800700004880{self.sent:04x}0514d4bb32ccac547d497dcb875a0e8194c3d210c96b07b6dc35f51e"
        answer = self._control.ask(
            {"cmd": "inject", "freq_hz": 868_100_000, "sf": 7, "bw_hz": 125_000, "payload": payload}
        )
        assert answer["outcome"] == "fifo"

    def heard(self) -> int:
        return int(self.said()["radio"]["heard"])

    def status(self) -> str:
        """Return what a person sees."""
        return civigate("spool", "status", "-c", self._stage.gateway_toml).stdout

    def delivered(self) -> int:
        with closing(sqlite3.connect(f"file:{self._stage.ledger}?mode=ro", uri=True)) as ledger:
            count, payloads = ledger.execute("SELECT count(*), count(DISTINCT phy_payload) FROM frame").fetchone()
        assert count == payloads, "doubled"
        return int(count)


@pytest.fixture
def gateway(stage: Stage) -> Gateway:
    found = Gateway(stage)
    found.hear()
    until(lambda: found.delivered() == 1, "the first frame to arrive", LIMIT_S)
    return found


@contextmanager
def answering(pid: int, spool: Path, calls: str, answer: str) -> Iterator[None]:
    """Let system calls on the spool's files end as told, in all threads of a process.

    Args:
        pid: of the process.
        spool: the database; its companions are meant too.
        calls: as strace names them.
        answer: what strace injects.
    """
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not installed")
    places = [part for name in ("", "-wal", "-shm") for part in ("-P", f"{spool}{name}")]
    command = [strace, "-f", "-p", str(pid), "-o", "/dev/null", *places, "-e", f"inject={calls}:{answer}"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as tracer:
        assert tracer.stderr is not None
        try:
            if "attached" not in (first := tracer.stderr.readline()):
                pytest.skip(f"no process may be traced here: {first.strip()}")
            tasks = Path(f"/proc/{pid}/task")
            until(lambda: all(_traced(task) for task in tasks.iterdir()), "all threads to be traced", LIMIT_S)
            yield
        finally:
            tracer.terminate()
            tracer.communicate()


def _traced(task: Path) -> bool:
    try:
        return "TracerPid:\t0\n" not in (task / "status").read_text()
    except OSError:
        return True  # ended meanwhile


@contextmanager
def gone(folder: Path) -> Iterator[None]:
    """Take a folder away, and leave the bare mount point."""
    away = folder.with_name("away")
    folder.rename(away)
    folder.mkdir()
    yield
    folder.rmdir()
    away.rename(folder)


TROUBLES: dict[str, Callable[[Stage, Gateway], AbstractContextManager[None]]] = {
    "slow": lambda stage, gateway: answering(gateway.pid, stage.spool, "fdatasync", "delay_enter=7s"),
    "failing": lambda stage, gateway: answering(gateway.pid, stage.spool, "pwrite64,fdatasync", "error=EIO"),
    "full": lambda stage, gateway: answering(gateway.pid, stage.spool, "pwrite64", "error=ENOSPC"),
    "read-only": lambda stage, gateway: answering(
        gateway.pid, stage.spool, "openat,pwrite64,ftruncate,fdatasync", "error=EROFS"
    ),
    "missing": lambda stage, _: gone(stage.spool.parent),
}


@pytest.mark.timeout(900)
def test_one_trouble_after_the_other_is_named_survived_and_left_again(stage: Stage, gateway: Gateway) -> None:
    for state, trouble in TROUBLES.items():
        with trouble(stage, gateway):
            gateway.hear()
            until(lambda: f"WRITING: {state.upper()}: " in gateway.status(), f"the state {state}", LIMIT_S)  # noqa: B023 - called here
            before = gateway.heard()
            for _ in range(5):
                gateway.hear()
            until(lambda: gateway.heard() == before + 5, "the radio to go on", LIMIT_S)  # noqa: B023 - called here
        until(lambda: "writing: ok" in gateway.status(), f"the state {state} to be left", LIMIT_S)
    gateway.hear()
    until(lambda: gateway.delivered() == gateway.sent, "everything to arrive", LIMIT_S)
    stage.stop_agent()
    assert check(stage.spool) == []
    assert stage.receiver_status()["ok"]
