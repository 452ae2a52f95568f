# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""A spool at work, to be watched by strace. A program.

    strace -o TRACE ... python -m tests.agent.spool.powered FOLDER SEED

It makes a spool in FOLDER/base, then copies it to FOLDER/live and works there with the connection and the transactions
of the writer, in one thread so that the trace is one sequence. What has been confirmed to anybody is written to
FOLDER/marks when it is: frames that are committed, batches that left, receipts that are about to be applied.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from agent.batch.model import HOUR_US, Anchor, Reason, Receipt, Refusal, TimeSource
from agent.spool import row, store
from agent.spool.engine import Engine
from agent.spool.intake import Hour
from agent.spool.orders import Entry, Order, Policy, Refused
from agent.spool.reader import SpoolReader
from tests.agent.spool.gateway import BOOT, CITY, EUI, SIGNER, Platform, frame, heard

POLICY = Policy(batch_frames=12, batch_age_s=5.0, quota_bytes=4 << 20, expire_hours=40)
STEPS = 90


def open_engine(folder: Path) -> Engine:
    """Open the spool as the writer does."""
    connection = store.open_writer(folder / "spool.db", POLICY.quota_bytes)
    return Engine(connection, destinations=(CITY,), policy=POLICY, signer=SIGNER, gateway_eui=EUI)


def entry(number: int, first: int, count: int, hour: int = 0) -> Entry:
    """Return a look at the radio on its way to the disk."""
    frames = [frame(index) for index in range(first, first + count)]
    frames = [replace(one, boottime_us=one.boottime_us + hour * HOUR_US) for one in frames]
    look = replace(heard(frames, foreign=1), hour=Hour(BOOT, hour))
    return Entry(number, look, tuple(row.pack(routed.frame) for routed in look.frames))


def main(folder: Path, seed: int) -> None:
    """Work for some steps."""
    chance = random.Random(seed)
    store.AUTOCHECKPOINT_PAGES = 40  # type: ignore[misc]  # so that checkpoints happen between these few commits
    (folder / "base").mkdir()
    engine = open_engine(folder / "base")
    engine.apply([entry(1, 0, 5)], (), 0.0)
    engine.book.connection.close()
    shutil.copytree(folder / "base", folder / "live")
    marks = os.open(folder / "marks", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def mark(**said: object) -> None:
        os.write(marks, json.dumps(said).encode() + b"\n")

    engine = open_engine(folder / "live")
    reader = SpoolReader(folder / "live" / "spool.db")
    mark(frames=list(range(5)))
    first, sent, expired, refused = 5, set(), False, False
    platforms: dict[bytes, Platform] = {}
    for step in range(STEPS):
        count = chance.choice([0, 1, 1, 2, 7])
        orders: list[Order] = []
        if chance.random() < 0.2:
            orders.append(Anchor(BOOT, 1_000_000 * step, 1_790_000_000_000_000, 1_000, TimeSource.KERNEL))
        stream_id = reader.head("city").stream_id
        platform = platforms.setdefault(stream_id, Platform())
        if chance.random() < 0.25 and platform.batches:
            receipt: Receipt = platform.receipt(stream_id)
            mark(receipt=[stream_id.hex(), receipt.through, receipt.beyond])
            orders.append(receipt)
        elif step >= STEPS // 2 and not refused and (waiting := reader.unacknowledged("city", 0, 99)):
            newest, refused = waiting[-1], True
            refusal = Refusal(stream_id, newest.number, newest.hash, Reason.FORK, "", 1)
            mark(refused=[stream_id.hex(), newest.number])
            orders.append(Refused(stream_id, newest.number, refusal))
        # hours pass; near the end so many that what waits has grown too old
        hour = step // 7 + (60 if step > STEPS * 4 // 5 else 0)
        if step > STEPS * 4 // 5 and not expired:
            expired = True
            mark(expiring=first)
        engine.apply([entry(step + 2, first, count, hour)], orders, float(step))
        mark(frames=list(range(first, first + count)))
        first += count
        for batch in reader.batches():
            name = (batch.stream.stream_id, batch.number)
            if name not in sent:
                sent.add(name)
                wire = reader.wire(batch)
                mark(sent=[name[0].hex(), batch.number, sha256(wire).hexdigest()])
                opened = platforms.setdefault(name[0], Platform()).take(wire)
                mark(
                    held=[
                        name[0].hex(),
                        batch.number,
                        [int.from_bytes(f.phy_payload[:4], "big") for f in opened.body.frames],
                    ]
                )
    os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
