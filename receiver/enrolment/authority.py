# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""A small certificate authority of the operator's own: it certifies gateways towards this platform, and nothing else.

Its certificate says so itself: it is good for TLS clients only (extended key usage), and only for names under a domain
that cannot exist (name constraints), so that nobody who trusts it, even by mistake, can be deceived about a server.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
from collections.abc import Iterable
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from agent.batch import keyfile
from agent.batch.keys import Algorithm, PublicKey
from agent.enrolment.certificate import public_key_digest, validity
from receiver.errors import CertificateError

CERTIFICATE_FILE = "ca.pem"
KEY_FILE = "ca.key"
CRL_FILE = "crl.pem"
DOMAIN = "gateway.civigate.invalid"
"""Gateways are named EUI.DOMAIN; the top-level domain is reserved for names that do not exist [RFC 2606 §2]."""
LIFETIME = datetime.timedelta(days=3653)
CRL_LIFETIME = datetime.timedelta(days=30)
BACKDATED = datetime.timedelta(hours=1)
"""Clocks of brokers and receivers may differ by so much."""
_PASSAGE = 0o711


class Authority:
    """The authority in a folder.

    Args:
        folder: where its certificate and key are.

    Raises:
        CertificateError: CG-CA-001, there is none or it cannot be used.
        IdentityError: the key's file is missing, or others may read it.
    """

    def __init__(self, folder: Path) -> None:
        path = folder / CERTIFICATE_FILE
        try:
            self.certificate = x509.load_pem_x509_certificate(path.read_bytes())
        except (OSError, ValueError) as error:
            missing = isinstance(error, FileNotFoundError)
            what = "there is no authority yet" if missing else f"cannot be used: {error}"
            hint = "run 'civigate-receiver ca create'" if missing else "restore it from where it was kept"
            raise CertificateError(what, where=str(path), hint=hint, code="CG-CA-001") from error
        self._key = _private_key(folder / KEY_FILE)
        self._folder = folder
        if public_key_digest(self._key) != public_key_digest(self.certificate):
            hint = f"restore the pair {CERTIFICATE_FILE} and {KEY_FILE} from where it was kept"
            raise CertificateError("certificate and key are no pair", where=str(folder), hint=hint, code="CG-CA-001")

    def issue(self, csr_der: bytes, eui: bytes, signing_key: PublicKey, days: float) -> x509.Certificate:
        """Grant a certificate request. Only the key is taken from it: who it is for is known better here.

        Args:
            csr_der: PKCS#10, signed with its own key, which must be a P-256 one.
            eui: of the gateway.
            signing_key: with which it signs batches; the certificate must be for another one.
            days: validity.

        Raises:
            CertificateError: CG-CA-002, the request cannot be granted.
        """
        csr = read_request(csr_der, signing_key)
        now = datetime.datetime.now(datetime.UTC)
        ends = min(now + datetime.timedelta(days=days), _when(validity(self.certificate).not_after_us))
        public = csr.public_key()
        assert isinstance(public, ec.EllipticCurvePublicKey)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, eui.hex())])
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self.certificate.subject)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - BACKDATED)
            .not_valid_after(ends)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(digital_signature=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(f"{eui.hex()}.{DOMAIN}")]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )

    def write_crl(self, revoked: Iterable[tuple[int, int]]) -> Path:
        """Write the list of revoked certificates beside the authority's own, in one step.

        Args:
            revoked: serial number and UTC microseconds of each.

        Raises:
            CertificateError: CG-CA-003, it cannot be written.
        """
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.certificate.subject)
            .last_update(now - BACKDATED)
            .next_update(now + CRL_LIFETIME)
            .add_extension(x509.CRLNumber(int(now.timestamp() * 1000)), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        for serial, at_us in revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(_when(at_us)).build()
            builder = builder.add_revoked_certificate(entry)
        path = self._folder / CRL_FILE
        _write(path, builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM))
        return path


def create(folder: Path, name: str) -> Authority:
    """Make an authority; one that is there is never replaced, one that was begun is finished.

    Args:
        folder: for its files, mode 0711: a broker that knows their names reads certificate and list of revoked ones.
        name: of the operator, as certificates show it.

    Raises:
        CertificateError: CG-CA-003, it cannot be written; CG-CA-004, there is one.
        IdentityError: the key's file cannot be used.
    """
    path = folder / CERTIFICATE_FILE
    try:
        if not folder.exists():
            folder.mkdir(parents=True)
            folder.chmod(_PASSAGE)
    except OSError as error:
        raise _unwritable(folder, error) from error
    if path.exists():
        hint = "'civigate-receiver ca show' shows it; gateways trust nothing that another one would issue"
        raise CertificateError("there is an authority already", where=str(path), hint=hint, code="CG-CA-004")
    keyfile.load_or_create(folder / KEY_FILE, Algorithm.ES256)
    key = _private_key(folder / KEY_FILE)
    now = datetime.datetime.now(datetime.UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{name} gateways")])
    every = [ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0")]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(key_cert_sign=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .add_extension(
            x509.NameConstraints([x509.DNSName(DOMAIN)], [x509.IPAddress(network) for network in every]), critical=True
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    _write(path, certificate.public_bytes(Encoding.PEM))
    return Authority(folder)


def read_request(csr_der: bytes, signing_key: PublicKey) -> x509.CertificateSigningRequest:
    """Read a certificate request and verify that who made it has its key.

    Raises:
        CertificateError: CG-CA-002, it cannot be granted.
    """
    try:
        csr = x509.load_der_x509_csr(csr_der)
        key, proven = csr.public_key(), csr.is_signature_valid
    except (ValueError, UnsupportedAlgorithm, InvalidSignature) as error:
        raise _not_granted("cannot be read") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise _not_granted("is not for a P-256 key")
    if not proven:
        raise _not_granted("is not signed with its own key")
    if PublicKey.from_cryptography(key) == signing_key:
        raise _not_granted("is for the key that signs batches; TLS needs one of its own")
    return csr


def _usage(*, digital_signature: bool = False, key_cert_sign: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=key_cert_sign,
        encipher_only=False,
        decipher_only=False,
    )


def _private_key(path: Path) -> ec.EllipticCurvePrivateKey:
    keyfile.load(path)  # for its checks: mode, size, kind
    private = load_pem_private_key(path.read_bytes(), password=None)
    if not isinstance(private, ec.EllipticCurvePrivateKey):
        hint = "restore the key of the authority from where it was kept"
        raise CertificateError("is not a P-256 key", where=str(path), hint=hint, code="CG-CA-001")
    return private


def _write(path: Path, data: bytes) -> None:
    # of this process alone: a command and the receiver may write the list at the same moment
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with draft.open("wb") as file:
            # whatever the service's umask: what is written here is public
            os.fchmod(file.fileno(), 0o644)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.rename(path)
    except OSError as error:
        raise _unwritable(path, error) from error


def _when(utc_us: int) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(utc_us // 1_000_000, datetime.UTC)


def _not_granted(what: str) -> CertificateError:
    hint = "make it with 'civigate enrol' or 'civigate identity csr'"
    return CertificateError(what, where="certificate request", hint=hint, code="CG-CA-002")


def _unwritable(path: Path, error: OSError) -> CertificateError:
    hint = "check owner, permissions and room of the folder, or change [enrolment] ca_dir"
    return CertificateError(f"cannot be written: {error.strerror}", where=str(path), hint=hint, code="CG-CA-003")
