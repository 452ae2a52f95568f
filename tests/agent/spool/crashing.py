# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""A gateway that is killed (SIGKILL) again and again while it receives, sends and is acknowledged. A program.

    python -m tests.agent.spool.crashing FOLDER KILLS SEED

Each life is a fork of this process: the writer and a sender with its platform (a folder of files: what was renamed into
it is committed). It confirms each look at the radio through a pipe after `offer` has returned; the parent kills it at a
random moment. The looks that were confirmed are printed at the end, with those that the kill may have caught.
"""

from __future__ import annotations

import json
import os
import random
import signal
import struct
import sys
import threading
import time
from pathlib import Path

from agent.batch import codec
from agent.batch.model import GENESIS_HASH, Receipt
from agent.frame import Session
from agent.spool.orders import Policy
from agent.spool.reader import SpoolReader
from agent.spool.source import StreamSource
from agent.spool.writer import SpoolWriter
from tests.agent.spool.gateway import BOOT, CITY, WATER, Platform, frame, heard, writer

FRAMES_PER_LOOK = 3
POLICY = Policy(batch_frames=40, batch_age_s=0.01, quota_bytes=16 << 20)
NAMES = ("city", "water")
_NUMBER = struct.Struct("<q")


def look_frames(look: int) -> tuple[list[int], list[int]]:
    """Return the frames of a look at the radio, and their routes."""
    indices = [look * FRAMES_PER_LOOK + place for place in range(look % (FRAMES_PER_LOOK + 1))]
    return indices, [1 + index % 3 for index in indices]


def open_writer(folder: Path, commit_window_s: float = 0.005) -> SpoolWriter:
    return writer(folder, (CITY, WATER), POLICY, commit_window_s=commit_window_s, commit_frames=16)


class FolderPlatform:
    """A platform whose ledger is a folder per stream; it survives everybody."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "platform"

    def deliver(self, spool: SpoolWriter, reader: SpoolReader, destination: str) -> None:
        """Take what waits, then acknowledge what is here."""
        source = StreamSource(reader, destination)
        stream = self.folder / destination / source.stream_id.hex()
        stream.mkdir(parents=True, exist_ok=True)
        for number in range(source.through() + 1, source.newest() + 1):
            outgoing = source.load(number)
            path = stream / f"{number:08d}"
            if outgoing is None:
                continue
            if path.exists():
                if path.read_bytes() != outgoing.wire:
                    os._exit(99)
                continue
            draft = path.with_suffix(".draft")
            draft.write_bytes(outgoing.wire)
            draft.rename(path)
        numbers = sorted(int(path.name) for path in stream.iterdir() if not path.suffix)
        through = next((i for i, number in enumerate(numbers) if number != i + 1), len(numbers))
        hash_ = codec.glimpse((stream / f"{through:08d}").read_bytes()).batch_hash if through else GENESIS_HASH
        beyond = tuple((number, number) for number in numbers[through:])
        spool.receipt(Receipt(bytes.fromhex(stream.name), through, hash_, 1, beyond))

    def load(self, stream: Path) -> Platform:
        """Read the ledger of a stream; everything in it is verified."""
        platform = Platform()
        for path in sorted(stream.iterdir()):
            if not path.suffix:
                platform.take(path.read_bytes())
        return platform


def live(folder: Path, look: int, confirm: int) -> None:
    """Receive, send and confirm until the end."""
    spool = open_writer(folder)
    spool.start()
    session = spool.begin_session(BOOT)

    def send() -> None:
        platform = FolderPlatform(folder)
        with spool.reader() as reader:
            while True:
                for name in NAMES:
                    spool.on_sealed(name).wait(0.005)
                    spool.on_sealed(name).clear()
                    platform.deliver(spool, reader, name)

    threading.Thread(target=send, daemon=True).start()
    while True:
        indices, routes = look_frames(look)
        frames = [frame(index, Session(BOOT, session.number)) for index in indices]
        while not spool.offer(heard(frames, routes, destinations=2, foreign=1)):
            time.sleep(0.001)
        os.write(confirm, _NUMBER.pack(look))
        look += 1


def main(folder: Path, kills: int, seed: int) -> dict[str, list[int]]:
    """Run and kill."""
    chance = random.Random(seed)
    confirmed: list[int] = []
    caught: list[int] = []
    look = 0
    for _ in range(kills):
        inlet, outlet = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(inlet)
            try:
                live(folder, look, outlet)
            finally:
                os._exit(98)
        os.close(outlet)
        wanted = chance.choice([0, 1, 50, 300, 800])
        early_s = chance.random() * 0.03
        if wanted:
            while wanted > 0 and (data := os.read(inlet, _NUMBER.size)):
                confirmed += _NUMBER.unpack(data)
                wanted -= 1
        time.sleep(early_s / 10 if confirmed else early_s)
        os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        if not os.WIFSIGNALED(status):
            sys.exit(f"life ended by itself: {os.waitstatus_to_exitcode(status)}")
        while data := os.read(inlet, _NUMBER.size):
            confirmed += _NUMBER.unpack(data)
        os.close(inlet)
        look = max([look - 1, *confirmed[-1:]]) + 1
        caught.append(look)  # may be in the journal, unconfirmed
        look += 1
    return {"confirmed": confirmed, "caught": caught}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))))
