# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""TLS on both sides of the receiver, with one line for every file that cannot be used."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path

from receiver.errors import ServiceError


def server_context(certificate: Path, key: Path, client_ca: Path | None) -> ssl.SSLContext:
    """Make the TLS side of the gateways' port: TLS 1.2 at least, client certificates where authorities are given.

    Raises:
        ServiceError: CG-SRV-002, a file cannot be read or used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # One ticket, so that a gateway resumes at its next connection; a second one would only cost bytes.
    context.num_tickets = 1
    _use(lambda: context.load_cert_chain(certificate, key, password=_no_password), certificate, key)
    if client_ca is not None:
        _use(lambda: context.load_verify_locations(client_ca), client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_context(ca_file: Path | None, cert_file: Path | None, key_file: Path | None) -> ssl.SSLContext:
    """Make the TLS side towards a broker: TLS 1.2 at least, always verifying.

    Raises:
        ServiceError: CG-SRV-002, a file cannot be read or used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if ca_file is None:
        context.load_default_certs()
    else:
        _use(lambda: context.load_verify_locations(ca_file), ca_file)
    if cert_file is not None:
        _use(lambda: context.load_cert_chain(cert_file, key_file, password=_no_password), cert_file, key_file)
    return context


def _no_password() -> str:
    """Stand in for the question on the terminal that OpenSSL would ask for an encrypted key."""
    return ""


def _use(load: Callable[[], None], *files: Path | None) -> None:
    given = [file for file in files if file is not None]
    for file in given:
        try:
            file.open("rb").close()
        except OSError as error:
            hint = "correct the path in the configuration, or the file's permissions"
            what = f"cannot be read: {error.strerror}"
            raise ServiceError(what, where=str(file), hint=hint, code="CG-SRV-002") from error
    try:
        load()
    except (ssl.SSLError, OSError) as error:
        reason = (getattr(error, "reason", None) or str(error)).lower().replace("_", " ")
        hint = "PEM is expected, a private key without password, and a certificate and key that belong together"
        where = " with ".join(map(str, given))
        raise ServiceError(f"cannot be used: {reason}", where=where, hint=hint, code="CG-SRV-002") from error
