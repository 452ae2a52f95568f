# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What the receiver's tests share: a ledger, a way into it, and certificates of a throw-away authority."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.batch.keys import Ed25519Signer
from agent.demo.authority import Authority
from receiver.intake import Intake
from receiver.ledger.postgres import PostgresLedger
from receiver.ledger.sqlite import SqliteLedger
from receiver.ledger.writer import LedgerWriter
from tests.receiver.gateway import Gateway
from tests.receiver.platform import Certificates
from tests.receiver.postgres import Cluster, cluster

ENGINES = ("sqlite", "postgres")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run the tests of a module with BOTH_ENGINES on each."""
    own = any(mark.args[0] == "ledger" for mark in metafunc.definition.iter_markers("parametrize"))
    if "ledger" in metafunc.fixturenames and getattr(metafunc.module, "BOTH_ENGINES", False) and not own:
        metafunc.parametrize("ledger", ENGINES, indirect=True)


@pytest.fixture
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LedgerWriter]:
    """An empty ledger."""
    opened: LedgerWriter
    if getattr(request, "param", "sqlite") == "postgres":
        server: Cluster = request.getfixturevalue("postgres")
        opened = PostgresLedger(server.url(server.database()))
    else:
        opened = SqliteLedger(tmp_path / "data")
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Cluster]:
    """A PostgreSQL server that does not wait for the disk."""
    with cluster() as server:
        yield server


@pytest.fixture
def signer() -> Ed25519Signer:
    """The platform's key."""
    return Ed25519Signer.generate()


@pytest.fixture
def intake(ledger: LedgerWriter, signer: Ed25519Signer) -> Intake:
    """The way into the ledger."""
    return Intake(ledger, signer)


@pytest.fixture
def gateway(ledger: LedgerWriter) -> Gateway:
    """A registered gateway."""
    made = Gateway()
    ledger.add_key(made.registration)
    return made


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Certificates for loopback."""
    authority = Authority(tmp_path_factory.mktemp("authority"))
    return Certificates(authority.certificate, authority.server("platform"), authority.client("gateway"))
