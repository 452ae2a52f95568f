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
from receiver.ledger.sqlite import SqliteLedger
from tests.receiver.gateway import Gateway
from tests.receiver.platform import Certificates


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[SqliteLedger]:
    """An empty ledger."""
    opened = SqliteLedger(tmp_path / "data")
    yield opened
    opened.close()


@pytest.fixture
def signer() -> Ed25519Signer:
    """The platform's key."""
    return Ed25519Signer.generate()


@pytest.fixture
def intake(ledger: SqliteLedger, signer: Ed25519Signer) -> Intake:
    """The way into the ledger."""
    return Intake(ledger, signer)


@pytest.fixture
def gateway(ledger: SqliteLedger) -> Gateway:
    """A registered gateway."""
    made = Gateway()
    ledger.add_key(made.registration)
    return made


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Certificates for loopback."""
    authority = Authority(tmp_path_factory.mktemp("authority"))
    return Certificates(authority.certificate, authority.server("platform"), authority.client("gateway"))
