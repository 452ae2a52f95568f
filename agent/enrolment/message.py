# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What gateway and platform say to each other when a gateway enrols or renews its certificate.

Everything is a COSE_Sign1 message in the form of `agent.batch.cose`. A request is signed with the gateway's key over a
challenge of the platform, which proves that it has that key, now; the certificate request within it is signed with the
key of the certificate and proves that one. The answer is signed with the platform's receipt key and names the request,
so that no answer fits another one. The kinds are others than those of batches and receipts: none is taken for another.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from agent.batch import cbor, cose
from agent.batch.errors import MalformedError, UnsupportedVersionError
from agent.batch.keys import PublicKey, Signer, ring

VERSION = 1
NONCE_BYTES = 48
HASH_BYTES = 32
EUI_BYTES = 8
MAX_REQUEST_BYTES = 8192
MAX_ANSWER_BYTES = 32768
MAX_CSR_BYTES = 4096
MAX_CERTIFICATE_BYTES = 4096
MAX_CERTIFICATES = 8
MAX_TEXT_BYTES = 512
MAX_SETTINGS_BYTES = 8192
MAX_UTC_US = 1 << 53

CONTENT_TYPE = "application/cose"
CHALLENGE_PATH = "/v1/enrolment/challenge"
ENROLMENT_PATH = "/v1/enrolment"


class Kind(IntEnum):
    """First element of every payload; batches, receipts and refusals have the numbers below 16."""

    ENROL = 16
    RENEW = 17
    ENROLLED = 18
    PENDING = 19
    TURNED_DOWN = 20


class Turned(IntEnum):
    """Why a request was turned down."""

    BAD_CLAIM = 1
    """No such code, or it has expired, was used, or is for another gateway. Only the operator is told which."""
    REVOKED = 2
    """The gateway's key or certificate was revoked."""
    OTHER_GATEWAY = 3
    """The key is registered for another EUI, or the EUI with another key."""
    NOT_INVITED = 4
    """No code was given, and this platform takes nobody without, or somebody said no."""
    STALE = 5
    """The challenge is not one of the last minutes: ask for a new one."""
    UNKNOWN = 6
    """The key is not registered: it must enrol, not renew."""
    EXPIRED = 7
    """The certificate expired longer ago than this platform forgives."""
    BAD_REQUEST = 8
    """The certificate request cannot be granted."""


@dataclass(frozen=True, slots=True)
class Request:
    """A gateway asks for a certificate.

    Attributes:
        kind: ENROL or RENEW.
        nonce: the platform's challenge, 48 bytes.
        eui: EUI-64 of the gateway.
        key: the gateway's public key, which signs the request.
        csr: certificate request [RFC 2986], DER, for another key.
        claim: the code, canonical; empty for none. Only to enrol.
        name: what the gateway is called, for the person who approves it. Only to enrol.
        certificate: SHA-256 of the present certificate. Only to renew.
    """

    kind: Kind
    nonce: bytes
    eui: bytes
    key: PublicKey
    csr: bytes
    claim: str = ""
    name: str = ""
    certificate: bytes = b""

    def __repr__(self) -> str:
        return f"Request({self.kind.name}, eui={self.eui.hex()}, kid={self.key.kid.hex()})"


@dataclass(frozen=True, slots=True)
class Enrolled:
    """The gateway is in.

    Attributes:
        eui: of the gateway.
        chain: its certificate, and those between it and the root, DER.
        authorities: those that the gateway shall trust to certify the platform, DER; empty: as before.
        settings: JSON object: the destination as the platform wants it configured; empty on renewal.
        utc_us: platform time.
    """

    eui: bytes
    chain: tuple[bytes, ...]
    authorities: tuple[bytes, ...]
    settings: str
    utc_us: int


@dataclass(frozen=True, slots=True)
class Pending:
    """Somebody has to approve first."""

    detail: str
    utc_us: int


@dataclass(frozen=True, slots=True)
class TurnedDown:
    """The platform says no."""

    reason: Turned
    detail: str
    utc_us: int


Said = Enrolled | Pending | TurnedDown


def sign_request(request: Request, signer: Signer) -> bytes:
    """Return the signed form of a request; its key must be the signer's."""
    head: list[cbor.Item] = [int(request.kind), VERSION, request.nonce, request.eui, request.key.cose_key, request.csr]
    if request.kind is Kind.ENROL:
        rest: list[cbor.Item] = [request.claim, request.name]
    else:
        rest = [request.certificate]
    payload = cbor.encode([*head, *rest], where="enrolment request", max_bytes=MAX_REQUEST_BYTES)
    return cose.sign(payload, signer)


def open_request(data: bytes) -> Request:
    """Read a request and verify that whoever signed it has the key that it names.

    Raises:
        RefusedError: the bytes are not a request, are of a version not known here, or the signature does not verify.
        IdentityError: CG-IDN-001, the key in it is none.
    """
    where = "enrolment request"
    message = cose.read(data, where=where, max_bytes=MAX_REQUEST_BYTES)
    match _payload(message.payload, where, MAX_REQUEST_BYTES):
        case [Kind.ENROL, _, bytes(nonce), bytes(eui), bytes(cose_key), bytes(csr), str(claim), str(name)]:
            key = PublicKey.from_cose_key(cose_key)
            request = Request(Kind.ENROL, nonce, eui, key, csr, claim=claim, name=name)
        case [Kind.RENEW, _, bytes(nonce), bytes(eui), bytes(cose_key), bytes(csr), bytes(certificate)]:
            key = PublicKey.from_cose_key(cose_key)
            request = Request(Kind.RENEW, nonce, eui, key, csr, certificate=certificate)
        case _:
            raise _bad(where, "not a request of version 1")
    _check_request(request, where)
    cose.verify(message, ring(key), where=where)
    return request


def digest_of(request: bytes) -> bytes:
    """Return what an answer names a signed request by."""
    return hashlib.sha256(request).digest()


def sign_answer(said: Said, request_digest: bytes, signer: Signer) -> bytes:
    """Return the signed form of an answer; the signer is the receipt key, whose public half travels in it."""
    head: list[cbor.Item] = [0, VERSION, request_digest, signer.public.cose_key]
    match said:
        case Enrolled():
            head[0] = int(Kind.ENROLLED)
            head += [said.eui, list(said.chain), list(said.authorities), said.settings, said.utc_us]
        case Pending():
            head[0] = int(Kind.PENDING)
            head += [_cut(said.detail), said.utc_us]
        case TurnedDown():
            head[0] = int(Kind.TURNED_DOWN)
            head += [int(said.reason), _cut(said.detail), said.utc_us]
    return cose.sign(cbor.encode(head, where="enrolment answer", max_bytes=MAX_ANSWER_BYTES), signer)


def open_answer(data: bytes, request_digest: bytes, expected: Sequence[PublicKey]) -> tuple[Said, PublicKey]:
    """Read and verify an answer.

    Args:
        data: as it came.
        request_digest: of the request that it must answer.
        expected: the platform's receipt keys; none at the first contact, where the connection vouches for what it says.

    Returns:
        What it says, and the platform's receipt key.

    Raises:
        RefusedError: it is not an answer to this request, or not signed with the key.
        IdentityError: CG-IDN-001, the key in it is none.
    """
    where = "enrolment answer"
    message = cose.read(data, where=where, max_bytes=MAX_ANSWER_BYTES)
    match _payload(message.payload, where, MAX_ANSWER_BYTES):
        case [int(kind), _, bytes(answered), bytes(cose_key), *rest]:
            key = PublicKey.from_cose_key(cose_key)
        case _:
            raise _bad(where, "not an answer of version 1")
    cose.verify(message, ring(*(expected or (key,))), where=where)
    if answered != request_digest:
        raise _bad(where, "it answers another request")
    return _said(kind, rest, where), key


def _said(kind: int, rest: list[cbor.Item], where: str) -> Said:
    match kind, rest:
        case Kind.ENROLLED, [bytes(eui), list(chain), list(authorities), str(settings), int(utc_us)]:
            said: Said = Enrolled(eui, _ders(chain, where), _ders(authorities, where), settings, utc_us)
            if not chain or len(eui) != EUI_BYTES or len(settings.encode()) > MAX_SETTINGS_BYTES:
                raise _bad(where, "no certificate, or a member of a wrong length")
        case Kind.PENDING, [str(detail), int(utc_us)]:
            said = Pending(detail, utc_us)
        case Kind.TURNED_DOWN, [int(reason), str(detail), int(utc_us)]:
            try:
                said = TurnedDown(Turned(reason), detail, utc_us)
            except ValueError:
                raise _bad(where, f"reason {reason} is not known") from None
        case _:
            raise _bad(where, "other members than version 1")
    if not 0 <= said.utc_us <= MAX_UTC_US:
        raise _bad(where, "time out of range")
    return said


def _ders(items: list[cbor.Item], where: str) -> tuple[bytes, ...]:
    ders = tuple(item for item in items if isinstance(item, bytes) and len(item) <= MAX_CERTIFICATE_BYTES)
    if len(ders) != len(items) or len(ders) > MAX_CERTIFICATES:
        raise _bad(where, "certificates too many, too large, or none")
    return ders


def _check_request(request: Request, where: str) -> None:
    if len(request.nonce) != NONCE_BYTES or len(request.eui) != EUI_BYTES:
        raise _bad(where, "challenge or EUI of a wrong length")
    if len(request.csr) > MAX_CSR_BYTES or len(request.name.encode()) > MAX_TEXT_BYTES:
        raise _bad(where, "certificate request or name too long")
    if len(request.claim) > MAX_TEXT_BYTES:
        raise _bad(where, "claim code too long")
    if request.kind is Kind.RENEW and len(request.certificate) != HASH_BYTES:
        raise _bad(where, "present certificate named by a wrong length")


def _payload(payload: bytes, where: str, max_bytes: int) -> list[cbor.Item]:
    match cbor.decode(payload, where=where, max_bytes=max_bytes):
        case [int(_), int(version), *_] if version != VERSION:
            raise UnsupportedVersionError(
                f"version {version}, this program reads {VERSION}", where=where, code="CG-BAT-007"
            )
        case [*items]:
            return items
        case _:
            raise _bad(where, "payload is not an array")


def _cut(text: str) -> str:
    return text.encode()[:MAX_TEXT_BYTES].decode(errors="ignore")


def _bad(where: str, what: str) -> MalformedError:
    return MalformedError(what, where=where, code="CG-ENR-002")
