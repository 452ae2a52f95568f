# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What readers wait for, over 600,000 frames of fifty gateways in a week, and how fast all of it is exported.

Frames are written into the tables as batches would leave them: what is measured is reading. The PostgreSQL server does
not wait for the disk, which reading does not either.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from statistics import median

from agent.batch.keys import Ed25519Signer
from agent.batch.model import HOUR_US, Account, Anchor, HourAccount, TimeSource
from receiver.export import FORMATS, export
from receiver.gaps import gaps
from receiver.intake import Intake
from receiver.ledger.admission import _FRAME_COLUMNS
from receiver.ledger.port import Wanted
from receiver.ledger.postgres import PostgresLedger
from receiver.ledger.sql import Database
from receiver.ledger.sqlite import SqliteLedger
from receiver.ledger.writer import LedgerWriter
from tests.bench import Row
from tests.receiver.gateway import Gateway, wire
from tests.receiver.postgres import cluster

FRAMES = 600_000
GATEWAYS = 50
DEVICES = 2000
HEARD_BY = 3
"""Gateways that hear a transmission."""
HOURS = 7 * 24
EPOCH_US = 1_790_000_000_000_000
CHUNK = 25_000
ASKED = 15
LIMIT_MS = 1000
"""What somebody who looks at a page would wait for."""


def rows() -> list[Row]:
    """Measure latency and rates on both engines."""
    found: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        with closing(SqliteLedger(Path(folder) / "data")) as ledger:
            fill(ledger)
            found += measure(ledger, "SQLite", Path(folder))
        with cluster() as server, closing(PostgresLedger(server.url(server.database()))) as ledger:
            fill(ledger)
            with ledger._borrowed() as db:
                db.raw.execute(b"ANALYZE")
            found += measure(ledger, "PostgreSQL", Path(folder))
    return found


def fill(ledger: LedgerWriter) -> None:
    """Write the frames, and the accounts of their hours."""
    intake = Intake(ledger, Ed25519Signer.generate(), utc_us=lambda: EPOCH_US + HOURS * HOUR_US)
    for number in range(GATEWAYS):
        eui = (number + 1).to_bytes(8, "big")
        gateway = Gateway(eui=eui, seed=eui, signer=Ed25519Signer.generate(), clock_us=0)
        ledger.add_key(gateway.registration)
        parts = tuple(HourAccount(eui * 2, hour, Account(heard=1, spooled=1)) for hour in range(HOURS))
        anchor = Anchor(eui * 2, 0, EPOCH_US, 1000, TimeSource.GNSS)
        account = Account(heard=HOURS, spooled=HOURS)
        sealed = gateway.seal(1, account=account, hours=parts, anchors=(anchor,), boot_id=eui * 2)
        assert intake.submit(wire(sealed), sender="bench").refusal is None
    with ledger._reading() as db:
        streams = [row[0] for row in db.execute("SELECT stream FROM frame ORDER BY id").fetchall()]
        sessions = [row[0] for row in db.execute("SELECT session FROM frame ORDER BY id").fetchall()]
        (received_us,) = db.execute("SELECT max(received_us) FROM frame").fetchone()
    made = _frames(list(zip(streams, sessions, strict=True)), received_us)
    for _ in range(FRAMES // CHUNK):
        chunk = [next(made) for _ in range(CHUNK)]

        def append(db: Database, chunk: list[tuple[int | bytes | None, ...]] = chunk) -> None:
            db.take_turn(received_us)
            db.append("frame", _FRAME_COLUMNS, chunk)

        ledger._change(append)


def _frames(places: list[tuple[int, int]], received_us: int) -> Iterator[tuple[int | bytes | None, ...]]:
    """Give frames of many devices, each heard by some gateways."""
    chance = random.Random(1)
    seqs = dict.fromkeys((stream for stream, _ in places), 1)
    spacing_us = HOURS * HOUR_US * HEARD_BY // FRAMES
    number = 0
    while True:
        number += 1
        device = 0x26000000 + chance.randrange(DEVICES)
        payload = b"\x40" + device.to_bytes(4, "little") + b"\0" + number.to_bytes(4, "little") + bytes(27)
        channel_hz = 867_100_000 + 200_000 * chance.randrange(8)
        for stream, session in chance.sample(places, HEARD_BY):
            seqs[stream] += 1
            at_us = number * spacing_us + chance.randrange(5000)
            yield (
                *(stream, seqs[stream], session, at_us, at_us + 77, EPOCH_US + at_us, 1000, 2, channel_hz, 0),
                *(125_000, 7, 1, 0, -1013, -1020, -7, -312, 3, 1, None, device, payload, received_us),
            )


def measure(ledger: LedgerWriter, engine: str, folder: Path) -> list[Row]:
    """Ask again and again, and export."""
    chance = random.Random(2)
    end_us = EPOCH_US + HOURS * HOUR_US

    def page() -> None:
        assert len(ledger.search(chance.randrange(FRAMES - 2000), 1000, Wanted()).rows) == 1000

    def hour() -> None:
        since_us = EPOCH_US + chance.randrange(HOURS - 1) * HOUR_US
        assert len(ledger.search(0, 1000, Wanted(since_us=since_us, until_us=since_us + HOUR_US)).rows) == 1000

    def device() -> None:
        addr = 0x26000000 + chance.randrange(DEVICES)
        assert len(ledger.search(0, 1000, Wanted(first_addr=addr, last_addr=addr)).rows) > 100

    def gateway() -> None:
        ledger.search(chance.randrange(FRAMES), 1000, Wanted(eui=chance.randrange(1, GATEWAYS).to_bytes(8, "big")))

    def uplinks() -> None:
        found, _, _ = ledger.transmissions(chance.randrange(FRAMES - 2000), 100, Wanted())
        assert len(found) > 30

    def gap_ledger() -> None:
        assert len(gaps(ledger, (1).to_bytes(8, "big"), None, None, end_us).hours) == HOURS

    asked: list[tuple[str, Callable[[], None]]] = [
        ("1,000 frames from a cursor on", page),
        ("1,000 frames of an hour", hour),
        ("all frames of a device in a week", device),
        ("1,000 frames of one of 50 gateways", gateway),
        ("transmissions of 100 receptions", uplinks),
        ("gap ledger of a gateway, a week", gap_ledger),
    ]
    found = [
        Row("queries", f"{name}, {engine}", _median_ms(ask), "ms", "what a person waits for", LIMIT_MS)
        for name, ask in asked
    ]
    for form in FORMATS:
        begun_s = time.perf_counter()
        done = export(ledger, folder / f"{engine}.{form}", form, Wanted())
        rate = done.rows / (time.perf_counter() - begun_s)
        found.append(Row("queries", f"export as {form}, {engine}", rate, "frames/s"))
    return found


def _median_ms(ask: Callable[[], None]) -> float:
    taken = []
    for _ in range(ASKED):
        begun_s = time.perf_counter()
        ask()
        taken.append((time.perf_counter() - begun_s) * 1000)
    return median(taken)
