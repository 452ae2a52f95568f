# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""One thread per destination that brings every sealed batch to the platform and its receipts to the spool.

The thread owns the transport and a reader of the spool. It asks `machine.step` what to do and does it; it waits for
one event (something sealed, something arrived, the end) or the next deadline, and never polls.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter, deque
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, NoReturn

from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_when_event_set, wait_random_exponential

from agent.batch.model import Anchor, Reason, Receipt, Refusal
from agent.clock import anchor_of_answer
from agent.errors import AgentError, BatchError
from agent.uplink import machine
from agent.uplink.numbers import Numbers
from agent.uplink.port import (
    Answer,
    BootClock,
    Fault,
    LinkError,
    Reply,
    Sink,
    Source,
    Taken,
    Traffic,
    UnreadableBatchError,
    Uplink,
)
from agent.uplink.quality import Quality
from agent.watchdog import ORDINARY_S

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager

    from agent.uplink.pace import Pace

logger = logging.getLogger(__name__)

NEAR_CAP_S = 4.0
"""Longest pause while nothing answers at all: a link that returns is used within seconds."""
PATIENCE_S = 600.0
"""Age of an outage after which the pauses grow to `FAR_CAP_S` whatever the fault."""
FAR_CAP_S = 60.0
"""Longest pause after something answered, wrongly."""
STANDING_NEAR_CAP_S = 60.0
STANDING_PATIENCE_S = 3600.0
"""Longest pause in the first hour in which the platform refuses this gateway: most often somebody registers it just
then, and waits to see it come ..."""
STANDING_CAP_S = 900.0
"""... and after that hour: each try costs the bytes of a batch."""
ANCHOR_EVERY_S = 600.0
"""A clock anchor is kept at least this often, and whenever one is twice as good as the last."""
WORK_LIMIT_S = 600.0
"""How long one turn may take: the transport gives each wait for the other side a limit, and there may be several."""
LOOK_S = 10.0
"""How often the thread shows that it is there while nothing is to be done."""
WORST_ANCHOR_S = 10.0
"""A round trip longer than twice this gives no anchor."""

STANDING = frozenset({Reason.UNKNOWN_KEY, Reason.REVOKED_KEY, Reason.WRONG_GATEWAY, Reason.UNSUPPORTED_VERSION})
"""Refusals that say nothing about the batch: every other batch would be refused alike, so all of them wait."""

_SECOND_US = 1_000_000


@dataclass(frozen=True, slots=True)
class Status:
    """What a sender is doing, for a person or a metric.

    Attributes:
        destination: its name.
        phase: see `machine.Phase`.
        since_us: CLOCK_BOOTTIME when the phase began.
        retry_at_us: CLOCK_BOOTTIME of the next try, None unless waiting for it.
        problem: the last failure that still stands, one line with its hint and code; None when all is well.
        notice: what is odd about a link that works (`agent.uplink.quality`); None when nothing is.
        answer_s: how long the platform's answers take, None before the first.
        through: every batch up to it is acknowledged.
        newest: the batch sealed last.
        waiting: sealed, not acknowledged, not in flight.
        in_flight: sent, not answered.
        held: why what waits may not travel at present (data plan, quiet hours); None when it may.
        traffic: bytes on the TCP connections.
        counts: since the start: `sent`, `resent`, `receipts`, `anchors`, and what was odd: `stale`, `foreign`,
            `forged` answers, `refused` and `unreadable` batches, `failures` of the link.
    """

    destination: str
    phase: machine.Phase
    since_us: int
    retry_at_us: int | None
    problem: str | None
    notice: str | None
    answer_s: float | None
    through: int
    newest: int
    waiting: int
    in_flight: int
    held: str | None
    traffic: Traffic
    counts: Mapping[str, int]

    @property
    def idle(self) -> bool:
        """Whether everything sealed is acknowledged or parked."""
        return not self.waiting and not self.in_flight


class Sender:
    """Bring the batches of one stream to one platform. `start` it, tell it what is sealed, `stop` it.

    Args:
        name: of the destination.
        uplink: the transport; from here on it belongs to the sender.
        open_source: opens a reader of the spool in the calling thread.
        sink: where verified answers go.
        verify: opens the platform's COSE_Sign1 answers with its key.
        clock: of this boot.
        window: most batches in flight; the transport may carry fewer.
        answer_timeout_s: from the last sign of life to the deadline of an answer.
        sealed: set by the spool when it has sealed something for this destination; cleared here.
        pace: says when batches may travel; None for always.
        pause: waits between two tries, at most as long as told; returns early at `stop`.
        beat: told within how many seconds the thread will be heard of again (`agent.watchdog`).
    """

    def __init__(
        self,
        name: str,
        uplink: Uplink,
        *,
        open_source: Callable[[], AbstractContextManager[Source]],
        sink: Sink,
        verify: Callable[[bytes], Receipt | Refusal],
        clock: BootClock,
        window: int = 8,
        answer_timeout_s: float = 20.0,
        sealed: threading.Event | None = None,
        pace: Pace | None = None,
        pause: Callable[[float], object] | None = None,
        beat: Callable[[float], None] = lambda _: None,
    ) -> None:
        self.name = name
        self._uplink = uplink
        self._open_source = open_source
        self._sink = sink
        self._verify = verify
        self._pace = pace
        self._held: str | None = None
        self._clock = clock
        self._window = max(1, min(window, uplink.window))
        self._answer_timeout_us = round(answer_timeout_s * _SECOND_US)
        self._stopping = threading.Event()
        self._beat = beat
        self._nudged = threading.Event()
        self._pause = pause or self._nudged.wait
        # Sealed, arrived, stopping: whatever it is, the thread looks at everything.
        self._wake = sealed or threading.Event()
        self._changed = threading.Condition()
        self._wanted_looks = 0
        self._looks = 0
        self._thread = threading.Thread(target=self._run, name=f"uplink-{name}", daemon=True)
        # Below: the sender's thread only.
        self._source: Source
        self._stream = b""
        self._state = machine.start(window=self._window, answer_timeout_us=self._answer_timeout_us, through=0, newest=0)
        self._sealed_before = 0
        self._first_sent_us: dict[int, int] = {}
        self._hashes: dict[int, tuple[bytes, bytes]] = {}
        self._sent_us: dict[int, int] = {}
        self._quality = Quality()
        self._last_anchor: Anchor | None = None
        self._counts: Counter[str] = Counter()
        self._problem: AgentError | None = None
        self._contradiction: AgentError | None = None
        self._said: set[str] = set()
        self._wait_s = 0.0
        self._tried_us: int | None = None
        self._down_since_us: int | None = None
        self._retry_at_us: int | None = None
        self._reached = False
        self._status = self._snapshot()

    @property
    def status(self) -> Status:
        """The latest snapshot. Any thread."""
        return self._status

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def sealed(self) -> None:
        """Tell that the spool has sealed something for this destination. Any thread; returns at once."""
        self._wake.set()

    def retry(self) -> None:
        """Try again at once, if it waits for the next try. Any thread."""
        self._nudged.set()

    def drain(self, limit_s: float) -> bool:
        """Wait until everything sealed so far is acknowledged or parked; False when that takes longer."""
        with self._changed:
            self._wanted_looks += 1
            wanted = self._wanted_looks
            self._wake.set()
            return self._changed.wait_for(lambda: self._looks >= wanted and self._status.idle, limit_s)

    def stop(self, limit_s: float = 15.0) -> bool:
        """End the thread; False when it does not end in time. What is not acknowledged stays in the spool."""
        self._stopping.set()
        self._nudged.set()
        self._wake.set()
        self._uplink.interrupt()
        if self._thread.ident is not None:
            self._thread.join(limit_s)
        return not self._thread.is_alive()

    # --- the thread

    def _run(self) -> None:
        tries = Retrying(
            retry=retry_if_exception_type(AgentError),
            stop=stop_when_event_set(self._stopping),
            wait=self._delay_s,
            sleep=self._pause_s,
            reraise=True,
        )
        try:
            tries(self._try)
        except AgentError as error:
            logger.debug("event=uplink_ended destination=%s problem=%s", self.name, error)
        finally:
            self._uplink.close()
            self._state, _ = machine.step(self._state, machine.Stop(), self._clock.boottime_us())
            self._publish()
            if self._pace is not None:
                self._pace.carried(self._uplink.traffic)
                self._pace.close()

    def _try(self) -> None:
        """Run one session over one link, and leave the state machine waiting when it fails."""
        self._retry_at_us = None
        self._nudged.clear()
        self._beat(WORK_LIMIT_S)
        if self._stopping.is_set():
            return
        try:
            with self._open_source() as self._source:
                self._session()
        except LinkError as error:
            self._failed(error, error.fault, error.batch)
            raise
        except AgentError as error:
            self._failed(error, Fault.SPOOL, None)
            raise
        except Exception as error:
            # A defect must not silence a gateway for good: it is said with its trace, and the next try may do.
            what = f"{type(error).__name__}: {error}"
            if self._problem is None or self._problem.what != what:
                logger.exception("event=uplink_defect destination=%s", self.name)
            defect = LinkError(Fault.INTERNAL, what, where=f"destination {self.name}", hint="report it with the log")
            self._failed(defect, Fault.INTERNAL, None)
            raise defect from error

    def _session(self) -> None:
        self._read_stream()
        self._tried_us = self._clock.boottime_us()
        self._apply(machine.Connect())
        self._wake.set()
        while not self._stopping.is_set():
            deadline_us = machine.deadline_us(self._state)
            left_us = None if deadline_us is None else max(0, deadline_us - self._clock.boottime_us())
            self._beat(ORDINARY_S)
            woken = self._wake.wait(LOOK_S if left_us is None else min(LOOK_S, left_us / _SECOND_US))
            if not woken and (deadline_us is None or self._clock.boottime_us() < deadline_us):
                continue  # nothing to do, but to show that it is there
            self._beat(WORK_LIMIT_S)
            self._wake.clear()
            # The spool first: with HTTPS every answer is followed by a send that blocks, and live goes before backlog.
            self._look()
            for arrival in self._uplink.receive():
                match arrival:
                    case Taken(batch):
                        self._apply(machine.Alive(batch))
                    case Reply():
                        self._take(arrival)
            if self._pace is not None:
                self._apply(self._gates(self._pace))
            if deadline_us is not None and self._clock.boottime_us() >= deadline_us:
                self._apply(machine.Tick())

    def _look(self) -> None:
        """See what the spool has sealed."""
        with self._changed:
            looks = self._wanted_looks
        newest = self._source.newest()
        if newest > self._state.newest:
            self._apply(machine.Sealed(newest))
        with self._changed:
            self._looks = looks
            self._changed.notify_all()

    def _read_stream(self) -> None:
        """Take up where the spool stands; a new stream begins from nothing."""
        stream, newest = self._source.stream_id, self._source.newest()
        if stream == self._stream:
            through = self._source.through()
            if through > self._state.through:
                self._apply(machine.Acknowledged(through))  # by receipts that were carried here
            return
        self._stream = stream
        self._contradiction = None
        self._sealed_before = newest
        self._first_sent_us.clear()
        self._hashes.clear()
        self._state = machine.start(
            window=self._window,
            answer_timeout_us=self._answer_timeout_us,
            through=self._source.through(),
            newest=newest,
            paced=self._pace is not None,
        )

    def _gates(self, pace: Pace) -> machine.Paced:
        """Ask when each lane may send, and say so when something begins or ends to hold them."""
        pace.carried(self._uplink.traffic)
        gates = pace.gates()
        if gates.why != self._held:
            self._held = gates.why
            logger.info("event=uplink_held destination=%s why=%s", self.name, gates.why or "nothing any more")
        return machine.Paced(gates.backlog_from_us, gates.live_from_us)

    def _apply(self, event: machine.Event) -> None:
        events = deque([event])
        while events:
            linked = self._state.phase in machine.LINKED
            self._state, actions = machine.step(self._state, events.popleft(), self._clock.boottime_us())
            if self._state.phase in machine.LINKED and not linked:
                logger.info("event=uplink_online destination=%s waiting=%d", self.name, len(self._state.waiting))
                self._tried_us = None
            if self._state.phase in machine.LINKED and self._state.fault is None:
                self._recovered()
            self._publish()
            for action in actions:
                match action:
                    case machine.Open():
                        self._uplink.connect(self._wake.set)
                        events.append(machine.Linked())
                    case machine.Ask():
                        within_s = self._uplink.ask(self._stream)
                        events.append(machine.Asked(round(within_s * _SECOND_US)))
                    case machine.Send(number):
                        if not self._send(number):
                            events.append(machine.Gone(number))
                        if self._pace is not None:
                            events.append(self._gates(self._pace))
                    case machine.Close(overdue):
                        self._uplink.close()
                        if overdue is not None:
                            raise self._overdue(overdue)

    def _send(self, number: int) -> bool:
        """Send one batch; False when there is nothing to send."""
        try:
            outgoing = self._source.load(number)
        except UnreadableBatchError as error:
            self._skip(number, error)
            return False
        if outgoing is None:
            return False
        self._hashes[number] = (outgoing.header_hash, sha256(outgoing.wire).digest())
        self._counts["resent" if number in self._first_sent_us else "sent"] += 1
        self._sent_us[number] = self._clock.boottime_us()
        self._first_sent_us.setdefault(number, self._sent_us[number])
        if self._pace is not None and number <= self._state.live_above:
            self._pace.backlog_sent(len(outgoing.wire))
        self._uplink.send(number, outgoing.wire, partial(self._prepare, number + 1))
        return True

    def _prepare(self, number: int) -> None:
        if number <= self._state.newest:
            self._source.prepare(number)

    def _skip(self, number: int, error: UnreadableBatchError) -> None:
        self._counts["unreadable"] += 1
        logger.error("event=uplink_unreadable destination=%s batch=%d problem=%s", self.name, number, error)
        self._sink.unreadable(number, error)

    # --- answers

    def _take(self, reply: Reply) -> None:
        try:
            signed = self._verify(reply.data)
        except BatchError as error:
            self._odd("forged", reply, f"an answer that does not verify with the platform's key ({error.what})")
            return
        if signed.stream_id != self._stream and not self._is_ours(signed):
            self._odd("foreign", reply, f"an answer about another stream, {signed.stream_id.hex()}")
            return
        match signed:
            case Receipt():
                self._take_receipt(Answer(signed, reply.received_us, self._signed_after(reply, signed)), signed, reply)
            case Refusal():
                self._take_refusal(signed, reply)

    def _is_ours(self, signed: Receipt | Refusal) -> bool:
        """Say whether a refusal that could not name the stream is about bytes that are in flight here."""
        return isinstance(signed, Refusal) and any(signed.batch_hash == wire for _, wire in self._hashes.values())

    def _odd(self, kind: str, reply: Reply, what: str) -> None:
        self._counts[kind] += 1
        if self._counts[kind] == 1:
            logger.warning("event=uplink_%s destination=%s what=%s", kind, self.name, what)
        self._publish()
        if reply.asked_us is not None:
            # The answer to a request of ours: whoever answers there is not the platform.
            hint = "check receipt_key and the url of the destination"
            where = f"destination {self.name}"
            raise LinkError(Fault.FORGED, what, where=where, hint=hint, batch=reply.batch)

    def _signed_after(self, reply: Reply, receipt: Receipt | Refusal) -> int | None:
        """Return a moment of this boot that certainly precedes the signing of a receipt.

        With a transport that ties answers to requests it is the request. Otherwise it is the first sending of a
        batch that the receipt covers and no receipt covered before; only of batches that no earlier process can have
        sent, since a receipt for those may be old.
        """
        if reply.asked_us is not None:
            return reply.asked_us
        if not isinstance(receipt, Receipt):
            return None
        covered = _covered(receipt)
        sent = [us for number, us in self._first_sent_us.items() if number > self._sealed_before and number in covered]
        return max(sent, default=None)

    def _contradicted(self, what: str, last: int, reply: Reply) -> NoReturn:
        """Note that the platform knows another history of this stream, as after a card was restored from a copy.

        Nothing is freed. The spool begins a new stream, in which everything travels that the platform cannot have.
        """
        hint = "nothing to do: this card was restored from a copy or cloned, so a new stream begins"
        where = f"destination {self.name}"
        self._contradiction = LinkError(Fault.CONFLICT, what, where=where, hint=hint, batch=reply.batch)
        self._counts["contradictions"] += 1
        # what is in flight may yet be taken ahead of the chain
        self._sink.contradicted(max([last, *self._first_sent_us]))
        raise self._contradiction

    def _take_receipt(self, answer: Answer, receipt: Receipt, reply: Reply) -> None:
        last = max([receipt.through, *(last for _, last in receipt.beyond)])
        if last > self._state.newest:
            self._look()
        ours = self._hash_of(receipt.through) if receipt.through else None
        if last > self._state.newest:
            what = f"the platform has batch {last} of this stream, the spool only {self._state.newest}"
            self._contradicted(what, last, reply)
        if ours is not None and ours != receipt.hash:
            self._contradicted(f"batch {receipt.through} at the platform is not the one in this spool", last, reply)
        self._contradiction = None
        if receipt.through < self._state.through:
            # Late on MQTT. On resuming it means that the platform went back, perhaps to a copy of its database. What
            # it says is true all the same: it covers less than is known, never something else.
            self._counts["stale"] += 1
            if self._state.phase is machine.Phase.CONNECTING:
                logger.warning(
                    "event=uplink_platform_went_back destination=%s through=%d acknowledged=%d",
                    self.name,
                    receipt.through,
                    self._state.through,
                )
        self._counts["receipts"] += 1
        self._sink.receipt(receipt)
        self._anchor(answer, receipt)
        covered = _covered(receipt)
        answered = [number for number in self._sent_us if number in covered]
        if answered:
            # the one sent last: those before it may have waited in the platform's queue for a common receipt
            last_us = max(self._sent_us.pop(number) for number in answered)
            self._quality.answered((reply.received_us - last_us) / _SECOND_US)
        self._quality.carried(self._uplink.traffic)
        for number in [number for number in self._hashes if number in covered]:
            if number != receipt.through:
                del self._hashes[number]
            self._first_sent_us.pop(number, None)
        self._apply(machine.Acknowledged(receipt.through, receipt.beyond))

    def _hash_of(self, number: int) -> bytes | None:
        known = self._hashes.get(number)
        return known[0] if known is not None else self._source.hash_of(number)

    def _take_refusal(self, refusal: Refusal, reply: Reply) -> None:
        about = next(
            (
                number
                for number, hashes in self._hashes.items()
                if refusal.batch_hash in hashes and number not in self._state.parked
            ),
            None,
        )
        if about is None:
            self._odd("foreign", reply, "a refusal of a batch that was not sent from here")
            return
        what = f"batch {about} refused as {refusal.reason.name}: {refusal.detail}"
        self._sink.refusal(about, refusal)
        if refusal.reason in STANDING:
            self._apply(machine.Turned())
            hint = "register this gateway's key at the platform: civigate identity show, civigate-receiver gateways add"
            if refusal.reason is Reason.UNSUPPORTED_VERSION:
                hint = "update the receiver, then the gateway: the receiver must know the gateway's batch format"
            raise LinkError(Fault.STANDING, what, where=f"destination {self.name}", hint=hint)
        self._counts["refused"] += 1
        logger.error("event=uplink_quarantine destination=%s what=%s", self.name, what)
        del self._hashes[about]
        self._first_sent_us.pop(about, None)
        self._sent_us.pop(about, None)
        self._apply(machine.Parked(about))

    def _anchor(self, answer: Answer, receipt: Receipt) -> None:
        if answer.after_us is None:
            return
        anchor = anchor_of_answer(self._clock.boot_id, answer.after_us, answer.received_us, receipt.utc_us)
        last = self._last_anchor
        wanted = (
            last is None
            or anchor.boottime_us - last.boottime_us >= ANCHOR_EVERY_S * _SECOND_US
            or anchor.uncertainty_us * 2 <= last.uncertainty_us
        )
        if wanted and anchor.uncertainty_us <= WORST_ANCHOR_S * _SECOND_US:
            self._last_anchor = anchor
            self._counts["anchors"] += 1
            self._sink.anchor(anchor)
            if self._pace is not None:
                self._pace.learn(anchor)

    # --- failures

    def _overdue(self, flight: machine.InFlight) -> LinkError:
        within = f"within {self._answer_timeout_us / _SECOND_US:g} s"
        if flight.taken and not flight.overtaken:
            what = f"the broker took batch {flight.number}, but no receipt came {within}"
            hint = "start the receiver, or look at its log: it is subscribed, but does not answer"
            return LinkError(Fault.NOBODY, what, where=f"destination {self.name}", hint=hint)
        what = f"batch {flight.number} is not answered {within}"
        hint = "the link is dead, or no receiver works: check the platform (civigate-receiver status)"
        return LinkError(Fault.SILENT, what, where=f"destination {self.name}", hint=hint)

    def _failed(self, error: AgentError, fault: Fault, batch: int | None) -> None:
        self._uplink.close()
        self._sent_us.clear()
        if self._state.phase in machine.LINKED and fault is Fault.LOST:
            self._quality.cut((self._clock.boottime_us() - self._state.linked_us) / _SECOND_US)
        else:
            self._quality.left()
        self._quality.carried(self._uplink.traffic)
        self._wait_s = error.wait_s if isinstance(error, LinkError) else 0.0
        now_us = self._clock.boottime_us()
        self._state, _ = machine.step(self._state, machine.Failed(fault, batch), now_us)
        if self._down_since_us is None:
            self._down_since_us = now_us
        if self._stopping.is_set():
            return
        self._counts["failures"] += 1
        self._say(error)
        self._problem = error
        self._publish()

    def _say(self, error: AgentError) -> None:
        """Log a problem, as a warning the first time since all was well."""
        level = logging.DEBUG if error.code in self._said else logging.WARNING
        self._said.add(error.code)
        logger.log(
            level, "event=uplink_down destination=%s problem=%s; %s [%s]", self.name, error, error.hint, error.code
        )

    def _recovered(self) -> None:
        if self._down_since_us is not None:
            down_s = (self._clock.boottime_us() - self._down_since_us) / _SECOND_US
            logger.info("event=uplink_restored destination=%s down_s=%.1f", self.name, down_s)
            self._said.clear()
        self._down_since_us = None
        self._problem = None

    def _delay_s(self, tries: RetryCallState) -> float:
        """Draw the next pause: exponential with full jitter, from the failures since the last success."""
        now_us = self._clock.boottime_us()
        fault = self._state.fault
        if self._state.phase is machine.Phase.REFUSED:
            young = now_us - (self._down_since_us or 0) < STANDING_PATIENCE_S * _SECOND_US
            cap_s = STANDING_NEAR_CAP_S if young else STANDING_CAP_S
        elif fault is not None and fault.cheap and now_us - (self._down_since_us or 0) < PATIENCE_S * _SECOND_US:
            cap_s = NEAR_CAP_S
        else:
            cap_s = FAR_CAP_S
        tries.attempt_number = max(1, self._state.failures)
        pause_s = wait_random_exponential(multiplier=0.5, max=cap_s)(tries)
        if self._tried_us is not None:
            # A try that found nobody for seconds was a pause already: another one would only miss the link's return.
            pause_s -= (now_us - self._tried_us) / _SECOND_US
        return max(pause_s, min(self._wait_s, FAR_CAP_S), 0.0)

    def _pause_s(self, seconds: float) -> None:
        self._retry_at_us = self._clock.boottime_us() + round(seconds * _SECOND_US)
        self._publish()
        self._beat(seconds + ORDINARY_S)
        self._pause(seconds)

    def _publish(self) -> None:
        up = self._state.phase in machine.LINKED
        if up is not self._reached:
            self._reached = up
            self._sink.reached(up=up)
        with self._changed:
            self._status = self._snapshot()
            self._changed.notify_all()

    def _snapshot(self) -> Status:
        problem = self._contradiction or self._problem
        return Status(
            destination=self.name,
            phase=self._state.phase,
            since_us=self._state.since_us,
            retry_at_us=self._retry_at_us,
            problem=None if problem is None else f"{problem}; {problem.hint} [{problem.code}]",
            notice=self._quality.notice,
            answer_s=self._quality.answer_s,
            through=self._state.through,
            newest=self._state.newest,
            waiting=len(self._state.waiting),
            in_flight=len(self._state.in_flight),
            held=self._held,
            traffic=self._uplink.traffic,
            counts=dict(self._counts),
        )


def _covered(receipt: Receipt) -> Numbers:
    return Numbers.of([(1, receipt.through), *receipt.beyond])
