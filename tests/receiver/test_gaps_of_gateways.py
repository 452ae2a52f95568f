# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The gap ledger against the spool that gateways have: filter, damaged frames, an outage that costs some, any order."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from agent.batch.keys import Ed25519Signer
from agent.batch.model import HOUR_US, Account, Anchor, TimeSource
from agent.spool.intake import Heard
from agent.spool.orders import Policy
from agent.spool.writer import SpoolWriter
from receiver.evidence import report
from receiver.gaps import gaps
from receiver.intake import Intake
from receiver.ledger.port import RegisteredKey
from receiver.ledger.writer import LedgerWriter
from tests.agent.spool.gateway import BOOT, CITY, EUI, SIGNER, frame, heard

BOTH_ENGINES = True
POLICY = Policy(batch_frames=100, batch_age_s=3600.0, quota_bytes=1 << 20)
HOURS = 6
A_LOOK = 40
"""Frames that are heard at once."""


class Gateway:
    """A spool whose quota is small, and a platform that is reached now and then."""

    def __init__(self, folder: Path, ledger: LedgerWriter, seed: int) -> None:
        self.ledger = ledger
        self.intake = Intake(ledger, Ed25519Signer.generate())
        ledger.add_key(RegisteredKey(EUI, "", SIGNER.kid, SIGNER.public.text, 1))
        self.chance = random.Random(seed)
        self.number = 0
        self.truth: dict[int, Counter[str]] = {hour: Counter() for hour in range(HOURS)}
        self.payloads: dict[str, int] = {}
        self.spool = SpoolWriter(
            folder / "spool.db",
            journal_folder=folder / "journal",
            destinations=[CITY],
            policy=POLICY,
            signer=SIGNER,
            gateway_eui=EUI,
            commit_window_s=0.0,
        )
        self.spool.start()

    def hear(self, hour: int) -> None:
        """Let the radio deliver frames: ours, others', damaged ones."""
        count, foreign, damaged = A_LOOK, self.chance.randrange(5), self.chance.randrange(3)
        frames = []
        for _ in range(count):
            self.number += 1
            at_us = hour * HOUR_US + self.number * 1000
            frames.append(replace(frame(self.number, size=200), boottime_us=at_us, counter_us=at_us))
            self.payloads[frames[-1].phy_payload.hex()] = hour
        look = heard(frames, foreign=foreign)
        (tally,) = look.tallies
        look = Heard(look.frames, (tally + Account(heard=damaged, bad_crc=damaged),), look.seen)
        while not self.spool.offer(look):
            assert self.spool.flush(30)
        self.truth[hour] += Counter(heard=count + foreign + damaged, filtered=foreign, bad_crc=damaged, kept=count)

    def deliver(self, share: float) -> None:
        """Bring some of what waits, in any order; some answers get lost."""
        assert self.spool.flush(30)
        with self.spool.reader() as reader:
            batches = [reader.wire(batch) for batch in reader.unacknowledged("city", 0, 1 << 20)]
        self.chance.shuffle(batches)
        for wire in batches[: round(len(batches) * share)]:
            answer = self.intake.submit(wire, sender="here")
            assert answer.receipt is not None, answer.refusal
            if self.chance.random() < 0.7:
                self.spool.receipt(answer.receipt)
        assert self.spool.flush(30)


@pytest.mark.parametrize("seed", [1])
def test_every_frame_of_every_hour_is_in_one_bucket_of_it(seed: int, ledger: LedgerWriter, tmp_path: Path) -> None:
    gateway = Gateway(tmp_path, ledger, seed)
    gateway.spool.anchor(Anchor(BOOT, 0, 1_790_000_000_000_000, 1000, TimeSource.GNSS))
    for hour in range(HOURS):
        outage = hour in {2, 3, 4}
        for _ in range(40 if outage else 6):
            gateway.hear(hour)
            if outage:
                assert gateway.spool.flush(30)
        if not outage:
            gateway.deliver(0.5)
        (summary,) = ledger.streams()
        assert report(ledger, summary).sums_match
    for _ in range(10):
        gateway.deliver(1.0)
    with gateway.spool.reader() as reader:
        assert reader.unacknowledged("city", 0, 1 << 20) == []
    gateway.spool.stop()

    (summary,) = ledger.streams()
    checked = report(ledger, summary)
    assert checked.ok
    assert checked.frames_waiting == 0
    found = {row.hour: row for row in gaps(ledger, EUI, None, None, 0).hours}
    received = Counter(gateway.payloads[str(row["phy_payload"])] for row in _frames(ledger))
    lost = 0
    for hour, truth in gateway.truth.items():
        row = found[hour]
        said = Counter(heard=row.heard, filtered=row.filtered, bad_crc=row.bad_crc, kept=row.kept)
        assert said == truth, hour
        assert row.received == received[hour]
        assert (row.missing, row.evicted) == (0, truth["kept"] - received[hour])
        lost += row.evicted
    assert lost > 0, "the outage was to cost frames"


def _frames(ledger: LedgerWriter) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    while page := ledger.frames(int(str(rows[-1]["id"])) if rows else 0, 1000):
        rows += [dict(row) for row in page]
    return rows
