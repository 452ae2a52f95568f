# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""H06, H18: with a GNSS receiver in sight of the sky, counter and UTC are tied together, and the crystal is known."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from threading import Event

import pytest

from agent.clock import HostClock
from agent.gnss import Gnss, anchor_from
from drivers.gnss.reference import NS_PER_S
from hil_tests.bench.model import Bench
from hil_tests.bench.strategy import State, bring
from hil_tests.conftest import Shelf
from hil_tests.marks import begins, hil, needs
from hil_tests.measured import Measure

FIX_S = 90.0
"""A receiver that had a fix lately has one again in this time."""


@pytest.fixture(scope="module")
def gnss(bench: Bench, shelf: Shelf, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gnss]:
    """Return the agent's part that listens to both, once it knows the time and the rate of the counter."""
    if lacks := bench.lacks(("spi", "gnss")):
        pytest.skip(lacks)
    assert bench.spi is not None
    assert bench.gnss is not None
    bring(bench, State.BOOTED)
    shelf.clear()
    concentrator = bench.spi.open_concentrator()
    with ExitStack() as stack:
        stack.callback(concentrator.close)
        concentrator.start()
        stack.callback(concentrator.stop)
        open_port = stack.enter_context(bench.gnss.port(tmp_path_factory.mktemp("gnss")))
        listening = Gnss(open_port, HostClock(), Event(), on_anchor=lambda _: None, baud=9600)

        def look() -> Gnss | None:
            pulse = concentrator.receive().pulse
            if pulse is not None:
                listening.pulse(pulse)
            listening.look()
            return None if listening.status.drift_ppb is None else listening

        yield bench.wait_for(look, "receiver and pulses to agree on the time (see civigate gnss)", FIX_S)


@hil("H06", required=False)
@needs("spi", "gnss")
@begins(State.BOOTED)
def test_h06_the_crystal_is_within_its_tolerance(bench: Bench, gnss: Gnss, measure: Measure) -> None:
    drift_ppb = gnss.status.drift_ppb
    assert drift_ppb is not None
    limit_ppm = bench.limits.counter_error_ppm
    measure("drift of the crystal against GNSS", drift_ppb / 1000, "ppm", low=-limit_ppm, high=limit_ppm)


@hil("H18", required=False)
@needs("spi", "gnss")
@begins(State.BOOTED)
def test_h18_the_time_is_exact_and_that_of_the_host_if_the_host_knows_it(bench: Bench, gnss: Gnss) -> None:
    limits = bench.limits
    clock, reference = HostClock(), gnss.synchroniser.reference
    assert reference is not None
    ours, hosts = anchor_from(reference, clock.boot_id), clock.anchor()
    assert (
        reference.error_ns(reference.pulse_ticks)
        <= limits.gnss_pulse_error_us * 1000 + reference.gps_doubt_s * NS_PER_S
    )
    assert ours.uncertainty_us <= limits.gnss_anchor_error_us + reference.utc_doubt_s * 1_000_000
    if hosts is not None:
        apart_us = abs((hosts.utc_us - hosts.boottime_us) - (ours.utc_us - ours.boottime_us))
        assert apart_us <= hosts.uncertainty_us + ours.uncertainty_us + limits.gnss_error_us
