# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""H15 to H19: whatever happens to supply, network, platform, clock and disk, every frame arrives, once, in order."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterator

import pytest

from hil_tests.bench.model import Bench
from hil_tests.bench.roles import (
    LIES,
    Disk,
    Dut,
    Platform,
    PlatformFrame,
    Power,
    RadioSettings,
    ReferenceNode,
    WallClock,
)
from hil_tests.bench.strategy import State, bring
from hil_tests.frames import uplink
from hil_tests.marks import begins, hil, needs
from hil_tests.measured import Measure

FREQUENCY_HZ = 868_100_000
"""The first channel of every European plan."""
PACE_S = 0.02
LIVE = 5
YEAR_S = 365 * 86_400.0


class Field:
    """Sends frames, and knows what of them became what at the platform."""

    def __init__(self, bench: Bench, node: ReferenceNode, platform: Platform) -> None:
        self._bench = bench
        self._node = node
        self._platform = platform
        self.sent: list[bytes] = []
        node.configure(RadioSettings(FREQUENCY_HZ, 7))

    def send(self) -> bytes:
        """Send one frame."""
        payload = uplink(self._bench.dev_addr)
        self._node.transmit(payload)
        self.sent.append(payload)
        return payload

    def heard(self) -> int:
        """Return how many frames the running agent has heard; -1 while it does not say."""
        assert self._bench.dut is not None
        said = self._bench.dut.status()
        return -1 if said is None or not said["radio"] else int(said["radio"]["heard"])

    def committed(self) -> int:
        """Return how many frames the running agent has committed."""
        assert self._bench.dut is not None
        said = self._bench.dut.status()
        return 0 if said is None else int(said["spool"]["committed_frames"])

    def arrived(self) -> list[PlatformFrame]:
        """Return what of the frames that were sent the platform has, by number."""
        mine = set(self.sent)
        return [one for one in self._platform.frames() if one.payload in mine]

    def doubled(self) -> int:
        """Return how many of them it has more than once."""
        return sum(times - 1 for times in Counter(one.payload for one in self.arrived()).values())

    def wait_for_all(self, what: str) -> None:
        """Wait until the platform has them all."""
        wanted = set(self.sent)
        self._bench.wait_for(lambda: wanted <= {one.payload for one in self._platform.frames()}, what)


@pytest.fixture
def field(bench: Bench, node: ReferenceNode, platform: Platform) -> Iterator[Field]:
    yield Field(bench, node, platform)
    platform.lie("")
    platform.restore()


@hil("H15")
@needs("dut", "power", "node", "platform")
@begins(State.ENROLLED)
def test_h15_power_cuts(
    bench: Bench, field: Field, dut: Dut, power: Power, platform: Platform, rng: random.Random, measure: Measure
) -> None:
    acknowledged: list[bytes] = []
    for _ in range(bench.limits.power_cuts):
        begun, committed = len(field.sent), field.committed()
        more_s = rng.uniform(0.0, 1.0)
        end_s: float | None = None
        while end_s is None or time.monotonic() < end_s:
            field.send()
            time.sleep(PACE_S)  # the pace of a site with much traffic
            if end_s is None and field.committed() > committed:
                end_s = time.monotonic() + more_s
        # What the agent says is committed is committed; what it heard since it last said so may be, or not.
        acknowledged += field.sent[begun : begun + field.committed() - committed]
        power.off()
        power.on()
        bring(bench, State.ENROLLED)
    field.send()
    acknowledged.append(field.sent[-1])
    wanted = set(acknowledged)
    bench.wait_for(lambda: wanted <= {one.payload for one in field.arrived()}, "all committed frames to arrive")
    measure("power cuts", bench.limits.power_cuts, low=1)
    measure("frames known to be committed", len(acknowledged), low=1)
    measure("of these, lost", len(wanted - {one.payload for one in field.arrived()}), high=0)
    measure("frames that arrived twice", field.doubled(), high=0)
    assert platform.verifies()


@hil("H16")
@needs("dut", "node", "platform")
@begins(State.ENROLLED)
def test_h16_the_platform_is_away(bench: Bench, field: Field, platform: Platform, measure: Measure) -> None:
    platform.cut()
    heard = field.heard()
    while len(field.sent) < bench.limits.frames_away:
        field.send()
    bench.wait_for(lambda: field.heard() >= heard + bench.limits.frames_away, "all frames to be heard")
    platform.restore()
    back_s = time.monotonic()
    waits_s = []
    for _ in range(LIVE):
        live, sent_s = field.send(), time.monotonic()
        bench.wait_for(lambda: any(one.payload == live for one in field.arrived()), "a live frame")  # noqa: B023 - called here
        waits_s.append(time.monotonic() - sent_s)
    field.wait_for_all("the backlog to drain")
    measure("frames heard while it was away", bench.limits.frames_away, low=1)
    measure("all there after its return", time.monotonic() - back_s, "s", high=bench.limits.answer_s)
    measure("slowest live frame meanwhile", max(waits_s), "s", high=bench.limits.answer_s)
    measure("frames that arrived twice", field.doubled(), high=0)
    assert [one.payload for one in field.arrived()] == field.sent, "another order"
    assert platform.verifies()


@hil("H17")
@needs("dut", "node", "platform")
@begins(State.ENROLLED)
@pytest.mark.parametrize("lie", LIES)
def test_h17_a_platform_that_answers_falsely(
    bench: Bench, field: Field, platform: Platform, lie: str, measure: Measure
) -> None:
    field.send()
    field.wait_for_all("the first frame")
    told = platform.lies_told()
    platform.lie(lie)
    field.send()
    # after silence it asks again: then it has noticed
    least = told + 2 if lie == "nothing" else told + 1
    bench.wait_for(lambda: platform.lies_told() >= least, f"the platform to answer with: {lie}")
    field.send()
    platform.lie("")
    field.wait_for_all("all frames, once it tells the truth")
    bench.wait_for(lambda: delivered(bench), "the gateway to know it")
    measure(f"frames that arrived twice, with {lie}", field.doubled(), high=0)
    assert platform.verifies()


@hil("H18")
@needs("dut", "node", "platform", "clock")
@begins(State.BOOTED)
@pytest.mark.parametrize("wrong_s", [-56 * YEAR_S, 3 * YEAR_S], ids=["in 1970", "in the future"])
def test_h18_a_clock_that_is_wrong_at_boot(
    bench: Bench, field: Field, platform: Platform, clock: WallClock, wrong_s: float, measure: Measure
) -> None:
    clock.set_wrong(wrong_s)
    platform.cut()
    bring(bench, State.RUNNING)
    spans_us = []

    def send() -> None:
        begin_us = time.time_ns() // 1000
        field.send()
        spans_us.append((begin_us, time.time_ns() // 1000 + bench.limits.notice_us))

    for _ in range(3):
        send()
    clock.synchronise()
    platform.restore()
    send()  # what is learnt of the time travels with frames

    def timed() -> list[PlatformFrame] | None:
        rows = field.arrived()
        return rows if len(rows) == len(spans_us) and all(one.utc_us is not None for one in rows) else None

    rows = bench.wait_for(timed, "all frames, with their times")
    outside = 0
    for row, (begin_us, end_us) in zip(rows, spans_us, strict=True):
        assert row.utc_us is not None
        assert row.utc_error_us is not None
        doubt_us = row.utc_error_us + bench.limits.frame_time_error_us
        outside += not (row.utc_us - doubt_us <= end_us and row.utc_us + doubt_us >= begin_us)
    measure("frames whose stated time excludes the truth", outside, high=0)
    measure("largest stated error", max(row.utc_error_us or 0 for row in rows) / 1e6, "s", high=bench.limits.answer_s)


@hil("H19")
@needs("dut", "node", "platform", "disk")
@begins(State.ENROLLED)
def test_h19_the_disk_is_full(
    bench: Bench, field: Field, dut: Dut, platform: Platform, disk: Disk, measure: Measure
) -> None:
    alarms, ends = (dut.journal().count(f"event=spool_{state}") for state in ("full", "ok"))
    field.send()
    with disk.full():
        field.send()
        bench.wait_for(lambda: spool_state(dut) == "full", "the gateway to say that its disk is full")
        for _ in range(3):
            field.send()
    bench.wait_for(lambda: spool_state(dut) == "ok", "the gateway to say that it is over")
    field.send()
    field.wait_for_all("all frames, those of that time as well")
    said = dut.journal()
    measure("alarms in the journal", said.count("event=spool_full") - alarms, low=1)
    measure("ends of the alarm there", said.count("event=spool_ok") - ends, low=1)
    measure("frames heard with a full disk", 4, low=4)
    measure("frames that arrived twice", field.doubled(), high=0)
    assert platform.verifies()


def spool_state(dut: Dut) -> str:
    said = dut.status()
    return "" if said is None else str(said["spool"]["state"])


def delivered(bench: Bench) -> bool:
    assert bench.dut is not None
    said = bench.dut.status()
    return said is not None and all(one["waiting"] == 0 and one["in_flight"] == 0 for one in said["destinations"])
