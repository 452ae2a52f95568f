# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What the receiver keeps is evidence: it verifies with a COSE and a CBOR implementation that are not ours."""

from __future__ import annotations

import base64
import hashlib
import sqlite3
from itertools import pairwise
from typing import TYPE_CHECKING

import cbor2
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cwt import COSE, COSEKey

from agent.demo.air import Control
from tests.e2e.conftest import until

if TYPE_CHECKING:
    from agent.demo.stage import Stage

FRAMES = 3


def test_signed_headers_of_the_real_path_verify_and_chain_with_a_foreign_implementation(stage: Stage) -> None:
    control = Control(stage.control_socket)
    stage.start_agent()
    until(lambda: control.ask({"cmd": "stats"})["running"], "the concentrator to receive")
    ledger = sqlite3.connect(f"file:{stage.ledger}?mode=ro", uri=True)
    for count in range(1, FRAMES + 1):
        payload = f"80070000488047{count:02x}0514d4bb32ccac547d497dcb875a0e8194c3d210c96b07b6dc35f51e"
        control.ask({"cmd": "inject", "freq_hz": 868_100_000, "sf": 7, "bw_hz": 125_000, "payload": payload})
        until(lambda count=count: _frames(ledger) == count, "the frame to arrive")  # type: ignore[misc]  # mypy cannot type a default
    text, kid = ledger.execute("SELECT public_key, kid FROM gateway_key").fetchone()
    signed = [row[0] for row in ledger.execute("SELECT signed_header FROM batch ORDER BY number")]
    assert len(signed) == FRAMES

    raw = base64.urlsafe_b64decode(text.rsplit(":", 1)[1] + "==")
    public = Ed25519PublicKey.from_public_bytes(raw).public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    key = COSEKey.from_pem(public, kid=kid)
    headers = [cbor2.loads(COSE.new().decode(message, key)) for message in signed]

    for (before, message), (after, _) in pairwise(zip(headers, signed, strict=True)):
        assert hashlib.sha256(message).digest() in _byte_strings(after)
        assert after != before


def _frames(ledger: sqlite3.Connection) -> int:
    count: int = ledger.execute("SELECT count(*) FROM frame").fetchone()[0]
    return count


def _byte_strings(header: object) -> list[bytes]:
    items = header.values() if isinstance(header, dict) else header
    assert isinstance(items, list | type({}.values()))
    return [item for item in items if isinstance(item, bytes)]
