# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What real receivers sent, in 138 captures: read as gpsd reads it, and believed only where it may be."""

from __future__ import annotations

import json
import tarfile
from functools import cache
from pathlib import Path

import pytest

from drivers.gnss.framing import Frame, Protocol, Splitter
from drivers.gnss.leapseconds import BUILT_IN, GPS_EPOCH_UNIX_S
from drivers.gnss.messages import GpsTime, Message, Position, UtcTime, read
from drivers.gnss.reference import NS_PER_S
from drivers.gnss.synchroniser import SecondMark
from drivers.gnss.timekeeping import ERA_S, Timekeeper

DATA = Path(__file__).parents[2] / "data/gnss"
APART_MS = 2
EDGE = 4
"""Times that gpsd does not report, at the most: it waits until it has understood the receiver's cycle."""

GPSD_IS_AN_ERA_AHEAD = {"neo-m8n", "tcp-torture"}
"""Here gpsd takes the date for one from before a rollover, because the capture has no leap seconds that fit it."""
STEP_BACK = {"bt451", "telit-he910"}
"""Which these receivers did indeed, by 52 minutes and by 0.3 s."""
NO_FIX = {"bu303-nofix", "skytraq", "ublox-lea-5q", "ericsson-gru04"}


@cache
def archive(name: str) -> dict[str, bytes]:
    with tarfile.open(DATA / f"{name}.tar.xz") as tar:
        members = [(member, tar.extractfile(member)) for member in tar.getmembers()]
        return {member.name: file.read() for member, file in members if file is not None}


CAPTURES = sorted(name.removesuffix(".log") for name in archive("gpsd") if name.endswith(".log"))
TIMES: dict[str, list[int]] = json.loads(archive("gpsd")["times.json"])


def heard(data: bytes, piece: int = 37) -> list[tuple[Message, Frame]]:
    splitter = Splitter()
    found = []
    for at in range(0, len(data), piece):
        # At 9600 baud, which does not matter: these receivers are not on a line with pulses.
        at_ns = at * 1_040_000
        for frame in splitter.feed(data[at : at + piece], at_ns, at_ns + piece * 1_040_000):
            message = read(frame)
            if message is not None:
                found.append((message, frame))
    return found


def believed(name: str, not_before_s: int) -> list[SecondMark]:
    keeper = Timekeeper(BUILT_IN, not_before_unix_s=not_before_s)
    marks = (keeper.take(message, frame) for message, frame in heard(archive("gpsd")[f"{name}.log"]))
    return [mark for mark in marks if mark is not None]


@pytest.mark.parametrize("name", CAPTURES)
def test_times_are_those_that_gpsd_reads(name: str) -> None:
    told = []
    for message, _ in heard(archive("gpsd")[f"{name}.log"]):
        if isinstance(message, UtcTime) and message.fix and message.unix_s is not None:
            told.append(message.unix_s * 1000 + message.part_ns // 1_000_000)
        elif isinstance(message, GpsTime) and message.gps_s is not None and message.leap_s is not None:
            utc_s = message.gps_s + GPS_EPOCH_UNIX_S - message.leap_s
            told.append(utc_s * 1000 + message.part_ns // 1_000_000)
    era_ms = ERA_S * 1000 if name in GPSD_IS_AN_ERA_AHEAD else 0
    theirs = {time + era for time in TIMES.get(name, []) for era in range(-APART_MS, APART_MS + 1)}
    strange = {time for time in told if time + era_ms not in theirs}
    assert len(strange) <= EDGE
    assert not told or len(strange) <= len(set(told)) // 2 or len(set(told)) <= EDGE


@pytest.mark.parametrize("name", CAPTURES)
def test_what_is_believed_goes_forward(name: str) -> None:
    marks = believed(name, min(TIMES.get(name, []), default=0) // 1000 - 86_400)
    moments = [mark.gps_s * NS_PER_S + mark.part_ns for mark in marks]
    if name not in STEP_BACK:
        assert moments == sorted(moments)
    if name in NO_FIX:
        assert marks == []


@pytest.mark.parametrize(
    ("name", "first"),
    [("gp-320fw-2019-03-28", 1_553_791_516), ("gp-320fw-2019-04-06-overflow", 1_554_595_043)],
)
def test_receivers_around_the_rollover_of_2019_are_right(name: str, first: int) -> None:
    marks = believed(name, 1_546_300_800)
    utc = [mark.gps_s + GPS_EPOCH_UNIX_S - mark.leap_s for mark in marks]
    assert len(utc) == 20
    assert abs(utc[0] - first) <= 2


def test_a_receiver_that_took_2019_for_1999_is_put_right() -> None:
    (mark, *_) = believed("april6_2019", 1_546_300_800)
    assert mark.gps_s + GPS_EPOCH_UNIX_S - mark.leap_s == 935_280_151 + ERA_S


def test_positions_are_on_the_globe_and_where_the_receiver_was() -> None:
    places = {"quectel-l76k-nmea": (47.7, -122.3), "blumax-gps009": (52.0, 8.5), "bu353s4": (-37.8, 175.3)}
    for name in CAPTURES:
        for message, _ in heard(archive("gpsd")[f"{name}.log"]):
            if isinstance(message, Position) and message.latitude_deg is not None:
                assert message.longitude_deg is not None
                if name in places:
                    latitude, longitude = places[name]
                    assert message.latitude_deg == pytest.approx(latitude, abs=1)
                    assert message.longitude_deg == pytest.approx(longitude, abs=1)


@pytest.mark.parametrize("name", sorted(archive("semuconsulting")))
def test_damaged_streams_give_what_is_good_in_them(name: str) -> None:
    """How it is cut makes no difference, and each sentence or message with a right checksum comes out."""
    data = archive("semuconsulting")[name]
    whole, cut = Splitter(), Splitter()
    frames = [frame.data for frame in whole.feed(data, 0, 1)]
    assert frames == [frame.data for at in range(len(data)) for frame in cut.feed(data[at : at + 1], at, at + 1)]
    for frame in frames:
        read(Frame(Protocol.NMEA if frame.startswith(b"$") else Protocol.UBX, frame, 0, 1))
    assert sum(map(len, frames)) + whole.noise_bytes + len(whole._buffer) == len(data)
