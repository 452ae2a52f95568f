# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The receiver on its port: what it says is believed when it may be, and whatever happens to it has a name."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.emulator.gnss import parse_settings, ubx
from drivers.gnss.messages import read
from drivers.gnss.receiver import RATES, Receiver, ReceiverState
from drivers.gnss.synchroniser import SecondMark
from drivers.gnss.ublox import ask_by_key
from tests.drivers.bench import TestClock
from tests.drivers.gnss.port import NS, Port, Wire
from tests.drivers.gnss.stream import sentence, split

START = "start=2026-11-22T23:00:00"


def wired(text: str = "", *, begin: str = START) -> tuple[Receiver, Wire]:
    clock = TestClock()
    wire = Wire(clock, parse_settings(f"{begin},{text}"), clock.monotonic_ns)
    return Receiver(wire.open, clock), wire


def listen(receiver: Receiver, wire: Wire, seconds: float, *, pause_s: float = 0) -> list[SecondMark]:
    marks, end_ns = [], wire.clock.now_ns + round(seconds * NS)
    while wire.clock.now_ns < end_ns:
        marks += receiver.look()
        wire.clock.sleep(pause_s if receiver.is_open else 0.5)
    return marks


def state(receiver: Receiver) -> ReceiverState:
    return receiver.status.state


def check(marks: list[SecondMark], wire: Wire) -> None:
    """Each mark names the second that began last before it."""
    for mark in marks:
        second = (mark.after_ns - wire.late_ns) // NS
        assert mark.gps_s * NS == wire.gps_ns(second * NS)
        assert mark.before_ns <= second * NS + wire.late_ns <= mark.after_ns <= mark.before_ns + NS


def test_gps_time_is_asked_for_and_told() -> None:
    receiver, wire = wired()
    marks = listen(receiver, wire, 10)
    assert len(marks) >= 8
    check(marks, wire)
    status = receiver.status
    assert (status.state, status.detail, status.tells_gps_time) == (ReceiverState.FIX, "", True)
    assert {mark.leap_s for mark in marks} == {18}
    assert marks[-1].accuracy_ns == 21
    assert (marks[-1].gps_doubt_s, marks[-1].utc_doubt_s) == (0, 0)
    sight = status.sight
    assert (sight.satellites, sight.hdop, sight.altitude_m) == (8, 1.01, 499.6)
    assert sight.latitude_deg == pytest.approx(47 + 11.523 / 60, abs=1e-6)
    assert sight.longitude_deg == pytest.approx(8 + 41.9034 / 60, abs=1e-6)


@pytest.mark.parametrize("talker", ["GP", "GN", "GA", "GL", "BD", "GB"])
@pytest.mark.parametrize("fields", [13, 14])
def test_a_receiver_of_another_make_tells_utc(talker: str, fields: int) -> None:
    receiver, wire = wired(f"ubx=no,talker={talker},rmc={fields}")
    marks = listen(receiver, wire, 10)
    assert len(marks) >= 8
    check(marks, wire)
    assert not receiver.status.tells_gps_time
    # It has not had the time to learn from the satellites how many leap seconds there are.
    assert {mark.utc_doubt_s for mark in marks} == {2}


def test_the_leap_seconds_of_utc_are_certain_once_the_satellites_have_told_them() -> None:
    receiver, wire = wired("ubx=no")
    assert listen(receiver, wire, 890)[-1].utc_doubt_s == 2
    assert listen(receiver, wire, 20)[-1].utc_doubt_s == 0


@pytest.mark.parametrize("make", ["ubx=yes", "ubx=no"])
def test_before_the_fix_nothing_is_believed(make: str) -> None:
    receiver, wire = wired(f"fix=30,{make}")
    assert listen(receiver, wire, 29) == []
    assert state(receiver) is ReceiverState.NO_FIX
    marks = listen(receiver, wire, 20)
    assert len(marks) >= 14
    check(marks, wire)
    assert state(receiver) is ReceiverState.FIX


@pytest.mark.parametrize("make", ["ubx=yes", "ubx=no"])
@pytest.mark.parametrize("eras", [0, 1, 2])
def test_an_old_receiver_is_corrected_by_eras(make: str, eras: int) -> None:
    receiver, wire = wired(f"rollover={eras},{make}")
    marks = listen(receiver, wire, 10)
    assert len(marks) >= 8
    check(marks, wire)


@pytest.mark.parametrize("begin", ["1999-08-22T00:00:00", "2000-01-01T00:00:00"])
def test_a_beginning_that_no_correction_makes_plausible_is_refused(begin: str) -> None:
    receiver, wire = wired("ubx=no", begin=f"start={begin}")
    assert listen(receiver, wire, 10) == []
    assert receiver.status.implausible >= 8


@pytest.mark.parametrize("make", ["ubx=yes", "ubx=no"])
def test_gps_time_goes_on_through_a_leap_second_that_nobody_knew_of(make: str) -> None:
    receiver, wire = wired(f"leap-day=2026-12-31,{make}", begin="start=2026-12-31T23:59:50")
    marks = listen(receiver, wire, 20)
    assert len(marks) >= 18
    check(marks, wire)
    midnight = int(datetime(2027, 1, 1, tzinfo=UTC).timestamp())
    utc = [mark.gps_s + 315_964_800 - mark.leap_s for mark in marks]
    assert utc.count(midnight) == 2
    assert utc == sorted(utc)
    assert {mark.leap_s for mark in marks} == {18, 19}


@settings(max_examples=10, deadline=None)
@given(st.floats(0, 0.9), st.sampled_from(["ubx=yes", "ubx=no"]))
def test_noise_costs_messages_and_never_a_wrong_second(noise: float, make: str) -> None:
    receiver, wire = wired(f"noise={noise},{make}")
    check(listen(receiver, wire, 60), wire)


@pytest.mark.parametrize("baud", RATES)
def test_a_receiver_at_another_rate_is_found_and_the_rate_is_named(baud: int) -> None:
    receiver, wire = wired()
    wire.speaks_baud = baud
    marks = listen(receiver, wire, 40)
    check(marks, wire)
    assert len(marks) >= 5
    status = receiver.status
    assert (status.state, status.baud) == (ReceiverState.FIX, baud)
    assert (f"set baud = {baud}" in status.detail) is (baud != 9600)


def test_the_rate_of_a_usb_receiver_does_not_matter() -> None:
    receiver, wire = wired()
    wire.paced, wire.padding, wire.speaks_baud = False, b"x" * 4000, 1
    assert len(listen(receiver, wire, 10)) >= 8
    assert wire.opened == [9600]


def test_a_receiver_that_says_nothing_at_any_rate_is_named() -> None:
    receiver, wire = wired()
    wire.speaks_baud = 1
    assert listen(receiver, wire, 40) == []
    assert state(receiver) is ReceiverState.SILENT
    assert "any rate" in receiver.status.detail


def test_unplugged_and_plugged_in_again() -> None:
    receiver, wire = wired()
    wire.plugged = False
    assert listen(receiver, wire, 5) == []
    assert state(receiver) is ReceiverState.ABSENT
    assert "[CG-TTY-001]" in receiver.status.detail
    wire.plugged = True
    assert len(listen(receiver, wire, 20)) >= 8
    wire.plugged = False
    assert listen(receiver, wire, 100) == []
    assert "[CG-TTY-004]" in receiver.status.detail or "[CG-TTY-001]" in receiver.status.detail
    wire.plugged = True
    marks = listen(receiver, wire, 60)
    check(marks, wire)
    assert len(marks) >= 25
    assert receiver.status.opened == 2


def test_a_receiver_that_lost_its_supply_is_asked_again() -> None:
    receiver, wire = wired()
    listen(receiver, wire, 5)
    wire.receiver = type(wire.receiver)(wire.settings, begin_s=wire.begin_s)
    listen(receiver, wire, 5)
    marks = listen(receiver, wire, 90)
    assert marks[-1].accuracy_ns == 21


def test_a_message_at_the_end_of_a_burst_is_as_late_as_its_beginning_at_most() -> None:
    receiver, wire = wired("ubx=no")
    wire.padding = b"\r\n" * 100
    wire.preface = b"\r\n" * 200
    marks = listen(receiver, wire, 10)
    assert len(marks) >= 8
    for mark in marks[1:]:
        second = (mark.after_ns - wire.late_ns - 400_000_000) // NS
        assert 0 <= second * NS + wire.late_ns - mark.before_ns <= 30_000_000
        assert mark.after_ns >= second * NS + wire.late_ns + 400_000_000


def test_a_line_that_is_never_quiet_is_named() -> None:
    receiver, wire = wired()
    wire.padding = b"\r\n" * 480
    marks = listen(receiver, wire, 20)
    assert marks[-1].after_ns - marks[-1].before_ns > 10 * NS
    assert "more than 9600 baud carry" in receiver.status.detail


def test_a_receiver_of_generation_10_is_asked_by_key() -> None:
    receiver, wire = wired()

    class Generation10(type(wire.receiver)):  # type: ignore[misc]
        def feed(self, data: bytes) -> bytes:
            if data == ask_by_key(usb=False):
                super().feed(ubx(6, 1, b"\x01\x20\x01"))
                return ubx(5, 1, b"\x06\x8a")
            return ubx(5, 0, b"\x06\x01") * data.count(b"\xb5\x62\x06\x01")

    wire.receiver = Generation10(wire.settings, begin_s=wire.begin_s)
    marks = listen(receiver, wire, 10)
    assert receiver.status.tells_gps_time
    assert marks[-1].accuracy_ns == 21
    assert wire.written.count(b"\xb5\x62\x06\x8a") == 1


@given(st.lists(st.binary(max_size=600), max_size=12))
def test_nothing_that_a_port_reads_raises(chunks: list[bytes]) -> None:
    clock = TestClock()

    class Babble(Port):
        def read(self, limit_bytes: int) -> bytes:
            clock.now_ns += 300_000_000
            return chunks.pop() if chunks else b""

    wire = Wire(clock, parse_settings(START), clock.monotonic_ns)
    receiver = Receiver(lambda baud: Babble(wire, baud), clock)
    while chunks:
        receiver.look()
    assert receiver.status.state in set(ReceiverState)


fields = st.lists(
    st.one_of(
        st.sampled_from(["", "A", "V", "N", "S", "E", "W", "1", "8", "000000.00", "235960", "991231", "4711.5", "nan"]),
        st.text(st.characters(min_codepoint=32, max_codepoint=126, exclude_characters="$*,"), max_size=8),
    ),
    max_size=18,
)


@given(st.sampled_from(["GPRMC", "GNGGA", "GPGSA", "GARMC"]), fields)
def test_no_sentence_with_a_right_checksum_raises(name: str, values: list[str]) -> None:
    for frame in split(sentence(",".join((name, *values))), 500):
        read(frame)


@given(st.sampled_from([(1, 0x20), (5, 0), (5, 1)]), st.binary(max_size=40))
def test_no_message_with_a_right_checksum_raises(kind: tuple[int, int], payload: bytes) -> None:
    for frame in split(ubx(*kind, payload), 500):
        read(frame)
