# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Frames whose time is over go; what proves their delivery stays, and nothing comes back."""

from __future__ import annotations

import random
import time
from contextlib import closing
from pathlib import Path

import pytest

from agent.batch.keys import Ed25519Signer
from agent.batch.model import Anchor, TimeSource
from receiver import config
from receiver.errors import LedgerError
from receiver.evidence import report
from receiver.intake import Intake
from receiver.ledger.opening import open_ledger, open_reader
from receiver.ledger.weeks import DAY_US, WEEK_US, begin_of_week, partition
from receiver.ledger.writer import LedgerWriter
from tests.receiver.conftest import ENGINES
from tests.receiver.gateway import BOOT_ID, FRAME_INTERVAL_US, Gateway, wire
from tests.receiver.platform import Certificates
from tests.receiver.platform import platform as receiver
from tests.receiver.postgres import Cluster, stored, until

BOTH_ENGINES = True
HERE = "test"
THIS_WEEK_US = begin_of_week(time.time_ns() // 1000)
NOW_US = THIS_WEEK_US + 1000
"""Not later than the server's own clock, which is asked as well."""


EVERYTHING = (
    *("stream", "account", "span", "batch", "frame", "anchor", "tombstone"),
    *("revision", "boot", "session", "stretch", "retention", "alarm"),
)


class Platform:
    """A receiver whose clock a test sets, and a gateway that sends it a batch of three frames a day."""

    def __init__(self, ledger: LedgerWriter) -> None:
        self.ledger = ledger
        self.now_us = NOW_US - 5 * WEEK_US
        self.gateway = Gateway()
        ledger.add_key(self.gateway.registration)
        self._intake = Intake(ledger, Ed25519Signer.generate(), utc_us=lambda: self.now_us)
        self.sent: list[bytes] = []

    def day_by_day(self, until_us: int) -> None:
        while self.now_us <= until_us:
            at_us = self.gateway.seq * FRAME_INTERVAL_US
            anchor = Anchor(BOOT_ID, at_us, self.now_us, 1000, TimeSource.KERNEL)
            self.sent.append(wire(self.gateway.seal(3, anchors=(anchor,))))
            assert not self.repeated(self.sent[-1])
            self.now_us += DAY_US
        while self.ledger.revise(100):
            pass

    def repeated(self, batch: bytes) -> bool:
        answer = self._intake.submit(batch, sender=HERE)
        assert answer.refusal is None
        return answer.repeat

    def upkeep(self, keep_days: int) -> None:
        while self.ledger.upkeep(self.now_us, keep_days, 6):
            pass

    def days(self) -> list[int]:
        """Return when the frames that are there were received, in days before now."""
        return sorted({(NOW_US - int(str(row["received_us"]))) // DAY_US for row in self.ledger.frames(0, 1000)})


@pytest.fixture
def platform(ledger: LedgerWriter) -> Platform:
    made = Platform(ledger)
    made.day_by_day(NOW_US)
    return made


def everything(ledger: LedgerWriter) -> dict[str, list[tuple[object, ...]]]:
    return {table: sorted(stored(ledger, f"SELECT * FROM {table}"), key=repr) for table in EVERYTHING}


def test_frames_go_by_whole_weeks_once_all_of_it_is_too_old(platform: Platform) -> None:
    assert platform.days() == list(range(36))
    platform.upkeep(0)
    assert platform.days() == list(range(36)), "0 is for ever"
    platform.upkeep(10)
    # ten days ago was a Friday, since now is Monday: all of its week stays
    assert platform.days() == list(range(15))
    platform.upkeep(30)
    assert platform.days() == list(range(15)), "what is gone does not come back"


def test_evidence_outlasts_its_frames(platform: Platform) -> None:
    platform.upkeep(10)
    (summary,) = platform.ledger.streams()
    assert (summary.batches, summary.frames) == (36, 108)
    checked = report(platform.ledger, summary)
    assert checked.ok, checked.chain.flaws
    counts = {link.frames for link in platform.ledger.links(summary.stream_id)}
    assert counts == {None, 3}


def test_a_frame_that_went_missing_by_itself_is_noticed(platform: Platform) -> None:
    platform.upkeep(10)
    platform.ledger._change(lambda db: db.execute("DELETE FROM frame WHERE seq = 107"))
    checked = report(platform.ledger, platform.ledger.streams()[0])
    assert checked.chain.flaws == ["batch 36 was signed with 3 frames, 2 are stored"]


def test_a_replay_of_everything_changes_nothing(platform: Platform) -> None:
    for keep_days in (0, 10):
        platform.upkeep(keep_days)
        before = everything(platform.ledger)
        for batch in random.Random(keep_days).sample(platform.sent, len(platform.sent)):
            assert platform.repeated(batch)
        assert everything(platform.ledger) == before


def test_an_id_is_not_given_again_when_all_frames_are_gone(platform: Platform) -> None:
    highest = platform.ledger.frames(0, 1000)[-1]["id"]
    platform.ledger._change(lambda db: db.execute("DELETE FROM frame"))
    platform.day_by_day(NOW_US + DAY_US)
    assert int(str(platform.ledger.frames(0, 1000)[0]["id"])) > int(str(highest))


def test_a_clock_that_fell_back_commits_nothing_that_would_be_dropped(platform: Platform) -> None:
    platform.upkeep(10)
    platform.now_us = NOW_US - 4 * WEEK_US
    late = wire(platform.gateway.seal(3))
    with pytest.raises(LedgerError, match="clock") as caught:
        platform.repeated(late)
    assert caught.value.retryable
    platform.now_us = NOW_US
    assert not platform.repeated(late)


@pytest.mark.parametrize("ledger", ["postgres"], indirect=True)
def test_a_clock_that_is_ahead_drops_nothing(platform: Platform) -> None:
    platform.now_us = NOW_US + 1000 * WEEK_US
    platform.upkeep(40)
    assert platform.days() == list(range(36))


@pytest.mark.parametrize("engine", ENGINES)
def test_the_service_drops_frames_by_itself(
    engine: str, tmp_path: Path, certificates: Certificates, request: pytest.FixtureRequest
) -> None:
    url = ""
    if engine == "postgres":
        server: Cluster = request.getfixturevalue("postgres")
        url = f'url = "{server.url(server.database())}"'
    made = receiver(tmp_path, certificates, extra=f"[ledger]\nkeep_days = 10\n{url}\n")
    with closing(open_ledger(config.load(made.toml))) as ledger:
        Platform(ledger).day_by_day(NOW_US)
    with made.serving(), closing(open_reader(config.load(made.toml))) as reader:
        until(lambda: len(reader.frames(0, 1000)) == 15 * 3)
    assert made.json("status")["ok"]


def test_weeks_begin_on_monday() -> None:
    monday_us = 1_790_553_600_000_000  # 2026-09-28
    assert {begin_of_week(monday_us + day * DAY_US + DAY_US - 1) for day in range(7)} == {monday_us}
    assert partition(monday_us) == "frame_20260928"
