# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What certificate does somebody show? To tell a login page from the platform."""

from __future__ import annotations

import socket
import ssl
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address


@dataclass(frozen=True, slots=True)
class Shown:
    """A certificate that was shown and not verified.

    Attributes:
        subject: whom it names.
        issuer: who issued it.
        fits: whether it names the host that was asked.
    """

    subject: str
    issuer: str
    fits: bool


def shown_by(name: str, port: int, limit_s: float) -> Shown | None:
    """Look at the certificate that somebody shows; only to tell a login page from the platform. None when not seen."""
    from cryptography import x509

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with (
            socket.create_connection((name, port), limit_s) as plain,
            context.wrap_socket(plain, server_hostname=name) as wrapped,
        ):
            der = wrapped.getpeercert(binary_form=True)
        if der is None:
            return None
        certificate = x509.load_der_x509_certificate(der)
        names = _names(certificate)
        subject = ", ".join(names[:3]) or certificate.subject.rfc4514_string()
        return Shown(subject[:120], certificate.issuer.rfc4514_string()[:120], any(fits(name, n) for n in names))
    except (OSError, ValueError):
        return None


def _names(certificate: object) -> list[str]:
    from cryptography import x509

    assert isinstance(certificate, x509.Certificate)
    with suppress(x509.ExtensionNotFound, ValueError):
        found_names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names = list(found_names.get_values_for_type(x509.DNSName))
        return names + [str(address) for address in found_names.get_values_for_type(x509.IPAddress)]
    # No program takes this name any more, but whoever wrote it meant it.
    return [str(name.value) for name in certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)]


def fits(host_name: str, pattern: str) -> bool:
    """Say whether a name in a certificate is that of a host."""
    with suppress(ValueError):
        return ip_address(host_name) == ip_address(pattern)
    with suppress(UnicodeError):
        host_name = host_name.encode("idna").decode("ascii")
    host_name, pattern = host_name.lower().rstrip("."), pattern.lower()
    return pattern == host_name or (pattern.startswith("*.") and host_name.partition(".")[2] == pattern[2:])
