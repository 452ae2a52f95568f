# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""GPS time and UTC around leap seconds, and how long that is known."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.gnss.leapseconds import BUILT_IN, GPS_EPOCH_UNIX_S, NTP_EPOCH_UNIX_S, known, parse_list


def unix(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


@pytest.mark.parametrize(
    ("utc", "gps", "ahead"),
    [
        ("1980-01-06T00:00:00", 0, 0),
        ("2010-01-28T16:36:24", 948_731_799, 15),
        ("2012-06-30T23:59:59", 1_025_136_014, 15),
        ("2012-07-01T00:00:00", 1_025_136_016, 16),
        ("2016-12-31T23:59:59", 1_167_264_016, 17),
        ("2017-01-01T00:00:00", 1_167_264_018, 18),
        ("2025-07-14T00:00:00", 1_436_486_418, 18),
    ],
)
def test_gps_time_is_as_far_ahead_of_utc_as_others_say(utc: str, gps: int, ahead: int) -> None:
    """The seconds are those of other people's tests and tools; two of them frame the leap second of 2012."""
    assert BUILT_IN.at_utc(unix(utc)) == ahead
    assert unix(utc) - GPS_EPOCH_UNIX_S + ahead == gps
    assert BUILT_IN.at_gps(gps) == ahead


def test_the_leap_second_itself_counts_as_the_one_before() -> None:
    assert BUILT_IN.at_gps(1_025_136_015) == 15


@given(st.integers(GPS_EPOCH_UNIX_S, unix("2100-01-01T00:00:00")))
def test_there_and_back_is_the_same(unix_s: int) -> None:
    ahead = BUILT_IN.at_utc(unix_s)
    assert BUILT_IN.at_gps(unix_s - GPS_EPOCH_UNIX_S + ahead) == ahead


def test_behind_the_end_of_the_table_there_may_be_more() -> None:
    doubts = [
        BUILT_IN.doubt_s(unix(f"{day}T00:00:00")) for day in ("2020-01-01", "2026-06-30", "2026-07-01", "2027-01-01")
    ]
    assert doubts == [0, 0, 1, 2]


def test_the_systems_list_is_read() -> None:
    text = "#@ 3991593600\n" + "\n".join(
        f"{start - NTP_EPOCH_UNIX_S} {ahead + 19} # x"
        for start, ahead in zip(BUILT_IN.starts_unix_s, BUILT_IN.gps_ahead_s, strict=True)
    )
    assert parse_list(text) == BUILT_IN
    later = parse_list(text.replace("3991593600", "4100000000") + f"\n{unix('2029-01-01T00:00:00') + 2208988800} 38")
    assert later.at_utc(unix("2029-01-01T00:00:00")) == 19
    assert known().at_utc(unix("2020-01-01T00:00:00")) == 18


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "no date of expiry"),
        ("#@ 1\n", "no date of expiry"),
        ("#@ x", "invalid literal"),
        ("1 2 3", "too many values"),
        ("3692217600", "not enough values"),
        ("#@ 3991593600\n3692217600 99", "3692217600 99.: not one second more"),
        ("#@ 3991593600\n2571782400 20\n2603318400 22", "2603318400 22.: not one second more"),
    ],
)
def test_a_list_that_cannot_be_right_is_refused(text: str, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        parse_list(text)


@given(st.text(st.sampled_from("#@0123456789 \n\tx-"), max_size=80))
def test_no_text_does_anything_else(text: str) -> None:
    with suppress(ValueError):
        parse_list(text)
