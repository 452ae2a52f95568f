# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The bench that is this machine, with a concentrator of another process; and lock, log and states of all benches."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from drivers.emulator import Emulator
from drivers.emulator.remote import Server
from drivers.errors import BusError
from hil_tests.bench.lock import lock_file
from hil_tests.bench.model import Bench, with_log
from hil_tests.bench.opening import open_bench
from hil_tests.bench.roles import BenchError
from hil_tests.bench.strategy import State, bring
from hil_tests.bench.virtual import VirtualPath


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="cg-loc-") as name:
        yield Path(name)


@pytest.fixture
def config(folder: Path) -> Path:
    path = folder / "gateway.toml"
    path.write_text(
        f'[gateway]\nstate_dir = "{folder}/state"\nruntime_dir = "{folder}/run"\n'
        f'[concentrator]\nbus = "emulator:{folder}/spi.sock"\nboard = "semtech_corecell_eu868"\n'
    )
    return path


def test_the_chip_is_tested_with_the_drivers_of_this_side(folder: Path, config: Path) -> None:
    emulator = Emulator()
    with (
        Server(emulator, folder / "spi.sock", folder / "control.sock"),
        open_bench("local-pi", options={"gateway": str(config)}) as bench,
    ):
        assert bench.roles == ["spi"]
        assert bench.simulated
        assert bench.spi is not None
        assert bench.spi.thermometer() is None
        concentrator = bench.spi.open_concentrator()
        concentrator.start()
        assert concentrator.eui == bytes.fromhex("0016C001FF123456")
        reset = bench.spi.open_reset()
        assert reset is not None
        resets = emulator.stats().resets
        reset.set(active=True)
        reset.set(active=False)
        assert emulator.stats().resets == resets + 1
        bench.evidence(folder / "evidence")
        assert (folder / "evidence/spi/spi-trace.txt").stat().st_size > 1000
        emulator.fault("bus_error", times=1)
        with pytest.raises(BusError, match="BusError"):
            concentrator.counter_us()


def test_a_bridge_that_is_gone_is_the_benchs_fault(folder: Path, config: Path) -> None:
    with open_bench("local-pi", options={"gateway": str(config)}) as bench:
        assert bench.spi is not None
        bus = bench.spi.open_bus()
        with pytest.raises(BenchError, match=r"bridge is gone.*spi\.sock"):
            bus.transfer(bytes(5))


def test_every_call_of_a_role_is_a_step() -> None:
    path = VirtualPath()
    bench = with_log(Bench("test", simulated=True, rf=path), seed=3, file=b"text")
    assert bench.rf is not None
    before = bench.steps.count
    bench.rf.attenuate(80.0)
    bench.rf.attenuate(80.0)
    assert bench.rf.attenuation_db == 80.0
    with pytest.raises(AssertionError):
        bench.rf.attenuate(1.0)
    first, failed = bench.steps.since(before)
    assert (first.role, first.call, first.times) == ("rf", "attenuate(80.0)", 2)
    assert failed.error
    assert "FAILED" in str(failed)
    assert bench.seed == 3
    assert len(bench.digest) == 64


def test_waiting_says_what_did_not_come() -> None:
    bench = Bench("test", simulated=True)
    assert bench.wait_for(lambda: 5, "a number") == 5
    with pytest.raises(AssertionError, match=r"waited 0\.05 s for the moon"):
        bench.wait_for(lambda: None, "the moon", 0.05)


@pytest.mark.parametrize("state", [State.OFF, State.RUNNING])
def test_a_state_that_a_bench_cannot_reach_is_its_own_fault(state: State) -> None:
    with pytest.raises(BenchError):
        bring(Bench("test", simulated=True), state)


def test_locks_of_benches_with_like_names_differ() -> None:
    assert lock_file("/a/rig.toml") != lock_file("/a/rig-toml")
