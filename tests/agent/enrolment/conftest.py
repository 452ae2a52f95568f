# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
from __future__ import annotations

from pathlib import Path

import pytest

from agent.demo.authority import Authority
from tests.agent.enrolment.pair import GatewayFiles, gateway_files
from tests.receiver.enrolment.town import Town, town
from tests.receiver.platform import Certificates


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Certificates of the platform, for loopback."""
    authority = Authority(tmp_path_factory.mktemp("authority"))
    return Certificates(authority.certificate, authority.server("platform"), authority.client("gateway"))


@pytest.fixture
def here(tmp_path: Path, certificates: Certificates) -> Town:
    (tmp_path / "platform").mkdir()
    return town(tmp_path / "platform", certificates)


@pytest.fixture
def gateway(tmp_path: Path) -> GatewayFiles:
    return gateway_files(tmp_path / "gateway")
