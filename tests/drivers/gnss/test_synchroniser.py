# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Pulses and messages put together: the right second, or none; and a bound that holds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.gnss.reference import NS_PER_S, TICKS_PER_S, Reference
from drivers.gnss.synchroniser import AGREEING, SecondMark, Synchroniser
from drivers.sx1302.pps import Pulse

if TYPE_CHECKING:
    from collections.abc import Iterable

GPS_S = 1_436_486_418
HOST_NS = 5_000_000_000_000


@dataclass
class World:
    """A true time, in which a crystal is off, a host starts anywhere, and pulses begin seconds.

    Everything is told in nanoseconds since the first pulse, which begins GPS second `GPS_S`.
    """

    ppb: int = 0
    start_ticks: int = 1 << 33

    def ticks(self, true_ns: int) -> int:
        return self.start_ticks + true_ns * (NS_PER_S + self.ppb) * TICKS_PER_S // NS_PER_S**2

    def pulse(self, second: int, *, off_ns: int = 0) -> Pulse:
        return Pulse(self.ticks(second * NS_PER_S + off_ns), HOST_NS + second * NS_PER_S + off_ns, 100_000)

    def mark(
        self, second: int, *, late_ns: int = 300_000_000, unsure_ns: int = 20_000_000, told: int = 0
    ) -> SecondMark:
        at_ns = HOST_NS + second * NS_PER_S + late_ns
        return SecondMark(GPS_S + second + told, 18, at_ns - unsure_ns, at_ns, 50)

    def off_ns(self, reference: Reference, true_ns: int) -> int:
        """How far a reference is off at a true time."""
        return reference.gps_ns(self.ticks(true_ns)) - GPS_S * NS_PER_S - true_ns


def run(sync: Synchroniser, world: World, seconds: Iterable[int], **how: int) -> None:
    for second in seconds:
        sync.pulse(world.pulse(second))
        sync.mark(world.mark(second, **how))


def known(sync: Synchroniser) -> Reference:
    reference = sync.reference
    assert reference is not None
    return reference


def settled(ppb: int = 0, seconds: int = 20) -> tuple[Synchroniser, World]:
    sync, world = Synchroniser(), World(ppb)
    run(sync, world, range(seconds))
    return sync, world


@given(
    st.integers(-49_000, 49_000),
    st.integers(30_000_000, 970_000_000),
    st.integers(0, 1 << 40),
    st.integers(-5 * NS_PER_S, 200 * NS_PER_S),
)
def test_the_counter_is_tied_to_the_right_second_whatever_the_crystal_and_the_receiver(
    ppb: int, late_ns: int, start: int, asked_ns: int
) -> None:
    sync, world = Synchroniser(), World(ppb, start)
    run(sync, world, range(12), late_ns=late_ns, unsure_ns=10_000_000)
    reference = known(sync)
    assert reference.gps_s == GPS_S + 11
    assert reference.drift_ppb == pytest.approx(ppb, abs=5)
    ticks = world.ticks(asked_ns)
    assert abs(world.off_ns(reference, asked_ns)) <= reference.error_ns(ticks)
    assert abs(reference.counter_ticks(reference.gps_ns(ticks)) - ticks) <= 1
    assert reference.counter_ticks_at_utc(reference.utc_ns(ticks)) == reference.counter_ticks(reference.gps_ns(ticks))


@given(
    st.lists(st.tuples(st.integers(2_000_000, 3_900_000_000), st.integers(0, 4_000_000_000)), min_size=1, max_size=60),
    st.integers(0, 2**32),
)
def test_no_lateness_moves_time_by_a_second(delays: list[tuple[int, int]], seed: int) -> None:
    """The receiver is in time, but the host hears of it whenever: then it also does not know when it came."""
    sync, world, chance = Synchroniser(), World(1_500), Random(seed)
    for second, (late_ns, busy_ns) in enumerate(delays):
        if chance.random() < 0.8:
            sync.pulse(world.pulse(second))
        in_time_ns = min(late_ns, 900_000_000)
        sync.mark(world.mark(second, late_ns=in_time_ns + busy_ns, unsure_ns=busy_ns + 5_000_000))
        reference = sync.reference
        if reference is not None:
            now_ns = second * NS_PER_S + late_ns
            assert abs(world.off_ns(reference, now_ns)) <= reference.error_ns(world.ticks(now_ns)) < NS_PER_S // 2


def test_a_message_that_comes_a_second_late_is_refused_once_pulses_are_numbered() -> None:
    sync, world = settled()
    for second in (20, 22):
        sync.pulse(world.pulse(second))
        sync.mark(world.mark(second, late_ns=1_300_000_000))
        assert known(sync).gps_s == GPS_S + second - 1
        run(sync, world, [second + 1])
        assert known(sync).gps_s == GPS_S + second + 1
    assert sync.tally.contradictions == 2
    assert world.off_ns(known(sync), 23 * NS_PER_S) == 0


def test_a_message_that_may_be_about_either_of_two_pulses_is_not_believed_alone() -> None:
    sync, world = Synchroniser(), World()
    run(sync, world, range(30), late_ns=1_000_000, unsure_ns=5_000_000)
    assert sync.reference is None
    run(sync, world, range(30, 33))
    assert world.off_ns(known(sync), 0) == 0


def test_the_message_may_come_before_its_pulse_is_read_from_the_chip() -> None:
    sync, world = Synchroniser(), World()
    for second in range(10):
        if second:
            sync.mark(world.mark(second))
        sync.pulse(world.pulse(second))
    assert known(sync).gps_s == GPS_S + 9


@given(st.integers(0, 999_999_999), st.integers(30_000_000, 900_000_000))
def test_fixes_that_are_not_taken_with_the_pulse_say_as_much(part_ns: int, late_ns: int) -> None:
    sync, world = Synchroniser(), World(3_000)
    for second in range(12):
        sync.pulse(world.pulse(second))
        sync.mark(replace(world.mark(second, late_ns=part_ns + late_ns), part_ns=part_ns))
    assert world.off_ns(known(sync), 0) == pytest.approx(0, abs=100)


def test_pulses_without_a_fix_are_no_reference() -> None:
    sync, world = Synchroniser(), World()
    for second in range(50):
        sync.pulse(world.pulse(second))
    assert sync.reference is None
    assert not sync.settled


def test_pulses_that_move_when_the_fix_comes_are_counted_anew() -> None:
    sync, world = Synchroniser(), World()
    for second in range(20):
        sync.pulse(world.pulse(second, off_ns=437_000_000))
    run(sync, world, range(20, 40))
    assert sync.tally.recounts == 1
    assert world.off_ns(known(sync), 39 * NS_PER_S) == 0


def test_the_bound_grows_and_holds_when_pulses_stop_and_the_crystal_changes() -> None:
    sync, world = settled(ppb=2_000)
    reference = known(sync)
    end_ns = 19 * NS_PER_S
    errors = [reference.error_ns(world.ticks(end_ns + away_s * NS_PER_S)) for away_s in (0, 1, 10, 3600)]
    assert errors == sorted(errors)
    assert errors[0] < 3_000
    for hold_s in (1, 30, 3600):
        drifted = world.ticks(end_ns) + hold_s * TICKS_PER_S + hold_s * TICKS_PER_S * 40 // 1_000_000
        off_ns = reference.gps_ns(drifted) - GPS_S * NS_PER_S - end_ns - hold_s * NS_PER_S
        assert abs(off_ns) <= reference.error_ns(drifted)
    run(sync, world, range(50, 53))
    assert known(sync).gps_s == GPS_S + 52
    assert abs(world.off_ns(known(sync), 52 * NS_PER_S)) < 100


def test_outliers_are_refused_and_do_no_harm() -> None:
    sync, world = settled(ppb=-7_000)
    for second in range(20, 60):
        off_ns = 20_000 if second % 3 == 0 else -300_000_000 if second % 7 == 0 else 0
        sync.pulse(world.pulse(second, off_ns=off_ns))
        sync.mark(world.mark(second))
        assert abs(world.off_ns(known(sync), second * NS_PER_S)) < 100
    assert sync.tally.stray_pulses == sum(second % 3 == 0 or second % 7 == 0 for second in range(20, 60))
    assert sync.tally.recounts == 0


def test_a_pulse_seen_twice_counts_once() -> None:
    sync, world = settled()
    before = sync.tally
    sync.pulse(world.pulse(19))
    assert sync.tally == before


def test_a_receiver_that_changes_its_mind_is_believed_after_some_messages() -> None:
    sync, world = settled()
    for second in range(20, 24):
        run(sync, world, [second], told=-1)
        assert known(sync).gps_s == GPS_S + 19
    run(sync, world, range(24, 30), told=-1)
    assert known(sync).gps_s == GPS_S + 29 - 1
    assert sync.tally.contradictions == 3


def test_a_restart_of_the_chip_forgets_all() -> None:
    sync, _ = settled()
    sync.restart()
    assert sync.reference is None
    other = World(start_ticks=0)
    for second in range(20, 20 + AGREEING + 1):
        run(sync, other, [second])
    assert other.off_ns(known(sync), 25 * NS_PER_S) == 0


def test_a_known_delay_of_the_pulse_is_taken_off() -> None:
    sync, world = Synchroniser(delay_ns=250), World()
    for second in range(10):
        sync.pulse(world.pulse(second, off_ns=250))
        sync.mark(world.mark(second))
    assert world.off_ns(known(sync), 9 * NS_PER_S) == 0
    assert known(sync).pulse_utc_ns == (GPS_S + 9 + 315_964_800 - 18) * NS_PER_S + 250


@given(st.data())
def test_nothing_that_comes_raises_or_is_hoarded(data: st.DataObject) -> None:
    sync = Synchroniser()
    number = st.integers(-(1 << 62), 1 << 62)
    for _ in range(data.draw(st.integers(0, 40))):
        if data.draw(st.booleans()):
            sync.pulse(Pulse(data.draw(number), data.draw(number), data.draw(st.integers(0, 1 << 40))))
        else:
            sync.mark(SecondMark(data.draw(number), 18, data.draw(number), data.draw(number), 50))
    assert len(sync._row) <= 128
