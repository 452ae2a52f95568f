# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Power cuts at every moment of the writer's life: what it had confirmed is there, and it goes on.

The system calls of a real run are recorded by strace. For each moment a disk is made up as a power cut could have left
it: what was synced is there; of what was written since, any part, in sectors of 512 bytes, even out of order. SQLite
has to open it, and the spool has to keep its word. Not modelled: a card that lies about syncing or loses what it held.
"""

from __future__ import annotations

import json
import random
import re
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import pytest

from agent.spool.reader import SpoolReader
from tests.agent.spool.powered import entry, open_engine

STATES = 2000
SECTOR_BYTES = 512
FILES = ("spool.db", "spool.db-wal")

_CALL = re.compile(
    r'(?P<call>\w+)\(\d+<(?P<path>[^>]*)>(?:, (?:"(?P<data>[^"]*)", )?(?P<rest>[^)]*))?\)\s+= (?P<result>-?\d+)'
)


@dataclass
class Moment:
    """A call that changed a file, or made it last, or a mark."""

    file: str = ""
    offset: int = 0
    data: bytes = b""
    synced: bool = False
    size: int | None = None
    mark: str = ""


@dataclass
class Disk:
    """Files as they certainly are, and what was written to them since."""

    lasting: dict[str, bytearray]
    pending: dict[str, list[Moment]] = field(default_factory=lambda: {name: [] for name in FILES})

    def take(self, moment: Moment) -> None:
        if moment.synced:
            for write in self.pending[moment.file]:
                put(self.lasting[moment.file], write.offset, write)
            self.pending[moment.file] = []
        else:
            self.pending[moment.file].append(moment)

    def after_a_cut(self, chance: random.Random) -> dict[str, bytes]:
        """Return files as a power cut may leave them."""
        kept = chance.choice([0.0, 0.3, 0.7, 1.0])
        torn = chance.choice([0.0, 0.5])
        files = {}
        for name, lasting in self.lasting.items():
            content = bytearray(lasting)
            for write in self.pending[name]:
                if chance.random() >= kept:
                    continue
                if write.size is None and chance.random() < torn:
                    for start in range(0, len(write.data), SECTOR_BYTES):
                        if chance.random() < 0.5:
                            part = Moment(data=write.data[start : start + SECTOR_BYTES])
                            put(content, write.offset + start, part)
                else:
                    put(content, write.offset, write)
            files[name] = bytes(content)
        return files


def put(content: bytearray, offset: int, write: Moment) -> None:
    if write.size is not None:
        del content[write.size :]
        content.extend(bytes(write.size - len(content)))
        return
    content.extend(bytes(max(offset - len(content), 0)))
    content[offset : offset + len(write.data)] = write.data


def read_trace(trace: Path, folder: Path) -> list[Moment]:
    moments: list[Moment] = []
    for line in trace.read_text(encoding="ascii").splitlines():
        found = _CALL.match(line)
        if found is None or not found["path"].startswith("\\x"):
            continue
        path = Path(decoded(found["path"]).decode())
        if path == folder / "marks":
            moments.append(Moment(mark=decoded(found["data"]).decode()))
        elif path.parent == folder / "live" and path.name in FILES:
            match found["call"]:
                case "pwrite64":
                    size, offset = map(int, found["rest"].split(", "))
                    data = decoded(found["data"])
                    assert len(data) == size == int(found["result"])
                    moments.append(Moment(path.name, offset, data))
                case "ftruncate":
                    moments.append(Moment(path.name, size=int(found["rest"])))
                case "fsync" | "fdatasync":
                    moments.append(Moment(path.name, synced=True))
                case call:
                    pytest.fail(f"unexpected {call} of {path}")
    return moments


def decoded(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Moment]]:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    folder = tmp_path_factory.mktemp("powered")
    done = subprocess.run(
        [
            *("strace", "-o", str(folder / "trace"), "-y", "-xx", "-s", "65536"),
            *("-e", "trace=write,pwrite64,pwritev,ftruncate,fallocate,fsync,fdatasync,msync"),
            *(sys.executable, "-m", "tests.agent.spool.powered", str(folder), "1"),
        ],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    if "ptrace" in done.stderr:
        pytest.skip(f"strace may not trace here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    return folder, read_trace(folder / "trace", folder)


class Promise:
    """What had been confirmed at a moment."""

    def __init__(self) -> None:
        self.frames: set[int] = set()
        self.sent: dict[tuple[str, int], str] = {}
        self.held: dict[tuple[str, int], list[int]] = {}
        self.receipted: set[tuple[str, int]] = set()
        self.refused: set[tuple[str, int]] = set()
        self.too_old = 0
        """Frames before this one may be given up for their age."""

    def take(self, line: str) -> None:
        for kind, said in json.loads(line).items():
            match kind:
                case "frames":
                    self.frames |= set(said)
                case "sent":
                    self.sent[said[0], said[1]] = said[2]
                case "held":
                    self.held[said[0], said[1]] = said[2]
                case "expiring":
                    self.too_old = said
                case "refused":
                    self.refused.add((said[0], said[1]))
                case "receipt":
                    stream, through, beyond = said
                    self.receipted |= {
                        name
                        for name in self.sent
                        if name[0] == stream
                        and (name[1] <= through or any(first <= name[1] <= last for first, last in beyond))
                    }

    def check(self, folder: Path, further: int | None) -> None:
        """Check it against what is on the disk; with `further`, go on writing there."""
        freed = {index for name in self.receipted for index in self.held.get(name, ())}
        if further is not None:
            engine = open_engine(folder)
            number = engine.state.journal + 1
            engine.apply([entry(number, further, 3)], (), 1e6, flush=True)
            engine.book.connection.close()
        with SpoolReader(folder / "spool.db") as reader:
            assert reader.check() == []
            present = Counter(int.from_bytes(s.frame.phy_payload[:4], "big") for s in reader.frames())
            assert not present or max(present.values()) == 1, "doubled"
            lost = self.frames - set(present) - freed
            assert all(index < self.too_old for index in lost), "lost"
            expired = sum(stream.account.expired for stream in reader.status().streams)
            assert len(lost) <= expired, "given up without a count"
            here = {
                (batch.stream.stream_id.hex(), batch.number): sha256(reader.wire(batch)).hexdigest()
                for batch in reader.batches()
            }
        for name, digest in self.sent.items():
            if name in self.refused:  # its frames go into a new stream
                assert here.get(name, digest) == digest
            elif name not in self.receipted and not self.too_old:
                assert here[name] == digest, f"another content under {name}"
        if further is not None:
            fresh = [name for name in here if name not in self.sent]
            assert fresh, "nothing was sealed"
            assert {further, further + 1, further + 2} <= set(present)
            for stream, number in fresh:
                assert number > max((n for s, n in self.sent if s == stream), default=0), "number used again"


def test_every_power_cut_leaves_what_was_confirmed(run: tuple[Path, list[Moment]], tmp_path: Path) -> None:
    folder, moments = run
    changes = [index for index, moment in enumerate(moments) if not moment.mark]
    assert len(changes) > 300
    assert any(moment.file == "spool.db" and moment.data for moment in moments), "no checkpoint"
    chance = random.Random(7)
    cuts = Counter(chance.choice(changes) for _ in range(STATES))
    disk = Disk({name: bytearray() for name in FILES})
    disk.lasting["spool.db"] = bytearray((folder / "base" / "spool.db").read_bytes())
    promise = Promise()
    made = 0
    for index, moment in enumerate(moments):
        for _ in range(cuts[index]):
            state = tmp_path / "state"
            state.mkdir()
            for name, content in disk.after_a_cut(chance).items():
                if content:
                    (state / name).write_bytes(content)
            further = 1_000_000 if made % 3 == 0 else None
            try:
                promise.check(state, further)
            except Exception as error:
                raise AssertionError(f"cut before call {index} of {len(moments)}, state {made}: {error!r}") from error
            shutil.rmtree(state)
            made += 1
        if moment.mark:
            promise.take(moment.mark)
        else:
            disk.take(moment)
    assert made == STATES
