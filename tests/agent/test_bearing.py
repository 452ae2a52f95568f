# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The time for people: who says it, and a bound that holds."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from agent.batch.model import Anchor, TimeSource
from agent.bearing import Bearing, Reading
from agent.errors import AgentError
from agent.timeline import DRIFT_PPM

BOOT = bytes(16)
TRUE_US = 1_790_000_000_000_000
"""UTC when CLOCK_BOOTTIME was 0."""


@dataclass
class Clock:
    now_us: int = 0
    kernel_error_us: int | None = None
    broken: bool = False

    def boottime_us(self) -> int:
        return self.now_us

    def anchor(self) -> Anchor | None:
        if self.broken:
            raise AgentError("no", where="adjtimex", hint="", code="CG-CLK-002")
        return None if self.kernel_error_us is None else known(self.now_us, self.kernel_error_us, TimeSource.KERNEL)


def known(at_us: int, error_us: int, source: TimeSource, off_us: int = 0) -> Anchor:
    return Anchor(BOOT, at_us, TRUE_US + at_us + off_us, error_us, source)


def test_nobody_has_told() -> None:
    assert Bearing(Clock()).now() == Reading()
    assert Bearing(Clock(broken=True)).now() == Reading()


def test_the_best_source_is_named_and_its_error_grows() -> None:
    clock = Clock(1_000_000)
    bearing = Bearing(clock)
    bearing.learn(known(1_000_000, 400_000, TimeSource.PLATFORM))
    assert bearing.now() == Reading(synchronised=False, utc_us=TRUE_US + 1_000_000, error_us=400_000, source="platform")
    bearing.learn(known(1_000_000, 50, TimeSource.GNSS))
    assert bearing.now().source == "gnss"
    clock.now_us += 100_000_000_000
    grown = bearing.now()
    assert grown.error_us == 50 + 100_000_000_000 * DRIFT_PPM // 1_000_000
    clock.kernel_error_us = 20_000
    assert bearing.now().synchronised
    assert bearing.now().source == "kernel"
    assert bearing.now().error_us == 20_000


SOURCES = st.sampled_from((TimeSource.GNSS, TimeSource.PLATFORM))


@given(st.lists(st.tuples(st.integers(0, 10**10), st.integers(1, 10**6), SOURCES, st.floats(-1, 1)), max_size=20))
def test_the_true_time_is_within_the_bound(told: list[tuple[int, int, TimeSource, float]]) -> None:
    clock = Clock()
    bearing = Bearing(clock)
    for after_us, error_us, source, share in told:
        clock.now_us += after_us
        bearing.learn(known(clock.now_us, error_us, source, int(error_us * share)))
        found = bearing.now()
        assert found.utc_us is not None
        assert found.error_us is not None
        assert abs(found.utc_us - TRUE_US - clock.now_us) <= found.error_us
        assert found.error_us <= error_us * 2
