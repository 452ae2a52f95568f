# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The frozen vectors: what they say is what the program reads and writes, today and in every later version."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from agent.batch import body as bodies
from agent.batch import codec, receipt, succession
from agent.batch.errors import RefusedError
from agent.batch.keys import PublicKey, ring
from tests.agent.batch.damage import ANSWERS, BODIES, COMPRESSED, ENCODINGS, ENVELOPES, HEADERS, SUCCESSIONS
from tests.agent.batch.make_vectors import plain
from tests.agent.batch.samples import SIGNERS

ROOT = Path(__file__).parents[3]
PATH = ROOT / "tests/data/batch/vectors.json"
JAVASCRIPT = Path(__file__).parent / "javascript"
# JSON has no static type that would help here.
VECTORS: dict[str, Any] = json.loads(PATH.read_text(encoding="utf-8"))
KEYS = [PublicKey.from_cose_key(bytes.fromhex(entry["cose_key"])) for entry in VECTORS["keys"]]
RESOLVE = ring(*KEYS)
FROZEN = "76d45250c6ba3e8d89d0894cdfd16338eb1b12430060168c3effc59234dbec62"
UNPUBLISHED = {"too long", "body: too many anchors", "body: runs too long together"}
"""Kinds of refusal whose examples are too long for the file."""


def named(group: str) -> list[Any]:
    return [pytest.param(vector, id=vector["name"]) for vector in VECTORS[group]]


def test_the_keys_are_what_they_are_called() -> None:
    for entry, key, signer in zip(VECTORS["keys"], KEYS, SIGNERS, strict=True):
        assert key == signer.public == PublicKey.from_text(entry["text"])
        assert (key.text, key.kid.hex(), int(key.algorithm)) == (entry["text"], entry["kid"], entry["algorithm"])


@pytest.mark.parametrize("vector", named("batches"))
def test_a_batch_opens_to_what_it_says(vector: dict[str, Any]) -> None:
    opened = codec.open_wire(bytes.fromhex(vector["wire"]), RESOLVE)
    assert plain(asdict(opened.header)) == vector["header"]
    assert plain(asdict(opened.body)) == vector["content"]
    assert (opened.hash.hex(), opened.kid.hex()) == (vector["hash"], vector["kid"])
    assert opened.signed_header.hex() == vector["signed_header"]


@pytest.mark.parametrize("vector", named("batches"))
def test_a_body_is_written_as_it_was_when_version_1_was_frozen(vector: dict[str, Any]) -> None:
    content = codec.open_wire(bytes.fromhex(vector["wire"]), RESOLVE).body
    assert (bodies.encode(content).hex() == vector["body"]) is vector["exact"]
    packed = codec.pack(bytes.fromhex(vector["signed_header"]), bytes.fromhex(vector["body"]))
    assert codec.open_wire(packed, RESOLVE).body == content


def test_ed25519_signs_the_same_bytes_again() -> None:
    vector = VECTORS["batches"][0]
    header = vector["header"]
    sealed = codec.seal(
        codec.open_wire(bytes.fromhex(vector["wire"]), RESOLVE).body,
        SIGNERS[0],
        gateway_eui=bytes.fromhex(header["gateway_eui"]),
        stream_id=bytes.fromhex(header["stream_id"]),
        number=header["number"],
        first_seq=header["first_seq"],
        previous_hash=bytes.fromhex(header["previous_hash"]),
        filter_version=header["filter_version"],
    )
    assert codec.pack(sealed.signed_header, sealed.body).hex() == vector["wire"]


@pytest.mark.parametrize("vector", named("answers"))
def test_an_answer_opens_to_what_it_says(vector: dict[str, Any]) -> None:
    opened = receipt.open_answer(bytes.fromhex(vector["data"]), RESOLVE)
    assert plain(asdict(opened)) == vector["content"]
    assert type(opened).__name__.lower() == vector["kind"]


@pytest.mark.parametrize("vector", named("refused_batches"))
def test_a_batch_is_refused_with_its_code_and_reason(vector: dict[str, Any]) -> None:
    with pytest.raises(RefusedError) as caught:
        codec.open_wire(bytes.fromhex(vector["wire"]), RESOLVE)
    assert (caught.value.code, int(caught.value.reason)) == (vector["code"], vector["reason"])


@pytest.mark.parametrize("vector", named("refused_answers"))
def test_an_answer_is_refused_with_its_code(vector: dict[str, Any]) -> None:
    with pytest.raises(RefusedError) as caught:
        receipt.open_answer(bytes.fromhex(vector["data"]), RESOLVE)
    assert caught.value.code == vector["code"]


@pytest.mark.parametrize("vector", named("successions"))
def test_an_announcement_says_who_follows(vector: dict[str, Any]) -> None:
    said = succession.read(bytes.fromhex(vector["data"]))
    assert vector["content"] == {
        "gateway_eui": said.gateway_eui.hex(),
        "predecessor": said.predecessor.hex(),
        "successor": said.successor.kid.hex(),
    }


@pytest.mark.parametrize("vector", named("refused_successions"))
def test_an_announcement_is_refused_with_its_code(vector: dict[str, Any]) -> None:
    with pytest.raises(RefusedError) as caught:
        succession.read(bytes.fromhex(vector["data"]))
    assert caught.value.code == vector["code"]


@pytest.mark.parametrize("vector", named("versions"))
def test_an_old_receiver_names_what_it_cannot_read(vector: dict[str, Any]) -> None:
    wire = bytes.fromhex(vector["wire"])
    seen = codec.glimpse(wire)
    assert (seen.stream_id.hex(), seen.number, seen.batch_hash.hex()) == tuple(
        vector[name] for name in ("stream_id", "number", "batch_hash")
    )
    if vector["reason"] is None:
        codec.open_wire(wire, RESOLVE)
        return
    with pytest.raises(RefusedError) as caught:
        codec.open_wire(wire, RESOLVE)
    assert caught.value.reason == vector["reason"]


def test_the_vectors_are_frozen() -> None:
    """A new file is a new format, or an addition to it: then this line changes, and the history says why."""
    assert hashlib.sha256(PATH.read_bytes()).hexdigest() == FROZEN


def test_every_kind_of_refusal_has_a_vector() -> None:
    names = {vector["name"] for vector in VECTORS["refused_batches"]}
    expected = (
        set(ENVELOPES)
        | {f"header: {name}" for name in HEADERS}
        | {f"compression: {name}" for name in COMPRESSED}
        | {f"body: {name}" for name in BODIES}
        | {f"encoding: {what}: {data}" for data, what in ENCODINGS.items()}
    )
    assert expected - names == UNPUBLISHED
    assert set(SUCCESSIONS) == {vector["name"] for vector in VECTORS["refused_successions"]}
    assert set(ANSWERS) == {vector["name"] for vector in VECTORS["refused_answers"]} - {"a batch's header"}


def test_the_example_of_the_document_is_the_first_vector() -> None:
    text = (ROOT / "docs/batch-format.md").read_text(encoding="utf-8")
    chapter = text[text.index("## 13. Example") :]
    blocks = re.findall(r"```\n(.*?)```", chapter, re.DOTALL)
    # On each line the bytes come first, and what is said about them two spaces later.
    wire, answer = ("".join(re.split(" {2,}", line.strip())[0] for line in block.splitlines()) for block in blocks[:2])
    assert wire.replace(" ", "") == VECTORS["batches"][0]["wire"]
    assert answer == VECTORS["answers"][1]["data"]
    assert VECTORS["batches"][0]["hash"] in chapter


def test_a_verifier_in_javascript_written_from_the_document_agrees() -> None:
    node = shutil.which("node")
    if node is None or not (JAVASCRIPT / "node_modules").is_dir():
        pytest.skip("needs Node, and `npm install` in tests/agent/batch/javascript")
    done = subprocess.run([node, JAVASCRIPT / "vectors.mjs", PATH], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert f"{len(VECTORS['batches'])} batches" in done.stdout
