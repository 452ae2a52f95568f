# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The spool beside bare sqlite3 with the same durability and beside queues of others, and what a long backlog does.

"Bare" is a table with the same columns and nothing else, filled from the same frames in the same groups by
`executemany`: no checksum, no account, no journal position, no quota, no batches. What is offered to the spool is
packed by the thread that offers it, which is not measured here. Both are measured in turn, seven times; what counts
is the median, of the time that passes and of the processor's, which a busy machine disturbs less. The queues of
others get the same records as JSON; they know no groups but their own, and are set against ours with the same. Bytes
are counted at the block layer where a file system of its own can be mounted (see `_disk`). The backlog is brought
over the whole path: a real agent with a full spool, a real receiver, TLS.
"""

from __future__ import annotations

import contextlib
import gc
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import NamedTuple

from agent import config
from agent.batch.keys import Ed25519Signer
from agent.batch.model import Account, Receipt
from agent.demo.stage import GATEWAY_EUI, Stage
from agent.filter import Filter
from agent.frame import Frame, Session
from agent.identity import signer
from agent.spool import row, store
from agent.spool.engine import Engine
from agent.spool.intake import Heard, RoutedFrame
from agent.spool.orders import Destination, Entry, Policy, entry_of
from agent.spool.reader import SpoolReader
from tests.agent.batch.samples import traffic
from tests.bench import Row, _peers
from tests.bench._disk import Disk, disk

GROUPS = {1: 3_000, 10: 20_000, 50: 60_000, 1000: 120_000}
"""Frames per commit, and how many frames are written to measure it."""
ROUNDS = 7
BACKLOG = 600_000
DRAIN_FRAMES = 60_000
DRAIN_LIMIT_S = 900.0
PEER_FRAMES = 3_000
BATCH = 1000
EUI = bytes(8)
CITY = Destination("city", b"")
QUOTA_BYTES = 1 << 30


class Run(NamedTuple):
    """One measurement.

    Attributes:
        rate: frames per second.
        written: bytes per frame.
        cpu_us: of the processor, per frame.
    """

    rate: float
    written: float
    cpu_us: float


def rows() -> list[Row]:
    """Measure rates, bytes, drain and memory."""
    base = traffic(2_000, longest=60)
    found: list[Row] = []
    with disk() as place:
        ours: dict[int, tuple[float, float]] = {}
        for group, count in GROUPS.items():
            measured, ours[group] = _group(place, group, _stream(base, count))
            found += measured
        drained = _drain(place, base)
        found += _beside(place, _stream(base, PEER_FRAMES), ours, drained)
    return found + _backlog(base)


def _stream(base: Sequence[Frame], count: int, start: int = 0) -> list[Frame]:
    """Return frames without end from a sample, with times that go on."""
    session = Session(bytes(range(16)), 1)
    return [
        replace(
            base[index % len(base)],
            session=session,
            boottime_us=10_000_000 + index * 20_011,
            counter_us=3_000_000 + index * 20_011,
        )
        for index in range(start, start + count)
    ]


def _entries(frames: Sequence[Frame], group: int) -> list[Entry]:
    entries = []
    for number, start in enumerate(range(0, len(frames), group), 1):
        part = frames[start : start + group]
        heard = Heard(tuple(RoutedFrame(one, 1) for one in part), (Account(heard=len(part), spooled=len(part)),))
        entries.append(entry_of(number, heard))
    return entries


# ---------------------------------------------------------------------- commits


def _group(place: Disk, group: int, frames: list[Frame]) -> tuple[list[Row], tuple[float, float]]:
    entries = _entries(frames, group)
    gc.collect()
    gc.freeze()  # what is only here to be measured shall not be searched for garbage
    runs: dict[str, list[Run]] = {}
    for _ in range(ROUNDS):
        for name, run in (("bare", _bare), ("kept", _kept), ("sealed", _sealed)):
            runs.setdefault(name, []).append(run(place, entries, group))
    gc.unfreeze()
    middle = {name: Run(*(median(values) for values in zip(*found, strict=True))) for name, found in runs.items()}
    bare, kept, sealed = middle["bare"], middle["kept"], middle["sealed"]
    ratios = sorted(ours.rate / other.rate for ours, other in zip(runs["kept"], runs["bare"], strict=True))
    peer = "bare sqlite3"
    name = f"commits of {group}"
    return [
        Row("spool", f"{name}, ratios {ratios[0]:.2f} to {ratios[-1]:.2f}", kept.rate, "frames/s", peer, bare.rate),
        Row("spool", f"{name}: processor", 1e6 / kept.cpu_us, "frames/CPU s", peer, 1e6 / bare.cpu_us),
        Row("spool", f"{name}, sealed and signed too", sealed.rate, "frames/s", peer, bare.rate),
        Row("spool", f"{name}: to the disk ({place.where})", kept.written, "bytes/frame", peer, bare.written),
    ], (kept.rate, kept.written)


def _bare(place: Disk, entries: list[Entry], group: int) -> Run:
    fields = row.to_fields
    groups = [[routed.frame for routed in entry.heard.frames] for entry in entries]
    insert = row.INSERT.replace("?, ?)", "0, NULL)")
    connection = store.open_writer(place.folder / "bare.db", QUOTA_BYTES)

    def write() -> None:
        seq = 0
        for frames in groups:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(insert, [(seq + place, 1, *fields(one)) for place, one in enumerate(frames, 1)])
            connection.execute("COMMIT")
            seq += group

    return _measured(write, connection, place, sum(map(len, groups)))


def _kept(place: Disk, entries: list[Entry], group: int) -> Run:
    return _ours(place, entries, eui=None)


def _sealed(place: Disk, entries: list[Entry], group: int) -> Run:
    return _ours(place, entries, eui=EUI)


def _ours(place: Disk, entries: list[Entry], eui: bytes | None) -> Run:
    connection = store.open_writer(place.folder / "ours.db", QUOTA_BYTES)
    engine = _engine(connection, eui)

    def write() -> None:
        for entry in entries:
            engine.apply([entry], (), 0.0)

    return _measured(write, connection, place, sum(len(entry.packed) for entry in entries))


def _engine(connection: sqlite3.Connection, eui: bytes | None = EUI) -> Engine:
    return Engine(
        connection,
        destinations=(CITY,),
        policy=Policy(BATCH, 3600.0, QUOTA_BYTES),
        signer=Ed25519Signer.generate(),
        gateway_eui=eui,
    )


def _measured(write: Callable[[], None], connection: sqlite3.Connection, place: Disk, frames: int) -> Run:
    before = place.written_bytes()
    start, start_cpu = time.perf_counter(), time.process_time()
    write()
    seconds, cpu_s = time.perf_counter() - start, time.process_time() - start_cpu
    written = place.written_bytes() - before
    connection.close()
    for path in place.folder.glob("*.db*"):
        path.unlink()
    return Run(frames / seconds, written / frames, cpu_s * 1e6 / frames)


# ---------------------------------------------------------------------- beside others


def _beside(place: Disk, frames: list[Frame], ours: dict[int, tuple[float, float]], drained: float) -> list[Row]:
    """Put the same frames into the queues of others."""
    try:
        _peers.bring()
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"the queues of others cannot be had: {error}", file=sys.stderr)
        return []
    found = []
    for peer in _peers.measure(place, frames):
        rate, written = ours[peer.group]
        found += [
            Row("spool", f"durable, groups of {peer.group}", rate, "frames/s", peer.name, peer.put),
            Row("spool", f"groups of {peer.group}: to the disk", written, "bytes/frame", peer.name, peer.written),
            Row("spool", "read, sent, acknowledged", drained, "frames/s", peer.name, peer.drained),
        ]
    return found


def _drain(place: Disk, base: Sequence[Frame]) -> float:
    """Fill a spool, then send and acknowledge all of it, a window of batches at a time; return frames per second."""
    path = place.folder / "drain.db"
    connection = store.open_writer(path, QUOTA_BYTES)
    engine = _engine(connection)
    _fill(engine, base, DRAIN_FRAMES)
    start = time.perf_counter()
    with SpoolReader(path) as reader:
        while batches := reader.unacknowledged(CITY.name, 0, 8):
            for batch in batches:
                reader.wire(batch)
            last = batches[-1]
            engine.apply((), [Receipt(last.stream.stream_id, last.number, last.hash, 1)], 0.0)
        assert reader.status().frames == 0
    seconds = time.perf_counter() - start
    connection.close()
    return DRAIN_FRAMES / seconds


def _fill(engine: Engine, base: Sequence[Frame], count: int) -> None:
    number = engine.state.journal
    for start in range(0, count, 5_000):
        for entry in _entries(_stream(base, min(5_000, count - start), start), BATCH):
            number += 1
            engine.apply([replace(entry, number=number)], (), 0.0)


# ---------------------------------------------------------------------- backlog


def _backlog(base: Sequence[Frame]) -> list[Row]:
    rate, memory = {}, {}
    for count in (BACKLOG // 100, BACKLOG):
        rate[count], memory[count] = _whole_path(base, count)
    short = f"backlog of {BACKLOG // 100:,}"
    long = f"{BACKLOG:,} frames"
    return [
        Row("spool", f"drain {long}, agent to receiver", rate[BACKLOG], "frames/s", short, rate[BACKLOG // 100]),
        Row("spool", f"agent's peak memory with {long}", memory[BACKLOG], "MB", short, memory[BACKLOG // 100]),
        Row("spool", f"agent's peak memory with {long}", memory[BACKLOG], "MB", "limit", 60),
    ]


def _whole_path(base: Sequence[Frame], count: int) -> tuple[float, float]:
    """Let a real agent find a full spool, and bring it to a real receiver; return frames per second and MB."""
    with tempfile.TemporaryDirectory(prefix="civigate-bench-") as folder, Stage(Path(folder), mqtt=False) as stage:
        stage.set()
        settings = config.load(stage.gateway_toml)
        wanted = Filter(settings.destination[0].filter)
        connection = store.open_writer(stage.spool, settings.spool.quota_mb << 20)
        engine = Engine(
            connection,
            destinations=(Destination(settings.destination[0].name, wanted.digest),),
            policy=Policy(settings.spool.batch_frames, 3600.0, settings.spool.quota_mb << 20),
            signer=signer(settings),
            gateway_eui=bytes.fromhex(GATEWAY_EUI),
        )
        _fill(engine, base, count)
        connection.close()
        stage.start_agent()
        with contextlib.closing(sqlite3.connect(f"file:{stage.ledger}?mode=ro", uri=True)) as ledger:

            def there() -> int:
                return int(ledger.execute("SELECT coalesce(sum(frames), 0) FROM stream").fetchone()[0])

            deadline = time.monotonic() + DRAIN_LIMIT_S
            while not there():
                assert time.monotonic() < deadline, "nothing arrives"
                time.sleep(0.005)
            start, first = time.perf_counter(), there()
            while there() < count:
                assert time.monotonic() < deadline, "it does not end"
                stage.check()
                time.sleep(0.02)
            seconds = time.perf_counter() - start
        return (count - first) / seconds, stage.agent_peak_mb()
