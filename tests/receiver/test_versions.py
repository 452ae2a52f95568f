# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The version rule on the platform: what a receiver does with batches of later releases, and once it is updated."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agent.batch import cose, kinds
from agent.batch.cbor import encode
from agent.batch.errors import UnsupportedVersionError
from agent.batch.keys import Ed25519Signer, PublicKey, ring
from agent.batch.model import GENESIS_HASH, Reason, Refusal
from agent.batch.receipt import open_answer
from receiver.intake import Intake
from receiver.ledger.port import RegisteredKey
from receiver.ledger.writer import LedgerWriter
from tests.receiver.gateway import Gateway, wire

VECTORS: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "data/batch/vectors.json").read_text(encoding="utf-8")
)
EUI = bytes.fromhex(VECTORS["batches"][0]["header"]["gateway_eui"])


@pytest.fixture
def known(ledger: LedgerWriter) -> None:
    for entry in VECTORS["keys"]:
        key = PublicKey.from_cose_key(bytes.fromhex(entry["cose_key"]))
        ledger.add_key(RegisteredKey(EUI, "", key.kid, key.text, 1))


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize("vector", [pytest.param(vector, id=vector["name"]) for vector in VECTORS["versions"]])
def test_a_batch_of_a_later_version_is_refused_by_name_and_kept(
    ledger: LedgerWriter, intake: Intake, signer: Ed25519Signer, vector: dict[str, Any]
) -> None:
    sent = bytes.fromhex(vector["wire"])
    for _ in range(2):
        answer = open_answer(intake.submit(sent, sender="test").data, ring(signer.public))
        if vector["reason"] is None:
            assert not isinstance(answer, Refusal)
            continue
        assert isinstance(answer, Refusal)
        assert answer.reason == vector["reason"]
        assert (answer.stream_id.hex(), answer.number, answer.batch_hash.hex()) == (
            vector["stream_id"],
            vector["number"],
            vector["batch_hash"],
        )
    assert ledger.quarantined()[0] == (1 if vector["reason"] == Reason.UNSUPPORTED_VERSION else 0)
    assert len(ledger.streams()) == (1 if vector["reason"] is None else 0)


def test_a_stream_goes_on_after_the_receiver_was_updated(
    ledger: LedgerWriter, intake: Intake, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Played with an old receiver that knows no version yet: the same bytes are refused, kept, and taken after it."""
    sent = [wire(gateway.seal()) for _ in range(3)]
    assert intake.submit(sent[0], sender="test").receipt is not None
    with monkeypatch.context() as older:
        older.setattr(kinds, "FORMAT_VERSION", 0)
        for one in sent[1:]:
            refusal = intake.submit(one, sender="test").refusal
            assert refusal is not None
            assert refusal.reason is Reason.UNSUPPORTED_VERSION
    assert ledger.quarantined()[0] == 2
    receipts = [intake.submit(one, sender="test").receipt for one in reversed(sent[1:])]
    assert receipts[-1] is not None
    assert receipts[-1].through == 3
    assert ledger.quarantined()[0] == 0


@pytest.mark.parametrize("kind", [2, 3])
def test_an_answer_of_a_later_version_is_no_answer(signer: Ed25519Signer, kind: int) -> None:
    payload = encode([kind, 2, bytes(16), 0, GENESIS_HASH, 1, "more"], where="test", max_bytes=1024)
    with pytest.raises(UnsupportedVersionError):
        open_answer(cose.sign(payload, signer), ring(signer.public))
