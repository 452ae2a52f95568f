# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What is odd about a link that works."""

from __future__ import annotations

import pytest

from agent.uplink.port import Traffic
from agent.uplink.quality import ANSWERS, LIVES, LOSS_SEGMENTS, SLOW_S, Quality


def test_a_good_link_gives_no_notice() -> None:
    quality = Quality()
    assert (quality.notice, quality.answer_s) == (None, None)
    quality.answered(0.2)
    quality.carried(Traffic(10_000, 1000, 3 * LOSS_SEGMENTS, 1))
    assert (quality.notice, quality.answer_s) == (None, 0.2)


def test_slow_answers_are_told_as_long_as_they_are_usual() -> None:
    quality = Quality()
    told: list[str | None] = []
    for after_s in (SLOW_S + 1.5,) * ANSWERS + (0.1,) * (ANSWERS // 2 + 1):
        quality.answered(after_s)
        told.append(quality.notice)
    assert told == ["the link is slow: an answer takes 4.0 s"] * (len(told) - 1) + [None]


def test_loss_is_told_of_the_latest_segments_alone_and_never_of_a_few() -> None:
    quality = Quality()
    told: list[str | None] = []
    for segments, repeated in ((LOSS_SEGMENTS - 1, LOSS_SEGMENTS - 1), (100, 30), (200, 31)):
        quality.carried(Traffic(0, 0, segments, repeated))
        told.append(quality.notice)
    assert told == [None, "the link loses what is sent: 30% of the segments had to be repeated", None]


@pytest.mark.parametrize(
    ("lives", "told"),
    [
        ([60.1, 59.8, 60.4], "each connection is cut after about 60 s"),
        ([300.0, 310.0, 299.0], "each connection is cut after about 300 s"),
        ([60.0, 60.0], None),
        ([60.0, 5.0, 60.0], None),
        ([0.2, 0.2, 0.2], None),
    ],
)
def test_connections_that_end_at_the_same_age_are_cut_by_a_clock(lives: list[float], told: str | None) -> None:
    quality = Quality()
    for age_s in lives:
        quality.cut(age_s)
    assert quality.notice == told or (told and told in str(quality.notice))


def test_another_end_in_between_is_no_clock() -> None:
    quality = Quality()
    for _ in range(LIVES):
        quality.cut(60.0)
    quality.left()
    assert quality.notice is None
