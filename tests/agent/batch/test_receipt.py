# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.batch import codec, cose, receipt
from agent.batch.errors import (
    BadSignatureError,
    MalformedError,
    RefusedError,
    UnknownKeyError,
    UnsupportedVersionError,
    UnwritableError,
)
from agent.batch.keys import Signer, ring
from agent.batch.model import GENESIS_HASH, MAX_DETAIL_BYTES, MAX_NUMBER, MAX_RANGES, Reason, Receipt, Refusal
from tests.agent.batch.damage import ANSWERS, receipt_item, refusal_item
from tests.agent.batch.samples import ED25519, ES256, SIGNERS, STREAM, seal, wire

RESOLVE = ring(ED25519.public, ES256.public)
NOW = 1_767_225_600_000_000
HASH = b"\x22" * 32
RECEIPT = Receipt(STREAM, 17, HASH, NOW, ((19, 19), (25, 40)))
REFUSAL = Refusal(STREAM, 18, HASH, Reason.FORK, "another content is committed under number 18", NOW)


@st.composite
def receipts(draw: st.DrawFn) -> Receipt:
    through = draw(st.integers(0, 1 << 40))
    beyond = []
    last = through
    for _ in range(draw(st.integers(0, 5))):
        first = last + draw(st.integers(1, 1 << 30))
        last = first + draw(st.integers(0, 1 << 30))
        beyond.append((first, last))
    return Receipt(
        draw(st.binary(min_size=16, max_size=16)),
        through,
        draw(st.binary(min_size=32, max_size=32).filter(any)) if through else GENESIS_HASH,
        draw(st.integers(0, MAX_NUMBER)),
        tuple(beyond),
    )


refusals = st.builds(
    Refusal,
    stream_id=st.binary(min_size=16, max_size=16),
    number=st.integers(0, MAX_NUMBER),
    batch_hash=st.binary(min_size=32, max_size=32),
    reason=st.sampled_from(Reason),
    detail=st.text(max_size=60, alphabet=st.characters(codec="utf-8")),
    utc_us=st.integers(0, MAX_NUMBER),
)


@given(receipts(), st.sampled_from(SIGNERS))
def test_a_receipt_comes_back(original: Receipt, signer: Signer) -> None:
    data = receipt.sign_receipt(original, signer)
    assert receipt.open_receipt(data, RESOLVE) == receipt.open_answer(data, RESOLVE) == original


@given(refusals, st.sampled_from(SIGNERS))
def test_a_refusal_comes_back(original: Refusal, signer: Signer) -> None:
    data = receipt.sign_refusal(original, signer)
    assert receipt.open_refusal(data, RESOLVE) == receipt.open_answer(data, RESOLVE) == original


@pytest.mark.parametrize("signer", SIGNERS)
def test_no_altered_bit_is_accepted(signer: Signer) -> None:
    for data in (receipt.sign_receipt(RECEIPT, signer), receipt.sign_refusal(REFUSAL, signer)):
        for bit in range(len(data) * 8):
            altered = bytearray(data)
            altered[bit // 8] ^= 0x80 >> (bit % 8)
            with pytest.raises(RefusedError):
                receipt.open_answer(bytes(altered), RESOLVE)
        for size in range(len(data)):
            with pytest.raises(MalformedError):
                receipt.open_answer(data[:size], RESOLVE)


def test_one_kind_is_never_taken_for_another() -> None:
    as_receipt, as_refusal = receipt.sign_receipt(RECEIPT, ED25519), receipt.sign_refusal(REFUSAL, ED25519)
    as_batch = seal().signed_header
    for opener, data in (
        (receipt.open_receipt, as_refusal),
        (receipt.open_receipt, as_batch),
        (receipt.open_refusal, as_receipt),
        (receipt.open_refusal, as_batch),
        (receipt.open_answer, as_batch),
    ):
        with pytest.raises(MalformedError) as caught:
            opener(data, RESOLVE)
        assert caught.value.code == "CG-BAT-006"
    with pytest.raises(MalformedError):
        receipt.open_answer(wire(), RESOLVE)
    for data in (as_receipt, as_refusal):
        with pytest.raises(MalformedError) as caught:
            codec.read_header(data)
        assert caught.value.code == "CG-BAT-006"


def test_only_the_platforms_key_counts() -> None:
    data = receipt.sign_receipt(RECEIPT, ES256)
    with pytest.raises(UnknownKeyError):
        receipt.open_answer(data, ring(ED25519.public))
    with pytest.raises(BadSignatureError):
        receipt.open_answer(data, lambda _: ED25519.public)


@pytest.mark.parametrize("what", ANSWERS)
def test_an_answer_that_is_wrong_is_refused_for_what_it_is(what: str) -> None:
    make, code = ANSWERS[what]
    with pytest.raises(MalformedError) as caught:
        receipt.open_answer(cose.sign(make(), ED25519), RESOLVE)
    assert caught.value.code == code


def test_an_answer_of_a_later_version_says_so() -> None:
    for payload in (receipt_item(version=2), refusal_item(version=2)):
        with pytest.raises(UnsupportedVersionError) as caught:
            receipt.open_answer(cose.sign(payload, ED25519), RESOLVE)
        assert caught.value.code == "CG-BAT-007"


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(RefusedError):
        receipt.open_answer(data, RESOLVE)


@given(st.binary(max_size=120))
def test_arbitrary_payloads_of_the_platform_are_answers_or_refused(payload: bytes) -> None:
    with pytest.raises(RefusedError):
        receipt.open_answer(cose.sign(payload, ED25519), RESOLVE)


def test_what_a_platform_cannot_mean_is_not_signed() -> None:
    for wrong in (
        Receipt(STREAM, 0, HASH, NOW),
        Receipt(STREAM, 1, GENESIS_HASH, NOW),
        Receipt(b"", 1, HASH, NOW),
        Receipt(STREAM, 1, HASH, -1),
        Receipt(STREAM, 5, HASH, NOW, ((5, 6),)),
    ):
        with pytest.raises(UnwritableError):
            receipt.sign_receipt(wrong, ED25519)
    with pytest.raises(UnwritableError):
        receipt.sign_refusal(Refusal(STREAM, -1, HASH, Reason.FORK, "", NOW), ED25519)


def test_what_does_not_fit_is_left_out_of_an_answer() -> None:
    many = tuple((20 + 2 * index, 20 + 2 * index) for index in range(MAX_RANGES + 5))
    signed = receipt.sign_receipt(Receipt(STREAM, 17, HASH, NOW, many), ED25519)
    assert receipt.open_receipt(signed, RESOLVE).beyond == many[:MAX_RANGES]
    long = receipt.sign_refusal(Refusal(STREAM, 1, HASH, Reason.FORK, "ü" * 500, NOW), ED25519)
    assert receipt.open_refusal(long, RESOLVE).detail == "ü" * (MAX_DETAIL_BYTES // 2)
