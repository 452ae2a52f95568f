# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""A concentrator: start it, and ask it again and again what it has received.

One thread owns it. Whatever the FIFO holds is counted and never raised; what is raised is a bus that fails
or a chip that is no longer the one that was started, and the answer to both is another `start`.
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from drivers.errors import ChipError, DriverError, ProfileError
from drivers.sx1302 import channelizer, fine, frontend, recovery, service
from drivers.sx1302.counter import WRAP_US, CounterSample, first_sample, next_sample, read_counter
from drivers.sx1302.fifo import LONGEST_LEGACY_FRAME_BYTES, Fault, FifoRecord, parse
from drivers.sx1302.health import HealthWatch
from drivers.sx1302.lbt import Decision, ListenBeforeTalk
from drivers.sx1302.mcu import AGC, ARB
from drivers.sx1302.merge import Merger
from drivers.sx1302.packet import RxPacket
from drivers.sx1302.popped import Popped
from drivers.sx1302.pps import Pulse, PulseWatch
from drivers.sx1302.reader import FifoReader
from drivers.sx1302.regmap import RegisterMap
from drivers.sx1302.rx import Decoder
from drivers.sx1302.spi import AddressSpace
from drivers.sx1302.startup import (
    GENERAL,
    KNOWN_VERSIONS,
    NO_LINK,
    PAUSED,
    RECEIVING,
    VERSION,
    bring_up,
    check_link,
    pause_reception,
    read_eui,
    start_modems,
    stop_reception,
)
from drivers.sx1302.statistics import Statistics
from drivers.sx1302.survey import Survey
from drivers.sx1302.transmission import Trigger, TxStatus
from drivers.sx1302.tx import Transmitter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from drivers.boards import Board
    from drivers.bus import Clock, OutputLine, SpiBus
    from drivers.plans import ChannelPlan, Listening
    from drivers.sx1261 import Sx1261
    from drivers.sx1302.fine import FineTimestamps
    from drivers.sx1302.firmware import Firmware
    from drivers.sx1302.ledger import AirtimeLedger, Use
    from drivers.sx1302.statistics import Listened
    from drivers.sx1302.transmission import Transmission, TxFate

logger = logging.getLogger(__name__)

LONGEST_TWINS_BYTES: Final = 2 * LONGEST_LEGACY_FRAME_BYTES + 2 * fine.METRIC_PAIRS
"""A packet that was demodulated twice."""

RESET_STEP_S: Final = 0.100
"""Each level of power and reset line, as in the vendor's reset script [HAL 2.1.0]."""

POWER_OFF_S: Final = 1.0
"""Long enough for the board's capacitors; nobody publishes how long that is."""

SAMPLE_INTERVAL_NS: Final = 1_000_000_000
"""How old the counter sample may become while nothing is received."""

PULSE_INTERVAL_NS: Final = 500_000_000
"""The same, when no pulse of the GNSS receiver may be missed."""

COUNT_INTERVAL_NS: Final = 10_000_000_000
"""Between two looks at the chip's own counters; costs a fifth of an SPI message per second."""

PULSE_PERIOD_US: Final = 1_000_000
PULSE_FRESH_NS: Final = 2_500_000_000
"""The counter is looked at once a second, so the last pulse that is known is two seconds old at most."""

DEFAULT_TEMPERATURE_CELSIUS: Final = 25.0
"""Taken for the radios' when nobody measures it; worth about 1 dB of RSSI."""


EXPECTED_TO_CHANGE: Final = frozenset(
    (GENERAL.address, *(one.address for port in (AGC, ARB) for one in (port.clear, port.host_prog)))
)
"""Registers that a chip which fell ill may have changed without having lost its settings."""


class State(StrEnum):
    """What the concentrator is doing."""

    OFF = "off"
    RUNNING = "running"
    FAULT = "fault"


@dataclass(frozen=True, slots=True)
class RxFetch:
    """What one visit to the FIFO brought.

    Attributes:
        packets: in the order of the FIFO, which is that of the end of decoding; each once, whatever copies came.
        faults: damage by kind (`Fault`), only those that occurred.
        counter_us: the 64-bit counter, sampled after the FIFO was emptied, or up to a second ago when it was
            empty.
        host_monotonic_ns: CLOCK_MONOTONIC_RAW at that sample; the two belong together.
        pulse: the newest PPS since the visit before; None when none came. The chip is asked once a second, so hardly
            one is missed.
        late_copies: further receptions of packets that an earlier visit handed up.
        reachable: False when nothing answered where the chip should be; only `recover` says so.
    """

    packets: tuple[RxPacket, ...]
    faults: Mapping[str, int]
    counter_us: int
    host_monotonic_ns: int
    pulse: Pulse | None = None
    late_copies: int = 0
    reachable: bool = True


class Concentrator:
    """An SX1302 or SX1303 with SX1250 radios.

    Args:
        bus: to the chip.
        reset: its reset line; None when the bus resets the chip itself.
        power: the board's power switch; None when it is always on.
        board: the board's properties.
        plan: what to listen to, and where to transmit.
        firmware: for the chip's microcontrollers.
        clock: host time.
        temperature: reads the radios' temperature in degrees Celsius; 25 is taken without it, and the last
            good value when it fails.
        antenna_gain_dbi: of antenna less cable; counts against the radiated power that is allowed.
        airtime: what was sent in the past hour; without, as much as may be.
        fine_timestamps: which packets get one (SX1303 with PPS); None for none.
        sx1261: listens before a transmission where the plan asks for that, and scans; None when there is none.
        statistics: counts what is heard; shared with the next concentrator, it outlives this one.
        popped: outlives the process, with what it had in its hands; without, the chip's ring alone may still have that.

    Raises:
        ProfileError: board and plan do not go together.
    """

    def __init__(
        self,
        bus: SpiBus,
        reset: OutputLine | None,
        power: OutputLine | None,
        *,
        board: Board,
        plan: ChannelPlan,
        firmware: Firmware,
        clock: Clock,
        temperature: Callable[[], float] | None = None,
        antenna_gain_dbi: float = 0.0,
        airtime: AirtimeLedger | None = None,
        fine_timestamps: FineTimestamps | None = None,
        sx1261: Sx1261 | None = None,
        statistics: Statistics | None = None,
        popped: Popped | None = None,
    ) -> None:
        if plan.radio_hz[board.clock_radio] is None:
            radio = "AB"[board.clock_radio]
            raise ProfileError(
                f"radio {radio} is off in plan {plan.name}, but clocks the chip on board {board.name}",
                op="check channel plan",
                where=f"{plan.name}: radio_{radio.lower()}",
                hint=f"give radio {radio} a centre frequency",
                code="CG-PLAN-002",
            )
        self._bus = bus
        self._reset = reset
        self._power = power
        self._board = board
        self._plan = plan
        self._firmware = firmware
        self._clock = clock
        self._temperature = temperature
        self._celsius = DEFAULT_TEMPERATURE_CELSIUS
        self._space = AddressSpace(bus)
        self._registers = RegisterMap(self._space)
        self._health = HealthWatch(self._space, clock)
        self._fault: ChipError | None = None
        self._fine = fine_timestamps
        self._history = fine.PulseHistory()
        self._decoder = Decoder(board, plan, None if fine_timestamps is None else self._history)
        self._merger = Merger(twins=fine_timestamps is not None)
        self._statistics = Statistics() if statistics is None else statistics
        self._next_count_ns = 0
        self._survey = Survey(plan, clock, self._statistics)
        self._sx1261 = sx1261
        self._scans = False
        self._lbt: ListenBeforeTalk | None = None
        self._transmitter = Transmitter(
            self._registers,
            clock,
            self.counter_us,
            board=board,
            plan=plan,
            antenna_gain_dbi=antenna_gain_dbi,
            ledger=airtime,
            has_pulses=self._has_pulses,
            listen=None if sx1261 is None or not self._asks_for_listening else self._listen_first,
        )
        self._state = State.OFF
        self._fifo = FifoReader(self._space, clock, Popped() if popped is None else popped)
        self._sample = CounterSample(0, 0)
        self._pulses = PulseWatch()
        self._pulse: Pulse | None = None
        self._last_pulse_ns = -PULSE_FRESH_NS
        self._eui: bytes | None = None

    @property
    def state(self) -> State:
        """What the concentrator is doing."""
        return self._state

    @property
    def listened(self) -> Listened:
        """What was listened to, with which success."""
        return self._statistics.listened()

    @property
    def eui(self) -> bytes:
        """The chip's 64-bit identifier, most significant byte first; known once it was started.

        Raises:
            ChipError: it was never started.
        """
        if self._eui is None:
            raise self._not_running("read EUI")
        return self._eui

    def start(self, *, power_cycle: bool = False) -> None:
        """Reset the chip and bring it to reception; takes about two seconds.

        A failed start leaves the concentrator off; starting again begins with a reset.

        Args:
            power_cycle: switch the board's supply off before, if it has a switch; what a reset does not cure, this
                may. It also empties the chip's memory.

        Raises:
            BusError: the bus fails.
            ChipError: chip, radio or microcontroller does not answer as it must.
            HandshakeTimeoutError: a microcontroller does not reach a state within its limit.
        """
        begin_ns = self._clock.monotonic_ns()
        self._become(State.OFF)
        self._pulse_reset(power_cycle=power_cycle)
        self._lbt = self._start_sx1261()
        bring_up(
            self._registers,
            self._clock,
            self._board,
            self._plan,
            self._firmware,
            fine_timestamps=self._fine,
            listen_before_talk=self._lbt is not None,
        )
        self._eui = read_eui(self._registers)
        self._fifo.chip_started()
        self._merger.clear()
        self._history.clear()
        self._sample = first_sample(read_counter(self._space, self._clock))
        self._pulses, self._pulse = PulseWatch(), None
        self._last_pulse_ns = -PULSE_FRESH_NS
        self._check_counter_runs()
        self._health.begin()
        self._transmitter.chip_started()
        self._statistics.chip_started()
        self._next_count_ns = self._clock.monotonic_ns() + COUNT_INTERVAL_NS
        self._fault = None
        self._become(State.RUNNING)
        took_ms = (self._clock.monotonic_ns() - begin_ns) // 1_000_000
        logger.info("event=concentrator_started eui=%s plan=%s ms=%d", self._eui.hex(), self._plan.name, took_ms)

    def receive(self) -> RxFetch:
        """Empty the FIFO; each transmission comes out once, whatever copies of it were heard.

        To ask again says that what came before is kept.

        One SPI message when it is empty, and every few seconds some more, to see that the chip is healthy.
        Call at least every 150 ms: eight channels of long frames at SF5 fill it in 200.

        Raises:
            BusError: the bus fails; only what was being popped at that moment is lost.
            ChipError: the concentrator is not running, or the chip was restarted behind our back, or it is ill.
        """
        self._require_running("receive")
        self._look_at_decision()
        self._watch()
        self._count()
        fill_bytes, came = self._fifo.visit()
        parsed = parse(self._fifo.undecoded, final=not came)
        if parsed.records:
            self._health.alive()
        faults = Counter[str](parsed.faults)
        longest_bytes = LONGEST_LEGACY_FRAME_BYTES if self._fine is None else LONGEST_TWINS_BYTES
        if fill_bytes > recovery.FIFO_BYTES - longest_bytes:
            faults[Fault.FULL] += 1
        interval_ns = SAMPLE_INTERVAL_NS if self._fine is None else PULSE_INTERVAL_NS
        if parsed.records or self._clock.monotonic_ns() - self._sample.host_ns >= interval_ns:
            self._take_sample(keep_packets=bool(parsed.records))
        dated = ((record, self._sample) for record in parsed.records)
        packets = self._merger.merge(self._decode(dated, faults), self._clock.monotonic_ns())
        self._statistics.heard(packets)
        self._fifo.undecoded = parsed.rest
        pulse, self._pulse = self._pulse, None
        return RxFetch(
            packets,
            dict(faults),
            self._sample.counter_us,
            self._sample.host_ns,
            pulse,
            self._merger.take_late(),
        )

    def revive(self) -> None:
        """Load and start the chip's microcontrollers anew: the mildest cure for a chip that fell ill.

        Takes some tenths of a second. Counter, settings and what is in the FIFO stay. What only hardware can show:
        which illness this cures.

        Raises:
            BusError: the bus fails.
            ChipError: the chip has lost its settings or was restarted, so that only `start` can help; or a
                microcontroller does not work as it must. The concentrator then stays in fault.
        """
        if self._state is State.OFF:
            raise self._not_running("revive")
        begin_ns = self._clock.monotonic_ns()
        self._become(State.FAULT)
        check_link(self._registers)
        self._take_sample(keep_packets=False)
        lost = [address for address in self._registers.lost() if address not in EXPECTED_TO_CHANGE]
        if lost:
            raise ChipError(
                f"{len(lost)} registers have lost what was written, the first at 0x{lost[0]:04X}",
                op="revive",
                where="SX1302",
                hint="start the concentrator again; if it happens often, the 3.3 V supply breaks down under load",
                code="CG-CHIP-013",
                retryable=True,
            )
        if self._transmitter.status() is not TxStatus.FREE:
            self._transmitter.abort()
        if self._lbt is not None:
            self._lbt.forget()
        pause_reception(self._registers)
        start_modems(
            self._registers,
            self._clock,
            self._firmware,
            fine_timestamps=self._fine,
            listen_before_talk=self._lbt is not None,
        )
        self._statistics.arbiter_started()
        self._health.check_now()
        self._fault = None
        self._become(State.RUNNING)
        logger.info("event=concentrator_revived ms=%d", (self._clock.monotonic_ns() - begin_ns) // 1_000_000)

    def counter_us(self) -> int:
        """Read the concentrator's counter: microseconds since its start, 64 bits.

        Raises:
            BusError: the bus fails.
            ChipError: the concentrator is not running, or the chip was restarted behind our back.
        """
        self._require_running("read counter")
        self._take_sample(keep_packets=False)
        return self._sample.counter_us

    def transmit(self, transmission: Transmission, trigger: Trigger | int) -> None:
        """Program a transmission and arm its trigger; returns before it is on the air.

        The gateway hears nothing while it transmits.

        Args:
            transmission: what to send.
            trigger: at once, at the next PPS, or the counter value in microseconds at which the first symbol
                shall leave, 3 ms to 133 s ahead.

        Raises:
            ForbiddenTransmissionError: board or plan do not allow it, or the band's share of time is used up; the
                chip was not touched.
            LateTransmissionError: its moment has passed, or is too near or too far; nothing was armed.
            ChipError: the chain is busy, no pulses come that it shall wait for, or the concentrator is not running.
            BusError: the bus fails.
        """
        self._require_running("transmit")
        self._transmitter.send(transmission, trigger)
        if self._lbt is not None:
            due_us = trigger if isinstance(trigger, int) else self._sample.counter_us
            longest_us = PULSE_PERIOD_US if trigger is Trigger.PPS else 0
            self._lbt.armed(due_us - self._sample.counter_us + longest_us)

    def transmit_status(self) -> TxStatus:
        """Ask the chip what its transmit chain is doing; the only proof that a packet leaves.

        Raises:
            BusError: the bus fails.
            ChipError: the concentrator is not running.
        """
        self._require_running("read transmit status")
        self._look_at_decision()
        return self._transmitter.status()

    def transmit_fate(self) -> TxFate | None:
        """Say what became of the transmission that was armed last; None before the first since `start`.

        Raises:
            BusError: the bus fails.
            ChipError: the concentrator is not running, or the chip was restarted behind our back.
        """
        self._require_running("read transmit status")
        self._look_at_decision()
        return self._transmitter.fate()

    def airtime(self) -> tuple[Use, ...]:
        """Return how much of its share of the past hour each band has used that has one; asks no chip."""
        return self._transmitter.uses()

    def abort_transmission(self) -> None:
        """Take back what is scheduled, end what is on the air; a second at most.

        Raises:
            BusError: the bus fails.
            ChipError: the concentrator is not running.
            HandshakeTimeoutError: the chain does not become free.
        """
        self._require_running("abort transmission")
        self._transmitter.abort()
        if self._lbt is not None:
            self._lbt.forget()

    def recover(self, *, looked_ns: int | None = None) -> RxFetch:
        """Fetch what a chip still holds that a killed process left receiving; call before `start`.

        Reception is paused, then the FIFO emptied, then the 4096 bytes of RAM behind it are read, for
        frames which the dead process had taken out and not kept; those that the ring has lost since then come
        from `popped`. So packets may come that were handed up before: know them by counter, payload and
        channel. Oldest first. An empty fetch when the chip was stopped or reset.

        The chip stays paused: should this process die before it has kept the packets, the next one gets
        them again. Only `stop` and `start` end that.

        Counters are those of the old session. How often its counter had wrapped is not in the chip: they
        are exact modulo 2^27 us (134 s), and `counter_us` of the fetch on the same scale. A chip that was left
        alone for longer does not tell when a packet came. What somebody had read before that is dated to before the
        last look; what nobody had read, in its order, as early after the last look as its stamps allow: right for all
        that came before the trouble began, and for what followed without a pause of 134 s.

        Args:
            looked_ns: CLOCK_MONOTONIC_RAW of the last look into this chip that did not fail; None when not known:
                then it is taken to be less than 134 s ago.

        Raises:
            BusError: the bus fails.
            ChipError: the link breaks down on the way.
        """
        registers = RegisterMap(self._space)
        left = registers.read_bytes(GENERAL, 1)[0]
        version = registers.read(VERSION)
        if version not in KNOWN_VERSIONS or left not in (RECEIVING, PAUSED):
            return RxFetch((), {}, 0, self._clock.monotonic_ns(), reachable=version not in NO_LINK)
        # Before all else: what came in while the FIFO is emptied would take the RAM of frames popped, but not kept.
        pause_reception(registers)
        registers.prime()
        registers.write(recovery.DIRECT_RAM_IF, 0)  # a process that died while it read the RAM left it set
        data = self._fifo.drain()[1]
        sample = first_sample(read_counter(self._space, self._clock))
        alone_us = 0 if looked_ns is None else max((sample.host_ns - looked_ns) // 1000, 0)
        wraps = alone_us // WRAP_US + 2
        sample = CounterSample(sample.counter_us + wraps * WRAP_US, sample.host_ns, sample.bracket_us)
        ram = recovery.read_ram(registers)
        parsed = recovery.complete(ram, data)
        records = recovery.gather(ram, self._fifo.popped + data, parsed.records)
        faults = Counter[str](parsed.faults)
        packets: tuple[RxPacket, ...] = ()
        if self._listens_to_plan(registers):
            # The pulses are of another scale, and of another process.
            self._history.clear()
            merger = Merger(twins=self._fine is not None)
            looked_us = None if looked_ns is None else sample.counter_us - alone_us
            dated = recovery.date(records, frozenset(parsed.records), sample, looked_us)
            packets = merger.merge(self._decode(dated, faults), sample.host_ns)
        elif records:
            faults[Fault.OTHER_PLAN] = len(records)
        logger.info("event=concentrator_recovered packets=%d faults=%d", len(packets), faults.total())
        return RxFetch(packets, dict(faults), sample.counter_us, sample.host_ns)

    def stop(self) -> None:
        """Stop transmission and reception; the chip stays powered, and `start` brings it back.

        Raises:
            BusError: the bus fails.
            HandshakeTimeoutError: a transmission does not end.
        """
        if self._state is State.RUNNING:
            if self._transmitter.status() is not TxStatus.FREE:
                self._transmitter.abort()
            stop_reception(self._registers)
        self._become(State.OFF)

    def close(self) -> None:
        """Release bus and lines; the chip is left as it is."""
        self._become(State.OFF)
        if self._sx1261 is not None:
            self._sx1261.close()
        self._bus.close()
        for line in (self._reset, self._power):
            if line is not None:
                line.close()

    def _has_pulses(self) -> bool:
        return self._clock.monotonic_ns() - self._last_pulse_ns <= PULSE_FRESH_NS

    @property
    def _asks_for_listening(self) -> bool:
        return any(band.listening is not None for band in self._plan.transmit)

    def _start_sx1261(self) -> ListenBeforeTalk | None:
        """Start the SX1261; without it, all works but transmission where it must listen before."""
        self._scans = False
        if self._sx1261 is None:
            return None
        try:
            self._sx1261.start(next(centre_hz for centre_hz in self._plan.radio_hz if centre_hz is not None))
        except DriverError as error:
            logger.warning("event=sx1261_fault code=%s detail=%s hint=%s", error.code, error, error.hint)
            return None
        self._scans = True
        if not self._asks_for_listening:
            return None
        return ListenBeforeTalk(self._registers, self._clock, self._sx1261, self._board.transmit_radio)

    def _listen_first(self, transmission: Transmission, listening: Listening | None) -> None:
        if self._lbt is None:
            raise ChipError(
                "did not start, and nothing is sent here without listening before",
                op="transmit",
                where="SX1261",
                hint="the log of the start says what is wrong with it",
                code="CG-1261-005",
                retryable=True,
            )
        self._lbt.prepare(transmission, listening)

    def _look_at_decision(self) -> None:
        """Take note of what listening before a transmission has come to."""
        if self._lbt is None or self._lbt.decision is not Decision.PENDING:
            return
        decision = self._lbt.look()
        if decision is Decision.BUSY:
            self._transmitter.refuse()
        elif decision is Decision.MISSING:
            self._transmitter.abort()

    def _count(self) -> None:
        """Read the chip's counters and the noise of a channel, from time to time."""
        now_ns = self._clock.monotonic_ns()
        if now_ns >= self._next_count_ns:
            self._next_count_ns = now_ns + COUNT_INTERVAL_NS
            if self._statistics.look(self._space):
                self._health.alive()
            if self._health.suspicious:
                self._statistics.suspected()
        listening = self._lbt is not None and self._lbt.decision is Decision.PENDING
        if self._scans and self._sx1261 is not None and not listening:
            self._survey.go_on(self._sx1261)

    def _watch(self) -> None:
        """See that the chip is healthy. What it has received stays in its FIFO, for `recover`."""
        try:
            self._health.check()
        except ChipError as error:
            self._fault = error
            self._become(State.FAULT)
            raise

    def _pulse_reset(self, *, power_cycle: bool) -> None:
        if self._power is not None:
            if power_cycle:
                self._power.set(active=False)
                self._clock.sleep(POWER_OFF_S)
            self._power.set(active=True)
            self._clock.sleep(RESET_STEP_S)
        if self._reset is not None:
            for active in (True, False):
                self._reset.set(active=active)
                self._clock.sleep(RESET_STEP_S)

    def _listens_to_plan(self, registers: RegisterMap) -> bool:
        """Say whether the chip listens where our plan says, and stamps as we would, as far as its registers tell."""
        settings = list(channelizer.settings(self._plan))
        settings += frontend.legacy_timestamp_settings() if self._fine is None else fine.settings()
        if self._plan.service:
            settings += service.modulation_settings(self._plan.service)
        return registers.holds(settings)

    def _decode(self, dated: Iterable[tuple[FifoRecord, CounterSample]], faults: Counter[str]) -> tuple[RxPacket, ...]:
        """Decode records, each with a sample of the counter that was taken after it."""
        packets = []
        celsius: float | None = None
        for record, sample in dated:
            if celsius is None:
                celsius = self._read_temperature(faults)
            packet = self._decoder.decode(record, sample, celsius)
            if isinstance(packet, RxPacket):
                packets.append(packet)
            else:
                faults[packet] += 1
        return tuple(packets)

    def _read_temperature(self, faults: Counter[str]) -> float:
        if self._temperature is not None:
            try:
                self._celsius = self._temperature()
            except DriverError:
                faults[Fault.TEMPERATURE] += 1
        return self._celsius

    def _take_sample(self, *, keep_packets: bool) -> None:
        """Sample the counter and see that it is where the host's clock expects it.

        Raises:
            ChipError: it is not, twice; but with packets in hand they are dated by the host's clock first,
            and the next
                call raises.
        """
        for _ in range(2):
            reading = read_counter(self._space, self._clock)
            sample = next_sample(self._sample, reading)
            if sample is not None:
                self._sample = sample
                pulse = self._pulses.look(sample, reading)
                if pulse is not None:
                    self._pulse = pulse
                    self._last_pulse_ns = pulse.host_ns
                    self._history.note(pulse)
                return
        self._become(State.FAULT)
        if keep_packets:
            elapsed_us = (reading.host_ns - self._sample.host_ns) // 1000
            self._sample = CounterSample(self._sample.counter_us + elapsed_us, reading.host_ns)
            return
        raise self._restarted()

    def _check_counter_runs(self) -> None:
        self._clock.sleep(0.001)
        sample = next_sample(self._sample, read_counter(self._space, self._clock))
        if sample is None or sample.counter_us == self._sample.counter_us:
            raise ChipError(
                "the counter stands still",
                op="start",
                where="TIMESTAMP",
                hint="the radio named by clock_radio in the board profile gives no clock; try the other one",
                code="CG-CHIP-005",
                retryable=True,
            )
        self._sample = sample

    def _become(self, state: State) -> None:
        if state is not self._state:
            logger.debug("event=concentrator_state from=%s to=%s", self._state, state)
        self._state = state

    def _require_running(self, op: str) -> None:
        if self._state is not State.RUNNING:
            raise self._not_running(op)

    def _not_running(self, op: str) -> ChipError:
        if self._state is State.FAULT:
            return self._fault or self._restarted()
        hint = "start the concentrator first"
        return ChipError("is off", op=op, where="concentrator", hint=hint, code="CG-CHIP-006")

    @staticmethod
    def _restarted() -> ChipError:
        return ChipError(
            "the counter is not where the host's clock expects it: the chip was restarted",
            op="receive",
            where="TIMESTAMP",
            hint="start the concentrator again; if it happens often, the 3.3 V supply breaks down under load",
            code="CG-CHIP-007",
            retryable=True,
        )
