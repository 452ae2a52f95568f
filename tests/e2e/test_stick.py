# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""A gateway without any link: batches leave on a stick, receipts come back on it, and the spool is free again."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from agent.batch.keys import Ed25519Signer
from agent.batch.model import Receipt
from agent.batch.receipt import sign_receipt
from agent.demo.air import Control
from agent.demo.stage import Stage
from agent.spool.reader import SpoolReader
from tests.e2e.conftest import civigate, receiver, until

OWN = "80070000488047{:04x}14d4bb32ccac547d497dcb875a0e8194c3d210c96b07b6dc35f51e"
FRAMES = 5


@pytest.fixture
def stick(tmp_path: Path) -> Path:
    folder = tmp_path / "stick"
    folder.mkdir()
    return folder


def hear(control: Control, first: int) -> None:
    for number in range(first, first + FRAMES):
        packet = {"freq_hz": 868_100_000, "sf": 7, "bw_hz": 125_000, "payload": OWN.format(number)}
        control.ask({"cmd": "inject", **packet})


def waiting(stage: Stage) -> tuple[int, int]:
    """Frames that are sealed, and frames that are not."""
    with SpoolReader(stage.spool) as reader:
        (stream,) = reader.status().streams
        return stream.sealed, stream.unsealed


def stored(stage: Stage) -> list[int]:
    with contextlib.closing(sqlite3.connect(f"file:{stage.ledger}?mode=ro", uri=True)) as ledger:
        return [int(seq) for (seq,) in ledger.execute("SELECT seq FROM frame ORDER BY seq")]


def said(done: Any) -> dict[str, Any]:
    assert done.returncode == 0, done.stdout + done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def carry(stage: Stage, stick: Path) -> int:
    """Carry batches to the platform and receipts back; return how many frames that freed."""
    said(civigate("spool", "export", stick, "-c", stage.gateway_toml, "--json"))
    batches = sorted(stick.glob("*.batches"))
    brought = said(receiver("import", "--receipts", stick, *batches, "-c", stage.receiver_toml, "--json"))
    assert len(brought["receipts"]) == 1
    back = said(civigate("spool", "acknowledge", stick, "-c", stage.gateway_toml, "--json"))
    assert back["receipts"] == 1
    for path in batches:
        path.unlink()
    return int(back["freed"])


def test_a_stick_there_and_back_frees_the_spool_with_the_agent_running_and_stopped(stage: Stage, stick: Path) -> None:
    stage.relay.cut()
    control = Control(stage.control_socket)
    stage.start_agent()
    until(lambda: control.ask({"cmd": "stats"})["running"], "the concentrator to receive")
    hear(control, 0)
    until(lambda: stage.spool.exists() and sum(waiting(stage)) == FRAMES, "the frames to be kept")

    assert carry(stage, stick) == FRAMES, "those that were not sealed yet, too"
    assert waiting(stage) == (0, 0)
    assert stored(stage) == [*range(1, FRAMES + 1)]
    assert carry_again(stage, stick) == 0

    hear(control, FRAMES)
    until(lambda: sum(waiting(stage)) == FRAMES, "more frames to be kept")
    stage.stop_agent()
    assert waiting(stage) == (FRAMES, 0), "a clean end seals what there is"
    assert carry(stage, stick) == FRAMES
    assert waiting(stage) == (0, 0)

    stage.relay.restore()
    stage.start_agent()
    until(lambda: control.ask({"cmd": "stats"})["running"], "the concentrator to receive")
    hear(control, 2 * FRAMES)
    until(lambda: len(stored(stage)) == 3 * FRAMES, "what is heard now to travel by the link again")
    until(lambda: waiting(stage) == (0, 0), "its receipt")
    assert stored(stage) == [*range(1, 3 * FRAMES + 1)]
    status = stage.receiver_status()
    assert status["ok"], status


def carry_again(stage: Stage, stick: Path) -> int:
    """Bring the same receipts once more."""
    return int(said(civigate("spool", "acknowledge", stick, "-c", stage.gateway_toml, "--json"))["freed"])


def test_what_no_platform_of_ours_has_signed_frees_nothing(stage: Stage, stick: Path) -> None:
    stage.relay.cut()
    control = Control(stage.control_socket)
    stage.start_agent()
    until(lambda: control.ask({"cmd": "stats"})["running"], "the concentrator to receive")
    hear(control, 0)
    until(lambda: stage.spool.exists() and waiting(stage) == (FRAMES, 0), "the frames to be sealed")
    with SpoolReader(stage.spool) as reader:
        head = reader.head("city")
        (batch,) = reader.batches("city")
    forged = sign_receipt(Receipt(head.stream_id, 1, batch.hash, 1_800_000_000_000_000), Ed25519Signer.generate())
    (stick / "forged.receipt").write_bytes(forged)
    (stick / "torn.receipt").write_bytes(forged[:40])
    (stage.runtime_dir / "receipts" / "planted.receipt").write_bytes(forged)

    done = civigate("spool", "acknowledge", stick, "-c", stage.gateway_toml)

    assert done.returncode == 4
    assert done.stdout.count("no receipt that verifies with receipt_key") == 2
    assert "0 frames freed" in done.stdout
    until(lambda: b"event=receipt_refused" in stage.log_of("agent").read_bytes(), "the agent to refuse it, too")
    assert waiting(stage) == (FRAMES, 0)
