# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The sender's decisions, against the promises in the module's docstring."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.uplink import machine
from agent.uplink.machine import (
    LINKED,
    Acknowledged,
    Action,
    Alive,
    Ask,
    Asked,
    Close,
    Connect,
    Event,
    Failed,
    Gone,
    InFlight,
    Linked,
    Open,
    Paced,
    Parked,
    Phase,
    Sealed,
    Send,
    State,
    Stop,
    Tick,
    Turned,
    step,
)
from agent.uplink.numbers import Numbers
from agent.uplink.port import Fault

TIMEOUT_US = 1000
NUMBER = st.integers(1, 30)


def _start(newest: int = 0, *, window: int = 4, through: int = 0) -> State:
    return machine.start(window=window, answer_timeout_us=TIMEOUT_US, through=through, newest=newest)


def _run(state: State, *events: Event, now_us: int = 0) -> tuple[State, list[Action]]:
    actions: list[Action] = []
    for event in events:
        state, more = step(state, event, now_us)
        actions += more
    return state, actions


def _sent(actions: Iterable[Action]) -> list[int]:
    return [action.number for action in actions if isinstance(action, Send)]


def _online(newest: int = 0, *, window: int = 4, through: int = 0) -> tuple[State, list[Action]]:
    return _run(_start(newest, window=window), Connect(), Linked(), Asked(100), Acknowledged(through))


def test_it_connects_asks_and_resumes_behind_the_receipt() -> None:
    state, actions = _online(10, through=6)
    assert actions[:2] == [Open(), Ask()]
    assert _sent(actions) == [7, 8, 9]
    assert state.phase is Phase.DRAINING


def test_without_a_receipt_it_goes_on_from_what_the_spool_knows() -> None:
    state, _ = _run(_start(10, through=4), Connect(), Linked(), Asked(100))
    assert machine.deadline_us(state) == 100
    assert _sent(_run(state, Tick(), now_us=99)[1]) == []
    assert _sent(_run(state, Tick(), now_us=100)[1]) == [5, 6, 7]


def test_the_backlog_leaves_one_place_to_live_batches() -> None:
    state, actions = _online(10, window=4)
    assert _sent(actions) == [1, 2, 3]
    state, actions = _run(state, Sealed(11))
    assert _sent(actions) == [11]
    state, actions = _run(state, Sealed(12))
    assert _sent(actions) == []


def test_a_window_of_one_takes_turns() -> None:
    state, actions = _online(10, window=1)
    state, _ = _run(state, Sealed(14))
    sent = _sent(actions)
    for _ in range(7):
        state, actions = _run(state, Acknowledged(0, tuple((n, n) for n in sorted(sent)[0:])))
        sent += _sent(actions)
    assert sent == [1, 14, 2, 13, 3, 12, 4, 11]


def test_what_was_sent_is_sent_again_after_a_failure_and_only_that() -> None:
    state, _ = _online(3, window=8)
    state, actions = _run(state, Acknowledged(1), Failed(Fault.LOST))
    assert actions == [Close()]
    assert state.phase is Phase.BACKOFF
    assert list(state.waiting) == [2, 3]
    state, actions = _run(state, Connect(), Linked(), Asked(100), Acknowledged(2))
    assert _sent(actions) == [3]


def test_an_answer_that_does_not_come_closes_the_link() -> None:
    state, _ = _online(2)
    assert machine.deadline_us(state) == TIMEOUT_US
    assert _run(state, Tick(), now_us=TIMEOUT_US - 1)[1] == []
    state, actions = _run(state, Tick(), now_us=TIMEOUT_US)
    assert actions == [Close(InFlight(1, TIMEOUT_US))]
    assert (state.phase, state.fault, state.failures) == (Phase.BACKOFF, Fault.SILENT, 1)


def test_what_the_broker_took_and_nobody_answers_is_offered_one_by_one() -> None:
    """A broker keeps what it takes for a receiver that is away: a window full, each time, would only cost the link."""
    state, _ = _online(5)
    for number in (1, 2, 3):
        state, _ = _run(state, Alive(number), now_us=10)
    state, actions = _run(state, Tick(), now_us=10 + TIMEOUT_US)
    assert actions == [Close(InFlight(1, 10 + TIMEOUT_US, taken=True))]
    assert state.fault is Fault.NOBODY
    state, actions = _run(state, Connect(), Linked(), Asked(100), Acknowledged(0), now_us=10 + TIMEOUT_US)
    assert _sent(actions) == [1]
    state, actions = _run(state, Acknowledged(1), now_us=20 + TIMEOUT_US)
    assert _sent(actions) == [2, 3, 4]


def test_links_that_end_at_once_although_nothing_is_wrong_with_them_are_made_ever_more_rarely() -> None:
    """Two gateways of one name at a broker push each other out: without an end, and nothing waits that could fail."""
    state = _start()
    now_us = 0
    for failures in range(1, 5):
        state, _ = _run(state, Connect(), Linked(), Asked(100), Acknowledged(0), now_us=now_us)
        assert (state.phase, state.fault) == (Phase.ONLINE, None)
        now_us += machine.STEADY_US - 1
        state, _ = _run(state, Failed(Fault.STATUS), now_us=now_us)
        assert state.failures == failures
    state, _ = _run(state, Connect(), Linked(), Asked(100), Acknowledged(0), now_us=now_us)
    state, _ = _run(state, Failed(Fault.STATUS), now_us=now_us + machine.STEADY_US)
    assert state.failures == 1


def test_a_sign_of_life_moves_the_deadlines_of_what_is_queued_behind_it() -> None:
    state, _ = _online(3)
    state, _ = _run(state, Alive(2), now_us=900)
    deadlines = [flight.deadline_us for flight in state.in_flight]
    assert deadlines == [TIMEOUT_US, 900 + TIMEOUT_US, 900 + TIMEOUT_US]


def test_traffic_that_overtakes_a_batch_cannot_hide_that_its_answer_is_lost() -> None:
    state, _ = _online(3)
    state, _ = _run(state, Acknowledged(0, ((2, 3),)), now_us=900)
    state, actions = _run(state, Tick(), now_us=TIMEOUT_US)
    assert actions == [Close(InFlight(1, TIMEOUT_US, overtaken=True))]
    assert list(state.suspects) == [1]


def test_a_batch_that_is_answered_with_errors_does_not_hold_up_the_others() -> None:
    """A batch that makes the platform fail each time: the others get through, and it is tried again."""
    state = _start(40, window=1)
    done: set[int] = set()
    tries = 0
    for _ in range(200):
        if state.phase not in LINKED:
            state, actions = _run(state, Connect(), Linked(), Asked(100), _receipt(done))
        for number in _sent(actions):
            if number == 5:
                tries += 1
                state, actions = _run(state, Failed(Fault.STATUS, 5))
            else:
                done.add(number)
                state, actions = _run(state, _receipt(done))
    assert done == set(range(1, 41)) - {5}
    assert tries > 2


def _receipt(done: set[int]) -> Acknowledged:
    ranges = list(Numbers.of((n, n) for n in done).ranges)
    through = ranges.pop(0)[1] if ranges and ranges[0][0] == 1 else 0
    return Acknowledged(through, tuple(ranges))


def test_a_refused_gateway_probes_with_one_batch_until_it_is_accepted() -> None:
    state, _ = _online(6)
    state, actions = _run(state, Turned())
    assert actions == [Close()]
    assert state.phase is Phase.REFUSED
    assert list(state.waiting) == [1, 2, 3, 4, 5, 6]
    state, actions = _run(state, Connect(), Linked(), Asked(100), Acknowledged(0))
    assert _sent(actions) == [1]
    state, actions = _run(state, Acknowledged(1))
    assert _sent(actions) == [2, 3, 4]
    assert state.failures == 0


def test_a_parked_batch_frees_its_place_and_is_never_sent_again() -> None:
    state, _ = _online(5, window=2)
    state, actions = _run(state, Parked(1))
    assert _sent(actions) == [2]
    state, _ = _run(state, Failed(Fault.LOST))
    state, actions = _run(state, Connect(), Linked(), Asked(100), Acknowledged(0))
    assert _sent(actions) == [2]
    assert 1 in state.parked


def test_what_the_platform_lost_is_offered_again() -> None:
    state, _ = _online(4)
    state, _ = _run(state, Acknowledged(0, ((2, 3),)), Failed(Fault.LOST))
    assert list(state.waiting) == [1, 4]
    state, _ = _run(state, Connect(), Linked(), Asked(100), Acknowledged(0))
    assert [*state.waiting, *(flight.number for flight in state.in_flight)] == [4, 1, 2, 3]


def test_a_lane_waits_for_its_moment_and_after_each_batch_for_the_word_what_it_cost() -> None:
    state = machine.start(window=4, answer_timeout_us=TIMEOUT_US, through=0, newest=3, paced=True)
    state, actions = _run(state, Connect(), Linked(), Asked(100), Acknowledged(0))
    assert (_sent(actions), machine.deadline_us(state)) == ([], None)
    state, actions = _run(state, Paced(50, 0))
    assert (_sent(actions), machine.deadline_us(state)) == ([], 50)
    state, actions = _run(state, Sealed(4), now_us=10)
    assert _sent(actions) == [4]
    state, actions = _run(state, Paced(50, 0), Sealed(5), now_us=20)
    assert _sent(actions) == [5]
    state, actions = _run(state, Paced(50, 0), now_us=30)
    assert (_sent(actions), machine.deadline_us(state)) == ([], 50)
    state, actions = _run(state, Tick(), now_us=50)
    assert _sent(actions) == [1]
    state, actions = _run(state, Paced(90, 90), Sealed(6), now_us=60)
    assert (_sent(actions), machine.deadline_us(state)) == ([], 90)
    assert _sent(_run(state, Tick(), now_us=90)[1]) == [6]


@pytest.mark.parametrize("event", [Linked(), Turned(), Failed(Fault.LOST), Tick()])
def test_events_that_do_not_belong_to_the_phase_change_nothing(event: Event) -> None:
    state = _start(3)
    assert step(state, event, 5) == (state, ())


def _acknowledged(through: int, gap: int, size: int) -> Acknowledged:
    return Acknowledged(through, ((through + gap, through + gap + size),) if size else ())


EVENTS = st.one_of(
    st.just(Connect()),
    st.just(Linked()),
    st.builds(Asked, st.integers(0, 700)),
    st.builds(Sealed, NUMBER),
    st.builds(_acknowledged, st.integers(0, 20), st.integers(2, 5), st.integers(0, 3)),
    st.builds(Parked, NUMBER),
    st.builds(Gone, NUMBER),
    st.just(Turned()),
    st.builds(Alive, NUMBER),
    st.builds(Paced, st.integers(0, 9000), st.integers(0, 9000)),
    st.builds(Failed, st.sampled_from(Fault), st.none() | NUMBER),
    st.just(Tick()),
    st.just(Stop()),
)


@given(
    st.integers(0, 20), st.integers(1, 5), st.booleans(), st.lists(st.tuples(EVENTS, st.integers(0, 700)), max_size=40)
)
@settings(max_examples=400, deadline=None)
def test_nothing_is_dropped_without_an_answer_whatever_the_order_of_events(
    newest: int, window: int, paced: bool, events: list[tuple[Event, int]]
) -> None:
    state = machine.start(window=window, answer_timeout_us=TIMEOUT_US, through=0, newest=newest, paced=paced)
    answered = Numbers()
    now_us = 0
    for event, later_us in events:
        now_us += later_us
        match event:
            case Acknowledged(through, beyond):
                answered |= Numbers.of([(1, through), *beyond])
            case Parked(number) | Gone(number):
                answered = answered.with_number(number)
        state, actions = step(state, event, now_us)
        flying = [flight.number for flight in state.in_flight]
        assert len(flying) == len(set(flying)) <= window
        assert set(_sent(actions)) <= set(flying)
        assert not set(flying) & set(state.waiting)
        kept = state.waiting | Numbers.of((number, number) for number in flying)
        assert not Numbers.of([(1, state.newest)]) - kept - answered
        assert not flying or state.phase in LINKED
        assert state.phase not in LINKED or not flying or machine.deadline_us(state) is not None
        assert not state.probing or len(_sent(actions)) <= 1
        assert not state.paced or len(_sent(actions)) <= 1
        due_us = machine.deadline_us(state)
        overdue = [flight for flight in state.in_flight if flight.deadline_us <= now_us]
        assert due_us is None or due_us > now_us or overdue or state.phase is Phase.CONNECTING, "a busy loop"


@dataclass
class _Model:
    """A platform that answers some batches, loses some answers, and drops the link, as a list of choices says."""

    choices: list[int]
    committed: set[int] = field(default_factory=set)

    def choose(self) -> int:
        return self.choices.pop() if self.choices else 0


@given(
    st.integers(0, 12),
    st.integers(1, 5),
    st.lists(st.integers(0, 9), max_size=60),
    st.lists(st.integers(1, 3), max_size=10),
)
@settings(max_examples=100, deadline=None)
def test_every_batch_is_committed_once_the_link_holds(
    newest: int, window: int, choices: list[int], sealed: list[int]
) -> None:
    """First the link does what the choices say, then it holds: in the end everything is acknowledged."""
    model = _Model(choices)
    state = _start(newest, window=window)
    now_us = 0
    pending: list[int] = []
    linked = False
    steps = 0
    while state.waiting or state.in_flight or sealed or state.phase not in LINKED:
        steps += 1
        assert steps < 2000, f"no progress: {state}"
        event: Event
        if state.phase in {Phase.OFFLINE, Phase.BACKOFF, Phase.REFUSED}:
            event = Connect()
        elif state.phase is Phase.CONNECTING and state.resume_by_us is None:
            event = Asked(100) if linked else Linked()
            linked = not linked
        elif sealed and model.choose() % 2 == 0:
            event = Sealed(state.newest + sealed.pop())
        else:
            match model.choose():
                case 1:
                    event = Failed(Fault.LOST, next(iter(pending), None))
                case 2 if pending:
                    pending.pop(0)  # committed or not, its answer is lost
                    continue
                case 3:
                    event = Turned()
                case 4:
                    now_us += TIMEOUT_US
                    event = Tick()
                case 5 if pending:
                    model.committed.add(pending.pop())  # answered late, or never
                    continue
                case _ if pending or state.phase is Phase.CONNECTING:
                    model.committed |= set(pending[:1])
                    pending = pending[1:]
                    event = _receipt(model.committed)
                case _:
                    now_us = max(now_us, machine.deadline_us(state) or now_us)
                    event = Tick()
        state, actions = step(state, event, now_us)
        if any(isinstance(action, (Close, Open)) for action in actions):
            pending.clear()
        pending += _sent(actions)
    assert model.committed == set(range(1, state.newest + 1))


@given(st.integers(1, 20), st.integers(1, 6), st.lists(st.integers(0, 2), max_size=40))
@settings(max_examples=60, deadline=None)
def test_neither_lane_starves_the_other(backlog: int, window: int, sealing: list[int]) -> None:
    """Answers come one at a time while new batches are sealed, up to two for each answer."""
    state, actions = _online(backlog, window=window)
    flying, done = _sent(actions), set[int]()
    live: set[int] = set()
    old = set(range(1, backlog + 1)) - set(flying)
    live_run = backlog_run = 0
    for count in sealing:
        done |= set(flying[:1])
        flying = flying[1:]
        for event in (Sealed(state.newest + count), _receipt(done)):
            live |= set(range(state.newest + 1, state.newest + count + 1)) if isinstance(event, Sealed) else set()
            state, actions = _run(state, event)
            for number in _sent(actions):
                live_run = live_run + 1 if old and number > backlog else 0
                backlog_run = backlog_run + 1 if live and number <= backlog else 0
                assert live_run <= window
                assert backlog_run <= 1
                live.discard(number)
                old.discard(number)
                flying.append(number)
