# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Certificates of gateways: requests for them, and what is read from them. Shared with the receiver."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import cast

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from agent.errors import IdentityError

MAX_PEM_BYTES = 65536
MAX_CHAIN = 8
_SECOND_US = 1_000_000


@dataclass(frozen=True, slots=True)
class Validity:
    """When a certificate is valid, UTC, microseconds since 1970-01-01."""

    not_before_us: int
    not_after_us: int

    def __str__(self) -> str:
        return f"{day(self.not_before_us)} to {day(self.not_after_us)}"


def day(utc_us: int) -> str:
    """Write a moment as people read it."""
    return datetime.fromtimestamp(utc_us / _SECOND_US, UTC).strftime("%Y-%m-%d %H:%M UTC")


def validity(certificate: x509.Certificate) -> Validity:
    """Return when a certificate is valid."""
    moments = (_utc(certificate, "not_valid_before"), _utc(certificate, "not_valid_after"))
    return Validity(*(round(moment.timestamp()) * _SECOND_US for moment in moments))


def fingerprint(der: bytes) -> bytes:
    """Return what a certificate is named by: SHA-256 of its DER, 32 bytes."""
    return hashlib.sha256(der).digest()


def public_key_digest(holder: x509.Certificate | x509.CertificateSigningRequest | ec.EllipticCurvePrivateKey) -> bytes:
    """Return the SHA-256 of the public key (SubjectPublicKeyInfo), 32 bytes: keys are compared by it."""
    spki = holder.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(spki).digest()


def request(eui: bytes, key: ec.EllipticCurvePrivateKey) -> bytes:
    """Write a certificate request for a gateway [RFC 2986], DER: its EUI as common name, nothing else."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, eui.hex())])
    return (
        x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256()).public_bytes(Encoding.DER)
    )


def chain_from_pem(data: bytes, where: str) -> list[x509.Certificate]:
    """Read one certificate or several, in their order.

    Raises:
        IdentityError: CG-ENR-003, there is none, too many, or they cannot be read.
    """
    blocks = data.split(b"-----END CERTIFICATE-----")[:-1] if len(data) <= MAX_PEM_BYTES else []
    if not 0 < len(blocks) <= MAX_CHAIN:
        what = f"{len(blocks)} certificates in it" if blocks else "no certificate in it"
        raise _unfit(what, where)
    try:
        return [x509.load_pem_x509_certificate(block + b"-----END CERTIFICATE-----\n") for block in blocks]
    except ValueError as error:
        raise _unfit("a certificate that cannot be read", where) from error


def chain_to_pem(ders: list[bytes] | tuple[bytes, ...], where: str) -> bytes:
    """Write certificates one after the other, after a look whether they are any.

    Raises:
        IdentityError: CG-ENR-003.
    """
    try:
        return b"".join(x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM) for der in ders)
    except ValueError as error:
        raise _unfit("a certificate that cannot be read", where) from error


def _utc(certificate: x509.Certificate, name: str) -> datetime:
    aware = getattr(certificate, f"{name}_utc", None)
    # before version 42, the library says it without a time zone
    return cast(datetime, getattr(certificate, name)).replace(tzinfo=UTC) if aware is None else cast(datetime, aware)


def _unfit(what: str, where: str) -> IdentityError:
    hint = f"1 to {MAX_CHAIN} certificates in PEM are expected, the gateway's own first"
    return IdentityError(what, where=where, hint=hint, code="CG-ENR-003")
