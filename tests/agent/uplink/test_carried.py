# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Receipts that are carried to the gateway as files."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from agent.batch.keys import Ed25519Signer
from agent.batch.model import Receipt
from agent.batch.receipt import sign_receipt
from agent.errors import SpoolError
from agent.uplink.carried import FOLDER, RETRY, SEAL, Inbox, ask, hand_over, receipt_files, verified
from agent.uplink.port import MAX_ANSWER_BYTES

CITY, COUNTY = Ed25519Signer.generate(), Ed25519Signer.generate()
KEYS = {"city": (CITY.public,), "county": (COUNTY.public,)}
STREAMS = {bytes(16): "city", bytes(range(16)): "county"}


def destination_of(stream_id: bytes) -> str:
    if stream_id not in STREAMS:
        raise SpoolError("no such stream", where="spool.db", hint="-", code="CG-SPL-011")
    return STREAMS[stream_id]


def signed(signer: Ed25519Signer, stream_id: bytes = bytes(16), through: int = 3) -> bytes:
    return sign_receipt(Receipt(stream_id, through, b"\x01" * 32, 1), signer)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (signed(COUNTY), "verifies"),
        (signed(CITY, bytes(range(16))), "verifies"),
        (signed(CITY, b"\xff" * 16), "no such stream"),
        (signed(CITY)[:-1], "no receipt"),
        (b"", "no receipt"),
        (bytes(MAX_ANSWER_BYTES + 1), "longer than"),
    ],
    ids=["other platform", "other destination", "other spool", "torn", "empty", "long"],
)
def test_only_the_platform_of_a_stream_frees_it(tmp_path: Path, data: bytes, words: str) -> None:
    path = tmp_path / "one.receipt"
    path.write_bytes(data)
    with pytest.raises(SpoolError, match=words):
        verified(path, KEYS, destination_of)


def test_what_is_handed_over_is_taken_once_and_what_is_unfit_is_put_away(tmp_path: Path) -> None:
    taken: list[Receipt] = []
    done: list[str] = []
    requests = {name: partial(done.append, name) for name in (RETRY, SEAL)}
    inbox = Inbox(tmp_path, KEYS, destination_of, taken.append, requests)
    with pytest.raises(SpoolError, match="cannot be written"):
        hand_over(signed(CITY), tmp_path)
    inbox.look()
    for data in (signed(CITY), signed(COUNTY), signed(COUNTY, bytes(range(16)), 7)):
        assert hand_over(data, tmp_path).parent == tmp_path / FOLDER
    assert ask(tmp_path, RETRY).exists()
    inbox.look()
    inbox.look()
    assert done == [RETRY]
    assert {(receipt.stream_id, receipt.through) for receipt in taken} == {(bytes(16), 3), (bytes(range(16)), 7)}
    assert len(taken) == 2
    assert not list((tmp_path / FOLDER).iterdir())


def test_files_are_taken_as_named_and_folders_by_what_is_in_them(tmp_path: Path) -> None:
    for name in ("b.receipt", "a.receipt", "a.batches"):
        (tmp_path / name).touch()
    found = [*receipt_files([tmp_path, tmp_path / "a.batches"])]
    assert [path.name for path in found] == ["a.receipt", "b.receipt", "a.batches"]
