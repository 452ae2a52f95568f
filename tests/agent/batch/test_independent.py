# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Signed messages verified by `cwt`, a COSE implementation that is not ours. This file imports nothing of the project.

What the messages carry is compared with what the vectors say; the columns are left to the verifier in JavaScript.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from pathlib import Path
from typing import Any

import cbor2
import pytest
import zstandard
from cwt import COSE, COSEKey, VerifyError

# JSON, CBOR and `cwt` have no static types that would help here.
VECTORS: dict[str, Any] = json.loads(
    (Path(__file__).parents[2] / "data/batch/vectors.json").read_text(encoding="utf-8")
)


def registered(kid: str) -> Any:
    """Give the registered key with this kid to `cwt`, which wants kid and algorithm inside."""
    entry = next(entry for entry in VECTORS["keys"] if entry["kid"] == kid)
    return COSEKey.new({**cbor2.loads(bytes.fromhex(entry["cose_key"])), 2: bytes.fromhex(kid), 3: entry["algorithm"]})


def named(group: str) -> list[Any]:
    return [pytest.param(vector, id=vector["name"]) for vector in VECTORS[group]]


@pytest.mark.parametrize("entry", VECTORS["keys"])
def test_a_kid_is_the_thumbprint_of_its_key(entry: dict[str, Any]) -> None:
    assert hashlib.sha256(bytes.fromhex(entry["cose_key"])).hexdigest() == entry["kid"]


@pytest.mark.parametrize("vector", named("batches"))
def test_a_batch_verifies(vector: dict[str, Any]) -> None:
    signed_header, codec, carried, check = cbor2.loads(bytes.fromhex(vector["wire"]))
    assert zlib.crc32(signed_header + bytes([codec]) + carried).to_bytes(4, "big") == check
    kid = cbor2.loads(cbor2.loads(signed_header).value[0])[4].hex()
    header = cbor2.loads(COSE.new().decode(signed_header, registered(kid)))
    says = vector["header"]
    assert header == [
        1,
        says["version"],
        bytes.fromhex(says["gateway_eui"]),
        bytes.fromhex(says["stream_id"]),
        says["number"],
        says["first_seq"],
        says["frame_count"],
        bytes.fromhex(says["previous_hash"]),
        bytes.fromhex(says["body_sha256"]),
        says["body_length"],
        says["filter_version"],
    ]
    body = zstandard.decompress(carried) if codec else carried
    assert body.hex() == vector["body"]
    assert (len(body), hashlib.sha256(body).digest()) == (header[9], header[8])
    assert hashlib.sha256(signed_header).hexdigest() == vector["hash"]
    members = cbor2.loads(body)
    assert members[1] == list(vector["content"]["account"].values())
    assert members.get(4, {}) == vector["content"]["health"]
    payloads = [bytes.fromhex(frame["phy_payload"]) for frame in vector["content"]["frames"]]
    tails = b"".join(payload[9:] if len(payload) >= 9 else payload for payload in payloads)
    assert members.get(5, {}).get(17, b"") == tails


@pytest.mark.parametrize("vector", named("answers"))
def test_an_answer_verifies(vector: dict[str, Any]) -> None:
    payload = cbor2.loads(COSE.new().decode(bytes.fromhex(vector["data"]), registered(vector["kid"])))
    says = vector["content"]
    if vector["kind"] == "receipt":
        head = [2, 1, bytes.fromhex(says["stream_id"]), says["through"], bytes.fromhex(says["hash"])]
        assert payload == [*head, says["utc_us"], says["beyond"]]
    else:
        head = [3, 1, bytes.fromhex(says["stream_id"]), says["number"], bytes.fromhex(says["batch_hash"])]
        assert payload == [*head, says["reason"], says["detail"], says["utc_us"]]


@pytest.mark.parametrize("vector", named("successions"))
def test_an_announcement_verifies_with_the_key_it_announces(vector: dict[str, Any]) -> None:
    data, says = bytes.fromhex(vector["data"]), vector["content"]
    payload = cbor2.loads(COSE.new().decode(data, registered(says["successor"])))
    assert payload[:4] == [4, 1, bytes.fromhex(says["gateway_eui"]), bytes.fromhex(says["predecessor"])]
    assert hashlib.sha256(payload[4]).hexdigest() == says["successor"]


@pytest.mark.parametrize("vector", named("batches"))
def test_the_check_can_fail(vector: dict[str, Any]) -> None:
    message = cbor2.loads(bytes.fromhex(vector["signed_header"]))
    message.value[2] = message.value[2][:-1] + bytes([message.value[2][-1] ^ 1])
    with pytest.raises(VerifyError):
        COSE.new().decode(cbor2.dumps(message), registered(vector["kid"]))


def test_the_chain_closes_over_the_withdrawn_batches() -> None:
    before: dict[int, str] = {1: "00" * 32}
    for vector in VECTORS["batches"]:
        number = vector["header"]["number"]
        before.update(
            {stone["last_number"] + 1: stone["last_hash"] for stone in vector["content"]["tombstones"] if number == 7}
        )
        before[number + 1] = vector["hash"]
    assert [vector["header"]["previous_hash"] for vector in VECTORS["batches"]] == [
        before[vector["header"]["number"]] for vector in VECTORS["batches"]
    ]
