# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""How a gateway announces its next key: the new key signs who it follows, and a batch signed by the old one carries it.

So both keys have spoken: nobody can announce a key that is not his, nor a successor to a key that is not his.
"""

from __future__ import annotations

from dataclasses import dataclass

from agent.batch import cbor, cose
from agent.batch.errors import MalformedError
from agent.batch.keys import KID_BYTES, PublicKey, Signer, ring
from agent.batch.kinds import Kind, payload_of
from agent.batch.model import FORMAT_VERSION, MAX_SUCCESSION_BYTES
from agent.errors import IdentityError

EUI_BYTES = 8
_WHERE = "succession"


@dataclass(frozen=True, slots=True)
class Succession:
    """A key follows another.

    Attributes:
        gateway_eui: EUI-64 of the gateway, 8 bytes.
        predecessor: thumbprint of the old key, which must have signed the batch that carries this.
        successor: the new key, which has signed this.
    """

    gateway_eui: bytes
    predecessor: bytes
    successor: PublicKey


def announce(successor: Signer, *, gateway_eui: bytes, predecessor: bytes) -> bytes:
    """Sign the announcement of a new key, with that key.

    Args:
        successor: the new key.
        gateway_eui: EUI-64, 8 bytes.
        predecessor: thumbprint of the old key.

    Raises:
        IdentityError: the new key cannot sign.
    """
    payload = cbor.encode(
        [int(Kind.SUCCESSION), FORMAT_VERSION, gateway_eui, predecessor, successor.public.cose_key],
        where=_WHERE,
        max_bytes=MAX_SUCCESSION_BYTES,
    )
    return cose.sign(payload, successor)


def read(data: bytes) -> Succession:
    """Read an announcement, and verify it with the key that it announces.

    Whether the old key carried it is for the caller to see.

    Raises:
        MalformedError: CG-BAT-001 encoding, -002 signed message, -006 another kind, -013 content.
        UnknownKeyError: CG-BAT-004, signed by another key than the one announced.
        BadSignatureError: CG-BAT-003, -005.
        UnsupportedVersionError: CG-BAT-007.
    """
    message = cose.read(data, where=_WHERE, max_bytes=MAX_SUCCESSION_BYTES)
    match payload_of(message.payload, where=_WHERE, kind=Kind.SUCCESSION):
        case [_, _, bytes(eui), bytes(predecessor), bytes(encoded)] if (
            len(eui) == EUI_BYTES and len(predecessor) == KID_BYTES
        ):
            pass
        case _:
            raise _malformed("other members than version 1")
    try:
        successor = PublicKey.from_cose_key(encoded)
    except IdentityError as error:
        raise _malformed(error.what) from error
    cose.verify(message, ring(successor), where=_WHERE)
    if successor.kid == predecessor:
        raise _malformed("a key that follows itself")
    return Succession(eui, predecessor, successor)


def _malformed(what: str) -> MalformedError:
    return MalformedError(what, where=_WHERE, code="CG-BAT-013")
