# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""H06, H18: with a GNSS receiver in sight of the sky, counter and UTC are tied together, and the crystal is known."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from agent.clock import HostClock
from agent.gnss import anchor_from
from drivers.gnss.receiver import Receiver
from drivers.gnss.reference import NS_PER_S, Reference
from drivers.gnss.synchroniser import Synchroniser
from hil_tests.bench import Bench, wait_for

FIX_S = 90.0
"""A receiver that had a fix lately has one again in this time."""
ERROR_LIMIT_NS = 100_000
UNCERTAINTY_LIMIT_US = 20_000


@pytest.fixture(scope="module")
def reference(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reference]:
    """Return what pulses and messages say together, once the rate of the counter is known."""
    if bench.gnss is None:
        pytest.skip(f"bench {bench.name} has no GNSS receiver")
    synchroniser, clock, concentrator = Synchroniser(), HostClock(), bench.open()
    with ExitStack() as stack:
        stack.callback(concentrator.close)
        concentrator.start()
        stack.callback(concentrator.stop)
        receiver = Receiver(stack.enter_context(bench.gnss(tmp_path_factory.mktemp("gnss"))), clock)
        stack.callback(receiver.close)

        def look() -> Reference | None:
            pulse = concentrator.receive().pulse
            if pulse is not None:
                synchroniser.pulse(pulse)
            for mark in receiver.look():
                synchroniser.mark(mark)
            known = synchroniser.reference
            return known if known is not None and known.drift_ppb is not None else None

        yield wait_for(look, within_s=FIX_S, what="receiver and pulses to agree on the time (see civigate gnss)")


def test_h06_the_crystal_is_within_its_tolerance(bench: Bench, reference: Reference) -> None:
    assert reference.drift_ppb is not None
    assert abs(reference.drift_ppb) <= bench.limits.counter_error_ppm * 1000


def test_h18_the_time_is_exact_and_that_of_the_host_if_the_host_knows_it(bench: Bench, reference: Reference) -> None:
    clock = HostClock()
    ours, hosts = anchor_from(reference, clock), clock.anchor()
    assert reference.error_ns(reference.pulse_ticks) <= ERROR_LIMIT_NS + reference.gps_doubt_s * NS_PER_S
    assert ours.uncertainty_us <= UNCERTAINTY_LIMIT_US + reference.utc_doubt_s * 1_000_000
    if hosts is not None:
        apart_us = abs((hosts.utc_us - hosts.boottime_us) - (ours.utc_us - ours.boottime_us))
        assert apart_us <= hosts.uncertainty_us + ours.uncertainty_us + bench.limits.gnss_error_us
