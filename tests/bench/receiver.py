# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What receivers commit: verified, judged, durable, receipt signed; without the way to them.

Each worker is a process of its own that takes its part of the same batches from a file, dealt out in turn as a shared
subscription does: batches of one gateway reach all workers. PostgreSQL waits for the disk (fsync), as SQLite does. All
of it runs on one machine: workers, server and disk share its processors, so more workers than processors show what the
locks between them cost, not what more machines would bring. The rate is by the wall clock; beside it stands the
processor time, of workers and server together, which does not depend on what else the machine does.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.batch.keys import Ed25519Signer
from receiver.batchfile import read_batches
from receiver.intake import Intake
from receiver.ledger.postgres import PostgresLedger
from receiver.ledger.sqlite import SqliteLedger
from receiver.ledger.writer import LedgerWriter
from tests.bench import Row
from tests.receiver.gateway import Gateway
from tests.receiver.postgres import Cluster, cluster

GATEWAYS = 20
BATCHES = 480
SIZES = {"100 frames": 100, "5 frames": 5}
"""A batch of backlog, and one of a live gateway."""
WORKERS = (1, 2, 4)
LIMIT_S = 600.0


def rows() -> list[Row]:
    """Measure workers on PostgreSQL, and SQLite beside them."""
    found: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="cg-") as name, cluster(durable=True) as server:
        folder = Path(name)
        for size, frames in SIZES.items():
            gateways, batches = _batches(frames)
            total = BATCHES * frames
            file = _measure(folder / size, str(folder / f"sqlite {frames}"), gateways, batches, 1)
            found.append(Row("receiver", f"committed, batches of {size}, SQLite", total / file.seconds, "frames/s"))
            for workers in WORKERS:
                before = _cpu_s(server)
                taken = _measure(folder / size, server.url(server.database()), gateways, batches, workers)
                cpu_s = taken.cpu_s + _cpu_s(server) - before
                what = f"batches of {size}, PostgreSQL, workers: {workers}"
                found += [
                    Row(
                        "receiver",
                        f"committed, {what}",
                        total / taken.seconds,
                        "frames/s",
                        "SQLite",
                        total / file.seconds,
                    ),
                    Row(
                        "receiver",
                        f"processor time, {what}",
                        1e5 * cpu_s / total,
                        "s per 100,000 frames",
                        "SQLite",
                        1e5 * file.cpu_s / total,
                    ),
                ]
            found.append(_replay(server, gateways, batches, size))
    return found


@dataclass(frozen=True, slots=True)
class Taken:
    """What it took: seconds by the clock, and of processor time in the workers."""

    seconds: float
    cpu_s: float


def _cpu_s(server: Cluster) -> float:
    """Return the processor time of the server and of all its children that have ended [proc(5)]."""
    fields = Path(f"/proc/{server.pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(field) for field in fields[11:15]) / os.sysconf("SC_CLK_TCK")


def _batches(frames: int) -> tuple[list[Gateway], list[bytes]]:
    gateways = [Gateway(eui=bytes([2, number, *bytes(6)]), seed=bytes([number])) for number in range(GATEWAYS)]
    return gateways, [gateways[number % GATEWAYS].wire(frames) for number in range(BATCHES)]


def _measure(folder: Path, place: str, gateways: Sequence[Gateway], batches: Sequence[bytes], workers: int) -> Taken:
    """Let so many workers commit the batches."""
    folder.mkdir(exist_ok=True)
    with contextlib.closing(_open(place)) as ledger:
        for gateway in gateways:
            ledger.add_key(gateway.registration)
        while ledger.upkeep(time.time_ns() // 1000, 0, 1):
            pass
    running = []
    for number in range(workers):
        file = folder / f"{number}.batches"
        file.write_bytes(b"".join(batches[number::workers]))
        command = [sys.executable, "-m", "tests.bench.receiver", place, str(file)]
        running.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
    for worker in running:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    begin = time.perf_counter()
    for worker in running:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    cpu_s = 0.0
    for worker in running:
        assert worker.stdout is not None
        cpu_s += float(worker.stdout.readline())
    seconds = time.perf_counter() - begin
    for worker in running:
        assert worker.wait(LIMIT_S) == 0
    return Taken(seconds, cpu_s)


def _replay(server: Cluster, gateways: Sequence[Gateway], batches: Sequence[bytes], size: str) -> Row:
    """Measure what a repetition of everything costs one worker."""
    with contextlib.closing(PostgresLedger(server.url(server.database()))) as ledger:
        for gateway in gateways:
            ledger.add_key(gateway.registration)
        intake = Intake(ledger, Ed25519Signer.generate())
        spent = []
        for _ in range(2):
            begin = time.perf_counter()
            for batch in batches:
                intake.submit(batch, sender="bench")
            spent.append(time.perf_counter() - begin)
    first, again = (len(batches) / seconds for seconds in spent)
    return Row("receiver", f"repeated, batches of {size}, PostgreSQL", again, "batches/s", "the first time", first)


def _open(place: str) -> LedgerWriter:
    return PostgresLedger(place) if "://" in place else SqliteLedger(Path(place))


def main() -> None:
    """Be one worker: submit a file's batches once told to, and end."""
    place, file = sys.argv[1:]
    with contextlib.closing(_open(place)) as ledger:
        intake = Intake(ledger, Ed25519Signer.generate())
        batches = list(read_batches(Path(file)))
        print("ready", flush=True)
        sys.stdin.readline()
        begin_s = time.process_time()
        for batch in batches:
            answer = intake.submit(batch, sender="bench")
            assert answer.refusal is None, answer.refusal
        print(time.process_time() - begin_s, flush=True)


if __name__ == "__main__":
    main()
