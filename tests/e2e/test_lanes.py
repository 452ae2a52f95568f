# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Nobody waits for somebody else: live frames not for a backlog, a backlog not for them, no platform for another."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest

from agent.demo.air import Control
from agent.demo.stage import Stage
from agent.report import FILE_NAME
from tests.agent.batch.samples import traffic
from tests.bench._backlog import fill
from tests.e2e.conftest import until
from tests.e2e.obstacles import Front, dripping, passing, swallowing

OWN = "80070000488047{:04x}14d4bb32ccac547d497dcb875a0e8194c3d210c96b07b6dc35f51e"
COUNTY = "4053bf0000807b{:04x}14d4bb32ccac547d497dcb875a0e8194c3d210c96b07b6dc35f5"
FOREIGN = "0000BF53/32"
"""What the dead one's filter does not take."""
BACKLOG = 100_000
LIVE = 4
ROUNDS = 4
HERE = "127.0.0.1"


def hear(control: Control, *payloads: str) -> None:
    for payload in payloads:
        control.ask({"cmd": "inject", "freq_hz": 868_100_000, "sf": 7, "bw_hz": 125_000, "payload": payload})


@contextlib.contextmanager
def ledger_of(stage: Stage) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(sqlite3.connect(f"file:{stage.ledger}?mode=ro", uri=True, timeout=30)) as db:
        yield db


def arrived(db: sqlite3.Connection, payload: str, stream: str = "") -> int:
    query = "SELECT count(*) FROM frame JOIN stream ON stream.id = frame.stream WHERE phy_payload = ?"
    values: list[Any] = [bytes.fromhex(payload)]
    if stream:
        query += " AND stream_id = ?"
        values.append(bytes.fromhex(stream))
    return int(db.execute(query, values).fetchone()[0])


def test_live_frames_pass_a_long_backlog_and_do_not_stop_it(stage: Stage) -> None:
    text = stage.gateway_toml.read_text()
    # what the backlog takes at this rate is longer than this test
    stage.gateway_toml.write_text(text.replace("receipt_key", "backlog_kb_s = 60.0\nreceipt_key"))
    fill(stage, traffic(2_000, longest=60), BACKLOG)
    control = Control(stage.control_socket)
    stage.start_agent()
    with ledger_of(stage) as db:

        def backlog() -> int:
            return int(db.execute("SELECT coalesce(sum(frames), 0) FROM stream").fetchone()[0])

        until(lambda: control.ask({"cmd": "stats"})["running"], "the concentrator to receive")
        until(lambda: backlog() > 0, "the backlog to begin")
        for number in range(LIVE):
            before = backlog()
            hear(control, OWN.format(number))
            until(lambda number=number: arrived(db, OWN.format(number)) == 1, "a live frame to pass")  # type: ignore[misc]
            until(lambda before=before: backlog() > before + 1, "the backlog to go on beside it")  # type: ignore[misc]
        assert backlog() < BACKLOG, "live frames have passed, not waited"
    stage.check()


@pytest.fixture
def fronts(stage: Stage) -> Iterator[dict[str, Front]]:
    """Give the same platform to two more destinations: one is dead behind its front, one slow."""
    found = {"dead": Front(stage.relay.port, HERE), "slow": Front(stage.relay.port, HERE)}
    found["dead"].behave(swallowing)
    found["slow"].behave(dripping(200, 0.1))
    text = stage.gateway_toml.read_text()
    _, city = text.split("[[destination]]")
    for name, front in found.items():
        changes = {'name = "city"': f'name = "{name}"', f":{stage.relay.port}": f":{front.port}"}
        changes |= {f', "{FOREIGN}"': ""} if name == "dead" else {}
        other = city
        for old, new in changes.items():
            assert old in other, other
            other = other.replace(old, new)
        text += f"\n[[destination]]{other}"
    stage.gateway_toml.write_text(text)
    yield found
    for front in found.values():
        front.cut()


def test_a_dead_and_a_slow_platform_keep_no_other_one_waiting(stage: Stage, fronts: dict[str, Front]) -> None:
    control = Control(stage.control_socket)
    stage.start_agent()
    until(lambda: control.ask({"cmd": "stats"})["running"], "the concentrator to receive")

    def status() -> dict[str, Any]:
        with contextlib.suppress(OSError, ValueError):
            said = json.loads((stage.runtime_dir / FILE_NAME).read_bytes())
            return {one["destination"]: one for one in said["destinations"]}
        return {}

    with ledger_of(stage) as db:

        def frames(name: str) -> int:
            stream = streams[name]
            query = "SELECT count(*) FROM frame JOIN stream ON stream.id = frame.stream WHERE stream_id = ?"
            return int(db.execute(query, (bytes.fromhex(stream),)).fetchone()[0])

        until(lambda: {"city", "dead", "slow"} <= status().keys(), "the senders to start")
        streams = stream_ids(stage)
        assert len(set(streams.values())) == 3, "each has its own"
        for number in range(ROUNDS):
            hear(control, OWN.format(number), COUNTY.format(number))
            until(lambda number=number: frames("city") == 2 * number + 2, "the healthy one to have both")  # type: ignore[misc]
            assert frames("slow") < 2 * number + 2, "the slow one cannot have been waited for"
            assert frames("dead") == 0
        until(lambda: "then says nothing" in (status()["dead"]["problem"] or ""), "the dead one to be named")
        assert status()["city"]["problem"] is None
        assert frames("city") == 2 * ROUNDS
        for front in fronts.values():
            front.behave(passing)
        until(lambda: frames("slow") == 2 * ROUNDS, "the slow one to have all", 120)
        until(lambda: frames("dead") == ROUNDS, "the dead one to have what its filter takes", 120)
        assert arrived(db, COUNTY.format(0), streams["dead"]) == 0
    assert stage.receiver_status()["ok"]


def stream_ids(stage: Stage) -> dict[str, str]:
    with contextlib.closing(sqlite3.connect(f"file:{stage.spool}?mode=ro", uri=True, timeout=30)) as spool:
        return {name: stream.hex() for name, stream in spool.execute("SELECT destination, stream_id FROM stream")}
