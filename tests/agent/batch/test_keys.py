# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
from __future__ import annotations

import hashlib

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given
from hypothesis import strategies as st

from agent.batch.keys import Algorithm, Ed25519Signer, ES256Signer, PublicKey, Signer, ring
from agent.errors import IdentityError
from tests.agent.batch.samples import ED25519, ES256, SIGNERS

P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


@pytest.mark.parametrize("signer", SIGNERS)
def test_every_form_of_a_public_key_reads_back(signer: Signer) -> None:
    key = signer.public
    assert PublicKey.from_text(key.text) == key
    assert PublicKey.from_text(f"  {key.text}\n") == key
    assert PublicKey.from_cose_key(key.cose_key) == key
    assert len(key.text) < 80
    assert signer.kid == key.kid


def test_the_kid_is_the_thumbprint_of_rfc_9679() -> None:
    # The example of RFC 9679 §6: a P-256 key with more members than the thumbprint covers.
    x = bytes.fromhex("65eda5a12577c2bae829437fe338701a10aaa375e1bb5b5de108de439c08551d")
    y = bytes.fromhex("1e52ed75701163f7f9e40ddf9f341b3dc9ba860af7e0ca7ca7e9eecd0084d19c")
    key = PublicKey(Algorithm.ES256, x, y)
    assert key.kid.hex() == "496bd8afadf307e5b08c64b0421bf9dc01528a344a43bda88fadd1669da253ec"
    assert ED25519.kid == hashlib.sha256(cbor2.dumps({1: 1, -1: 6, -2: ED25519.public.x})).digest()


@pytest.mark.parametrize("signer", [*SIGNERS, Ed25519Signer.generate(), ES256Signer.generate()])
def test_signatures_verify_and_belong_to_their_content_and_key(signer: Signer) -> None:
    signature = signer.sign(b"content")
    assert len(signature) == 64
    assert signer.public.verify(signature, b"content")
    assert not signer.public.verify(signature, b"contenT")
    assert not signer.public.verify(signature[:-1], b"content")
    assert not signer.public.verify(bytes(64), b"content")
    assert not signer.public.verify(b"\xff" * 64, b"content")
    for other in SIGNERS:
        if other.kid != signer.kid:
            assert not other.public.verify(signature, b"content")


def test_the_second_ecdsa_signature_that_anybody_can_make_does_not_count() -> None:
    for attempt in range(8):
        data = bytes([attempt])
        signature = ES256.sign(data)
        s = int.from_bytes(signature[32:], "big")
        assert s <= P256_ORDER // 2
        twin = signature[:32] + (P256_ORDER - s).to_bytes(32, "big")
        assert ES256.public.verify(signature, data)
        assert not ES256.public.verify(twin, data)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "civigate-key",
        "civigate-key:ed25519",
        "civigate-key:ed25519:",
        "civigate-key:ed25519:AAAA",
        "civigate-key:ed25519:" + "A" * 42,
        "civigate-key:ed25519:" + "A" * 44,
        "civigate-key:ed25519:" + "A" * 42 + "B",  # unused bits set
        "civigate-key:ed25519:" + "A" * 43 + "=",
        "civigate-key:ed25519:" + "+" * 43,
        "civigate-key:rsa:" + "A" * 43,
        "civigate-key:es256:" + "A" * 44,  # not a point
        "other-key:ed25519:" + "A" * 43,
        "civigate-key:ed25519:" + "ä" * 43,
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA",
    ],
)
def test_a_mistyped_key_is_refused_in_one_clause(text: str) -> None:
    with pytest.raises(IdentityError) as caught:
        PublicKey.from_text(text)
    assert caught.value.code == "CG-IDN-001"
    assert "\n" not in str(caught.value)


def test_a_private_key_in_its_place_is_not_repeated() -> None:
    pem = ec.generate_private_key(ec.SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with pytest.raises(IdentityError, match="this is a private key") as caught:
        PublicKey.from_text(pem.decode())
    assert pem.decode().splitlines()[1][:8] not in str(caught.value)


@given(st.text(max_size=80) | st.text(max_size=60).map(lambda text: "civigate-key:ed25519:" + text))
def test_arbitrary_text_is_a_key_or_refused(text: str) -> None:
    try:
        key = PublicKey.from_text(text)
    except IdentityError:
        return
    assert key.text == text.strip()


@given(st.binary(max_size=90))
def test_arbitrary_bytes_are_a_cose_key_or_refused(data: bytes) -> None:
    try:
        key = PublicKey.from_cose_key(data)
    except IdentityError:
        return
    assert key.cose_key == data


@pytest.mark.parametrize(
    "item",
    [
        {1: 1, -1: 6},
        {1: 1, -1: 6, -2: bytes(31)},
        {1: 1, -1: 6, -2: bytes(32), -4: bytes(32)},
        {1: 1, -1: 4, -2: bytes(32)},
        {1: 2, -1: 1, -2: bytes(32), -3: bytes(32)},
        {1: 2, -1: 2, -2: bytes(48), -3: bytes(48)},
        {1: 4, -1: bytes(32)},
        [1, 2],
    ],
)
def test_other_cose_keys_are_refused(item: object) -> None:
    with pytest.raises(IdentityError):
        PublicKey.from_cose_key(cbor2.dumps(item))


def test_a_ring_knows_its_keys_and_no_others() -> None:
    resolve = ring(ED25519.public, ES256.public)
    assert resolve(ED25519.kid) == ED25519.public
    assert resolve(ES256.kid) == ES256.public
    assert resolve(bytes(32)) is None
    assert ring()(ED25519.kid) is None
