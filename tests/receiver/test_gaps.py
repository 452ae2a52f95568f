# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The account by gateway and hour: sums that match whatever order batches come in, silences and holes with a cause."""

from __future__ import annotations

import pytest

from agent.batch.model import HOUR_US, Account, Anchor, HourAccount, Loss, TimeSource, Tombstone
from receiver.cli.gaps import _lines
from receiver.evidence import report
from receiver.gaps import Quiet, gaps
from receiver.intake import Intake
from receiver.ledger.hours import LATE_US
from receiver.ledger.port import GapHour
from receiver.ledger.writer import LedgerWriter
from tests.receiver.gateway import BOOT_ID, FRAME_INTERVAL_US, Gateway, wire, withdrawn
from tests.receiver.postgres import stored

BOTH_ENGINES = True
EPOCH_US = 1_790_000_000_000_000
"""UTC at which the gateway booted."""
LATER = bytes(reversed(BOOT_ID))


def hour(number: int, boot: bytes = BOOT_ID, **counts: int) -> HourAccount:
    spooled = counts.get("spooled", 0)
    lost = sum(counts.get(name, 0) for name in ("bad_crc", "filtered", "duplicate"))
    return HourAccount(boot, number, Account(**{"heard": spooled + lost, **counts}))


def anchor(boottime_us: int, boot: bytes = BOOT_ID, epoch_us: int = EPOCH_US) -> Anchor:
    return Anchor(boot, boottime_us, epoch_us + boottime_us, 1000, TimeSource.KERNEL)


class Clock:
    """The platform's, set by hand."""

    def __init__(self) -> None:
        self.now_us = EPOCH_US

    def __call__(self) -> int:
        return self.now_us


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def intake(ledger: LedgerWriter, gateway: Gateway, clock: Clock) -> Intake:
    return Intake(ledger, gateway.signer, utc_us=clock)


def hours(ledger: LedgerWriter) -> dict[int | None, GapHour]:
    return {row.hour: row for row in ledger.gap_hours(None, None, None)}


def sound(ledger: LedgerWriter) -> bool:
    return all(report(ledger, summary).sums_match for summary in ledger.streams())


def sealed(gateway: Gateway, *parts: HourAccount, frames: int, at_us: int, **more: object) -> bytes:
    """Seal a batch whose frames were heard from a moment on, one a second."""
    gateway.clock_us = at_us
    account = sum((part.account for part in parts), Account())
    return wire(gateway.seal(frames, account=account, hours=parts, **more))  # type: ignore[arg-type] # as given


@pytest.fixture
def gateway(ledger: LedgerWriter) -> Gateway:
    made = Gateway()
    ledger.add_key(made.registration)
    return made


def test_hours_say_what_was_heard_and_what_came_of_it(
    ledger: LedgerWriter, intake: Intake, gateway: Gateway, clock: Clock
) -> None:
    clock.now_us = EPOCH_US + HOUR_US
    first = sealed(
        gateway, hour(0, spooled=4, bad_crc=1, filtered=3), frames=4, at_us=HOUR_US - 60_000_000, anchors=(anchor(0),)
    )
    # two at the end of the first hour, one in the second; one was given up before it could be sealed
    second = sealed(
        gateway,
        hour(0, spooled=2),
        hour(1, spooled=2, evicted=1, overrun=1),
        frames=3,
        at_us=HOUR_US - 2 * FRAME_INTERVAL_US,
    )
    intake.submit(first, sender="here")
    clock.now_us = EPOCH_US + HOUR_US + LATE_US + 1
    intake.submit(second, sender="here")
    found = hours(ledger)
    assert [(row.heard, row.bad_crc, row.filtered, row.kept) for row in found.values()] == [(10, 1, 3, 6), (2, 0, 0, 2)]
    assert [(row.received, row.missing, row.evicted, row.overrun) for row in found.values()] == [
        (6, 0, 0, 0),
        (1, 0, 1, 1),
    ]
    assert [row.late for row in found.values()] == [2, 1]
    assert [row.begin_us for row in found.values()] == [EPOCH_US, EPOCH_US + HOUR_US]
    assert found[0].gateway == gateway.eui.hex()
    assert found[0].boot == BOOT_ID.hex()
    assert sound(ledger)


def test_a_period_selects_hours_by_when_they_began(ledger: LedgerWriter, intake: Intake, gateway: Gateway) -> None:
    for number in range(4):
        intake.submit(
            sealed(
                gateway, hour(number, spooled=1), frames=1, at_us=number * HOUR_US, anchors=(anchor(number * HOUR_US),)
            ),
            sender="here",
        )
    assert [row.hour for row in ledger.gap_hours(gateway.eui, EPOCH_US + HOUR_US, EPOCH_US + 3 * HOUR_US)] == [1, 2]
    assert ledger.gap_hours(b"\1" * 8, None, None) == []
    # an hour that began before but goes on is in it
    found = gaps(ledger, gateway.eui, EPOCH_US + HOUR_US + 1, EPOCH_US + 2 * HOUR_US, EPOCH_US + 4 * HOUR_US)
    assert [row.hour for row in found.hours] == [1]


def test_what_is_kept_and_has_not_come_is_missing_in_its_hour(
    ledger: LedgerWriter, intake: Intake, gateway: Gateway
) -> None:
    waiting = sealed(gateway, hour(0, spooled=9), frames=4, at_us=0, anchors=(anchor(0),))
    lost = sealed(gateway, hour(0, spooled=3), frames=8, at_us=4_000_000)
    after = sealed(gateway, hour(1, spooled=1), frames=1, at_us=HOUR_US)
    intake.submit(waiting, sender="here")
    assert hours(ledger)[0].missing == 5
    intake.submit(after, sender="here")
    (hole,) = ledger.holes(None)
    assert (hole.first, hole.last, hole.frames) == (2, 2, 8)
    assert (hole.after_us, hole.before_us) == (EPOCH_US + 3 * FRAME_INTERVAL_US, EPOCH_US + HOUR_US)
    assert ledger.holes(b"\1" * 8) == []
    intake.submit(lost, sender="here")
    assert ledger.holes(None) == []
    assert [row.missing for row in hours(ledger).values()] == [0, 0]
    assert sound(ledger)


def test_withdrawn_frames_are_lost_in_their_hours_until_they_come_all_the_same(
    ledger: LedgerWriter, intake: Intake, gateway: Gateway
) -> None:
    gateway.clock_us = 0
    intake.submit(sealed(gateway, hour(0, spooled=2), frames=2, at_us=0, anchors=(anchor(0),)), sender="here")
    account = hour(0, spooled=3).account
    gateway.clock_us = 2_000_000
    gone = gateway.seal(3, account=account, hours=(hour(0, spooled=3),))
    parts = (hour(0, spooled=3, evicted=3), hour(1, spooled=1))
    intake.submit(sealed(gateway, *parts, frames=1, at_us=HOUR_US, tombstones=(withdrawn([gone]),)), sender="here")
    first = hours(ledger)[0]
    assert (first.kept, first.received, first.evicted, first.missing) == (5, 2, 3, 0)
    assert sound(ledger)
    intake.submit(wire(gone), sender="here")
    first = hours(ledger)[0]
    assert (first.kept, first.received, first.evicted, first.missing) == (5, 5, 0, 0)
    assert sound(ledger)


def test_frames_that_were_in_no_batch_are_lost_in_the_hour_that_is_told(
    ledger: LedgerWriter, intake: Intake, gateway: Gateway
) -> None:
    stone = Tombstone(7, 0, 1, Loss.EXPIRED)
    part = hour(0, spooled=7, expired=7)
    intake.submit(sealed(gateway, part, frames=0, at_us=0, tombstones=(stone,)), sender="here")
    assert (hours(ledger)[0].expired, hours(ledger)[0].missing) == (7, 0)
    assert sound(ledger)


def test_what_is_not_told_by_hours_has_no_hour(ledger: LedgerWriter, intake: Intake, gateway: Gateway) -> None:
    unknown = hour(0, bytes(16), spooled=2, filtered=5)
    intake.submit(sealed(gateway, unknown, hour(2, spooled=1), frames=1, at_us=2 * HOUR_US), sender="here")
    intake.submit(wire(gateway.seal(0, account=Account(heard=4, filtered=4))), sender="here")
    found = hours(ledger)
    assert (found[None].heard, found[None].boot, found[None].begin_us) == (11, None, None)
    assert (found[2].received, found[2].missing) == (1, 0)
    assert sound(ledger)


def test_times_without_a_report_have_a_cause(
    ledger: LedgerWriter, intake: Intake, gateway: Gateway, clock: Clock
) -> None:
    booted_us = EPOCH_US + 6 * HOUR_US
    for wired in (
        sealed(gateway, hour(0, spooled=1), frames=1, at_us=HOUR_US // 2, anchors=(anchor(0),)),
        sealed(gateway, hour(3, spooled=1), frames=1, at_us=3 * HOUR_US + HOUR_US // 2),
        sealed(
            gateway,
            hour(1, LATER, spooled=1),
            frames=1,
            at_us=HOUR_US + 1,
            boot_id=LATER,
            anchors=(anchor(HOUR_US, LATER, booted_us),),
        ),
    ):
        clock.now_us = booted_us + 2 * HOUR_US
        intake.submit(wired, sender="here")
    found = gaps(ledger, None, None, None, clock.now_us + HOUR_US)
    assert [(quiet.cause, quiet.from_us, quiet.to_us) for quiet in found.silences] == [
        (Quiet.NOTHING, EPOCH_US + HOUR_US, EPOCH_US + 3 * HOUR_US),
        (Quiet.OFF, EPOCH_US + 3 * HOUR_US + HOUR_US // 2, booted_us),
        (Quiet.SILENT, clock.now_us, clock.now_us + HOUR_US),
    ]
    assert gaps(ledger, None, None, None, clock.now_us + 1).silences == found.silences[:2]


def test_people_read_it_line_by_line(ledger: LedgerWriter, intake: Intake, gateway: Gateway) -> None:
    unknown = hour(0, bytes(16), filtered=5)
    waits = hour(2, spooled=3)
    intake.submit(sealed(gateway, unknown, waits, frames=1, at_us=2 * HOUR_US), sender="here")
    gateway.seal(1)
    intake.submit(wire(gateway.seal(1)), sender="here")
    found = gaps(ledger, None, None, None, 0)
    title, _, *lines = _lines(found)
    assert title == f"gateway {gateway.eui.hex()}"
    assert [" ".join(line.split()) for line in lines[:2]] == [
        "hour 2, boot 0001 3 3 2 0 1 -",
        "not told apart 9 1 0 0 1 bad CRC 1, filtered 7",
    ]
    assert "batches 2 of stream" in lines[-1]


def test_a_part_that_was_altered_shows(ledger: LedgerWriter, intake: Intake, gateway: Gateway) -> None:
    intake.submit(sealed(gateway, hour(0, spooled=2), frames=2, at_us=0), sender="here")
    assert sound(ledger)
    for table in ("hour_account", "batch_hour"):
        ledger._change(lambda db, table=table: db.execute(f"UPDATE {table} SET filtered = filtered + 1"))  # type: ignore[misc]
        assert not sound(ledger)
        ledger._change(lambda db, table=table: db.execute(f"UPDATE {table} SET filtered = filtered - 1"))  # type: ignore[misc]
    assert stored(ledger, "SELECT sum(frames) FROM hour_account") == [(2,)]
    ledger._change(lambda db: db.execute("UPDATE hour_account SET frames = 1"))
    assert not sound(ledger)
