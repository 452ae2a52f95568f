# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Enrolment at one of several receivers: what it lets in or turns away holds at the others."""

from __future__ import annotations

import shutil
from pathlib import Path

from agent.batch.model import Reason, Receipt, Refusal
from agent.batch.receipt import open_answer
from tests.receiver.enrolment.town import Asking, town
from tests.receiver.gateway import EUI, Gateway
from tests.receiver.platform import Certificates, platform
from tests.receiver.postgres import Cluster


def test_a_gateway_that_enrolled_at_one_receiver_delivers_to_another(
    tmp_path: Path, certificates: Certificates, postgres: Cluster
) -> None:
    (tmp_path / "desk").mkdir()
    (tmp_path / "other").mkdir()
    ledger = f'[ledger]\nurl = "{postgres.url(postgres.database())}"\n'
    desk = town(tmp_path / "desk", certificates, section=ledger)
    client_ca = f'client_ca = "{desk.platform.data_dir / "ca" / "ca.pem"}"'
    other = platform(tmp_path / "other", certificates, https=client_ca, extra=ledger)
    shutil.copy(desk.platform.folder / "receipt.key", other.folder / "receipt.key")
    gateway = Gateway()
    asking = Asking(desk, gateway.signer)

    with desk.platform.serving(), other.serving():
        chain = asking.enrolled(desk.code()).chain[0]
        elsewhere = Asking(desk, gateway.signer, EUI, asking.tls_key)
        with elsewhere.batches(chain) as client:
            client.base_url = other.url
            taken = client.post("/v1/batches", content=gateway.wire())
            assert isinstance(open_answer(taken.content, desk.platform.resolve), Receipt)
            assert desk.platform.json("status")["frames"] == 3
            revoked = desk.platform.json("gateways", "revoke", EUI.hex())
            assert (revoked["revoked"], revoked["certificates"]) == (1, 1)
            refused = client.post("/v1/batches", content=gateway.wire())
        said = open_answer(refused.content, desk.platform.resolve)
        assert isinstance(said, Refusal)
        assert said.reason is Reason.REVOKED_KEY
