# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""When batches may travel: rate, quiet hours, data plan."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.batch.model import Anchor, TimeSource
from agent.uplink.machine import Phase
from agent.uplink.pace import BURST_S, LIVE_SHARE, Pace, QuietHours, Rules, Usage
from agent.uplink.port import Traffic
from agent.uplink.sender import Sender
from tests.agent.uplink.scene import Gateway, HostClock, HttpsServer, Platform, Trust, until

SECOND_US = 1_000_000
HOUR_US = 3600 * SECOND_US


class HandClock:
    """A clock in the test's hand."""

    boot_id = bytes(16)

    def __init__(self) -> None:
        self.now_us = 5 * SECOND_US

    def boottime_us(self) -> int:
        return self.now_us


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture(autouse=True)
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The gateway's time zone, as systemd gives it to the service, here without the zone database."""
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def anchor(clock: HandClock, text: str) -> Anchor:
    utc = datetime.fromisoformat(text).replace(tzinfo=UTC)
    return Anchor(clock.boot_id, clock.now_us, round(utc.timestamp() * SECOND_US), 1000, TimeSource.PLATFORM)


@pytest.mark.parametrize(
    "text", ["", "06:30", "6-7", "24:00-01:00", "06:60-07:00", "06:30-06:30", "a:00-b:00", "1:2-3:4"]
)
def test_what_are_no_hours_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"time|-|begins"):
        QuietHours.parse(text)


@given(st.integers(0, 1439), st.integers(0, 1439), st.integers(0, 1439))
def test_hours_end_where_they_end_also_over_midnight(first: int, end: int, minute: int) -> None:
    if first == end:
        return
    hours = QuietHours(first, end)
    assert QuietHours.parse(str(hours)) == hours
    left = hours.left(minute)
    inside = first <= minute < end if first < end else minute >= first or minute < end
    assert (left > 0) is inside
    assert not inside or (minute + left) % 1440 == end


def test_the_backlog_keeps_its_rate_and_may_make_up_for_a_short_pause(tmp_path: Path, clock: HandClock) -> None:
    pace = Pace(Rules(backlog_bytes_per_s=1000), clock, tmp_path / "usage")
    assert pace.gates().backlog_from_us <= clock.now_us
    begin_us, sent = clock.now_us, 0
    while clock.now_us < begin_us + 60 * SECOND_US:
        pace.backlog_sent(500)
        sent += 500
        gates = pace.gates()
        assert gates.live_from_us == 0
        assert gates.why is None
        clock.now_us = max(clock.now_us, gates.backlog_from_us)
    assert sent == pytest.approx(60_000, abs=1000 * BURST_S + 500)
    clock.now_us += 3600 * SECOND_US
    pace.backlog_sent(1000)
    assert pace.gates().backlog_from_us <= clock.now_us, "within the burst"
    pace.backlog_sent(3000)
    assert pace.gates().backlog_from_us == clock.now_us + 2 * SECOND_US, (
        "an hour of rest is worth no more than the burst"
    )


def test_quiet_hours_hold_the_backlog_by_the_gateways_time_zone(tmp_path: Path, clock: HandClock) -> None:
    pace = Pace(Rules(quiet=(QuietHours.parse("22:00-06:00"), QuietHours.parse("12:00-13:30"))), clock, tmp_path / "u")
    assert pace.gates().backlog_from_us <= clock.now_us, "nobody knows the time yet"
    pace.learn(anchor(clock, "2026-07-01T20:30"))  # 22:30 in summer
    gates = pace.gates()
    assert gates.backlog_from_us == clock.now_us + round(7.5 * HOUR_US)
    assert gates.live_from_us == 0
    assert "22:00-06:00" in (gates.why or "")
    clock.now_us = gates.backlog_from_us
    assert pace.gates().why is None
    clock.now_us += round(6.25 * HOUR_US)  # 12:15
    assert pace.gates().backlog_from_us == clock.now_us + round(1.25 * HOUR_US)


def test_the_last_tenth_of_the_plan_is_for_what_is_heard_now_and_then_all_waits_for_the_month(
    tmp_path: Path, clock: HandClock
) -> None:
    plan = 1_000_000
    pace = Pace(Rules(plan_bytes=plan), clock, tmp_path / "usage" / "city.json")
    pace.learn(anchor(clock, "2026-12-31T22:00"))
    pace.carried(Traffic(400_000, 499_999))
    assert pace.gates().why is None
    pace.carried(Traffic(400_001, 500_000))
    gates = pace.gates()
    assert (gates.backlog_from_us, gates.live_from_us) == (clock.now_us + 2 * HOUR_US, 0)
    assert "90%" in (gates.why or "")
    pace.carried(Traffic(500_000, 500_000))
    gates = pace.gates()
    assert gates.backlog_from_us == gates.live_from_us == clock.now_us + 2 * HOUR_US
    assert "2027-01-01" in (gates.why or "")
    clock.now_us = gates.live_from_us
    assert pace.gates().why is None
    pace.carried(Traffic(500_001, 500_000))
    assert pace.gates().why is None


def test_without_a_time_of_day_the_plan_holds_all_the_same(tmp_path: Path, clock: HandClock) -> None:
    pace = Pace(Rules(plan_bytes=1000), clock, tmp_path / "usage.json")
    pace.carried(Traffic(2000, 0))
    gates = pace.gates()
    assert gates.live_from_us > clock.now_us
    assert "next month" in (gates.why or "")


@given(st.lists(st.integers(0, 40_000), max_size=60), st.booleans())
def test_what_is_on_disk_is_never_less_than_what_was_used_and_rarely_written(
    tmp_path_factory: pytest.TempPathFactory, counts: list[int], clean: bool
) -> None:
    path, plan = tmp_path_factory.mktemp("usage") / "city.json", 1_000_000
    usage = Usage(path, plan)
    usage.now_in("2026-11")
    writes, last = 0, path.stat().st_mtime_ns
    for count in counts:
        usage.add(count)
        written = path.stat().st_mtime_ns
        writes, last = writes + (written != last), written
    if clean:
        usage.settle()
    after = Usage(path, plan)
    assert usage.used_bytes == sum(counts) <= after.used_bytes
    assert after.used_bytes - usage.used_bytes <= (0 if clean else plan // 100)
    assert writes <= sum(counts) // (plan // 100) + 1
    assert after.month == "2026-11"
    after.now_in("2026-12")
    assert after.used_bytes == 0


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"month": 3, "bytes": 4}', '{"month": "2026-11", "bytes": -1}', "\xff"]
)
def test_a_damaged_file_is_said_and_survived(tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "city.json"
    path.write_bytes(text.encode("latin-1"))
    usage = Usage(path, 1000)
    assert usage.used_bytes == 0
    assert "data_plan_unreadable" in caplog.text
    usage.add(5)
    assert json.loads(path.read_text())["bytes"] >= 5


def test_a_folder_that_takes_no_file_costs_the_memory_of_the_plan_and_nothing_else(
    caplog: pytest.LogCaptureFixture,
) -> None:
    usage = Usage(Path("/proc/sys/usage/city.json"), 1000)
    usage.add(500)
    assert usage.used_bytes == 500
    assert "data_plan_not_kept" in caplog.text


# --- with the real sender

Send = Callable[..., Sender]


class PaceOf:
    """Makes a pace whose clock runs as the machine's."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "usage" / "city.json"

    def __call__(self, **rules: Any) -> Pace:
        return Pace(replace(Rules(), **rules), HostClock(), self.path)


@pytest.fixture
def pace_of(tmp_path: Path) -> PaceOf:
    return PaceOf(tmp_path)


def test_live_passes_a_slow_backlog_and_both_arrive(
    trust: Trust, server: HttpsServer, platform: Platform, send: Send, pace_of: PaceOf
) -> None:
    gateway = Gateway(40)
    size = len(gateway.wires[1])
    sender = send(trust.endpoint("https", server.port), gateway, pace=pace_of(backlog_bytes_per_s=size * 10))
    until(lambda: platform.arrivals)
    assert sender.status.phase is Phase.DRAINING
    gateway.seal()
    sender.sealed()
    until(lambda: 41 in platform.arrivals)
    assert 40 not in platform.arrivals, "the backlog is still on its way"
    assert sender.drain(30)
    assert platform.has(gateway)
    assert [number for number in platform.arrivals if number != 41] == list(range(1, 41))


def test_a_used_up_plan_holds_everything_says_so_and_outlives_the_process(
    trust: Trust, server: HttpsServer, platform: Platform, send: Send, pace_of: PaceOf
) -> None:
    gateway = Gateway(300)
    sender = send(trust.endpoint("https", server.port), gateway, pace=pace_of(plan_bytes=120_000))
    until(lambda: sender.status.held is not None)
    sender.stop()
    kept = json.loads(pace_of.path.read_text())
    assert kept["month"] == datetime.now(UTC).strftime("%Y-%m")
    assert kept["bytes"] == sum((sender.status.traffic.up_bytes, sender.status.traffic.down_bytes))
    assert 120_000 * (1 - LIVE_SHARE) <= kept["bytes"] < 120_000
    before = len(platform.arrivals)
    assert 0 < before < 300

    second = send(trust.endpoint("https", server.port), gateway, pace=pace_of(plan_bytes=120_000))
    until(lambda: second.status.held is not None)
    gateway.seal()
    second.sealed()
    until(lambda: 301 in platform.arrivals)
    assert len(platform.arrivals) == before + 1, "only what was sealed now"

    raised = send(trust.endpoint("https", server.port), gateway, pace=pace_of(plan_bytes=10_000_000))
    assert raised.drain(30)
    assert platform.has(gateway)
