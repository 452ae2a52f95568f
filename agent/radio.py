# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The radio thread: owns the concentrator, and hands what it hears to the spool.

A fault of the hardware is an event here: named, counted, answered with a fresh start after a pause; nothing that the
bus or the chip does ends the thread. What the chip still holds is fetched before every reset, so that neither a crash
of this process nor a restart of the chip costs a frame.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from agent.batch.model import Account
from agent.clock import CLOSE_NS, READING_TRIES
from agent.errors import AgentError
from agent.reception import Reception, fingerprints
from agent.rescue import NOTE_INTERVAL_US, SURE_US, UNDATED, Look, LookNote, date
from agent.silence import Silence
from agent.spool.intake import Fingerprint, Heard, hour_of
from agent.watchdog import ORDINARY_S
from drivers.errors import DriverError
from drivers.sx1302.concentrator import RxFetch
from drivers.sx1302.counter import WRAP_US
from drivers.sx1302.fifo import Fault
from drivers.sx1302.health import CURED_BY_RELOAD
from drivers.sx1302.statistics import Listened

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from threading import Event

    from agent.filter import Filter
    from agent.frame import Session
    from agent.spool.intake import RoutedFrame
    from agent.spool.journal import Recovered
    from drivers.sx1302.packet import RxPacket
    from drivers.sx1302.pps import Pulse

logger = logging.getLogger(__name__)

START_LIMIT_S = 120.0
"""How long the chip may take to be opened, rescued and started: ten times what it takes."""
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 60.0
"""Between attempts to start a concentrator that fails; each pause is twice the one before."""
HEALTHY_S = 60.0
"""A concentrator that received for so long is not suspected any more: the next pause is the first again."""
KEPT_FINGERPRINTS = 512
"""More than the chip's receive memory holds packets (4096 bytes, a packet takes at least 23)."""
RESETS_BEFORE_POWER_CYCLE = 2
"""A concentrator that fails again so soon, and again, is switched off and on each time."""
RELOAD_INTERVAL_S = 3600.0
"""A concentrator that falls ill again so soon is not spared the reset a second time."""
LISTENED_INTERVAL_S = 10.0
"""How old the status may be in what it says about the channels."""
PATIENT_ATTEMPTS = 3
"""Attempts, over some seconds, before a chip that does not answer is reset: with that goes what it has received."""
COSTLESS_FAULTS = frozenset({Fault.TEMPERATURE})
"""Faults of a fetch that cost no frame."""


class HostTime(Protocol):
    """The host's clocks, as `agent.clock.HostClock` gives them."""

    @property
    def boot_id(self) -> bytes:
        """The kernel's boot id, 16 bytes."""
        ...

    def boottime_us(self) -> int:
        """Return CLOCK_BOOTTIME, microseconds."""
        ...

    def monotonic_ns(self) -> int:
        """Return CLOCK_MONOTONIC, nanoseconds."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait."""
        ...


class Receiver(Protocol):
    """What the thread needs of a concentrator; see `drivers.sx1302.concentrator`."""

    @property
    def eui(self) -> bytes:
        """The chip's EUI-64."""
        ...

    @property
    def listened(self) -> Listened:
        """What was listened to, with which success."""
        ...

    def recover(self, *, looked_ns: int | None = None) -> RxFetch:
        """Pause reception and fetch what the chip still holds; may be asked again."""
        ...

    def start(self, *, power_cycle: bool = False) -> None:
        """Reset the chip, or switch it off and on, and bring it to reception."""
        ...

    def receive(self) -> RxFetch:
        """Empty the FIFO."""
        ...

    def revive(self) -> None:
        """Load the microcontrollers of a chip that fell ill anew."""
        ...

    def stop(self) -> None:
        """Stop reception."""
        ...

    def close(self) -> None:
        """Release bus and lines."""
        ...


class Sink(Protocol):
    """Where what was heard goes; see `agent.spool.writer`. No method waits for the disk."""

    @property
    def recovered(self) -> Recovered:
        """What an earlier process has left."""
        ...

    def begin_session(self, boot_id: bytes) -> Session:
        """Return the name of a run of the concentrator that begins now."""
        ...

    def offer(self, heard: Heard) -> bool:
        """Take what was heard; False when it had to be shed, which the sink counts."""
        ...


class PulseSink(Protocol):
    """Who wants the pulses of a GNSS receiver; see `agent.gnss`. No method waits."""

    def chip_started(self) -> None:
        """Know that the chip's counter begins anew; said before each start."""

    def pulse(self, pulse: Pulse) -> None:
        """Take a pulse."""


class Repair(StrEnum):
    """What is done to a concentrator that failed, the mildest first."""

    RELOAD = "reload"
    """Its microcontrollers are loaded anew; nothing is lost."""
    RESET = "reset"
    POWER_CYCLE = "power_cycle"


class RadioState(StrEnum):
    """What the radio is doing."""

    OFF = "off"
    STARTING = "starting"
    RECEIVING = "receiving"
    FAULT = "fault"
    """Waiting before the next attempt."""


@dataclass(frozen=True, slots=True)
class RadioStatus:
    """The radio at one moment.

    Attributes:
        state: what it is doing.
        detail: the error behind a fault, one line with hint and code; empty when all is well.
        eui: of the chip, None before its first start.
        starts: of the chip, since this process began.
        failures: attempts that failed and runs that ended in a fault.
        repairs: steps that were taken after failures, by kind.
        heard: packets of all kinds.
        lost: faults that may each have cost a frame.
        faults: damage in the FIFO by kind.
        last_heard_us: CLOCK_BOOTTIME of the newest packet, None before the first.
        listened: what was listened to, with which success; some seconds old.
    """

    state: RadioState = RadioState.OFF
    detail: str = ""
    eui: bytes | None = None
    starts: int = 0
    failures: int = 0
    repairs: Mapping[str, int] = field(default_factory=dict)
    heard: int = 0
    lost: int = 0
    faults: Mapping[str, int] = field(default_factory=dict)
    last_heard_us: int | None = None
    listened: Listened = field(default_factory=Listened)


class Radio:
    """Keeps a concentrator receiving until it is told to stop.

    Args:
        open_concentrator: opens bus and lines; called again after each failure.
        sink: takes what was heard.
        filters: one per destination, in the order of the configuration.
        clock: the host's.
        stop: ends `run` when set.
        poll_interval_s: pause after a look that found nothing.
        on_eui: told the chip's EUI after each start.
        pulses: gets the pulses of a GNSS receiver that the chip latched; None where there is no receiver.
        beat: told within how many seconds the thread will be heard of again (`agent.watchdog`).
        on_heard: shown each look's packets as far as they can be dated, the frames kept of them, and CLOCK_BOOTTIME at
            counter 0; must not wait.
        note: outlives the process, and says when an earlier one looked last; without, what that one left in the chip
            has no time.
    """

    def __init__(
        self,
        open_concentrator: Callable[[], Receiver],
        sink: Sink,
        filters: Sequence[Filter],
        clock: HostTime,
        stop: Event,
        *,
        poll_interval_s: float = 0.01,
        on_eui: Callable[[bytes], None] = lambda _: None,
        pulses: PulseSink | None = None,
        beat: Callable[[float], None] = lambda _: None,
        on_heard: Callable[[Sequence[RxPacket], Sequence[RoutedFrame], int], None] = lambda *_: None,
        note: LookNote | None = None,
    ) -> None:
        self._open = open_concentrator
        self._sink = sink
        self._destinations = len(filters)
        self._reception = Reception(filters)
        self._clock = clock
        self._stop = stop
        self._poll_interval_s = poll_interval_s
        self._on_eui = on_eui
        self._pulses = pulses
        self._beat = beat
        self._on_heard = on_heard
        self._seen: deque[Fingerprint] = deque(sink.recovered.seen, maxlen=KEPT_FINGERPRINTS)
        earlier = sink.recovered.session
        self._knows_chip = earlier is not None and earlier.boot_id == clock.boot_id
        """Whether what the chip holds can be told from what was kept before. After a reboot it cannot: the journal is
        gone, and with it the fingerprints, while the chip's memory may hold packets long delivered."""
        self._next_session: Session | None = None
        self._failures_in_a_row = 0
        self._next_reload_ns = 0
        self._note_file = note
        self._look = None if note is None else note.read()
        self._next_look_note_us = 0
        self._answered = False
        """Whether this process has ever heard from the chip."""
        self._unreachable = 0
        self._next_note_ns = 0
        self._silence = Silence(clock.monotonic_ns() / 1e9)
        self._status = RadioStatus()

    @property
    def status(self) -> RadioStatus:
        """How it is; any thread may ask."""
        return self._status

    def run(self) -> None:
        """Listen until told to stop; the body of the thread "radio"."""
        pause_s = FIRST_PAUSE_S
        while not self._stop.is_set():
            begin_ns = self._clock.monotonic_ns()
            self._beat(START_LIMIT_S)
            try:
                self._attempt()
            except (DriverError, AgentError) as error:
                self._failed(f"{error}; {error.hint} [{error.code}]")
            except Exception as error:  # a defect of this program must not silence the radio for good
                logger.exception("event=radio_defect")
                self._failed(f"{type(error).__name__}: {error}; please report this [CG-RAD-001]")
            if self._stop.is_set():
                break
            healthy = self._clock.monotonic_ns() - begin_ns >= HEALTHY_S * 1e9
            if healthy:
                pause_s, self._failures_in_a_row = FIRST_PAUSE_S, 1
            self._beat(pause_s + ORDINARY_S)
            self._stop.wait(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
        self._become(RadioState.OFF)

    def _attempt(self) -> None:
        """Bring a concentrator up and listen to it until told to stop, or until it fails."""
        if self._status.state is RadioState.OFF:
            self._become(RadioState.STARTING)
        concentrator = self._open()
        try:
            if self._knows_chip:
                self._rescue(concentrator)
            # Before the chip receives: should this process die then, the next one knows of this run. A start that
            # fails leaves the name for the next attempt.
            session = self._next_session = self._next_session or self._sink.begin_session(self._clock.boot_id)
            self._knows_chip = True
            if self._pulses is not None:
                self._pulses.chip_started()
            # What the chip holds was fetched just now; from here on all is newer.
            self._looked(self._clock.boottime_us())
            concentrator.start(power_cycle=self._repair() is Repair.POWER_CYCLE)
            self._next_session = None
            self._status = replace(self._status, eui=concentrator.eui, starts=self._status.starts + 1, detail="")
            self._on_eui(concentrator.eui)
            self._become(RadioState.RECEIVING)
            self._listen(concentrator, session)
            # Between a last look and the end of reception something may still come in.
            self._rescue(concentrator)
            concentrator.stop()
        finally:
            concentrator.close()

    def _repair(self) -> Repair | None:
        """Choose, count and tell what the next start shall cure; None when nothing failed before."""
        if self._failures_in_a_row == 0:
            return None
        repair = Repair.RESET if self._failures_in_a_row <= RESETS_BEFORE_POWER_CYCLE else Repair.POWER_CYCLE
        self._count_repair(repair, f"failures={self._failures_in_a_row}")
        return repair

    def _count_repair(self, repair: Repair, why: str) -> None:
        logger.info("event=radio_repair step=%s %s", repair, why)
        repairs = dict(Counter(self._status.repairs) + Counter({repair.value: 1}))
        self._status = replace(self._status, repairs=repairs)

    def _revives(self, concentrator: Receiver, illness: DriverError) -> bool:
        """Try the mildest repair, and say whether the chip receives again: then nothing of what it held is lost."""
        now_ns = self._clock.monotonic_ns()
        if self._stop.is_set() or now_ns < self._next_reload_ns:
            return False
        self._next_reload_ns = now_ns + round(RELOAD_INTERVAL_S * 1e9)
        self._count_repair(Repair.RELOAD, f"code={illness.code}")
        self._beat(START_LIMIT_S)
        try:
            concentrator.revive()
        except DriverError as error:
            logger.info("event=radio_not_revived code=%s detail=%s", error.code, error)
            return False
        return True

    def _listen(self, concentrator: Receiver, session: Session) -> None:
        while True:
            last = self._stop.is_set()
            self._beat(ORDINARY_S)
            before, began_us = self._look, self._clock.boottime_us()
            try:
                fetch = concentrator.receive()
            except DriverError as error:
                if error.code in CURED_BY_RELOAD and self._revives(concentrator, error):
                    continue
                # What was being read is gone from the FIFO; the RAM behind it may give it back, or not.
                self._count({"aborted": 1})
                raise
            self._answered = True
            self._looked(began_us, fetch)
            if fetch.pulse is not None and self._pulses is not None:
                self._pulses.pulse(fetch.pulse)
            if fetch.packets or fetch.faults or fetch.late_copies:
                if before is not None and began_us - before.at_us > SURE_US:
                    self._take_late(fetch, fetch.packets, session, before)
                else:
                    self._take(fetch, fetch.packets, session)
            if last:
                return
            self._listen_for_silence(len(fetch.packets))
            self._note_listened(concentrator)
            if not fetch.packets:
                self._stop.wait(self._poll_interval_s)

    def _note_listened(self, concentrator: Receiver) -> None:
        now_ns = self._clock.monotonic_ns()
        if now_ns >= self._next_note_ns:
            self._next_note_ns = now_ns + round(LISTENED_INTERVAL_S * 1e9)
            self._status = replace(self._status, listened=concentrator.listened)

    def _listen_for_silence(self, packets: int) -> None:
        """Restart a concentrator that is suspiciously quiet.

        Raises:
            AgentError: it is; the answer to any error is a restart.
        """
        now_s = self._clock.monotonic_ns() / 1e9
        self._silence.heard(now_s, packets)
        limit_s = self._silence.limit_s
        if self._silence.too_long(now_s):
            raise AgentError(
                f"nothing heard for {limit_s:.0f} s, several times longer than ever before",
                where="concentrator",
                hint="it is restarted in case it is deaf; if that changes nothing, check the antenna and its cable",
                code="CG-RAD-002",
                retryable=True,
            )

    def _rescue(self, concentrator: Receiver) -> None:
        """Fetch what the chip holds of an earlier run and nobody has kept yet.

        On which scale its counter ran is not known then, so these packets make a session of their own. The chip
        stays paused, with all it has, until it is started or stopped. So should this process die here, before the
        sink has kept the packets, the next one gets them again.
        """
        looked_ns = None
        if self._look is not None:
            looked_ns = self._clock.monotonic_ns() - (self._clock.boottime_us() - self._look.at_us) * 1000
        fetch = concentrator.recover(looked_ns=looked_ns)
        if fetch.reachable:
            self._unreachable = 0
        elif self._answered and self._unreachable < PATIENT_ATTEMPTS:
            self._unreachable += 1
            raise AgentError(
                "nothing answers where it was a moment ago",
                where="concentrator",
                hint="if it does not come back by itself, it is reset: check that the board sits firmly and has power",
                code="CG-RAD-003",
                retryable=True,
            )
        known = set(map(_chip_part, self._seen))
        packets = [packet for packet in fetch.packets if known.isdisjoint(map(_chip_part, fingerprints(packet)))]
        if packets:
            logger.info("event=radio_rescued packets=%d known=%d", len(packets), len(fetch.packets) - len(packets))
            self._take_late(fetch, packets, None, self._look)
        elif fetch.faults:
            self._count(fetch.faults)

    def _looked(self, at_us: int, fetch: RxFetch | None = None) -> None:
        """Remember a look that did not fail, and note it for the next process."""
        zero_us = None if self._look is None or fetch is None else self._look.zero_us
        due = at_us >= self._next_look_note_us or fetch is None
        if due and fetch is not None:
            zero_us = self._zero_us(fetch)
        self._look = Look(at_us, zero_us)
        if due:
            self._next_look_note_us = at_us + NOTE_INTERVAL_US
            if self._note_file is not None:
                self._note_file.write(self._look)

    def _take_late(
        self, fetch: RxFetch, packets: Sequence[RxPacket], session: Session | None, last: Look | None
    ) -> None:
        """Take packets that waited in the chip, perhaps for so long that some cannot be dated.

        Args:
            fetch: what they are of.
            packets: to be taken.
            session: in which their counters are; None to begin one.
            last: the look before they came.
        """
        zero_us = self._zero_us(fetch)
        sure, unsure = date(packets, fetch.counter_us, Look(zero_us + fetch.counter_us, zero_us), last)
        if sure:
            self._take(fetch, sure, session or self._sink.begin_session(self._clock.boot_id))
            fetch = replace(fetch, faults={}, late_copies=0)
        if unsure:
            logger.warning("event=radio_undated packets=%d", len(unsure))
            self._take(fetch, unsure, UNDATED)

    def _take(self, fetch: RxFetch, packets: Sequence[RxPacket], session: Session) -> None:
        """Sort packets of a fetch and hand them over, with its faults."""
        zero_us = self._zero_us(fetch)
        dated = session != UNDATED
        heard = self._reception.sort(
            packets,
            session=session,
            zero_us=zero_us if dated else None,
            lost=_lost(fetch.faults),
            late_copies=fetch.late_copies,
        )
        if not packets:
            heard = replace(heard, hour=hour_of(session.boot_id, self._clock.boottime_us()))
        self._seen.extend(heard.seen)
        try:
            self._sink.offer(heard)
        except ValueError:
            # Something in it cannot be stored: a defect. What can be said for sure is that these frames are lost.
            logger.exception("event=radio_defect")
            self._sink.offer(Heard((), tuple(map(_as_lost, heard.tallies)), heard.seen, heard.hour))
        if fetch.faults:
            self._note(fetch.faults)
        if packets:
            self._status = replace(self._status, heard=self._status.heard + len(packets))
            if dated:
                self._status = replace(self._status, last_heard_us=zero_us + packets[-1].counter_us)
                self._on_heard(packets, heard.frames, zero_us)

    def _count(self, faults: Mapping[str, int]) -> None:
        """Account for faults that came without packets."""
        hour = hour_of(self._clock.boot_id, self._clock.boottime_us())
        self._sink.offer(Heard((), (Account(overrun=_lost(faults)),) * self._destinations, hour=hour))
        self._note(faults)

    def _note(self, faults: Mapping[str, int]) -> None:
        total = dict(Counter(self._status.faults) + Counter(faults))
        self._status = replace(self._status, faults=total, lost=_lost(total))

    def _zero_us(self, fetch: RxFetch) -> int:
        """Return CLOCK_BOOTTIME at the moment when the concentrator's counter was 0."""
        for _ in range(READING_TRIES):
            before_ns = self._clock.monotonic_ns()
            boottime_us = self._clock.boottime_us()
            after_ns = self._clock.monotonic_ns()
            if after_ns - before_ns <= CLOSE_NS:
                break
        age_us = ((before_ns + after_ns) // 2 - fetch.host_monotonic_ns) // 1000
        return boottime_us - age_us - fetch.counter_us

    def _failed(self, detail: str) -> None:
        before = self._status
        self._failures_in_a_row += 1
        self._status = replace(before, failures=before.failures + 1, detail=detail)
        self._become(RadioState.FAULT)
        if detail != before.detail:
            logger.error("event=radio_fault detail=%s", detail)

    def _become(self, state: RadioState) -> None:
        if state is not self._status.state:
            logger.info("event=radio_state from=%s to=%s", self._status.state, state)
            self._status = replace(self._status, state=state)


def _chip_part(print_: Fingerprint) -> Fingerprint:
    """Reduce a fingerprint to what the chip itself knows of the counter."""
    return print_._replace(counter=print_.counter % WRAP_US)


def _lost(faults: Mapping[str, int]) -> int:
    return sum(count for kind, count in faults.items() if kind not in COSTLESS_FAULTS)


def _as_lost(tally: Account) -> Account:
    return replace(tally, heard=tally.heard - tally.spooled, spooled=0, overrun=tally.overrun + tally.spooled)
