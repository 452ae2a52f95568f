# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The sender's decisions as a pure function: `step(state, event, now) -> (state, actions)`.

What it guarantees, whatever the order of events:

* A batch leaves `waiting` and `in_flight` only because a verified receipt covers it, because the platform's signed
  refusal parks it, or because the spool no longer has it.
* At most `window` batches are unanswered.
* With the link up and answers coming, every waiting batch is sent: two lanes, backlog and live, take turns while both
  have work (see `_next`).
* With `paced`, a lane sends nothing before the moment that `Paced` names for it, and after each batch neither sends
  until `Paced` has said what that cost.
* An unanswered batch has a deadline. Only what was sent *before* it may move that deadline (it is queued behind), so
  that traffic which overtakes it cannot hide that its answer is lost.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

from agent.uplink.numbers import Numbers
from agent.uplink.port import Fault


class Phase(Enum):
    """What the sender is doing."""

    OFFLINE = "offline"
    """Not started, or stopped."""
    CONNECTING = "connecting"
    """Bringing the link up and asking where to resume."""
    ONLINE = "online"
    """Linked; everything sealed is acknowledged or in flight."""
    DRAINING = "draining"
    """Linked, with more batches waiting than the window holds."""
    BACKOFF = "backoff"
    """The link failed; waiting before the next try."""
    REFUSED = "refused"
    """The platform refuses this gateway; waiting for somebody to register it."""


NONE = Numbers()
NEVER = 1 << 62
"""Microseconds after every boot."""
LINKED = frozenset({Phase.ONLINE, Phase.DRAINING})
SUSPECT_ANSWERS = 16
"""Answers to other batches after which one that failed by itself is tried again ahead of its turn."""
STEADY_US = 60_000_000
"""A link without an answer to any batch that held so long was a success: the pauses begin anew."""


@dataclass(frozen=True, slots=True)
class InFlight:
    """An unanswered batch.

    Attributes:
        number: of the batch.
        deadline_us: when the link counts as dead if neither it nor what was sent before it shows a sign of life.
        overtaken: whether something sent after it has been answered already.
        taken: whether the next hop has taken it over (`Alive`).
    """

    number: int
    deadline_us: int
    overtaken: bool = False
    taken: bool = False


@dataclass(frozen=True, slots=True)
class State:
    """Everything the decisions depend on.

    Attributes:
        window: most batches in flight.
        answer_timeout_us: from the last sign of life to the deadline.
        phase: see `Phase`.
        since_us: when the phase began.
        waiting: sealed, not acknowledged, not in flight.
        in_flight: in the order in which they were sent.
        through: every batch up to it is acknowledged.
        newest: the batch sealed last.
        parked: never to be sent again: refused for what they are, or gone from the spool.
        live_above: batches above it were sealed since the link is up: the live lane.
        live_turn: whose turn it is when both lanes have work.
        paced: somebody says by `Paced` when each lane may send.
        backlog_from_us: when the backlog may go on.
        live_from_us: when live may go on.
        probing: the platform refused this gateway, or did not answer a batch: one at a time until one is answered.
        suspects: batches that were answered with an error instead of a signed answer; the others go first.
        suspect_answers: answers still to come before suspects take their turn.
        failures: in a row, without an answer to a batch in between, or a link that held.
        fault: the last failure, None after success.
        linked_us: when the link was up last.
        resume_by_us: while connecting, once the receipt is asked for: when to go on without it.
    """

    window: int
    answer_timeout_us: int
    phase: Phase = Phase.OFFLINE
    since_us: int = 0
    waiting: Numbers = NONE
    in_flight: tuple[InFlight, ...] = ()
    through: int = 0
    newest: int = 0
    parked: Numbers = NONE
    live_above: int = 0
    live_turn: bool = False
    paced: bool = False
    backlog_from_us: int = 0
    live_from_us: int = 0
    probing: bool = False
    suspects: Numbers = NONE
    suspect_answers: int = 0
    failures: int = 0
    fault: Fault | None = None
    linked_us: int = 0
    resume_by_us: int | None = None


@dataclass(frozen=True, slots=True)
class Connect:
    """Start, or the back-off is over."""


@dataclass(frozen=True, slots=True)
class Linked:
    """The transport is connected."""


@dataclass(frozen=True, slots=True)
class Asked:
    """The receipt to resume from is asked for.

    Attributes:
        within_us: how long to wait for it.
    """

    within_us: int


@dataclass(frozen=True, slots=True)
class Sealed:
    """The spool has batches up to a number.

    Attributes:
        newest: that number.
    """

    newest: int


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """A verified receipt of this stream.

    Attributes:
        through: of the receipt.
        beyond: of the receipt.
    """

    through: int
    beyond: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Parked:
    """The platform's signed refusal of one batch for what it is.

    Attributes:
        number: of the batch.
    """

    number: int


@dataclass(frozen=True, slots=True)
class Gone:
    """A batch is no longer in the spool, or cannot be read from it.

    Attributes:
        number: of the batch.
    """

    number: int


@dataclass(frozen=True, slots=True)
class Turned:
    """A signed refusal of the gateway itself."""


@dataclass(frozen=True, slots=True)
class Alive:
    """A sign of life about one batch in flight that is not its answer (PUBACK).

    Attributes:
        number: of the batch.
    """

    number: int


@dataclass(frozen=True, slots=True)
class Paced:
    """Rate, plan or hours say when each lane may send.

    Attributes:
        backlog_from_us: CLOCK_BOOTTIME from which the backlog may.
        live_from_us: the same for what was sealed since the link is up.
    """

    backlog_from_us: int
    live_from_us: int


@dataclass(frozen=True, slots=True)
class Failed:
    """The link failed, or something else answered.

    Attributes:
        fault: how.
        batch: the batch that was answered with an error, None when it concerns the link.
    """

    fault: Fault
    batch: int | None = None


@dataclass(frozen=True, slots=True)
class Tick:
    """Time went by."""


@dataclass(frozen=True, slots=True)
class Stop:
    """The service ends."""


Event = Connect | Linked | Asked | Sealed | Acknowledged | Parked | Gone | Turned | Alive | Paced | Failed | Tick | Stop


@dataclass(frozen=True, slots=True)
class Open:
    """Bring the link up."""


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask for the receipt to resume from."""


@dataclass(frozen=True, slots=True)
class Send:
    """Send a batch.

    Attributes:
        number: of the batch.
    """

    number: int


@dataclass(frozen=True, slots=True)
class Close:
    """Drop the link.

    Attributes:
        overdue: the batch whose answer did not come, when that is why.
    """

    overdue: InFlight | None = None


Action = Open | Ask | Send | Close


def start(*, window: int, answer_timeout_us: int, through: int, newest: int, paced: bool = False) -> State:
    """Return the state of a sender that has not started, from what the spool knows.

    Args:
        window: at least 1.
        answer_timeout_us: above 0.
        through: batch number up to which the spool holds receipts.
        newest: number of the batch sealed last.
        paced: nothing is sent before `Paced` allows it.
    """
    held_us = NEVER if paced else 0
    return State(
        window=window,
        answer_timeout_us=answer_timeout_us,
        paced=paced,
        backlog_from_us=held_us,
        live_from_us=held_us,
        through=through,
        newest=newest,
        waiting=Numbers.of([(through + 1, newest)]),
    )


def step(state: State, event: Event, now_us: int) -> tuple[State, tuple[Action, ...]]:
    """Decide what an event means.

    Args:
        state: before.
        event: what happened.
        now_us: CLOCK_BOOTTIME; never goes back.

    Returns:
        The state after it, and what to do, in this order. `Send` has already moved its batch to `in_flight`.
    """
    up = state.phase is Phase.CONNECTING or state.phase in LINKED
    match event:
        case Sealed(newest):
            fresh = Numbers.of([(state.newest + 1, newest)])
            state = replace(state, waiting=state.waiting | fresh, newest=max(newest, state.newest))
        case Acknowledged(through, beyond):
            state = _acknowledged(state, Numbers.of([(1, through), *beyond]), through, now_us)
        case Parked(number):
            state = _answered(state, (number,), now_us)
            state = _park(state, number)
        case Gone(number):
            state = _park(state, number)
        case Alive(number):
            state = _alive(state, number, now_us, overtakes=False)
        case Paced(backlog_from_us, live_from_us):
            state = replace(state, backlog_from_us=backlog_from_us, live_from_us=live_from_us)
        case Tick():
            return _tick(state, now_us)
        case Connect() if not up:
            return _enter(state, Phase.CONNECTING, now_us), (Open(),)
        case Linked() if state.phase is Phase.CONNECTING:
            return replace(state, live_above=state.newest), (Ask(),)
        case Asked(within_us) if state.phase is Phase.CONNECTING:
            return replace(state, resume_by_us=now_us + within_us), ()
        case Turned() if up:
            return _fail(replace(state, probing=True), Fault.STANDING, now_us), (Close(),)
        case Failed(fault, batch) if up:
            return _fail(_suspect(state, batch), fault, now_us), (Close(),)
        case Stop():
            return _enter(_recall(state), Phase.OFFLINE, now_us), (Close(),)
    return _fill(state, now_us)


def deadline_us(state: State) -> int | None:
    """Return when the next `Tick` is due at the latest, None for never."""
    if state.phase is Phase.CONNECTING:
        return state.resume_by_us
    due = [flight.deadline_us for flight in state.in_flight]
    if state.phase in LINKED:
        # A lane that is open already has nothing to send, or it would be on its way.
        gates = (state.backlog_from_us, state.live_from_us)
        due += [at_us for at_us in gates if 0 < at_us < NEVER and _next(state, at_us) is not None]
    return min(due, default=None)


def _enter(state: State, phase: Phase, now_us: int) -> State:
    return state if phase is state.phase else replace(state, phase=phase, since_us=now_us)


def _recall(state: State) -> State:
    """Put what is in flight back among what waits."""
    back = Numbers.of((flight.number, flight.number) for flight in state.in_flight)
    return replace(state, waiting=state.waiting | back, in_flight=(), resume_by_us=None)


def _fail(state: State, fault: Fault, now_us: int) -> State:
    phase = Phase.REFUSED if fault is Fault.STANDING else Phase.BACKOFF
    steady = state.phase in LINKED and now_us - state.linked_us >= STEADY_US
    failures = 1 if steady else state.failures + 1
    return _enter(replace(_recall(state), failures=failures, fault=fault), phase, now_us)


def _suspect(state: State, batch: int | None) -> State:
    if batch is None:
        return state
    return replace(state, suspects=state.suspects.with_number(batch), suspect_answers=SUSPECT_ANSWERS)


def _park(state: State, number: int) -> State:
    return replace(_without(state, Numbers(((number, number),))), parked=state.parked.with_number(number))


def _without(state: State, done: Numbers) -> State:
    """Take batches out of what waits and what flies."""
    return replace(
        state,
        waiting=state.waiting - done,
        in_flight=tuple(flight for flight in state.in_flight if flight.number not in done),
        suspects=state.suspects - done,
    )


def _answered(state: State, numbers: tuple[int, ...], now_us: int) -> State:
    """Note answers to batches in flight: the link works, and what was sent after the first of them moved up."""
    if not numbers:
        return state
    left = max(0, state.suspect_answers - len(numbers))
    return replace(
        _alive(state, numbers[0], now_us, overtakes=True),
        failures=0,
        fault=None,
        probing=False,
        suspect_answers=left,
        suspects=state.suspects if left else NONE,
    )


def _alive(state: State, number: int, now_us: int, *, overtakes: bool) -> State:
    """Move the deadlines of a batch in flight and of all that was sent after it; an answer marks what was before."""
    at = next((at for at, flight in enumerate(state.in_flight) if flight.number == number), None)
    if at is None:
        return state
    moved = now_us + state.answer_timeout_us
    return replace(
        state,
        in_flight=(
            *(replace(flight, overtaken=flight.overtaken or overtakes) for flight in state.in_flight[:at]),
            replace(state.in_flight[at], deadline_us=moved, taken=True),
            *(replace(flight, deadline_us=moved) for flight in state.in_flight[at + 1 :]),
        ),
    )


def _acknowledged(state: State, covered: Numbers, through: int, now_us: int) -> State:
    done = tuple(flight.number for flight in state.in_flight if flight.number in covered)
    state = replace(
        _without(_answered(state, done, now_us), covered),
        through=max(through, state.through),
        newest=max(through, state.newest),
    )
    if state.phase is not Phase.CONNECTING:
        return state
    # This receipt says where to resume. What an earlier one had beyond its number and this one has not, the platform
    # has lost: it is offered again as far as the spool still has it.
    waiting = Numbers.of([(state.through + 1, state.newest)]) - covered - state.parked
    state = replace(state, waiting=waiting)
    return state if state.resume_by_us is None else _online(state, now_us)


def _tick(state: State, now_us: int) -> tuple[State, tuple[Action, ...]]:
    if state.phase is Phase.CONNECTING and state.resume_by_us is not None and now_us >= state.resume_by_us:
        state = _online(state, now_us)
    for flight in state.in_flight:
        if now_us >= flight.deadline_us:
            # What nobody answers is not worth a window full of batches, again and again.
            state = _suspect(state, flight.number) if flight.overtaken else replace(state, probing=True)
            fault = Fault.NOBODY if flight.taken and not flight.overtaken else Fault.SILENT
            return _fail(state, fault, now_us), (Close(flight),)
    return _fill(state, now_us)


def _online(state: State, now_us: int) -> State:
    if not state.waiting:
        # Nothing to prove the link with, and nothing against it: no problem, but it still has to show that it holds.
        state = replace(state, fault=None)
    return _enter(replace(state, resume_by_us=None, linked_us=now_us), Phase.ONLINE, now_us)


def _fill(state: State, now_us: int) -> tuple[State, tuple[Action, ...]]:
    """Fill the window."""
    if state.phase not in LINKED:
        return state, ()
    actions: list[Action] = []
    deadline = now_us + state.answer_timeout_us
    while (number := _next(state, now_us)) is not None:
        state = replace(
            state,
            backlog_from_us=NEVER if state.paced else 0,
            live_from_us=NEVER if state.paced else 0,
            waiting=state.waiting.without_number(number),
            in_flight=(*state.in_flight, InFlight(number, deadline)),
            live_turn=number <= state.live_above,
        )
        actions.append(Send(number))
    return _enter(state, Phase.DRAINING if state.waiting else Phase.ONLINE, now_us), tuple(actions)


def _next(state: State, now_us: int) -> int | None:
    """Choose the batch to send next, None when the window is full, or nothing waits that may go now.

    Two lanes. What was sealed before the link came up is the backlog, sent oldest first; the rest is live, sent
    newest first while there is a backlog. They take turns while both have work, and the backlog leaves the last
    place of the window free, so that a live batch goes at once. With the backlog gone, live is sent in order.
    """
    window = 1 if state.probing else state.window
    waiting = state.waiting - state.suspects or state.waiting
    if len(state.in_flight) >= window or not waiting:
        return None
    oldest, newest = waiting.ranges[0][0], waiting.ranges[-1][1]
    backlog_places = max(1, window - 1) - sum(flight.number <= state.live_above for flight in state.in_flight)
    backlog = oldest if oldest <= state.live_above and backlog_places > 0 and now_us >= state.backlog_from_us else None
    live = newest if newest > state.live_above and now_us >= state.live_from_us else None
    if backlog is not None and (live is None or not state.live_turn):
        return backlog
    return oldest if live is not None and oldest > state.live_above else live
