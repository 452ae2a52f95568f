# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Clock anchors of a GNSS receiver on an emulated concentrator: few, and true whatever comes and goes.

Time only passes when somebody waits. The host's clock runs too fast, the concentrator's crystal too slow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from threading import Event

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.batch.model import Anchor, TimeSource
from agent.gnss import ANCHOR_EVERY_S, AnchorChoice, Gnss
from agent.radio import Radio
from agent.timeline import BootTimeline
from drivers.emulator import Emulator
from drivers.emulator.gnss import parse_settings
from drivers.sx1302.concentrator import Concentrator
from drivers.sx1302.pps import Pulse
from tests.agent.test_radio import Play, Script
from tests.drivers.bench import Bench, TestClock
from tests.drivers.gnss.port import NS, Wire

BOOT = bytes(range(16))
HOST_FAST_PPM = 30
LIMIT_US = 500


class HostTime(TestClock):
    """CLOCK_BOOTTIME is steady and has some time in suspend; CLOCK_MONOTONIC is being slewed."""

    boot_id = BOOT
    slewed_ppm = 100

    def monotonic_ns(self) -> int:
        return self.now_ns + self.now_ns * self.slewed_ppm // 1_000_000

    def boottime_us(self) -> int:
        return self.now_ns // 1000 + 7_000_000


class Gateway:
    """A concentrator, a GNSS receiver, and the agent's part that listens to both; the truth is the emulator's time."""

    def __init__(self, text: str = "", *, start: str = "2026-11-22T23:00:00", poll_s: float = 0.1) -> None:
        self.clock = HostTime()
        self.bench = Bench()
        self.bench.clock = self.clock
        self.bench.emulator = Emulator(monotonic_ns=self.true_ns)
        self.bench.bus.bus = self.bench.emulator.bus()
        self.wire = Wire(self.clock, parse_settings(f"start={start},{text}"), self.emulator_ns)
        self.anchors: list[Anchor] = []
        self.gnss = Gnss(self.wire.open, self.clock, Event(), on_anchor=self.anchors.append, baud=9600)
        self.poll_s = poll_s
        self.concentrator: Concentrator = self.bench.concentrator()
        self.start_chip()

    def true_ns(self) -> int:
        return self.clock.now_ns - self.clock.now_ns * HOST_FAST_PPM // 1_000_000

    def emulator_ns(self) -> int:
        return self.bench.emulator.now_us() * 1000

    def start_chip(self) -> None:
        self.gnss.chip_started()
        self.concentrator.start()
        self.bench.emulator.fault("rate", ppb=-12_000)

    def run(self, seconds: float, *, chip: bool = True) -> None:
        end_ns = self.clock.now_ns + round(seconds * NS)
        next_poll_ns = 0
        while self.clock.now_ns < end_ns:
            self.gnss.look()
            self.clock.sleep(self.gnss._pause_s() or 0.005)
            if chip and self.clock.now_ns >= next_poll_ns:
                next_poll_ns = self.clock.now_ns + round(self.poll_s * NS)
                pulse = self.concentrator.receive().pulse
                if pulse is not None:
                    self.gnss.pulse(pulse)

    def true_utc_us(self) -> int:
        """True UTC of now."""
        return self.wire.utc_ns(self.emulator_ns()) // 1000

    def check(self, *, limit_us: int = LIMIT_US) -> None:
        """All anchors are true, and bound this moment truly."""
        now_us, utc_us = self.clock.boottime_us(), self.true_utc_us()
        for anchor in self.anchors:
            away_us = now_us - anchor.boottime_us
            truth_us = utc_us - away_us + away_us * HOST_FAST_PPM // 1_000_000
            assert abs(anchor.utc_us - truth_us) <= anchor.uncertainty_us + 2
            assert anchor.uncertainty_us <= limit_us
            assert (anchor.boot_id, anchor.source) == (BOOT, TimeSource.GNSS)
        estimate = BootTimeline(self.anchors).utc(now_us)
        if estimate is not None:
            assert abs(estimate.utc_us - utc_us) <= estimate.error_us + 2

    def check_reference(self) -> None:
        """What the counter is said to be is true within its bound."""
        reference = self.gnss.synchroniser.reference
        if reference is not None:
            ticks = self.concentrator.counter_us() * 32
            off_ns = reference.gps_ns(ticks) - self.wire.gps_ns(self.emulator_ns())
            assert abs(off_ns) <= reference.error_ns(ticks) + 2_000


@pytest.mark.parametrize("make", ["ubx=yes", "ubx=no,talker=GN,rmc=14"])
def test_a_pulse_becomes_an_anchor_within_seconds_and_then_only_now_and_then(make: str) -> None:
    gateway = Gateway(make)
    gateway.run(15)
    assert gateway.anchors
    gateway.run(1200)
    gateway.check(limit_us=3_000_000)
    gateway.check_reference()
    assert gateway.anchors[-1].uncertainty_us <= LIMIT_US
    assert 4 <= len(gateway.anchors) <= 12
    health = gateway.gnss.health()
    assert health["gnss_state"] == 3
    assert health["gnss_satellites"] == 8
    assert health["gnss_time_age_s"] <= 2
    assert health["gnss_drift_ppb"] == pytest.approx(-12_000, abs=20)
    assert health["gnss_latitude_udeg"] == 47_192_050
    assert "gnss_contradictions" not in health
    gateway.run(100)
    assert set(gateway.gnss.health()) == {"gnss_state", "gnss_time_age_s"}
    status = gateway.gnss.status
    assert status.pulse_age_s is not None
    assert status.pulse_age_s < 3
    assert status.anchors == len(gateway.anchors)


@pytest.mark.parametrize("slewed_ppm", [-20_000, 20_000])
def test_a_time_daemon_that_slews_the_hosts_clock_moves_nothing(slewed_ppm: int) -> None:
    gateway = Gateway()
    gateway.run(30)
    gateway.clock.slewed_ppm = slewed_ppm
    gateway.start_chip()  # the counter is watched against the same clock, which has just made a step
    gateway.run(700)
    gateway.check()
    gateway.check_reference()
    assert len(gateway.anchors) >= 3


def test_without_pulses_there_are_no_anchors() -> None:
    gateway = Gateway()
    gateway.bench.emulator.fault("pps_lost")
    gateway.run(30)
    assert gateway.anchors == []
    assert gateway.gnss.health()["gnss_state"] == 3
    assert gateway.gnss.status.pulse_age_s is None


def test_when_the_time_is_lost_the_last_pulse_becomes_an_anchor() -> None:
    gateway = Gateway()
    gateway.run(120)
    before = len(gateway.anchors)
    gateway.wire.plugged = False
    gateway.run(60)
    assert len(gateway.anchors) == before + 1
    assert gateway.clock.boottime_us() - gateway.anchors[-1].boottime_us < 65_000_000
    gateway.check()
    gateway.check_reference()
    assert gateway.gnss.health()["gnss_time_age_s"] >= 55


@pytest.mark.parametrize("preface", [0, 600, 740, 760])
def test_a_receiver_that_comes_to_the_time_after_a_second_is_not_believed_rather_than_wrongly(preface: int) -> None:
    gateway = Gateway("ubx=no")
    gateway.wire.late_ns = 330_000_000
    gateway.wire.preface = b"\n" * preface
    gateway.run(60)
    gateway.check(limit_us=3_000_000)
    gateway.check_reference()
    assert bool(gateway.anchors) is (preface < 700)


def test_another_source_that_says_otherwise_is_noticed() -> None:
    gateway = Gateway()
    gateway.run(20)
    now_us, utc_us = gateway.clock.boottime_us(), gateway.true_utc_us()
    gateway.gnss.compare(Anchor(BOOT, now_us, utc_us + 3_000, 5_000, TimeSource.KERNEL))
    assert "gnss_disputed" not in gateway.gnss.health()
    gateway.gnss.compare(Anchor(BOOT, now_us, utc_us - 1_000_000, 5_000, TimeSource.KERNEL))
    assert gateway.gnss.health()["gnss_disputed"] == 1


Trouble = Callable[[Gateway], None]


def plug_out(gateway: Gateway) -> None:
    gateway.wire.plugged = False


def plug_in(gateway: Gateway) -> None:
    gateway.wire.plugged = True


def lose_pulses(gateway: Gateway) -> None:
    gateway.bench.emulator.fault("pps_lost")


def mend(gateway: Gateway) -> None:
    gateway.bench.emulator.clear_faults()
    gateway.bench.emulator.fault("rate", ppb=-12_000)


def restart_chip(gateway: Gateway) -> None:
    gateway.start_chip()


def be_busy(gateway: Gateway) -> None:
    gateway.wire.stall_ns = 2 * NS


def be_quick(gateway: Gateway) -> None:
    gateway.wire.stall_ns = 0


def leave_the_chip_alone(gateway: Gateway) -> None:
    gateway.run(150, chip=False)


def lose_fix(gateway: Gateway) -> None:
    wire = gateway.wire
    wire.receiver = type(wire.receiver)(parse_settings("start=2000-01-01T00:00:00,fix=never"), begin_s=wire.told)


TROUBLES: tuple[Trouble, ...] = (
    *(plug_out, plug_in, lose_pulses, mend, restart_chip, be_busy, be_quick, leave_the_chip_alone, lose_fix),
)


@settings(max_examples=12, deadline=None)
@given(
    st.sampled_from(["ubx=yes", "ubx=no", "noise=0.3", "rollover=1,ubx=no", "fix=25"]),
    st.lists(st.tuples(st.sampled_from(TROUBLES), st.integers(1, 40)), max_size=8),
    st.integers(20_000_000, 950_000_000),
    st.sampled_from([0, 0, 400, 600, 760]),
)
def test_gnss_comes_and_goes_and_no_anchor_is_ever_wrong(
    text: str, troubles: list[tuple[Trouble, int]], late_ns: int, more_bytes: int
) -> None:
    gateway = Gateway(text)
    gateway.wire.late_ns = late_ns
    gateway.wire.padding = b"\n" * more_bytes
    gateway.run(20)
    for trouble, seconds in troubles:
        trouble(gateway)
        gateway.run(seconds)
        gateway.check(limit_us=3_000_000)
        gateway.check_reference()


def anchors(uncertainties: Iterator[int]) -> Iterator[Anchor]:
    for second, uncertainty in enumerate(uncertainties, 1):
        yield Anchor(BOOT, second * 1_000_000, second * 1_000_000 + 500, uncertainty, TimeSource.GNSS)


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=2000))
def test_the_card_is_spared(uncertainties: list[int]) -> None:
    choice = AnchorChoice()
    kept = [
        anchor
        for one in anchors(iter(uncertainties))
        if (anchor := choice.take(one, one.boottime_us + 100_000)) is not None
    ]
    assert 1 <= len(kept) <= 1 + 10 * (1 + len(uncertainties) // ANCHOR_EVERY_S)


def test_a_leap_second_and_the_midnight_behind_it_are_no_anchors() -> None:
    choice = AnchorChoice()
    midnight = Anchor(BOOT, 1_000_000, 1_798_761_600_000_000, 5, TimeSource.GNSS)
    assert choice.take(midnight, 1_100_000) is None


class Listener:
    """Notes what the radio tells."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def chip_started(self) -> None:
        self.told.append("start")

    def pulse(self, pulse: Pulse) -> None:
        assert pulse.counter_ticks > 0
        self.told.append("pulse")


def test_the_radio_tells_each_start_of_the_chip_and_each_pulse() -> None:
    play, listener = Play(), Listener()

    def steps() -> Iterator[None]:
        for step in range(600):
            if step == 300:
                play.bench.emulator.fault("brown_out")
            yield

    script = Script(play.clock, steps())
    Radio(play.open, play.keeper, (), play.clock, script, poll_interval_s=0.1, pulses=listener).run()
    assert listener.told[0] == "start"
    assert listener.told.count("start") >= 2
    assert listener.told.count("pulse") >= 15
