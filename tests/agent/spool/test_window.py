# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.spool.window import COMMIT_BYTES, DAY_S, FRAME_BYTES, CommitWindow
from agent.spool.writer import SpoolWriter
from tests.agent.spool.gateway import CITY, EUI, POLICY, SIGNER, frame, heard, wait_for

MB = 1e6


def live(rate_hz: float, window: CommitWindow, seconds: float, seed: int) -> tuple[float, float]:
    """Let frames come at random; return the bytes of a day and the mean wait of a frame."""
    chance = random.Random(seed)
    now, written, frames, waited = 0.0, 0.0, 0, 0.0
    group: list[float] = []
    while now < seconds:
        following = now + chance.expovariate(rate_hz)
        if group:
            due = max(group[0] + window.seconds(now), now)
            if due <= following:
                written += COMMIT_BYTES + FRAME_BYTES * len(group)
                waited += sum(due - at for at in group)
                group = []
        now = following
        frames += 1
        group.append(now)
        window.heard(now, 1)
    return written / seconds * DAY_S, waited / frames


@given(st.floats(0.001, 40.0), st.floats(0.0, 10.0), st.floats(10 * MB, 5_000 * MB))
def test_a_day_stays_within_the_budget_as_far_as_the_limit_allows(
    rate_hz: float, limit_s: float, budget: float
) -> None:
    window = CommitWindow(limit_s, budget)
    at_limit = CommitWindow(limit_s)
    seconds = max(1000.0, 200 / rate_hz)
    written, waited = live(rate_hz, window, seconds, 1)
    least, _ = live(rate_hz, at_limit, seconds, 1)
    assert written <= max(1.35 * budget, 1.1 * least)
    assert waited <= limit_s + 1e-9


@pytest.mark.parametrize(("rate_hz", "shortest", "longest"), [(0.05, 0.0, 0.05), (1.0, 0.3, 1.0), (20.0, 0.99, 1.0)])
def test_few_frames_are_committed_at_once_and_many_share(rate_hz: float, shortest: float, longest: float) -> None:
    window = CommitWindow(1.0, 274 * MB)  # a terabyte in ten years
    live(rate_hz, window, 2000.0, 2)
    assert shortest <= window.seconds(2000.0) <= longest


def test_a_limit_of_nothing_commits_each_frame() -> None:
    window = CommitWindow(0.0, 1.0)
    window.heard(1.0, 1000)
    assert window.seconds(1.0) == 0.0


def test_the_writer_commits_a_lonely_frame_at_once(tmp_path: Path) -> None:
    """Although its window is an hour."""
    spool = SpoolWriter(
        tmp_path / "spool.db",
        journal_folder=tmp_path / "journal",
        destinations=(CITY,),
        policy=POLICY,
        signer=SIGNER,
        gateway_eui=EUI,
        commit_window_s=3600.0,
        daily_bytes=1e9,
    )
    with spool:
        spool.offer(heard([frame(0)]))
        wait_for(lambda: spool.status().committed_frames == 1)
        status = spool.status()
        assert status.commit_window_s == 0.0
        assert status.frame_bytes > 0
        assert status.room_bytes is not None
        assert 0 < status.room_bytes <= POLICY.quota_bytes
