# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The account at the end, drawn up from outside: what the air sent against what stands in the receiver's ledger.

Nothing here asks the agent. The air's side comes from the emulator, the other side from the receiver's database file.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from agent.demo.air import Transmission

COUNTER_MASK = (1 << 27) - 1
"""What the chip itself knows of its counter, microseconds: how often it wrapped is known only to the process that
watched it. A frame rescued after that process was killed is exact modulo this."""
BUCKETS = ("heard", "bad_crc", "filtered", "duplicate", "spooled")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of every frame.

    Attributes:
        sent: transmissions on the air.
        not_heard: of these, not received by the radio (it was in reset, or its FIFO was full).
        heard: received by the radio.
        bad_crc: of these, payload CRC wrong.
        filtered: of these, not from the city's own sensors.
        spooled: of these, to be kept and delivered.
        delivered: of these, in the receiver's ledger exactly once.
        lost: heard, but nowhere: neither in the ledger nor in its signed counts.
        duplicated: in the ledger, or counted, more often than heard.
        batches: in the ledger.
        payload_bytes: PHYPayloads of those spooled, together; some sensors repeat themselves, which compresses well.
    """

    sent: int
    not_heard: int
    heard: int
    bad_crc: int
    filtered: int
    spooled: int
    delivered: int
    lost: int
    duplicated: int
    batches: int
    payload_bytes: int


def audit(transmissions: Iterable[Transmission], ledger: Path) -> Verdict:
    """Compare the air's log with a receiver's ledger.

    A reception is identified by its payload and the low bits of the concentrator's counter at the end of the packet.
    """
    everything = list(transmissions)
    heard = [t for t in everything if t.outcome == "fifo"]
    bad_crc = sum(not t.frame.crc_ok for t in heard)
    expected = Counter((t.frame.payload, t.counter_us & COUNTER_MASK) for t in heard if t.frame.own)
    filtered = len(heard) - bad_crc - expected.total()

    with sqlite3.connect(f"file:{ledger}?mode=ro", uri=True) as db:
        stored = Counter(
            (bytes(payload), counter & COUNTER_MASK)
            for payload, counter in db.execute("SELECT phy_payload, counter_us FROM frame")
        )
        (batches,) = db.execute("SELECT count(*) FROM batch").fetchone()
        counted = dict(zip(BUCKETS, db.execute(_SUMS).fetchone(), strict=True))
    missing, surplus = (expected - stored).total(), (stored - expected).total()
    for ours, theirs in ((bad_crc, counted["bad_crc"]), (filtered, counted["filtered"])):
        missing += max(0, ours - theirs)
        surplus += max(0, theirs - ours)
    surplus += counted["duplicate"]  # the air never sends a ghost copy, so none may be claimed
    return Verdict(
        sent=len(everything),
        not_heard=len(everything) - len(heard),
        heard=len(heard),
        bad_crc=bad_crc,
        filtered=filtered,
        spooled=expected.total(),
        delivered=(expected & stored).total(),
        lost=missing,
        duplicated=surplus,
        batches=batches,
        payload_bytes=sum(len(payload) * times for (payload, _), times in expected.items()),
    )


_SUMS = "SELECT " + ", ".join(f"coalesce(sum({bucket}), 0)" for bucket in BUCKETS) + " FROM account"  # noqa: S608 - our own names
