# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""A gateway's key moves from a file into a TPM, with the programs as they are used."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from agent.demo.air import Control
from agent.demo.stage import Stage
from tests.agent.batch.devices import SoftwareTpm
from tests.e2e.conftest import civigate, receiver, until


def _json(*arguments: str | Path) -> Any:
    done = civigate(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def _hear(stage: Stage, number: int) -> None:
    """Let the concentrator hear a frame, and wait until it is at the platform."""
    payload = f"80070000488047{number:02x}0514d4bb32ccac547d497dcb875a0e8194c3d210c96b07b6dc35f51e"
    with closing(sqlite3.connect(f"file:{stage.ledger}?mode=ro", uri=True)) as ledger:

        def frames() -> int:
            return int(ledger.execute("SELECT count(*) FROM frame").fetchone()[0])

        before = frames()
        Control(stage.control_socket).ask(
            {"cmd": "inject", "freq_hz": 868_100_000, "sf": 7, "bw_hz": 125_000, "payload": payload}
        )
        until(lambda: frames() > before, f"frame {number} to arrive")


def _start(stage: Stage) -> None:
    stage.start_agent()
    until(lambda: Control(stage.control_socket).ask({"cmd": "stats"})["running"], "the concentrator to receive")


@pytest.mark.timeout(600)
def test_the_key_moves_into_a_tpm(stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> None:
    old = _json("identity", "show", "-c", stage.gateway_toml)["kid"]
    _start(stage)
    _hear(stage, 0)
    stage.stop_agent()
    tpm = SoftwareTpm(tmp_path_factory.mktemp("t"))
    tpm.start()
    try:
        moved = _json("identity", "rotate", "-c", stage.gateway_toml, "--to", f"tpm:0x81000001?tcti={tpm.tcti}")
        lines = "".join(f"{name} = {json.dumps(moved[name])}\n" for name in ("key", "previous_key"))
        text = stage.gateway_toml.read_text()
        stage.gateway_toml.write_text(text.replace("[[destination]]", f"[identity]\n{lines}\n[[destination]]", 1))
        assert _json("identity", "show", "-c", stage.gateway_toml)["not_known_to"] == ["city"]
        _start(stage)
        for number in range(1, 20):  # the old key announces the new one, which signs when that is acknowledged
            _hear(stage, number)
            if not _json("identity", "show", "-c", stage.gateway_toml)["not_known_to"]:
                break
        stage.stop_agent()
        assert _json("identity", "show", "-c", stage.gateway_toml)["not_known_to"] == []
    finally:
        tpm.stop()

    found = json.loads(receiver("gateways", "list", "-c", stage.receiver_toml, "--json").stdout)["gateways"]
    keys = {key["kid"]: key for key in found}
    assert keys[old]["replaced_us"] is not None
    assert (keys[moved["kid"]]["follows"], keys[moved["kid"]]["replaced_us"]) == (old, None)
    status = stage.receiver_status()
    assert (status["ok"], status["alarms"]) == (True, [])
    with closing(sqlite3.connect(f"file:{stage.ledger}?mode=ro", uri=True)) as ledger:
        signed = [row[0].hex() for row in ledger.execute("SELECT kid FROM batch ORDER BY number")]
    assert list(dict.fromkeys(signed)) == [old, moved["kid"]], "one after the other, in one stream"
