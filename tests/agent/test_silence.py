# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""When a silence is suspect depends on the place."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from agent.silence import LEARNED_PACKETS, SHORTEST_S, TIMES_LONGEST, Silence


def learned(gap_s: float) -> tuple[Silence, float]:
    silence, now_s = Silence(0.0), 0.0
    for _ in range(LEARNED_PACKETS):
        now_s += gap_s
        assert not silence.too_long(now_s)
        silence.heard(now_s, 1)
    return silence, now_s


def test_a_place_of_which_nothing_is_known_is_never_suspect() -> None:
    silence = Silence(0.0)
    silence.heard(1.0, LEARNED_PACKETS - 1)
    assert not silence.too_long(1e9)


def test_a_busy_place_is_suspect_after_an_hour() -> None:
    silence, now_s = learned(1.0)
    assert not silence.too_long(now_s + SHORTEST_S - 1)
    assert silence.too_long(now_s + SHORTEST_S)


def test_a_quiet_place_has_its_own_measure() -> None:
    silence, now_s = learned(7200.0)
    assert not silence.too_long(now_s + 7200 * TIMES_LONGEST - 1)
    assert silence.too_long(now_s + 7200 * TIMES_LONGEST)


@given(st.lists(st.floats(min_value=1, max_value=1e5), min_size=1, max_size=300))
def test_a_silence_that_goes_on_is_asked_about_ever_more_seldom(steps: list[float]) -> None:
    silence, now_s = learned(60.0)
    asked: list[float] = []
    for step in steps:
        now_s += step
        if silence.too_long(now_s):
            asked.append(now_s)
    gaps = [later - earlier for earlier, later in pairwise(asked)]
    assert all(later >= TIMES_LONGEST * earlier for earlier, later in pairwise(gaps))
