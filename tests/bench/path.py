# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The whole path with its real programs, over TLS on loopback: emulated FIFO to signed receipt.

Backlog: an agent finds a full spool and brings it to a receiver, until the last receipt has freed the last row. The
rate is by the wall clock, so it is that of a machine which does other things as well; beside it stands the processor
time that agent and receiver took, which is not.

Live: frames at random moments through the FIFO of the virtual concentrator. Latency is from the moment at which a frame
lies in the FIFO to the receiver's time stamp of its batch, just before the commit. Bytes are those of the TCP
connection, both ways, everything included: TLS, HTTP or MQTT, receipts.
"""

from __future__ import annotations

import contextlib
import json
import random
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles
from typing import Any

from agent.demo.air import Control, packet
from agent.demo.audit import COUNTER_MASK
from agent.demo.stage import CIVIGATE, GATEWAY_EUI, RECEIVER, Stage
from agent.demo.traffic import AirFrame, play
from tests.agent.batch.samples import traffic
from tests.bench import Row
from tests.bench._backlog import Cost, fill
from tests.receiver.postgres import cluster

BACKLOG = 600_000
"""Seven days of a busy gateway."""
SHORT_BACKLOG = 100_000
AIM_HZ = 20_000.0
RATES_HZ = (0, 1, 10, 50)
LIVE_S = 60.0
"""How long each rate is held."""
QUICK = "batch_age_s = 0.05\ncommit_window_s = 0.05"
LIMIT_S = 900.0
LOOK_S = 0.02
MOST_MB = 60
"""What the agent may take on the smallest board, which has 512 MB for everything."""


def rows() -> list[Row]:
    """Measure rates, latency, bytes, memory and processor time."""
    found: list[Row] = []
    for transport in ("HTTPS", "MQTT"):
        for ledger, count in (
            ("SQLite", BACKLOG if transport == "HTTPS" else SHORT_BACKLOG),
            ("PostgreSQL", SHORT_BACKLOG),
        ):
            found += _backlog(transport, ledger, count)
        for rate_hz in RATES_HZ:
            found += _live(transport, rate_hz)
    return found + _live("MQTT", 10, QUICK, "batches of 0.05 s")


# ---------------------------------------------------------------------- backlog


def _backlog(transport: str, ledger: str, count: int) -> list[Row]:
    what = f"backlog of {count:,}, {transport}, {ledger}"
    with _stage(transport, ledger) as stage:
        fill(stage, traffic(2_000, longest=60), count)
        stage.start_agent()
        with contextlib.closing(sqlite3.connect(f"file:{stage.spool}?mode=ro", uri=True, timeout=30)) as spool:

            def left() -> int:
                first, last = spool.execute("SELECT min(seq), max(seq) FROM frame").fetchone()
                return 0 if first is None else int(last) - int(first) + 1

            _wait(stage, lambda: left() < count)
            begin, owed, wire = time.perf_counter(), left(), stage.relay.wire_bytes
            before = {name: Cost.of(stage.pid(name)) for name in ("agent", "receiver")}
            _wait(stage, lambda: left() == 0)
            seconds = time.perf_counter() - begin
            after = {name: Cost.of(stage.pid(name)) for name in before}
            wire = stage.relay.wire_bytes - wire
        assert stage.receiver_status()["ok"]
    return [
        Row("path", what, owed / seconds, "frames/s", "aim", AIM_HZ),
        *(
            Row("path", f"{what}: {name}", 1e6 * (after[name].cpu_s - cost.cpu_s) / owed, "us of CPU/frame")
            for name, cost in before.items()
        ),
        Row("path", f"{what}: on the wire", wire / owed, "bytes/frame"),
        Row("path", f"{what}: agent's peak", after["agent"].peak_mb, "MB", "limit", MOST_MB),
    ]


# ---------------------------------------------------------------------- live


@dataclass(frozen=True, slots=True)
class _Shot:
    """A frame that was put into the FIFO.

    Attributes:
        frame: which.
        at_us: when, microseconds since 1970.
    """

    frame: AirFrame
    at_us: int


def _live(transport: str, rate_hz: int, settings: str = "", note: str = "") -> list[Row]:
    what = ", ".join(filter(None, (f"{rate_hz}/s" if rate_hz else "idle", transport, note)))
    with _stage(transport, "SQLite", settings) as stage:
        control = Control(stage.control_socket)
        stage.start_agent()
        _wait(stage, lambda: bool(control.ask({"cmd": "stats"})["running"]))
        _shoot(control, max(1, rate_hz), 2.0)  # what is done once is done before
        _wait(stage, lambda: _stored(stage) > 0)
        skipped, wire, before, stored = (
            _fired(control),
            stage.relay.wire_bytes,
            Cost.of(stage.pid("agent")),
            _stored(stage),
        )
        begin = time.perf_counter()
        shots = _shoot(control, rate_hz, LIVE_S)
        cost, seconds = Cost.of(stage.pid("agent")), time.perf_counter() - begin
        own = sum(shot.frame.own for shot in shots)
        _wait(stage, lambda: _stored(stage) >= stored + own)
        wire = stage.relay.wire_bytes - wire
        latency = _latency_ms(stage, control, shots, skipped)
        control.close()
    found = [
        Row("path", f"agent's CPU, {what}", 100 * (cost.cpu_s - before.cpu_s) / seconds, "% of a core"),
        Row("path", f"agent's memory, {what}", cost.resident_mb, "MB", "limit", MOST_MB),
    ]
    if len(latency) > 1:
        cuts = quantiles(latency, n=100)
        found += [
            Row("path", f"radio to platform, p50, {what}", cuts[49], "ms"),
            Row("path", f"radio to platform, p99, {what}", cuts[98], "ms"),
            Row("path", f"on the wire, {what}", wire / own, "bytes/frame"),
        ]
    return found


def _shoot(control: Control, rate_hz: float, seconds: float) -> list[_Shot]:
    """Put frames into the FIFO at random moments."""
    chance, frames = random.Random(int(rate_hz)), play(int(rate_hz))
    shots: list[_Shot] = []
    end = due = time.perf_counter()
    end += seconds
    while True:
        due += chance.expovariate(rate_hz) if rate_hz else seconds
        time.sleep(max(0.0, min(due, end) - time.perf_counter()))
        if due >= end:
            return shots
        frame = next(frames)
        shots.append(_Shot(frame, time.time_ns() // 1000))
        control.ask({"cmd": "inject_many", "packets": [packet(frame)]})


def _latency_ms(stage: Stage, control: Control, shots: list[_Shot], skipped: int) -> list[float]:
    """Return how long each frame of our own took, ascending."""
    counters = _counters(control, skipped)
    with contextlib.closing(sqlite3.connect(f"file:{stage.ledger}?mode=ro", uri=True)) as ledger:
        stored = {
            (bytes(payload), counter & COUNTER_MASK): received_us
            for payload, counter, received_us in ledger.execute(
                "SELECT phy_payload, counter_us, received_us FROM frame"
            )
        }
    pairs = zip(shots, counters, strict=True)
    return sorted(
        (stored[shot.frame.payload, counter & COUNTER_MASK] - shot.at_us) / 1000
        for shot, counter in pairs
        if shot.frame.own
    )


def _counters(control: Control, skipped: int) -> list[int]:
    found: list[int] = []
    while rows := control.ask({"cmd": "rxlog", "since": skipped + len(found)})["rx"]:
        found += [int(one["counter_us"] or 0) for one in rows]
    return found


def _fired(control: Control) -> int:
    return len(_counters(control, 0))


# ---------------------------------------------------------------------- programs


@contextlib.contextmanager
def _stage(transport: str, ledger: str, settings: str = "") -> Iterator[Stage]:
    """Set a stage with the defaults of a gateway, or with other settings of the spool."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cg-")))
        stage = stack.enter_context(Stage(folder, mqtt=transport == "MQTT"))
        stage.set()
        lines = stage.gateway_toml.read_text().splitlines()
        kept = [line for line in lines if not line.startswith(("batch_age_s", "commit_window_s"))]
        stage.gateway_toml.write_text("\n".join(kept).replace("[spool]", f"[spool]\n{settings}") + "\n")
        if ledger == "PostgreSQL":
            server = stack.enter_context(cluster(durable=True))
            stage.take_away("receiver")
            text = stage.receiver_toml.read_text()
            stage.receiver_toml.write_text(f'{text}\n[ledger]\nurl = "{server.url(server.database())}"\n')
            key = _ask(*CIVIGATE, "identity", "show", "-c", str(stage.gateway_toml), "--json")["public_key"]
            _ask(*RECEIVER, "gateways", "add", GATEWAY_EUI, "--key", key, "-c", str(stage.receiver_toml), "--json")
            stage.bring_back("receiver")
        yield stage


def _ask(*command: str) -> dict[str, Any]:
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=LIMIT_S)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def _stored(stage: Stage) -> int:
    with contextlib.closing(sqlite3.connect(f"file:{stage.ledger}?mode=ro", uri=True)) as ledger:
        return int(ledger.execute("SELECT coalesce(sum(frames), 0) FROM stream").fetchone()[0])


def _wait(stage: Stage, condition: Any) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline, "it does not end"
        stage.check()
        time.sleep(LOOK_S)
