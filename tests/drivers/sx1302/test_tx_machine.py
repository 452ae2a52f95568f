# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Whatever is asked for, in whatever order, and whatever ends in between: what is on the air is what is allowed."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from drivers.errors import ChipError, ForbiddenTransmissionError
from drivers.plans import TransmitBand
from drivers.sx1302.ledger import AirtimeLedger, share_us
from drivers.sx1302.transmission import FskTransmission, LoraTransmission, Transmission, Trigger, TxFate
from drivers.sx1302.tx import LateTransmissionError
from tests.drivers.bench import Bench

HOUR_US = 3_600_000_000
FREQUENCIES_HZ = (
    864_900_000,
    867_100_000,
    867_950_000,
    868_300_000,
    868_650_000,
    868_850_000,
    869_525_000,
    869_850_000,
)

LORA = st.builds(
    LoraTransmission,
    st.sampled_from(FREQUENCIES_HZ),
    st.floats(0, 30),
    st.sampled_from((125_000, 250_000)),
    st.sampled_from((7, 9, 12)),
    st.just(1),
    st.binary(max_size=255),
)
FSK = st.builds(
    FskTransmission,
    st.sampled_from(FREQUENCIES_HZ),
    st.floats(0, 30),
    st.just(1200),
    st.just(5000),
    st.binary(max_size=255),
)


class Gateway(RuleBasedStateMachine):
    """A network that asks for more than is allowed, at a gateway that is restarted now and then."""

    @initialize()
    def begin(self) -> None:
        self.bench = Bench()
        self.concentrator = self.bench.started()

    @rule(
        transmission=st.one_of(LORA, FSK),
        trigger=st.one_of(st.sampled_from(Trigger), st.sampled_from((-1, 1_000, 50_000, 5_000_000, 200_000_000))),
    )
    def transmit(self, transmission: Transmission, trigger: Trigger | int) -> None:
        if isinstance(trigger, int):
            trigger += self.concentrator.counter_us()
        try:
            self.concentrator.transmit(transmission, trigger)
        except (ForbiddenTransmissionError, LateTransmissionError, ChipError):
            return
        assert self.concentrator.transmit_fate() in (TxFate.SCHEDULED, TxFate.EMITTING, TxFate.SENT)

    @rule(frequency_hz=st.sampled_from(FREQUENCIES_HZ), pause_s=st.sampled_from((10, 400)))
    def insist(self, frequency_hz: int, pause_s: int) -> None:
        """A row of the longest packets: four of them use up a hundredth of an hour."""
        for _ in range(8):
            self.transmit(LoraTransmission(frequency_hz, 9, 125_000, 12, 1, bytes(200)), Trigger.IMMEDIATE)
            self.transmit(LoraTransmission(frequency_hz, 14, 125_000, 12, 1, bytes(200)), Trigger.IMMEDIATE)
            for _ in range(pause_s // 10):
                self.bench.clock.sleep(10)
                self.concentrator.receive()

    @rule(seconds=st.sampled_from((0.01, 1, 8, 60)))
    def wait(self, seconds: float) -> None:
        self.bench.clock.sleep(seconds)
        self.concentrator.receive()

    @rule(minutes=st.integers(5, 90))
    def be_away(self, minutes: int) -> None:
        self.bench.clock.sleep(60 * minutes)
        self.concentrator.start()

    @rule()
    def abort(self) -> None:
        self.concentrator.abort_transmission()
        assert self.concentrator.transmit_fate() in (None, TxFate.ABORTED, TxFate.SENT)

    @rule()
    def restart(self) -> None:
        """Another process takes over, with what the last one wrote down."""
        memory, now_ns = self.bench.airtime.memory(), self.bench.clock.monotonic_ns()
        self.bench.airtime = AirtimeLedger.recalled(self.bench.plan.transmit, now_ns, memory, same_boot=True)
        self.concentrator = self.bench.concentrator()
        self.concentrator.start()

    @invariant()
    def what_is_on_the_air_is_allowed(self) -> None:
        spans: dict[TransmitBand, list[tuple[int, int]]] = {}
        ends = []
        for emission in self.bench.emulator.txlog():
            if emission.start_ns is None or emission.airtime_us is None:
                continue
            start_us = emission.start_ns // 1000
            end_us = start_us + emission.airtime_us
            ends.append((start_us, end_us if emission.outcome == "sent" else start_us))
            inside = [b for b in self.bench.plan.transmit if b.low_hz < emission.freq_hz < b.high_hz]
            assert inside, emission
            power_dbm = next(g.power_dbm for g in self.bench.board.transmit_gains if g.register == emission.power[0])
            assert power_dbm <= max(band.limit_dbm for band in inside)
            for band in inside:
                spans.setdefault(band, []).append((start_us, end_us))
        assert all(first[1] <= second[0] for first, second in pairwise(sorted(ends)))
        for band, found in spans.items():
            if any(other.duty_cycle >= 1 and other.low_hz == band.low_hz for other in self.bench.plan.transmit):
                continue  # under that rule, any of them may have been sent
            for _, last in found:
                used = sum(max(0, min(end, last) - max(start, last - HOUR_US)) for start, end in found)
                assert used <= share_us(band)


Gateway.TestCase.settings = settings(max_examples=15, stateful_step_count=30, deadline=None)
TestGateway = Gateway.TestCase
