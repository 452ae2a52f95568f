# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Certificates with any dates, of a throw-away authority."""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)


@dataclass
class Issuer:
    """Issues for localhost, from and to so many days from now."""

    name: str = "tests"
    first_day: float = -3650
    last_day: float = 36500
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    def certificate(self) -> bytes:
        """The authority's own, PEM."""
        return self._build(self.name, self.key.public_key(), self.first_day, self.last_day, ca=True)

    def issue(
        self, public_key: ec.EllipticCurvePublicKey, first_day: float = -1, last_day: float = 90, name: str = "gateway"
    ) -> bytes:
        """Issue a certificate, PEM."""
        return self._build(name, public_key, first_day, last_day, ca=False)

    def write(self, folder: Path, name: str, first_day: float = -1, last_day: float = 90) -> tuple[Path, Path]:
        """Issue a certificate for a new key; return both files."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate, private = folder / f"{name}.pem", folder / f"{name}.key"
        certificate.write_bytes(self.issue(key.public_key(), first_day, last_day, name))
        private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return certificate, private

    def _build(
        self, name: str, public_key: ec.EllipticCurvePublicKey, first_day: float, last_day: float, *, ca: bool
    ) -> bytes:
        names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.name)]))
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW + first_day * DAY)
            .not_valid_after(NOW + last_day * DAY)
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
        )
        if not ca:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self.key, hashes.SHA256()).public_bytes(Encoding.PEM)
