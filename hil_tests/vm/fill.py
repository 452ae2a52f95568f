# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Fill the spool of a gateway to its quota, as weeks without a platform do; prints how many frames it was given.

Runs in the machine, as the agent's user and with the installed program, while the agent is stopped. The frames are
those of `hil_tests.vm.air.frame`, made long, so that they are fewer.
"""

from __future__ import annotations

import sqlite3
import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, "/usr/lib/civigate")

from agent import config
from agent.batch.model import Account
from agent.filter import Filter
from agent.frame import CrcStatus, Frame, Modulation, Session
from agent.identity import signer
from agent.spool import row, store
from agent.spool.engine import Engine
from agent.spool.intake import Heard, RoutedFrame
from agent.spool.orders import Destination, Entry, Policy

SERIES = 9
GROUP = 500
SPACING_US = 20_000
BEGAN_US = 10_000_000
LENGTH = 200
MOST_FRAMES = 200_000
_MEGABYTE = 1 << 20


def payload(number: int) -> bytes:
    """Return a PHYPayload of 200 bytes that tells by series and number which it is."""
    head = bytes.fromhex("40 04030226 80 0000 01")
    return (head + SERIES.to_bytes(4, "big") + number.to_bytes(4, "big")).ljust(LENGTH, b"\x5a")


def fill(path: Path) -> int:
    """Append frames until the oldest have to go."""
    settings = config.load(path)
    (section,) = settings.destination
    quota_bytes = settings.spool.quota_mb * _MEGABYTE
    lock = store.Lock(settings.spool_path)
    connection = store.open_writer(settings.spool_path, quota_bytes)
    engine = Engine(
        connection,
        destinations=(Destination(section.name, Filter(section.filter).digest),),
        policy=Policy(settings.spool.batch_frames, 3600.0, quota_bytes),
        signer=signer(settings),
    )
    session = Session(bytes(range(16)), engine.state.session + 1)
    pattern = Frame(
        session,
        *(0, 0, 868_100_000, Modulation.LORA, 125_000, 7, 1, CrcStatus.OK, -800, -810, 36, 120, 0, 0, b""),
    )
    before, given, journal = _count(connection), 0, engine.state.journal
    while _count(connection) >= before + given:
        if given > MOST_FRAMES:
            raise SystemExit(f"{given} frames fit into {quota_bytes} bytes")
        frames = [
            replace(
                pattern,
                boottime_us=BEGAN_US + number * SPACING_US,
                counter_us=BEGAN_US + number * SPACING_US,
                phy_payload=payload(number),
            )
            for number in range(given, given + GROUP)
        ]
        journal += 1
        tally = Account(heard=GROUP, spooled=GROUP)
        heard = Heard(tuple(RoutedFrame(one, 1) for one in frames), (tally,))
        engine.apply([Entry(journal, heard, tuple(row.pack(one) for one in frames))], (), 0.0)
        given += GROUP
    connection.close()
    lock.release()
    return given


def _count(connection: sqlite3.Connection) -> int:
    (count,) = connection.execute("SELECT count(*) FROM frame").fetchone()
    return int(count)


if __name__ == "__main__":
    print(fill(Path(sys.argv[1])))
