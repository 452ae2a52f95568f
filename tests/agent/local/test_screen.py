# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""A report on a terminal: readable, and no report of another release ends in a traceback."""

from __future__ import annotations

import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from agent.cli.screen import Screen, bound, duration, printable, size
from agent.cli.watch import Picture, as_line
from agent.local.remarks import remarks
from tests.agent.test_metrics import JSON, whole

KEPT = {
    "number": 1,
    "boottime_us": 1,
    "age_s": 2.0,
    "fate": "kept",
    "if_chain": 0,
    "frequency_hz": 868_100_000,
    "modulation": "lora",
    "datarate": 9,
    "bandwidth_hz": 125_000,
    "rssi_dbm": -97.3,
    "snr_db": 6.25,
    "size_bytes": 20,
    "kind": "data",
    "device": "26011bda",
    "f_cnt": 4711,
}


def drawn(said: dict[str, Any], doctor: object = None, width: int = 100) -> str:
    out = io.StringIO()
    console = Console(file=out, width=width, highlight=False)
    console.print(Screen(said, remarks(said), doctor).whole())
    return out.getvalue()


def test_everything_is_on_one_screen() -> None:
    sheet = {
        "verdict": "warn",
        "boot_id": whole()["boot_id"],
        "boottime_us": whole()["boottime_us"] - 7_200_000_000,
        "findings": [
            {"check": "antenna", "verdict": "warn", "evidence": "noise -101 dBm"},
            {"check": "power", "verdict": "ok", "evidence": "5.1 V"},
        ],
    }
    heard = whole()["heard"] | {"day": whole()["heard"]["hour"]}
    text = drawn(whole(heard=heard), sheet)
    for part in (
        "1 min 40 s",
        "not reachable, batch 6 of 9 delivered, 4 frames wait (up to 12 s)",
        "1970-01-01 00:00:00 UTC ± 250 ms (kernel)",
        "room for 400 MB without a platform",
        "works, with reservations, 2 h 0 min ago",
        "antenna: noise -101 dBm",
        "44.0 MB of memory, 1.5% of a processor, processor at 52 °C",
        "868.500",
    ):
        assert part in text, text
    assert "5.1 V" not in text
    assert len(text.splitlines()) <= 24


@given(st.dictionaries(st.sampled_from(sorted(whole())), JSON), st.sets(st.sampled_from(sorted(whole()))), JSON)
def test_a_report_of_another_release_is_shown_as_far_as_it_goes(
    odd: dict[str, Any], missing: set[str], doctor: object
) -> None:
    said = {name: value for name, value in (whole() | odd).items() if name not in missing}
    assert drawn(said, doctor)


def test_a_platforms_words_do_not_speak_to_the_terminal() -> None:
    said = whole()
    said["destinations"][0]["problem"] = "no\x1b[2J\x1b]0;title\x07 \u202e route"
    picture = Picture()
    picture.take({"status": {"report": said, "remarks": []}})
    out = io.StringIO()
    Console(file=out, width=100).print(picture.render(40))
    shown = drawn(printable(said)) + out.getvalue()
    assert "route" in shown
    assert not {"\x1b", "\x07", "\u202e"} & set(shown)


def test_a_picture_of_own_frames_only() -> None:
    picture = Picture(own=True)
    picture.take({"reception": KEPT})
    picture.take({"reception": KEPT | {"fate": "filtered", "device": None, "rssi_dbm": -70}})
    out = io.StringIO()
    Console(file=out, width=100).print(picture.render(30, "q quits"))
    assert "26011bda" in out.getvalue()
    assert "-70" not in out.getvalue()
    picture.own = False
    Console(file=out, width=100).print(picture.render(30))
    assert "-70" in out.getvalue()


def test_a_line_says_of_others_only_that_there_was_one() -> None:
    assert "own     26011bda data" in as_line(KEPT)
    assert "counter 4711" in as_line(KEPT)
    other = {name: value for name, value in KEPT.items() if name not in {"size_bytes", "kind", "device", "f_cnt"}}
    line = as_line(other | {"fate": "filtered", "rssi_dbm": -97, "snr_db": 6})
    assert line.split()[1:] == ["other", "868.100", "SF9", "-97.0", "dBm", "6.0", "dB"]


@pytest.mark.parametrize(
    ("told", "text"),
    [
        (duration(0.4), "0 s"),
        (duration(3723), "1 h 2 min"),
        (duration(90_061), "1 d 1 h"),
        (size(999), "999 B"),
        (size(12_345), "12.3 kB"),
        (size(5e15), "5,000.0 TB"),
        (bound(3), "3 µs"),
        (bound(2500), "2 ms"),
        (bound(2.5e6), "2.5 s"),
    ],
)
def test_figures_have_units_that_suit_them(told: str, text: str) -> None:
    assert told == text
