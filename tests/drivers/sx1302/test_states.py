# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The FIFO's byte stream and the counter, through any sequence of what may happen to them."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from drivers.sx1302.counter import CounterReading, CounterSample, before, before_ticks, first_sample, next_sample
from drivers.sx1302.fifo import parse
from tests.drivers.sx1302.fifo_frames import FifoFrame, fifo_frames

SECOND_NS = 1_000_000_000
HOUR_S = 3600
PAYLOADS = fifo_frames(st.binary(max_size=30)).filter(lambda frame: b"\xa5" not in frame.encode()[1:])


class Fifo(RuleBasedStateMachine):
    """A chip that writes frames, sometimes damage, and a driver that fetches whatever is there, anywhere cut."""

    def __init__(self) -> None:
        super().__init__()
        self.stream = b""
        self.rest = b""
        self.sent: list[bytes] = []
        self.got: list[bytes] = []
        self.damaged = 0
        self.faults = 0

    @rule(frame=PAYLOADS)
    def receive(self, frame: FifoFrame) -> None:
        self.stream += frame.encode()
        self.sent.append(frame.payload)

    @rule(noise=st.binary(min_size=1, max_size=20).map(lambda data: data.replace(b"\xa5", b"\xa4")))
    def write_noise(self, noise: bytes) -> None:
        self.stream += noise
        self.damaged += 1

    @rule(frame=PAYLOADS)
    def write_with_wrong_sum(self, frame: FifoFrame) -> None:
        data = frame.encode()
        self.stream += data[:-1] + bytes((data[-1] ^ 0x01 if data[-1] ^ 0x01 != 0xA5 else data[-1] ^ 0x02,))
        self.damaged += 1

    @rule(share=st.floats(0, 1))
    def fetch(self, share: float) -> None:
        cut = round(share * len(self.stream))
        data, self.stream = self.stream[:cut], self.stream[cut:]
        parsed = parse(self.rest + data)
        self._take([record.payload for record in parsed.records], sum(parsed.faults.values()), parsed.rest)

    @rule()
    def fetch_all_and_know_that_nothing_follows(self) -> None:
        parsed = parse(self.rest + self.stream, final=True)
        self.stream = b""
        self._take([record.payload for record in parsed.records], sum(parsed.faults.values()), parsed.rest)
        assert self.got == self.sent
        assert self.rest == b""

    def _take(self, payloads: list[bytes], faults: int, rest: bytes) -> None:
        self.got += payloads
        self.faults += faults
        self.rest = rest

    @invariant()
    def frames_come_in_order_and_none_is_invented(self) -> None:
        assert self.got == self.sent[: len(self.got)]
        assert self.damaged or not self.faults


class Wraps(RuleBasedStateMachine):
    """A counter of 32 bits beside a host's clock that runs a little differently, for days."""

    def __init__(self) -> None:
        super().__init__()
        self.host_ns = 10**12
        self.ticks = 0
        self.ppm = 0
        self.sample: CounterSample | None = None

    @initialize(start=st.integers(0, (1 << 32) - 1), ppm=st.integers(-50, 50))
    def begin(self, start: int, ppm: int) -> None:
        self.ticks, self.ppm = start, ppm
        self.sample = first_sample(self._reading(0))

    def _pass(self, ns: int) -> None:
        self.host_ns += ns
        self.ticks += ns * 32 * (1_000_000 + self.ppm) // (1000 * 1_000_000)

    def _reading(self, late_us: int) -> CounterReading:
        return CounterReading(self.ticks % (1 << 32), 0, self.host_ns + late_us * 1000, late_us)

    @rule(ns=st.one_of(st.integers(0, 10 * SECOND_NS), st.integers(0, 48 * HOUR_S * SECOND_NS)))
    def time_passes(self, ns: int) -> None:
        self._pass(ns)

    @rule(late_us=st.integers(0, 10_000))
    def look(self, late_us: int) -> None:
        assert self.sample is not None
        sample = next_sample(self.sample, self._reading(late_us))
        assert sample is not None
        assert sample.counter_us == self.ticks // 32
        self.sample = CounterSample(sample.counter_us, self.host_ns, 0)

    @rule(ago_ticks=st.integers(0, (1 << 32) - 64))
    def date_a_packet(self, ago_ticks: int) -> None:
        self.look(0)
        assert self.sample is not None
        stamp = self.ticks - ago_ticks
        if stamp >= 0:
            assert before_ticks(self.sample, stamp % (1 << 32)) == stamp
            assert before(self.sample, stamp % (1 << 32)) == stamp // 32

    @rule(down_ns=st.integers(0, HOUR_S * SECOND_NS), counted_us=st.integers(0, (1 << 27) - 1))
    def a_restart_is_never_taken_for_a_wrap(self, down_ns: int, counted_us: int) -> None:
        self.look(0)
        assert self.sample is not None
        elapsed_us = down_ns // 1000
        expected_us = (self.sample.counter_us + elapsed_us) % (1 << 27)
        apart_us = min((counted_us - expected_us) % (1 << 27), (expected_us - counted_us) % (1 << 27))
        reading = CounterReading(counted_us * 32, 0, self.host_ns + down_ns, 0)
        if apart_us > 50_000 + elapsed_us // 10_000 + 1:
            assert next_sample(self.sample, reading) is None


TestFifo = Fifo.TestCase
TestFifo.settings = settings(max_examples=60, stateful_step_count=30)
TestWraps = Wraps.TestCase
TestWraps.settings = settings(max_examples=60, stateful_step_count=30)
