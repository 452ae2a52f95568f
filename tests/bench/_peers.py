# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Queues of others on the same disk, with their own defaults: brought here when they are measured, never installed."""

from __future__ import annotations

import importlib
import json
import logging
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.frame import Frame
from tests.bench._disk import Disk

PACKAGES = ("thingsboard-gateway>=3.8,<4", "persist-queue>=1.1,<2", "litequeue>=0.9,<0.10")
"""What they need beside is not needed by their queues."""
FOLDER = Path("build/bench-peers")
SLOW_DRAIN = 4_000
"""Records for those that look through the whole queue for each."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One queue.

    Attributes:
        name: with what it does not keep.
        group: records that it commits at once; ours is compared with the same.
        put: records per second until they are in its file.
        written: bytes per record that this wrote.
        drained: records per second that were read and confirmed.
    """

    name: str
    group: int
    put: float
    written: float
    drained: float


def bring() -> None:
    """Fetch the packages, once.

    Raises:
        subprocess.CalledProcessError: the registry does not give them.
    """
    if not (FOLDER / "thingsboard_gateway").exists():
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(FOLDER), *PACKAGES]
        subprocess.run(command, check=True)
    sys.path.insert(0, str(FOLDER.resolve()))


def text(frame: Frame) -> str:
    """Write a frame as these queues are given theirs."""
    fields = {name: getattr(frame, name) for name in Frame.__slots__ if name not in {"session", "phy_payload"}}
    return json.dumps(fields | {"phy_payload": frame.phy_payload.hex()})


def measure(disk: Disk, frames: Sequence[Frame]) -> list[Measured]:
    """Measure all of them on the same records."""
    records = [text(frame) for frame in frames]
    return [_thingsboard(disk, records * 10), _persist_queue(disk, records), _litequeue(disk, records)]


def _timed(work: Callable[[], object], count: int) -> float:
    start = time.perf_counter()
    work()
    return count / (time.perf_counter() - start)


class _Quiet(logging.Logger):
    """A log that says nothing, with the level that theirs has beside the usual ones."""

    def trace(self, *_: object) -> None:
        """Say nothing."""


def _thingsboard(disk: Disk, records: Sequence[str]) -> Measured:
    module: Any = importlib.import_module("thingsboard_gateway.storage.sqlite.sqlite_event_storage")
    folder = disk.folder / "thingsboard"
    ended = threading.Event()
    quiet = _Quiet("thingsboard", logging.CRITICAL + 1)
    queue = module.SQLiteEventStorage({"data_file_path": f"{folder}/"}, quiet, ended)
    before = disk.written_bytes()
    try:
        with closing(sqlite3.connect(f"file:{folder}/data.db?mode=ro", uri=True)) as reader:

            def put() -> None:
                for record in records:
                    queue.put(record)
                while reader.execute("SELECT count(*) FROM messages").fetchone()[0] < len(records):
                    time.sleep(0.01)

            rate = _timed(put, len(records))
        written = disk.written_bytes() - before

        def drain() -> None:
            taken = 0
            while taken < len(records):
                taken += len(queue.get_event_pack())
                queue.event_pack_processing_done()

        drained = _timed(drain, len(records))
    finally:
        ended.set()
        queue.stop()
    return Measured("thingsboard-gateway (loses 30 s at a power cut)", 1000, rate, written / len(records), drained)


def _persist_queue(disk: Disk, records: Sequence[str]) -> Measured:
    queue: Any = importlib.import_module("persistqueue").SQLiteAckQueue(str(disk.folder / "persist"), auto_commit=True)
    before = disk.written_bytes()
    rate = _timed(lambda: [queue.put(record) for record in records], len(records))
    written = disk.written_bytes() - before
    count = min(SLOW_DRAIN, len(records))
    drained = _timed(lambda: [queue.ack(queue.get()) for _ in range(count)], count)
    return Measured("persist-queue", 1, rate, written / len(records), drained)


def _litequeue(disk: Disk, records: Sequence[str]) -> Measured:
    queue: Any = importlib.import_module("litequeue").LiteQueue(str(disk.folder / "lite.sqlite"))
    before = disk.written_bytes()
    rate = _timed(lambda: [queue.put(record) for record in records], len(records))
    written = disk.written_bytes() - before
    count = min(SLOW_DRAIN, len(records))
    drained = _timed(lambda: [queue.done(queue.pop().message_id) for _ in range(count)], count)
    return Measured("litequeue (loses 30 s at a power cut)", 1, rate, written / len(records), drained)
