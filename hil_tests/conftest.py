# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The bench of the run, as options, marks and fixtures."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from drivers.sx1302.concentrator import Concentrator
from drivers.sx1302.concentrator import State as ChipState
from hil_tests.bench.model import Bench
from hil_tests.bench.opening import open_bench
from hil_tests.bench.roles import SpiDoor
from hil_tests.bench.strategy import State, bring
from hil_tests.catalogue import NUMBERS
from hil_tests.measured import Measure
from hil_tests.report.plugin import BENCH, STEP, Reporter


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("hil", "hardware in the loop")
    group.addoption(
        "--bench",
        default="emulator",
        metavar="NAME|FILE.toml",
        help="emulator (default), vm, local-pi, or a bench file",
    )
    group.addoption("--gateway", metavar="FILE", help="gateway.toml of the bench local-pi")
    group.addoption("--hil-report", type=Path, metavar="FOLDER", help="write JUnit XML, HTML and certificate there")
    group.addoption("--board-serial", default="", metavar="TEXT", help="of the board under test, for the certificate")
    group.addoption("--operator", default="", metavar="NAME", help="who tests, for the certificate")
    group.addoption("--hil-seed", type=int, metavar="N", help="of everything drawn at random; without, a new one")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "hil(number): which test of the list it belongs to")
    config.addinivalue_line("markers", "needs(*roles): which roles the bench must fill")
    config.addinivalue_line("markers", "begins(state): in which state the gateway under test must be")
    folder: Path | None = config.getoption("--hil-report")
    if folder is not None and getattr(config.option, "numprocesses", None):
        raise pytest.UsageError("--hil-report: a bench has one board, so its tests run in one process (without -n)")
    config.pluginmanager.register(Reporter(config, None if folder is None else folder.resolve()), "hil-report")


def pytest_runtest_setup(item: pytest.Item) -> None:
    opened = item.config.stash.get(BENCH, None)
    item.stash[STEP] = 0 if opened is None else opened.steps.count


@pytest.hookimpl(tryfirst=True)  # xdist looks at the groups after that
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    shared = getattr(config.option, "loadgroup", False)  # in the workers of pytest-xdist
    for item in items:
        number = item.get_closest_marker("hil")
        if number is not None and number.args[0] not in NUMBERS:
            raise pytest.UsageError(f"{item.nodeid}: {number.args[0]} is not in the list")
        if shared and number is not None:
            # One bench for the chip and one for the path, instead of two for each worker.
            wanted = item.get_closest_marker("needs")
            path = wanted is not None and "dut" in wanted.args
            item.add_marker(pytest.mark.xdist_group("hil-path" if path else "hil-chip"))


@pytest.fixture(scope="session")
def bench(request: pytest.FixtureRequest, pytestconfig: pytest.Config) -> Iterator[Bench]:
    """Return the bench of this run."""
    given = pytestconfig.getoption("--hil-seed")
    seed = random.SystemRandom().randrange(1 << 32) if given is None else int(given)
    options = {name: value for name in ("gateway",) if (value := pytestconfig.getoption(f"--{name}"))}
    # a worker of pytest-xdist collects all tests, and does not know which it will be given
    items = () if hasattr(pytestconfig, "workerinput") else request.session.items
    wanted = {role for item in items for mark in item.iter_markers("needs") for role in mark.args}
    with open_bench(pytestconfig.getoption("--bench"), seed=seed, options=options, wanted=wanted) as opened:
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
    if lacks := bench.lacks(wanted.args if wanted is not None else ()):
        pytest.skip(lacks)
    if begins is None:
        return
    if begins.args[0] is not State.BOOTED:
        request.getfixturevalue("shelf").clear()
    bring(bench, begins.args[0])


@pytest.fixture
def measure(record_property: pytest.FixtureRequest) -> Measure:
    """Return what holds a measured value against its limits, and keeps both for the report."""
    return Measure(record_property)  # type: ignore[arg-type]


@pytest.fixture
def rng(bench: Bench, request: pytest.FixtureRequest) -> random.Random:
    """Return chance that is the same for the same seed and test."""
    return random.Random(f"{bench.seed} {request.node.name}")


def _role(name: str) -> Any:
    @pytest.fixture(name=name)
    def role(bench: Bench) -> Any:
        found = getattr(bench, name)
        assert found is not None, f"the test must say that it needs {name}"
        return found

    return role


dut, spi, power, node, rf, platform = map(_role, ("dut", "spi", "power", "node", "rf", "platform"))
golden, clock, disk, system, air = map(_role, ("golden", "clock", "disk", "system", "air"))
"""The roles by their names; of `gnss` tests want more than the door."""


class Shelf:
    """Keeps a started concentrator from test to test, since a start takes seconds."""

    def __init__(self) -> None:
        self._kept: Concentrator | None = None

    def take(self, spi: SpiDoor) -> Concentrator:
        """Return one that receives."""
        kept = self._kept or spi.open_concentrator()
        self._kept = kept
        if kept.state is not ChipState.RUNNING:
            kept.start()
        kept.receive()  # what was on the air before is nobody's
        return kept

    def clear(self) -> None:
        """Release it: the chip is somebody else's now, or is not as it was."""
        kept, self._kept = self._kept, None
        if kept is not None:
            kept.close()


@pytest.fixture(scope="session")
def shelf() -> Iterator[Shelf]:
    """Return where started concentrators are kept."""
    kept = Shelf()
    yield kept
    kept.clear()


@pytest.fixture
def concentrator(spi: SpiDoor, shelf: Shelf) -> Concentrator:
    """Return a concentrator that receives; a test that does more than ask it for packets clears the shelf."""
    return shelf.take(spi)
