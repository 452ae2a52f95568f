# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The GNSS receiver tells the time of each pulse as a u-blox does, and errs as it is told to."""

from __future__ import annotations

import os
import re
import select
import time
from datetime import UTC, datetime
from functools import reduce
from itertools import pairwise
from operator import xor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.emulator import Emulator
from drivers.emulator.gnss import NEVER_S, GnssPort, GnssSettings, Receiver, gps_seconds, parse_settings, ubx
from drivers.emulator.terminal import Terminal
from drivers.errors import BusError

ENABLE_TIMEGPS = bytes.fromhex("B5620601080001200001010000003294")
"""As the packet forwarder's library sends it."""


def sentences(data: bytes) -> dict[str, list[str]]:
    """NMEA sentences by name, checksums checked."""
    found = {}
    for body, check in re.findall(rb"\$([^*$]*)\*(..)\r\n", data):
        assert f"{reduce(xor, body):02X}".encode() == check
        values = body.decode().split(",")
        found[values[0][2:]] = values
    return found


def timegps(data: bytes) -> tuple[int, int, int, int]:
    """Time of week in ms, week, leap seconds and validity of a NAV-TIMEGPS."""
    at = data.index(b"\xb5\x62\x01\x20")
    frame = data[at : at + 24]
    assert frame == ubx(1, 0x20, frame[6:22])
    body = frame[6:22]
    assert body[4:8] == bytes(4)
    return int.from_bytes(body[:4], "little"), int.from_bytes(body[8:10], "little", signed=True), body[10], body[11]


def receiver(text: str = "") -> Receiver:
    made = Receiver(parse_settings(f"start=2025-07-14T00:00:00,{text}"), begin_s=100)
    assert made.feed(ENABLE_TIMEGPS) == (b"" if "ubx=no" in text else ubx(5, 1, b"\x06\x01"))
    return made


@pytest.mark.parametrize(
    ("utc", "leap_s", "gps"),
    [
        # The last two frame the leap second of 2012, which was GPS second 1025136015.
        ("1980-01-06T00:00:00", 0, 0),
        ("2010-01-28T16:36:24", 15, 948_731_799),
        ("2025-07-14T00:00:00", 18, 1_436_486_418),
        ("2012-06-30T23:59:59", 15, 1_025_136_014),
        ("2012-07-01T00:00:00", 16, 1_025_136_016),
    ],
)
def test_gps_time_is_counted_as_others_count_it(utc: str, leap_s: int, gps: int) -> None:
    assert gps_seconds(datetime.fromisoformat(utc).replace(tzinfo=UTC), leap_s) == gps


def test_all_messages_tell_the_same_time() -> None:
    data = receiver().epoch(100)
    told = sentences(data)
    assert told["RMC"][1:3] == ["000000.00", "A"]
    assert told["RMC"][9] == "140725"
    assert told["GGA"][1] == "000000.00"
    assert (len(told["RMC"]), len(told["GGA"])) == (13, 15)
    assert told["RMC"][12] == "A"
    tow_ms, week, leap_s, valid = timegps(data)
    assert (week * 604_800 + tow_ms // 1000, leap_s, valid) == (1_436_486_418, 18, 7)
    assert sentences(receiver().epoch(161))["RMC"][1] == "000101.00"


def test_timegps_stands_where_the_packet_forwarder_makes_sense_of_it() -> None:
    """It takes UTC from the sentence before, and reads eight bytes at a time: what is left comes a second later."""
    told = receiver().epoch(100)
    at = told.index(b"\xb5\x62\x01\x20")
    assert b"RMC" in told[:at]
    assert len(told) - at >= 24 + 7


def test_timegps_must_be_asked_for_and_can_be_slower() -> None:
    silent = Receiver(GnssSettings())
    assert b"\xb5\x62" not in silent.epoch(0)
    assert silent.feed(ubx(6, 1, bytes((1, 0x20, 2)))) == ubx(5, 1, b"\x06\x01")
    assert [b"\xb5\x62" in silent.epoch(second) for second in range(4)] == [True, False, True, False]
    silent.feed(ubx(6, 1, bytes((0xF0, 4, 0))) + ubx(6, 1, bytes((0xF0, 0, 0))))
    assert silent.epoch(1) == b""


def test_what_is_not_understood_is_refused_or_ignored() -> None:
    made = receiver()
    assert made.feed(ubx(6, 1, b"\x01\x07\x01")) == ubx(5, 0, b"\x06\x01")
    assert made.feed(ubx(6, 0, bytes(20))) == ubx(5, 0, b"\x06\x00")
    assert made.feed(ubx(1, 0x20, b"")) == b""
    assert made.feed(ENABLE_TIMEGPS[:-1] + b"\0") == b""
    assert receiver("ubx=no").feed(ENABLE_TIMEGPS) == b""


@given(st.binary(max_size=60), st.integers(1, 16))
def test_a_command_is_found_in_any_noise_and_any_pieces(noise: bytes, piece: int) -> None:
    made = Receiver(GnssSettings())
    data = noise.replace(b"\xb5", b"") + ENABLE_TIMEGPS
    answers = b"".join(made.feed(data[at : at + piece]) for at in range(0, len(data), piece))
    assert answers == ubx(5, 1, b"\x06\x01")


@given(st.lists(st.binary(max_size=700), max_size=8))
def test_noise_is_survived_and_not_hoarded(chunks: list[bytes]) -> None:
    made = Receiver(GnssSettings())
    for chunk in chunks:
        made.feed(chunk)
        assert len(made._buffer) <= 520


def test_rmc_has_13_or_14_fields_and_any_talker() -> None:
    told = receiver("rmc=14,talker=GN").epoch(100)
    assert b"$GNRMC," in told
    assert len(sentences(told)["RMC"]) == 14
    assert len(sentences(receiver("rmc=14,fix=never").epoch(100))["RMC"]) == 14


def test_without_a_fix_nothing_is_said_to_be_valid() -> None:
    starting = receiver("fix=30")
    told = starting.epoch(129)
    assert sentences(told)["RMC"] == ["GPRMC", "", "V", *[""] * 9, "N"]
    assert sentences(told)["GGA"][6] == "0"
    assert len(sentences(told)["GGA"]) == 15
    assert timegps(told)[3] == 0
    assert sentences(starting.epoch(130))["RMC"][2] == "A"
    assert parse_settings("fix=never").fix_after_s == NEVER_S


def test_a_leap_second_has_the_number_60_and_then_counts() -> None:
    made = Receiver(parse_settings("start=2016-12-31T23:59:58,leap=17,leap-day=2016-12-31"))
    made.feed(ENABLE_TIMEGPS)
    told = [made.epoch(second) for second in range(5)]
    assert [(sentences(t)["RMC"][1], sentences(t)["RMC"][9]) for t in told] == [
        ("235958.00", "311216"),
        ("235959.00", "311216"),
        ("235960.00", "311216"),
        ("000000.00", "010117"),
        ("000001.00", "010117"),
    ]
    assert [timegps(t)[2] for t in told] == [17, 17, 17, 18, 18]
    tows = [timegps(t)[0] for t in told]
    assert [b - a for a, b in pairwise(tows)] == [1000] * 4


def test_the_week_ends_and_an_old_receiver_is_an_era_behind() -> None:
    made = Receiver(parse_settings("start=2019-04-06T23:59:41"))
    made.feed(ENABLE_TIMEGPS)
    assert [timegps(made.epoch(second))[:2] for second in range(2)] == [(604_799_000, 2047), (0, 2048)]
    old = Receiver(parse_settings("start=2019-04-06T23:59:42,rollover=1"))
    old.feed(ENABLE_TIMEGPS)
    assert timegps(old.epoch(0))[:2] == (0, 1024)
    assert sentences(old.epoch(0))["RMC"][9] == "210899"


def test_noise_damages_its_share_and_always_the_same() -> None:
    clean, dirty, again = receiver(), receiver("noise=0.5"), receiver("noise=0.5")
    seconds = range(100, 300)
    whole = [clean.epoch(second) for second in seconds]
    damaged = [dirty.epoch(second) for second in seconds]
    assert damaged == [again.epoch(second) for second in seconds]
    same = sum(a == b for a, b in zip(whole, damaged, strict=True))
    assert 5 < same < 60  # three messages each


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("fixed=no", "'fixed': expected one of start, leap"),
        ("rmc=12", "'rmc=12': expected 13 or 14"),
        ("start=now", "'start=now': expected a UTC time"),
        ("start=9999-01-01", "expected a UTC time"),
        ("leap-day=9999-12-31", "expected a day"),
        ("noise=nan", "expected a share"),
        ("fix=", "or never"),
        ("ubx", "yes or no"),
    ],
)
def test_wrong_settings_are_explained(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said.replace("(", ".")):
        parse_settings(text)


def read_frame(path: Path, begin: bytes, size: int, limit_s: float = 60.0) -> bytes:
    """Read from a terminal until there is a whole frame."""
    data, end = b"", time.monotonic() + limit_s
    with path.open("rb", buffering=0) as port:
        while begin not in data or len(data) - data.index(begin) < size:
            ready, _, _ = select.select([port], [], [], max(end - time.monotonic(), 0))
            assert ready, f"nothing more after {data!r}"
            data += port.read(4096)
    return data


def test_on_its_port_it_tells_the_latched_pulse_soon_after_it(tmp_path: Path) -> None:
    emulator = Emulator()
    link = tmp_path / "ttyGNSS"
    with GnssPort(emulator, link, parse_settings("start=2025-07-14T00:00:00")):
        begin_s = emulator.now_us() // 1_000_000
        with link.open("wb", buffering=0) as port:
            port.write(ENABLE_TIMEGPS)
        tow_ms, *_ = timegps(read_frame(link, b"\xb5\x62\x01\x20", 24))
        monday_s = 86_400 + 18
        pulse_us = (begin_s + tow_ms // 1000 - monday_s) * 1_000_000
        assert begin_s * 1_000_000 < pulse_us <= emulator.now_us() - 100_000
    assert not link.is_symlink()


def test_a_port_that_nobody_reads_has_no_old_news_and_one_that_is_read_loses_nothing(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path / "tty")
    port = os.open(tmp_path / "tty", os.O_RDWR | os.O_NOCTTY)
    for told in (b"first", b"second", b"third"):
        terminal.write(told, fresh=True)
        assert select.select([port], [], [], 30)[0]
    assert os.read(port, 2) == b"th"
    terminal.write(b"fourth", fresh=True)
    data = b""
    while len(data) < 9 and select.select([port], [], [], 30)[0]:
        data += os.read(port, 100)
    assert data == b"irdfourth"
    os.close(port)
    terminal.close()


def test_a_file_in_the_links_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tty").write_text("mine")
    with pytest.raises(BusError, match="exists"):
        GnssPort(Emulator(), tmp_path / "tty", GnssSettings())
    assert (tmp_path / "tty").read_text() == "mine"
