# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The spool beside bare sqlite3 with the same durability, and its behaviour with a long backlog.

"Bare" is a table with the same columns and nothing else, filled from the same frames in the same groups by
`executemany`: no checksum, no account, no journal position, no quota, no batches. Both are measured in turn, best of
three. Bytes are what the kernel counts as caused by this process for the block layer (write_bytes in /proc/self/io), so
the folder must not be on tmpfs. The backlog is measured in a process of its own, for its memory.
"""

from __future__ import annotations

import gc
import importlib
import importlib.util
import json
import multiprocessing
import os
import sqlite3
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

from agent.batch.keys import Ed25519Signer
from agent.batch.model import Account, Receipt
from agent.frame import Frame, Session
from agent.spool import row, store
from agent.spool.engine import Engine
from agent.spool.intake import Heard, RoutedFrame
from agent.spool.orders import Destination, Entry, Policy
from agent.spool.reader import SpoolReader
from tests.agent.batch.samples import traffic
from tests.bench import Row

GROUPS = {1: 3_000, 10: 20_000, 50: 60_000, 1000: 120_000}
"""Frames per commit, and how many frames are written to measure it."""
ROUNDS = 3
BACKLOG = 600_000
BATCH = 1000
EUI = bytes(8)
CITY = Destination("city", b"")
QUOTA_BYTES = 1 << 30
_MB = 1e6


def rows() -> list[Row]:
    """Measure rates, bytes, drain and memory."""
    base = traffic(2_000, longest=60)
    found: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="civigate-bench-", dir=os.environ.get("CIVIGATE_BENCH_DIR")) as folder:
        for group, count in GROUPS.items():
            frames = _stream(base, count)
            found += _group(Path(folder), group, frames)
            found += _peers(Path(folder), group, frames)
        found += _backlog(Path(folder), base)
    return found


def _stream(base: Sequence[Frame], count: int) -> list[Frame]:
    """Return frames without end from a sample, with times that go on."""
    session = Session(bytes(range(16)), 1)
    return [
        replace(
            base[index % len(base)],
            session=session,
            boottime_us=10_000_000 + index * 20_011,
            counter_us=3_000_000 + index * 20_011,
        )
        for index in range(count)
    ]


def _entries(frames: Sequence[Frame], group: int) -> list[Entry]:
    entries = []
    for number, start in enumerate(range(0, len(frames), group), 1):
        part = frames[start : start + group]
        heard = Heard(tuple(RoutedFrame(one, 1) for one in part), (Account(heard=len(part), spooled=len(part)),))
        entries.append(Entry(number, heard, tuple(row.pack(one) for one in part)))
    return entries


# ---------------------------------------------------------------------- commits


def _group(folder: Path, group: int, frames: list[Frame]) -> list[Row]:
    entries = _entries(frames, group)
    gc.freeze()  # what is only here to be measured shall not be searched for garbage
    best: dict[str, tuple[float, float]] = {}
    for _ in range(ROUNDS):
        for name, run in (("bare", _bare), ("kept", _kept), ("sealed", _sealed)):
            rate, written = run(folder, entries, group)
            known = best.get(name, (0.0, written))
            best[name] = (max(known[0], rate), min(known[1], written))
    gc.unfreeze()
    bare, bare_bytes = best["bare"]
    peer = "bare sqlite3"
    return [
        Row("spool", f"commits of {group}", best["kept"][0], "frames/s", peer, bare),
        Row("spool", f"commits of {group}, sealed and signed too", best["sealed"][0], "frames/s", peer, bare),
        Row("spool", f"commits of {group}: to the disk", best["kept"][1], "bytes/frame", peer, bare_bytes),
    ]


def _bare(folder: Path, entries: list[Entry], group: int) -> tuple[float, float]:
    fields = row.to_fields
    groups = [[routed.frame for routed in entry.heard.frames] for entry in entries]
    insert = row.INSERT.replace("?, ?)", "0, NULL)")
    connection = store.open_writer(folder / "bare.db", QUOTA_BYTES)

    def write() -> None:
        seq = 0
        for frames in groups:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(insert, [(seq + place, 1, *fields(one)) for place, one in enumerate(frames, 1)])
            connection.execute("COMMIT")
            seq += group

    return _measured(write, connection, folder, sum(map(len, groups)))


def _kept(folder: Path, entries: list[Entry], group: int) -> tuple[float, float]:
    return _ours(folder, entries, eui=None)


def _sealed(folder: Path, entries: list[Entry], group: int) -> tuple[float, float]:
    return _ours(folder, entries, eui=EUI)


def _ours(folder: Path, entries: list[Entry], eui: bytes | None) -> tuple[float, float]:
    connection = store.open_writer(folder / "ours.db", QUOTA_BYTES)
    engine = _engine(connection, eui)

    def write() -> None:
        for entry in entries:
            engine.apply([entry], (), 0.0)

    return _measured(write, connection, folder, sum(len(entry.packed) for entry in entries))


def _engine(connection: sqlite3.Connection, eui: bytes | None = EUI) -> Engine:
    return Engine(
        connection,
        destinations=(CITY,),
        policy=Policy(BATCH, 3600.0, QUOTA_BYTES),
        signer=Ed25519Signer.generate(),
        gateway_eui=eui,
    )


def _measured(
    write: Callable[[], None], connection: sqlite3.Connection, folder: Path, frames: int
) -> tuple[float, float]:
    before = _written_bytes()
    start = time.perf_counter()
    write()
    seconds = time.perf_counter() - start
    written = _written_bytes() - before
    connection.close()
    for path in folder.glob("*.db*"):
        path.unlink()
    return frames / seconds, written / frames


def _written_bytes() -> int:
    for line in Path("/proc/self/io").read_text(encoding="ascii").splitlines():
        name, _, value = line.partition(": ")
        if name == "write_bytes":
            return int(value)
    return 0


# ---------------------------------------------------------------------- peers


def _peers(folder: Path, group: int, frames: list[Frame]) -> list[Row]:
    """Put the same frames, as JSON, into the queues that are installed; they know no groups."""
    if group != 1:
        return []
    found = []
    for name, label, peer in (
        ("persistqueue", "persist-queue", _persist_queue),
        ("litequeue", "litequeue (loses 30 s at a power cut)", _litequeue),
    ):
        if importlib.util.find_spec(name):
            ours = max(_kept(folder, _entries(frames, 1), 1)[0] for _ in range(ROUNDS))
            found.append(Row("spool", "each frame committed", ours, "frames/s", label, peer(folder, frames)))
    return found


def _json(frame: Frame) -> str:
    return json.dumps(
        {name: getattr(frame, name) for name in Frame.__slots__ if name not in {"session", "phy_payload"}}
        | {"phy_payload": frame.phy_payload.hex()}
    )


def _persist_queue(folder: Path, frames: list[Frame]) -> float:
    queue = importlib.import_module("persistqueue").SQLiteAckQueue(str(folder / "persist"), auto_commit=True)
    records = [_json(frame) for frame in frames]
    start = time.perf_counter()
    for record in records:
        queue.put(record)
    return len(records) / (time.perf_counter() - start)


def _litequeue(folder: Path, frames: list[Frame]) -> float:
    queue = importlib.import_module("litequeue").LiteQueue(str(folder / "lite.sqlite"))
    records = [_json(frame) for frame in frames]
    start = time.perf_counter()
    for record in records:
        queue.put(record)
    return len(records) / (time.perf_counter() - start)


# ---------------------------------------------------------------------- backlog


def _backlog(folder: Path, base: Sequence[Frame]) -> list[Row]:
    memory = {}
    rate = {}
    for count in (BACKLOG // 100, BACKLOG):
        ours, theirs = multiprocessing.get_context("spawn").Pipe(duplex=False)
        process = multiprocessing.get_context("spawn").Process(target=_drain, args=(folder, base, count, theirs))
        process.start()
        theirs.close()
        rate[count], memory[count] = ours.recv()
        process.join()
    short = f"backlog of {BACKLOG // 100:,}"
    return [
        Row("spool", f"drain a backlog of {BACKLOG:,} frames", rate[BACKLOG], "frames/s", short, rate[BACKLOG // 100]),
        Row("spool", f"peak memory with {BACKLOG:,} frames", memory[BACKLOG], "MB", short, memory[BACKLOG // 100]),
    ]


def _drain(folder: Path, base: Sequence[Frame], count: int, result: Connection) -> None:
    """Fill a spool, then send and acknowledge all of it, a window of batches at a time."""
    path = folder / f"backlog-{count}.db"
    connection = store.open_writer(path, QUOTA_BYTES)
    engine = _engine(connection)
    number = 0
    for start in range(0, count, 5_000):
        for entry in _entries(_stream(base, min(5_000, count - start)), BATCH):
            number += 1
            engine.apply([replace(entry, number=number)], (), 0.0)
    start_s = time.perf_counter()
    with SpoolReader(path) as reader:
        while batches := reader.unacknowledged(CITY.name, 0, 8):
            for batch in batches:
                reader.wire(batch)
            last = batches[-1]
            engine.apply((), [Receipt(last.stream.stream_id, last.number, last.hash, 1)], 0.0)
        left = reader.status().frames
    seconds = time.perf_counter() - start_s
    connection.close()
    assert left == 0
    result.send((count / seconds, _peak_bytes() / _MB))


def _peak_bytes() -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0
