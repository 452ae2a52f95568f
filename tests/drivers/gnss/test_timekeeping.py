# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Which of a receiver's times are believed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.emulator.gnss import ubx
from drivers.gnss.leapseconds import BUILT_IN
from drivers.gnss.messages import read
from drivers.gnss.synchroniser import SecondMark
from drivers.gnss.timekeeping import Timekeeper
from tests.drivers.gnss.stream import sentence, split

GPS_S = 1_479_423_618
"""2026-11-22T23:00:00 UTC, with 18 leap seconds."""
PLACE = "4711.5230,N,00841.9034,E,0.01,"


def timegps(gps_s: int = GPS_S, *, part_ns: int = 0, leap_s: int = 18, valid: int = 7, accuracy_ns: int = 21) -> bytes:
    week, tow_s = divmod(gps_s, 604_800)
    payload = (tow_s * 1000).to_bytes(4, "little") + part_ns.to_bytes(4, "little", signed=True)
    payload += week.to_bytes(2, "little", signed=True) + bytes((leap_s, valid)) + accuracy_ns.to_bytes(4, "little")
    return ubx(1, 0x20, payload)


def rmc(clock: str = "230000.00", day: str = "221126", status: str = "A", mode: str = "A") -> bytes:
    return sentence(f"GNRMC,{clock},{status},{PLACE},{day},,,{mode}")


def gga(quality: int) -> bytes:
    return sentence(f"GNGGA,230000.00,4711.5230,N,00841.9034,E,{quality},08,1.01,499.6,M,48.0,M,,")


def told(keeper: Timekeeper, data: bytes, at_ns: int = 0) -> list[SecondMark]:
    frames = [replace(frame, before_ns=at_ns, after_ns=at_ns) for frame in split(data, len(data))]
    marks = (keeper.take(message, frame) for frame in frames if (message := read(frame)) is not None)
    return [mark for mark in marks if mark is not None]


def keeper() -> Timekeeper:
    return Timekeeper(BUILT_IN)


@pytest.mark.parametrize("valid", [0, 1, 2, 4, 5, 6])
def test_gps_time_needs_week_and_time_of_week(valid: int) -> None:
    assert told(keeper(), timegps(valid=valid)) == []


def test_a_receiver_on_its_own_clock_is_not_believed() -> None:
    assert told(keeper(), timegps(accuracy_ns=1_001)) == []
    assert told(keeper(), timegps(accuracy_ns=0xFFFFFFFF)) == []
    assert len(told(keeper(), timegps(accuracy_ns=1_000))) == 1


@pytest.mark.parametrize(
    "word", [rmc(status="V"), rmc(mode="N"), rmc(mode="E"), rmc(mode="S"), rmc(mode="M"), gga(0), gga(6), gga(8)]
)
def test_a_guess_is_not_believed_whoever_admits_it(word: bytes) -> None:
    assert told(keeper(), word + timegps()) == []
    one = keeper()
    told(one, word)
    assert len(told(one, rmc() + gga(1) + timegps(), at_ns=10**10)) >= 1


def test_the_receivers_leap_seconds_go_before_the_table() -> None:
    (mark,) = told(keeper(), timegps(leap_s=19))
    assert (mark.gps_s, mark.leap_s, mark.utc_doubt_s) == (GPS_S, 19, 0)
    (mark,) = told(keeper(), timegps(leap_s=0, valid=3))
    # The table ends before this day, and half a year may have brought one.
    assert (mark.gps_s, mark.leap_s, mark.gps_doubt_s, mark.utc_doubt_s) == (GPS_S, 18, 0, 1)


def test_gps_time_goes_before_utc_and_utc_is_taken_when_it_stops() -> None:
    one = keeper()
    assert len(told(one, timegps())) == 1
    assert told(one, rmc(), at_ns=1) == []
    (mark,) = told(one, rmc(), at_ns=6_000_000_000)
    assert (mark.gps_s, mark.leap_s, mark.gps_doubt_s) == (GPS_S, 18, 2)


@given(st.integers(-499_999, 499_999))
def test_a_fix_that_is_a_little_early_belongs_to_the_second_that_begins(part_ns: int) -> None:
    (mark,) = told(keeper(), timegps(part_ns=part_ns))
    assert (mark.gps_s, mark.part_ns) == (GPS_S, part_ns)


@pytest.mark.parametrize("clock", ["235961.00", "120060.00", "240000.00", "1200", "nonsense"])
def test_what_is_no_time_of_day_is_none(clock: str) -> None:
    assert told(keeper(), rmc(clock=clock)) == []
