# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""COSE_Sign1 [RFC 9052 §4.2] in the one form that is used here.

Tagged (18), protected header {1: algorithm, 4: kid} and nothing else, unprotected header empty, payload attached, no
external data. Each message has exactly one encoding.
"""

from __future__ import annotations

from dataclasses import dataclass

from agent.batch import cbor
from agent.batch.errors import BadSignatureError, MalformedError, UnknownKeyError
from agent.batch.keys import KID_BYTES, SIGNATURE_BYTES, Resolve, Signer

MAX_SIGN1_BYTES = 32768
"""The longest signed message: a receipt may list ranges."""

_TAG_SIGN1 = b"\xd2"
_ALGORITHM = 1
_KID = 4


@dataclass(frozen=True, slots=True)
class Sign1:
    """A signed message as it was read, not verified.

    Attributes:
        algorithm: COSE number of the algorithm, as claimed.
        kid: thumbprint of the key, as claimed.
        protected: the protected header, encoded.
        payload: what is signed.
        signature: 64 bytes.
    """

    algorithm: int
    kid: bytes
    protected: bytes
    payload: bytes
    signature: bytes


def sign(payload: bytes, signer: Signer) -> bytes:
    """Return the COSE_Sign1 message of `payload`."""
    header: dict[int | str, cbor.Item] = {_ALGORITHM: int(signer.algorithm), _KID: signer.kid}
    protected = cbor.encode(header, where="protected header", max_bytes=MAX_SIGN1_BYTES)
    signature = signer.sign(_to_be_signed(protected, payload))
    return _TAG_SIGN1 + cbor.encode(
        [protected, {}, payload, signature], where="signed message", max_bytes=MAX_SIGN1_BYTES
    )


def read(data: bytes, *, where: str, max_bytes: int = MAX_SIGN1_BYTES) -> Sign1:
    """Take a message apart without verifying it.

    Raises:
        MalformedError: CG-BAT-001 for the encoding, CG-BAT-002 for the structure.
    """
    if data[:1] != _TAG_SIGN1:
        raise MalformedError("not a COSE_Sign1 message (tag 18)", where=where, code="CG-BAT-002")
    match cbor.decode(data[1:], where=where, max_bytes=max_bytes):
        case [bytes(protected), {**unprotected}, bytes(payload), bytes(signature)]:
            pass
        case _:
            raise MalformedError(
                "COSE_Sign1 is not [protected, unprotected, payload, signature]",
                where=where,
                code="CG-BAT-002",
            )
    if unprotected:
        raise MalformedError("unprotected header is not empty", where=where, code="CG-BAT-002")
    if len(signature) != SIGNATURE_BYTES:
        raise MalformedError(f"signature of {len(signature)} bytes", where=where, code="CG-BAT-002")
    match cbor.decode(protected, where=f"{where}: protected header", max_bytes=MAX_SIGN1_BYTES):
        case {1: int(algorithm), 4: bytes(kid), **rest} if not rest and len(kid) == KID_BYTES:
            return Sign1(algorithm, kid, protected, payload, signature)
        case _:
            raise MalformedError(
                "protected header is not {1: algorithm, 4: kid of 32 bytes}", where=where, code="CG-BAT-002"
            )


def verify(message: Sign1, resolve: Resolve, *, where: str) -> None:
    """Verify a message with the key that its kid names.

    Raises:
        UnknownKeyError: CG-BAT-004, the resolver does not know the kid.
        BadSignatureError: CG-BAT-003, another algorithm than the key's; CG-BAT-005, the signature does not fit.
    """
    key = resolve(message.kid)
    if key is None:
        raise UnknownKeyError(f"key {message.kid.hex()} is not registered", where=where, code="CG-BAT-004")
    if message.algorithm != key.algorithm:
        raise BadSignatureError(
            f"algorithm {message.algorithm}, but key {key.kid.hex()} signs with {key.algorithm.value}",
            where=where,
            code="CG-BAT-003",
        )
    if not key.verify(message.signature, _to_be_signed(message.protected, message.payload)):
        raise BadSignatureError(f"signature does not verify with key {key.kid.hex()}", where=where, code="CG-BAT-005")


def _to_be_signed(protected: bytes, payload: bytes) -> bytes:
    """Return the Sig_structure [RFC 9052 §4.4]."""
    return cbor.encode(["Signature1", protected, b"", payload], where="Sig_structure", max_bytes=2 * MAX_SIGN1_BYTES)
