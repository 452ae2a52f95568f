# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.batch import body, codec, cose, succession
from agent.batch.cbor import Item, encode
from agent.batch.errors import MalformedError, RefusedError, UnknownKeyError, UnsupportedVersionError, UnwritableError
from agent.batch.keys import Signer, ring
from agent.batch.model import MAX_SUCCESSION_BYTES
from tests.agent.batch.samples import ED25519, ES256, GATEWAY, SIGNERS, ordinary, seal


def announced(signer: Signer = ES256, predecessor: bytes = ED25519.kid) -> bytes:
    return succession.announce(signer, gateway_eui=GATEWAY, predecessor=predecessor)


@pytest.mark.parametrize(("old", "new"), [SIGNERS, tuple(reversed(SIGNERS))])
def test_a_batch_of_the_old_key_carries_the_new_one(old: Signer, new: Signer) -> None:
    sealed = seal(replace(ordinary(3), succession=announced(new, old.kid)), signer=old)
    opened = codec.open_wire(codec.pack(sealed.signed_header, sealed.body), ring(old.public))
    said = succession.read(opened.body.succession)
    assert (said.gateway_eui, said.predecessor, said.successor) == (GATEWAY, opened.kid, new.public)
    assert body.encode(opened.body) == sealed.body, "it is kept when a body is made again"


@pytest.mark.parametrize("signer", SIGNERS)
def test_no_altered_bit_is_accepted(signer: Signer) -> None:
    message = announced(signer, bytes(32))
    assert len(message) < MAX_SUCCESSION_BYTES
    for bit in range(len(message) * 8):
        altered = bytearray(message)
        altered[bit // 8] ^= 0x80 >> (bit % 8)
        with pytest.raises(RefusedError):
            succession.read(bytes(altered))


@given(st.binary(max_size=MAX_SUCCESSION_BYTES + 10))
def test_arbitrary_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(RefusedError):
        succession.read(data)


ITEMS: dict[str, tuple[list[Item], type[RefusedError]]] = {
    "another kind": ([1, 1, GATEWAY, ED25519.kid, ES256.public.cose_key], MalformedError),
    "a later version": ([4, 2, GATEWAY, ED25519.kid, ES256.public.cose_key], UnsupportedVersionError),
    "a member more": ([4, 1, GATEWAY, ED25519.kid, ES256.public.cose_key, 0], MalformedError),
    "short EUI": ([4, 1, bytes(7), ED25519.kid, ES256.public.cose_key], MalformedError),
    "short kid": ([4, 1, GATEWAY, bytes(31), ES256.public.cose_key], MalformedError),
    "no key": ([4, 1, GATEWAY, ED25519.kid, b""], MalformedError),
    "its own successor": ([4, 1, GATEWAY, ES256.kid, ES256.public.cose_key], MalformedError),
    "a key of somebody else": ([4, 1, GATEWAY, ED25519.kid, ED25519.public.cose_key], UnknownKeyError),
}


@pytest.mark.parametrize("what", ITEMS)
def test_an_announcement_that_is_wrong_is_refused_for_what_it_is(what: str) -> None:
    item, error = ITEMS[what]
    with pytest.raises(error):
        succession.read(cose.sign(encode(item, where="test", max_bytes=1024), ES256))


@pytest.mark.parametrize("data", [b"", b"x" * (MAX_SUCCESSION_BYTES + 1)])
def test_a_body_carries_one_of_bounded_length(data: bytes) -> None:
    plain = body.encode(ordinary(0))
    size = b"\x40" if not data else b"\x59" + len(data).to_bytes(2, "big")
    with pytest.raises(MalformedError, match="succession"):
        body.decode(bytes([plain[0] + 1]) + plain[1:] + b"\x18\x22" + size + data)
    with pytest.raises(MalformedError, match="succession"):
        body.decode(bytes([plain[0] + 1]) + plain[1:] + b"\x18\x22\x01")
    if data:
        with pytest.raises(UnwritableError):
            body.encode(replace(ordinary(0), succession=data))
