# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from agent.batch.model import Anchor, TimeSource
from agent.enrolment.certificate import Validity
from agent.trusted_time import MADE, TrustedTime

DAY_US = 86_400_000_000
MADE_US = round(MADE.timestamp()) * 1_000_000


class Clock:
    """A host's clocks, as a test sets them."""

    def __init__(self, *, utc_us: int = 0, synchronised: bool = False) -> None:
        self.boot_us = 5_000_000
        self.utc_us = utc_us
        self.synchronised = synchronised

    def boottime_us(self) -> int:
        return self.boot_us

    def anchor(self) -> Anchor | None:
        return Anchor(bytes(16), self.boot_us, self.utc_us, 1, TimeSource.KERNEL) if self.synchronised else None


def trusted(folder: Path | None, clock: Clock, certified_day: int = 300) -> TrustedTime:
    time = TrustedTime(folder, clock, lambda: clock.utc_us)
    time.certified(MADE_US + certified_day * DAY_US)
    return time


def valid(first_day: int, last_day: int) -> Validity:
    """From and to days after this program was made."""
    return Validity(MADE_US + first_day * DAY_US, MADE_US + last_day * DAY_US)


def test_the_release_is_not_from_the_future() -> None:
    assert datetime.now(UTC) > MADE


def test_a_clock_that_nobody_set_neither_expires_a_certificate_nor_makes_it_invalid(tmp_path: Path) -> None:
    for utc_us in (0, MADE_US + 9000 * DAY_US):
        bounds = trusted(tmp_path, Clock(utc_us=utc_us)).bounds()
        assert not bounds.expired(valid(-10, 10))
        assert not bounds.not_yet_valid(valid(400, 490))
        assert bounds.expired(valid(-90, -1)), "before this program was made"


def test_a_synchronised_clock_judges_both_ends(tmp_path: Path) -> None:
    bounds = trusted(tmp_path, Clock(utc_us=MADE_US + 100 * DAY_US, synchronised=True)).bounds()
    assert bounds.expired(valid(0, 99))
    assert bounds.not_yet_valid(valid(101, 200))
    assert not bounds.expired(valid(0, 101))
    assert not bounds.not_yet_valid(valid(99, 200))


def test_a_synchronised_clock_before_the_release_is_not_believed(tmp_path: Path) -> None:
    bounds = trusted(tmp_path, Clock(utc_us=DAY_US, synchronised=True)).bounds()
    assert not bounds.not_yet_valid(valid(-1, 10))


def test_what_the_platform_signed_is_the_floor_and_time_passes_on_top_of_it(tmp_path: Path) -> None:
    clock = Clock()
    time = trusted(tmp_path, clock)
    time.signed(MADE_US + 50 * DAY_US)
    assert time.bounds().expired(valid(0, 49))
    assert not time.bounds().expired(valid(0, 51))
    clock.boot_us += 2 * DAY_US
    assert time.bounds().expired(valid(0, 51))
    time.signed(MADE_US)
    assert time.bounds().expired(valid(0, 51)), "it never goes back"


def test_the_floor_survives_a_restart_and_is_written_once_a_day(tmp_path: Path) -> None:
    time = trusted(tmp_path, Clock())
    time.signed(MADE_US + 50 * DAY_US)
    (file,) = tmp_path.iterdir()
    written = file.stat().st_mtime_ns
    time.signed(MADE_US + 50 * DAY_US + 3_600_000_000)
    assert file.stat().st_mtime_ns == written
    assert trusted(tmp_path, Clock()).bounds().expired(valid(0, 49))


def test_a_damaged_or_absurd_floor_is_not_believed(tmp_path: Path) -> None:
    for text in ("", "rubbish", "-5", "9" * 30, "\x00" * 10):
        (tmp_path / "time-floor").write_text(text)
        assert not trusted(tmp_path, Clock()).bounds().expired(valid(0, 10))
    time = trusted(tmp_path, Clock())
    time.signed(1 << 62)
    assert not time.bounds().expired(valid(0, 10))


def test_a_platform_that_was_years_ahead_does_not_lock_its_gateways_out(tmp_path: Path) -> None:
    """Its certificates are for ninety days, and so far its word is good."""
    time = trusted(tmp_path, Clock(), certified_day=90)
    time.signed(MADE_US + 800 * DAY_US)
    assert not time.bounds().expired(valid(0, 90))
    time.signed(MADE_US + 89 * DAY_US)
    assert not time.bounds().expired(valid(0, 90))
    assert not time.bounds().expired(valid(60, 150)), "the next certificate is good"


def test_it_works_where_nothing_can_be_kept(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    time = trusted(tmp_path / "file", Clock())
    time.signed(MADE_US + 50 * DAY_US)
    assert time.bounds().expired(valid(0, 49))
    assert trusted(None, Clock()).bounds().latest_us is None
