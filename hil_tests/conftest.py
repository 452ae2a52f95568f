# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The bench as a fixture, chosen on the command line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from drivers.sx1302.concentrator import Concentrator
from hil_tests.bench import Bench, ReferenceNode, emulator_bench, gateway_bench


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--gateway", type=Path, metavar="FILE", help="test the concentrator of this gateway.toml, not the emulator"
    )


@pytest.fixture(scope="session")
def bench(pytestconfig: pytest.Config) -> Bench:
    """Return the bench."""
    config: Path | None = pytestconfig.getoption("--gateway")
    return emulator_bench() if config is None else gateway_bench(config)


@pytest.fixture
def node(bench: Bench) -> ReferenceNode:
    """Return the bench's reference node."""
    if bench.node is None:
        pytest.skip(f"bench {bench.name} has no reference node")
    return bench.node


@pytest.fixture
def concentrator(bench: Bench) -> Iterator[Concentrator]:
    """Return a started concentrator."""
    under_test = bench.open()
    under_test.start()
    yield under_test
    under_test.stop()
    under_test.close()
