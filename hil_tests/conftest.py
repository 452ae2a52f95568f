# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The bench of the run, as options, marks and fixtures."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from drivers.sx1302.concentrator import Concentrator
from hil_tests.bench.model import Bench
from hil_tests.bench.opening import open_bench
from hil_tests.bench.roles import Dut, Golden, Platform, Power, ReferenceNode, RfPath, SpiDoor
from hil_tests.bench.strategy import bring
from hil_tests.catalogue import NUMBERS
from hil_tests.measured import Measure

BENCH = pytest.StashKey[Bench]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("hil", "hardware in the loop")
    group.addoption(
        "--bench",
        default="emulator",
        metavar="NAME|FILE.toml",
        help="emulator (default), vm, local-pi, or a bench file",
    )
    group.addoption("--gateway", metavar="FILE", help="gateway.toml of the bench local-pi")
    group.addoption("--hil-seed", type=int, metavar="N", help="of everything drawn at random; without, a new one")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "hil(number): which test of the list it belongs to")
    config.addinivalue_line("markers", "needs(*roles): which roles the bench must fill")
    config.addinivalue_line("markers", "begins(state): in which state the gateway under test must be")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    shared = config.pluginmanager.hasplugin("xdist")
    for item in items:
        number = item.get_closest_marker("hil")
        if number is not None and number.args[0] not in NUMBERS:
            raise pytest.UsageError(f"{item.nodeid}: {number.args[0]} is not in the list")
        if shared and number is not None:
            # One bench for all of them, instead of one for each worker.
            item.add_marker(pytest.mark.xdist_group("hil"))


@pytest.fixture(scope="session")
def bench(pytestconfig: pytest.Config) -> Iterator[Bench]:
    """Return the bench of this run."""
    given = pytestconfig.getoption("--hil-seed")
    seed = random.SystemRandom().randrange(1 << 32) if given is None else int(given)
    options = {name: value for name in ("gateway",) if (value := pytestconfig.getoption(f"--{name}"))}
    with open_bench(pytestconfig.getoption("--bench"), seed=seed, options=options) as opened:
        pytestconfig.stash[BENCH] = opened
        yield opened


@pytest.fixture(autouse=True)
def prepared(request: pytest.FixtureRequest) -> None:
    """Skip what the bench cannot do, and bring the gateway under test to where the test begins."""
    wanted = request.node.get_closest_marker("needs")
    begins = request.node.get_closest_marker("begins")
    if wanted is None and begins is None:
        return
    bench: Bench = request.getfixturevalue("bench")
    missing = bench.missing(wanted.args if wanted is not None else ())
    if missing:
        pytest.skip(f"bench {bench.name} has no role {', '.join(missing)}")
    if begins is not None:
        bring(bench, begins.args[0])


@pytest.fixture
def measure(record_property: pytest.FixtureRequest) -> Measure:
    """Return what holds a measured value against its limits, and keeps both for the report."""
    return Measure(record_property)  # type: ignore[arg-type]


@pytest.fixture
def rng(bench: Bench, request: pytest.FixtureRequest) -> random.Random:
    """Return chance that is the same for the same seed and test."""
    return random.Random(f"{bench.seed} {request.node.name}")


@pytest.fixture
def spi(bench: Bench) -> SpiDoor:
    """Return the way to the chip."""
    assert bench.spi is not None, "the test must say that it needs it"
    return bench.spi


@pytest.fixture
def node(bench: Bench) -> ReferenceNode:
    """Return the reference node."""
    assert bench.node is not None, "the test must say that it needs it"
    return bench.node


@pytest.fixture
def rf(bench: Bench) -> RfPath:
    """Return the path between node and gateway."""
    assert bench.rf is not None, "the test must say that it needs it"
    return bench.rf


@pytest.fixture
def dut(bench: Bench) -> Dut:
    """Return the gateway under test."""
    assert bench.dut is not None, "the test must say that it needs it"
    return bench.dut


@pytest.fixture
def power(bench: Bench) -> Power:
    """Return its supply."""
    assert bench.power is not None, "the test must say that it needs it"
    return bench.power


@pytest.fixture
def platform(bench: Bench) -> Platform:
    """Return its platform."""
    assert bench.platform is not None, "the test must say that it needs it"
    return bench.platform


@pytest.fixture
def golden(bench: Bench) -> Golden:
    """Return the golden gateway."""
    assert bench.golden is not None, "the test must say that it needs it"
    return bench.golden


@pytest.fixture
def concentrator(spi: SpiDoor) -> Iterator[Concentrator]:
    """Return a concentrator that receives."""
    under_test = spi.open_concentrator()
    under_test.start()
    yield under_test
    under_test.stop()
    under_test.close()
