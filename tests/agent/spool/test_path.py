# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The way through the spool: heard, committed, sealed, sent, acknowledged, freed."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.batch.model import Account, Anchor, TimeSource
from agent.spool.orders import Policy
from agent.spool.writer import check
from tests.agent.spool.gateway import BOOT, CITY, EUI, POLICY, WATER, Platform, frame, heard, wait_for, writer


def test_what_is_offered_arrives_signed_chained_and_whole(tmp_path: Path) -> None:
    frames = [frame(index) for index in range(35)]
    platform = Platform()
    with writer(tmp_path) as spool:
        for start in range(0, 35, 5):
            assert spool.offer(heard(frames[start : start + 5], foreign=3))
        assert spool.flush()
        with spool.reader() as reader:
            opened = platform.collect(reader)
            assert [one.header.frame_count for one in opened] == [10, 10, 10, 5]
            assert [one.header.first_seq for one in opened] == [1, 11, 21, 31]
            assert {one.header.gateway_eui for one in opened} == {EUI}
            assert platform.frames() == frames
            assert platform.account() == Account(heard=56, filtered=21, spooled=35)
            spool.receipt(platform.receipt(reader.head("city").stream_id))
            wait_for(lambda: reader.status().frames == 0)
            status = reader.status().streams[0]
            assert (status.delivered, status.through, status.batches) == (35, 4, 0)
            assert reader.unacknowledged("city") == []
    assert check(tmp_path / "spool.db") == []


def test_wire_bytes_are_the_same_in_every_life(tmp_path: Path) -> None:
    with writer(tmp_path) as spool:
        spool.offer(heard([frame(index) for index in range(10)]))
        assert spool.flush()
        with spool.reader() as reader:
            before = reader.wire(reader.unacknowledged("city")[0])
    with writer(tmp_path) as spool, spool.reader() as reader:
        assert [reader.wire(batch) for batch in reader.unacknowledged("city", 0, 9)] == [before]


def test_frames_wait_for_the_window_or_the_count(tmp_path: Path) -> None:
    with writer(tmp_path, commit_window_s=3600.0, commit_frames=20) as spool:
        spool.offer(heard([frame(index) for index in range(19)]))
        assert spool.status().queued_frames == 19
        assert spool.status().commits == 0
        spool.offer(heard([frame(19)]))
        wait_for(lambda: spool.status().queued_frames == 0)
        assert spool.status().commits == 1


def test_age_seals_a_batch_that_is_not_full(tmp_path: Path) -> None:
    with writer(tmp_path, policy=Policy(10, 0.05, 64 << 20)) as spool:
        spool.offer(heard([frame(0)]))
        assert spool.on_sealed("city").wait(10)
        with spool.reader() as reader:
            assert reader.unacknowledged("city")[0].frames == 1


def test_one_row_serves_two_destinations_and_goes_when_both_have_it(tmp_path: Path) -> None:
    frames = [frame(index) for index in range(30)]
    routes = [1 + index % 3 for index in range(30)]
    city, water = Platform(), Platform()
    with writer(tmp_path, (CITY, WATER)) as spool:
        spool.offer(heard(frames, routes, destinations=2))
        assert spool.flush()
        with spool.reader() as reader:
            assert reader.status().frames == 30
            city.collect(reader, "city")
            water.collect(reader, "water")
            assert city.frames() == [one for one, route in zip(frames, routes, strict=True) if route & 1]
            assert water.frames() == [one for one, route in zip(frames, routes, strict=True) if route & 2]
            spool.receipt(city.receipt(reader.head("city").stream_id))
            wait_for(lambda: reader.head("city").through == 2)
            assert reader.status().frames == 20  # what water still needs
            assert water.collect(reader, "water")
            spool.receipt(water.receipt(reader.head("water").stream_id))
            wait_for(lambda: reader.status().frames == 0)
    assert check(tmp_path / "spool.db") == []


def test_anchors_travel_once_in_each_stream(tmp_path: Path) -> None:
    anchor = Anchor(BOOT, 5_000_000, 1_790_000_000_000_000, 2_000, TimeSource.KERNEL)
    with writer(tmp_path, (CITY, WATER)) as spool:
        spool.anchor(anchor)
        spool.offer(heard([frame(index) for index in range(20)], [3] * 20, destinations=2))
        assert spool.flush()
        with spool.reader() as reader:
            for name in ("city", "water"):
                bodies = [one.body for one in Platform().collect(reader, name)]
                assert [body.anchors for body in bodies] == [(anchor,), ()]


def test_health_rides_along_and_cannot_stop_a_batch(tmp_path: Path) -> None:
    with writer(tmp_path, health=lambda: {"uptime_s": 7, "": 1, "big": 1 << 60}) as spool:
        spool.offer(heard([frame(index) for index in range(10)]))
        assert spool.flush()
        with spool.reader() as reader:
            assert Platform().collect(reader)[0].body.health == {"uptime_s": 7}


def test_nothing_is_sealed_before_the_gateway_has_a_name(tmp_path: Path) -> None:
    with writer(tmp_path, gateway_eui=None) as spool:
        spool.offer(heard([frame(index) for index in range(10)]))
        assert spool.flush()
        with spool.reader() as reader:
            assert reader.unacknowledged("city") == []
            spool.identify(EUI)
            assert spool.on_sealed("city").wait(10)
            assert len(Platform().collect(reader)) == 1


def test_a_changed_filter_counts_its_version_up_between_frames(tmp_path: Path) -> None:
    with writer(tmp_path, policy=Policy(100, 3600.0, 64 << 20)) as spool:
        spool.offer(heard([frame(index) for index in range(4)]))
        wait_for(lambda: spool.status().queued_frames == 0)
    changed = (type(CITY)("city", b"filter 1b"),)
    platform = Platform()
    with writer(tmp_path, changed, policy=Policy(100, 3600.0, 64 << 20)) as spool:
        spool.offer(heard([frame(index) for index in range(4, 9)]))
        assert spool.flush()
        with spool.reader() as reader:
            platform.collect(reader)
    assert [(one.header.filter_version, one.header.frame_count) for one in platform.batches.values()] == [
        (1, 4),
        (2, 5),
    ]


def test_a_tally_that_does_not_fit_its_frames_is_refused(tmp_path: Path) -> None:
    with writer(tmp_path) as spool:
        good = heard([frame(0)])
        with pytest.raises(ValueError, match="does not fit"):
            spool.offer(type(good)(good.frames, (Account(heard=2, spooled=2),)))
        with pytest.raises(ValueError, match="tallies"):
            spool.offer(type(good)(good.frames, ()))
        assert spool.status().queued_frames == 0


def test_counts_without_frames_travel_too(tmp_path: Path) -> None:
    platform = Platform()
    with writer(tmp_path) as spool:
        spool.offer(heard([], foreign=12))
        assert spool.flush()
        with spool.reader() as reader:
            platform.collect(reader)
            assert platform.account() == Account(heard=12, filtered=12)
            spool.receipt(platform.receipt(reader.head("city").stream_id))
            wait_for(lambda: reader.head("city").through == 1)
            assert spool.flush()
            assert reader.unacknowledged("city") == []  # nothing new: no batch for nothing
    assert POLICY.batch_frames == 10
