# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.batch import cbor, cose
from agent.batch.errors import RefusedError
from agent.batch.keys import Ed25519Signer, ES256Signer, Signer, ring
from agent.batch.receipt import open_answer as open_receipt_or_refusal
from agent.enrolment import message
from agent.enrolment.message import Enrolled, Kind, Pending, Request, Said, Turned, TurnedDown
from agent.errors import IdentityError

SIGNERS: list[Signer] = [Ed25519Signer.generate(), ES256Signer.generate()]
PLATFORM = Ed25519Signer.generate()
EUI = bytes.fromhex("0016c001ff10a235")
DIGEST = bytes(32)

requests = st.builds(
    lambda kind, nonce, csr, claim, name, index: Request(
        kind,
        nonce,
        EUI,
        SIGNERS[index].public,
        csr,
        **({"claim": claim, "name": name} if kind is Kind.ENROL else {"certificate": nonce[:32]}),
    ),
    st.sampled_from([Kind.ENROL, Kind.RENEW]),
    st.binary(min_size=message.NONCE_BYTES, max_size=message.NONCE_BYTES),
    st.binary(max_size=600),
    st.text(max_size=40),
    st.text(max_size=40),
    st.integers(0, 1),
)
said = st.one_of(
    st.builds(
        Enrolled,
        st.just(EUI),
        st.lists(st.binary(max_size=300), min_size=1, max_size=3).map(tuple),
        st.lists(st.binary(max_size=300), max_size=3).map(tuple),
        st.text(max_size=200),
        st.integers(0, message.MAX_UTC_US),
    ),
    st.builds(Pending, st.text(max_size=100), st.integers(0, message.MAX_UTC_US)),
    st.builds(TurnedDown, st.sampled_from(Turned), st.text(max_size=100), st.integers(0, message.MAX_UTC_US)),
)


@given(requests)
def test_a_request_says_what_was_asked_whatever_signs_it(request: Request) -> None:
    signer = next(signer for signer in SIGNERS if signer.public == request.key)
    assert message.open_request(message.sign_request(request, signer)) == request


@given(said)
def test_an_answer_says_what_was_answered(answer: Said) -> None:
    data = message.sign_answer(answer, DIGEST, PLATFORM)
    assert message.open_answer(data, DIGEST, ()) == (answer, PLATFORM.public)
    assert message.open_answer(data, DIGEST, [Ed25519Signer.generate().public, PLATFORM.public]) == (
        answer,
        PLATFORM.public,
    )


@given(st.data())
def test_no_altered_byte_of_a_request_is_taken(data: st.DataObject) -> None:
    request = Request(Kind.ENROL, bytes(message.NONCE_BYTES), EUI, SIGNERS[0].public, b"csr", claim="A" * 16)
    wire = bytearray(message.sign_request(request, SIGNERS[0]))
    at = data.draw(st.integers(0, len(wire) - 1))
    wire[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises((RefusedError, IdentityError)):
        message.open_request(bytes(wire))


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_by_name(data: bytes) -> None:
    with pytest.raises((RefusedError, IdentityError)):
        message.open_request(data)
    with pytest.raises((RefusedError, IdentityError)):
        message.open_answer(data, DIGEST, ())


def test_who_does_not_have_the_key_cannot_ask_in_its_name() -> None:
    request = Request(Kind.ENROL, bytes(message.NONCE_BYTES), EUI, SIGNERS[0].public, b"csr")
    with pytest.raises(RefusedError):
        message.open_request(message.sign_request(request, Ed25519Signer.generate()))


def test_an_answer_of_another_platform_or_to_another_request_is_not_taken() -> None:
    data = message.sign_answer(Pending("wait", 1), DIGEST, PLATFORM)
    with pytest.raises(RefusedError):
        message.open_answer(data, DIGEST, [Ed25519Signer.generate().public])
    with pytest.raises(RefusedError, match="another request"):
        message.open_answer(data, b"\1" * 32, [PLATFORM.public])


def test_neither_side_takes_an_enrolment_for_a_receipt() -> None:
    data = message.sign_answer(Pending("wait", 1), DIGEST, PLATFORM)
    with pytest.raises(RefusedError):
        open_receipt_or_refusal(data, ring(PLATFORM.public))


def test_another_version_is_named() -> None:
    payload = cbor.encode([16, 2, b""], where="-", max_bytes=100)
    with pytest.raises(RefusedError, match="version 2"):
        message.open_request(cose.sign(payload, PLATFORM))


def test_what_is_too_long_is_refused() -> None:
    request = Request(Kind.ENROL, bytes(message.NONCE_BYTES), EUI, SIGNERS[0].public, b"csr")
    for wrong in (
        dataclasses.replace(request, nonce=b"short"),
        dataclasses.replace(request, csr=bytes(message.MAX_CSR_BYTES + 1)),
        dataclasses.replace(request, claim="A" * 600),
        dataclasses.replace(request, kind=Kind.RENEW, certificate=b"short"),
    ):
        with pytest.raises(RefusedError):
            message.open_request(message.sign_request(wrong, SIGNERS[0]))


def test_a_request_does_not_show_its_code() -> None:
    request = Request(Kind.ENROL, bytes(message.NONCE_BYTES), EUI, SIGNERS[0].public, b"csr", claim="SECRET")
    assert "SECRET" not in repr(request)
