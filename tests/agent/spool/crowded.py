# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""A spool on a disk that is full, at every position in turn. A program, for a mount namespace of its own.

    unshare --user --map-root-user --mount python -m tests.agent.spool.crowded FOLDER

It mounts a small file system on FOLDER/disk. There, for one number of free pages after the other: a new spool takes
frames, something fills the disk up to these pages, the writer meets the end and has to go on without, the disk gets
room again, and the writer has to use it by itself. Once more, what fills the disk takes the room of the ballast too.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from agent.batch.model import Account
from agent.frame import Frame
from agent.spool import writer as writers
from agent.spool.ballast import GROWTH_BYTES, Ballast
from agent.spool.condition import WriterState
from agent.spool.orders import Policy
from agent.spool.writer import SpoolWriter
from tests.agent.spool.gateway import CITY, EUI, SIGNER, Platform, frame, heard, wait_for

DISK_BYTES = 40 << 20
PAGE_BYTES = 4096
GREEDY_SHARE = 16
"""Pages of the ballast that are left instead of one: from none to all of it."""
TEMPLATE = frame(1, size=32)
POLICY = Policy(batch_frames=50, batch_age_s=3600.0, quota_bytes=30 << 20)


def fill(disk: Path, left_bytes: int, name: str = "filler") -> Path:
    """Take all room but `left_bytes`."""
    filler = disk / name
    with filler.open("wb") as file:
        while True:
            found = os.statvfs(disk)
            size = found.f_bavail * found.f_frsize - left_bytes
            try:
                os.posix_fallocate(file.fileno(), 0, max(size, 1))
            except OSError:
                continue  # the writer took some of it meanwhile
            break
    return filler


def cheap(index: int) -> Frame:
    """Return a frame that no other index gives, quickly."""
    return replace(
        TEMPLATE,
        boottime_us=10_000_000 + index,
        counter_us=index,
        phy_payload=index.to_bytes(4, "big") + TEMPLATE.phy_payload,
    )


def main(folder: Path) -> dict[str, dict[int, int]]:
    """Fill and free."""
    writers.RETRY_S = (0.002,)  # type: ignore[assignment]  # shorter than in the field
    disk = folder / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(disk)], check=True)
    evictions: dict[str, dict[int, int]] = {"modest": {}, "greedy": {}}
    for left, filler in [*itertools.product(range(50), ["modest"]), *itertools.product(range(0, 50, 5), ["greedy"])]:
        place = disk / f"{left}-{filler}"
        place.mkdir()
        spool = SpoolWriter(
            place / "spool.db",
            journal_folder=folder / f"run-{left}-{filler}",
            destinations=(CITY,),
            policy=POLICY,
            signer=SIGNER,
            gateway_eui=EUI,
            commit_window_s=0.0,
        )
        with spool:
            evicted = at_the_end(disk, left, spool, greedy=filler == "greedy")
        if evicted is not None:
            evictions[filler][left] = evicted
        shutil.rmtree(place)
    the_ballast_alone(disk)
    return evictions


def the_ballast_alone(disk: Path) -> None:
    """Room goes in two steps, and comes back while commits still fail."""
    ballast = Ballast(disk / "spool.db")
    assert not ballast.crowded
    filler = fill(disk, 0)
    ballast.look(1)
    assert ballast.growth_bytes == GROWTH_BYTES
    more = fill(disk, 0, "more")
    ballast.look(2)
    assert ballast.growth_bytes == 0
    more.unlink()
    filler.unlink()
    ballast.look(3)
    assert not ballast.crowded


def at_the_end(disk: Path, left: int, spool: SpoolWriter, *, greedy: bool) -> int | None:
    """Meet the end of the disk and come back; return how many frames were evicted, None when it was not met."""
    offered = 0
    platform = Platform()

    def offer(count: int) -> None:
        nonlocal offered
        assert spool.offer(heard([cheap(index) for index in range(offered, offered + count)]))
        offered += count

    def settled() -> bool:
        return spool.status().queued_frames == 0 and spool.status().state is WriterState.OK

    for _ in range(8):
        offer(40)
    wait_for(settled)
    filler = fill(disk, left * PAGE_BYTES)
    for _ in range(40):
        offer(80)
        wait_for(lambda: spool.status().queued_frames < 400)
        if spool.status().failures:
            break
    wait_for(settled)  # the ballast is gone: it goes on, even before anybody makes room
    met = spool.status().failures > 0
    assert spool.status().crowded is met
    if greedy:
        more = fill(disk, GREEDY_SHARE * left * PAGE_BYTES, "more")
        failures = spool.status().failures
        for _ in range(40):
            offer(80)
            wait_for(lambda: spool.status().queued_frames < 400 or spool.status().failures > failures)
        assert spool.status().crowded
        more.unlink()
    filler.unlink()
    offer(80)
    wait_for(settled)
    assert not spool.status().crowded
    with spool.reader() as reader:
        while True:
            assert spool.flush()
            if not platform.collect(reader):
                break
            spool.receipt(platform.receipt(reader.head("city").stream_id))
        assert reader.check() == []
    numbers = [int.from_bytes(one.phy_payload[:4], "big") for one in platform.frames()]
    assert len(numbers) == len(set(numbers))
    evicted = offered - len(numbers)
    assert platform.account() == Account(heard=offered, spooled=offered, evicted=evicted)
    return evicted if met else None


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
