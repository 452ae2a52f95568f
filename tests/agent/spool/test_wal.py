# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Damage in the log of a process that was killed: single bits are put right, of larger holes the rest is found."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from agent.batch.model import Loss
from agent.frame import Frame
from agent.spool import store, wal
from agent.spool.orders import Policy
from agent.spool.reader import SpoolReader
from agent.spool.wal import Finding
from tests.agent.spool.gateway import frame, writer
from tests.agent.spool.test_salvage import arrived, deliver

POLICY = Policy(4096, 3600.0, 64 << 20)
BATCHES = Policy(40, 3600.0, 64 << 20)
COMMITS, IN_EACH = 40, 3
FRAMES = [frame(index) for index in range(COMMITS * IN_EACH)]

_KILLED = f"""
import os, signal, sys
from pathlib import Path
from agent.spool.orders import Policy
from tests.agent.spool.gateway import frame, heard, wait_for, writer

spool = writer(Path(sys.argv[1]), policy=Policy(4096, 3600.0, 64 << 20), gateway_eui=None)
spool.start()
for start in range(0, {COMMITS * IN_EACH}, {IN_EACH}):
    spool.offer(heard([frame(index) for index in range(start, start + {IN_EACH})]))
    wait_for(lambda: spool.status().queued_frames == 0, 60.0)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A spool whose writer was killed: all frames are committed, and most of them only in the log."""
    folder = tmp_path_factory.mktemp("killed")
    done = subprocess.run([sys.executable, "-c", _KILLED, str(folder)], check=False, timeout=120)
    assert done.returncode == -9
    shutil.rmtree(folder / "journal")  # as after a power cut: nothing of it helps
    assert wal.log_of(folder / "spool.db").stat().st_size > COMMITS * wal.FRAME_BYTES
    return folder


def copied(killed: Path, folder: Path) -> tuple[Path, bytearray]:
    shutil.copytree(killed, folder, ignore=shutil.ignore_patterns("*-shm", "*.lock"))
    path = folder / "spool.db"
    return path, bytearray(wal.log_of(path).read_bytes())


def pages(data: bytes) -> bytes:
    """Return the images of the pages in a log, without what goes on from frame to frame."""
    starts = range(32 + wal.FRAME_BYTES - store.PAGE_BYTES, len(data), wal.FRAME_BYTES)
    return b"".join(data[start : start + store.PAGE_BYTES] for start in starts)


def stored(path: Path) -> list[Frame]:
    with SpoolReader(path) as reader:
        return [one.frame for one in reader.frames()]


def test_a_log_without_damage_is_left_alone(killed: Path, tmp_path: Path) -> None:
    path, data = copied(killed, tmp_path / "sound")
    assert wal.mend(path) == (Finding.SOUND, [])
    assert wal.log_of(path).read_bytes() == data
    connection = store.open_reader(path)
    try:
        connection.execute("SELECT count(*) FROM frame").fetchone()
        # what is read here is what SQLite reads
        assert wal.committed(path)
        assert stored(path) == FRAMES
    finally:
        connection.close()


def test_every_flipped_bit_in_the_log_is_put_right(killed: Path, tmp_path: Path) -> None:
    chance = random.Random(5)
    sound = wal.log_of(killed / "spool.db").read_bytes()
    places = [chance.randrange(len(sound) * 8) for _ in range(60)]
    places += [chance.randrange(32 * 8) for _ in range(20)]  # the header of the log
    for _ in range(60):  # and those of its frames
        start = 32 + chance.randrange((len(sound) - 32) // wal.FRAME_BYTES) * wal.FRAME_BYTES
        places.append(start * 8 + chance.randrange(24 * 8))
    path, _ = copied(killed, tmp_path / "flipped")
    committed, unmended = len(wal.committed(path)), 0
    for place in places:
        data = bytearray(sound)
        data[place // 8] ^= 1 << place % 8
        wal.log_of(path).write_bytes(data)
        if wal.mend(path)[0] is Finding.BROKEN:  # perhaps its page number: it shall not overwrite another page
            unmended += 1
            continue
        mended = wal.log_of(path).read_bytes()
        if mended != sound:  # not told from other bits: it stays as it is, and takes nothing along
            assert sum((one ^ other).bit_count() for one, other in zip(pages(mended), pages(sound), strict=True)) == 1
            assert len(wal.committed(path)) == committed
            unmended += 1
    assert unmended < len(places) // 6


def test_frames_behind_a_mended_bit_are_delivered(killed: Path, tmp_path: Path) -> None:
    path, data = copied(killed, tmp_path / "mended")
    data[32 + 5 * wal.FRAME_BYTES + 500] ^= 4
    wal.log_of(path).write_bytes(data)
    with writer(path.parent, policy=BATCHES) as again:
        assert again.salvaged is None
        assert sorted(arrived(deliver(again)), key=lambda one: one.boottime_us) == FRAMES


@pytest.mark.parametrize("seed", range(12))
def test_frames_behind_a_hole_in_the_log_are_found_and_the_others_declared(
    seed: int, killed: Path, tmp_path: Path
) -> None:
    chance = random.Random(seed)
    path, data = copied(killed, tmp_path / "hole")
    size = chance.choice([16, 512, 1024, 3000])
    place = chance.randrange(len(data) - 20 * wal.FRAME_BYTES)
    data[place : place + size] = bytes(size) if seed % 2 else chance.randbytes(size)
    wal.log_of(path).write_bytes(data)
    with writer(path.parent, policy=BATCHES) as again:
        assert again.salvaged is not None or stored(path) == FRAMES
        platforms = deliver(again)
        got = arrived(platforms)
        missing = set(FRAMES) - set(got)
        assert len(got) == len(set(got))
        assert set(got) <= set(FRAMES)
        stones = [s for p in platforms.values() for o in p.batches.values() for s in o.body.tombstones]
        assert len(missing) <= sum(stone.count for stone in stones if stone.reason is Loss.DAMAGED)
        # the newest image of a page has what the older ones had
        assert len(missing) <= 2 * IN_EACH
        assert any(path.parent.glob("spool.db-wal.damaged-*")) == (again.salvaged is not None)


def test_the_end_of_the_log_as_a_power_cut_tears_it_is_no_damage(killed: Path, tmp_path: Path) -> None:
    path, data = copied(killed, tmp_path / "torn")
    (last,) = [
        start
        for start in range(32, len(data), wal.FRAME_BYTES)
        if start + wal.FRAME_BYTES >= len(data) or data[start + 8 : start + 16] != data[16:24]
    ][:1]
    data[last + 100 : last + 600] = bytes(500)
    wal.log_of(path).write_bytes(data)
    with writer(path.parent, policy=BATCHES) as again:
        assert again.salvaged is None
        got = arrived(deliver(again))
        assert sorted(got, key=lambda one: one.boottime_us) == FRAMES[: len(got)]
        assert len(got) >= len(FRAMES) - 2 * IN_EACH
