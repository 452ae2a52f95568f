# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""TLS towards the platform, and a name for everything that can be wrong with it."""

from __future__ import annotations

import _ssl
import errno
import socket
import ssl
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from cryptography import x509

from agent.enrolment.certificate import day, validity
from agent.uplink.port import Fault, LinkError

if TYPE_CHECKING:
    from pathlib import Path

    from agent.trusted_time import Bounds

# [OpenSSL x509_vfy.h] X509_V_ERR_*
_NOT_YET_VALID = 9
_EXPIRED = 10
_UNKNOWN_ISSUER = frozenset({2, 18, 19, 20, 21})
_WRONG_NAME = frozenset({62, 64})

# [OpenSSL x509_vfy.h] X509_V_FLAG_NO_CHECK_TIME
_NO_CHECK_TIME = ssl.VerifyFlags(0x200000)

Context = TypeVar("Context", bound="DatedContext")


class Time(Protocol):
    """What is asked of `agent.trusted_time.TrustedTime`."""

    def bounds(self) -> Bounds:
        """Return what is certain now."""
        ...

    def certified(self, until_us: int) -> None:
        """Take note of the end of a certificate that verifies."""
        ...


class DateError(ssl.SSLCertVerificationError):
    """A certificate of the platform that is out of date by the trusted time.

    Args:
        code: of OpenSSL for the same.
        message: one clause.
    """

    def __init__(self, code: int, message: str) -> None:
        super().__init__(1, message)
        self.verify_code = code
        self.verify_message = message


class DatedSocket(ssl.SSLSocket):
    """A TLS socket that judges the dates of the other side's certificates by the trusted time, where there is one."""

    def do_handshake(self, block: bool = False) -> None:
        """Shake hands; DateError if the other side's certificates are out of date."""
        super().do_handshake(block)
        time = self.context.time if isinstance(self.context, DatedContext) else None
        if time is not None:
            until_us = _judge(_chain(self), time.bounds())
            time.certified(until_us)


class DatedContext(ssl.SSLContext):
    """Makes such sockets."""

    sslsocket_class = DatedSocket
    time: Time | None = None


def client_context(
    kind: type[Context],
    ca_file: Path | None,
    cert_file: Path | None,
    key_file: Path | None,
    time: Time | None = None,
) -> Context:
    """Make the TLS context of a destination: TLS 1.2 or later, always verifying, with our certificate if there is one.

    Args:
        kind: class of the context.
        ca_file: PEM, the only authorities trusted; None trusts those of the system.
        cert_file: PEM, our certificate (chain); None for none.
        key_file: PEM, its key; None when it is in `cert_file`.
        time: what is certain about it, to judge certificates by; None judges them by this host's clock.

    Raises:
        LinkError: a file cannot be read or used.
    """
    context = kind(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if time is not None:
        # OpenSSL verifies everything but the dates, which it could judge by the host's clock only
        context.verify_flags |= _NO_CHECK_TIME
        context.time = time
    if ca_file is None:
        context.load_default_certs()
    else:
        try:
            context.load_verify_locations(ca_file)
        except ssl.SSLError as error:
            raise _unusable(ca_file, "no certificate in it", "ca_file must be PEM, from BEGIN CERTIFICATE") from error
        except OSError as error:
            raise _unusable(ca_file, _reason(error), "check ca_file and its permissions") from error
    if cert_file is not None:
        try:
            context.load_cert_chain(cert_file, key_file)
        except ssl.SSLError as error:
            mismatch = error.reason == "KEY_VALUES_MISMATCH"
            what = "certificate and key do not belong together" if mismatch else "not a certificate with its key"
            raise _unusable(cert_file, what, "cert_file and key_file must be PEM and a pair") from error
        except OSError as error:
            hint = "check cert_file and key_file and their permissions"
            raise _unusable(error.filename or cert_file, _reason(error), hint) from error
    return context


def link_error(error: BaseException, where: str) -> LinkError:
    """Name what an operation on a socket failed with.

    Args:
        error: what the socket, TLS or DNS raised.
        where: host and port.
    """
    if isinstance(error, LinkError):
        return error
    if isinstance(error, ssl.SSLCertVerificationError):
        return _unverified(error, where)
    if isinstance(error, (TimeoutError, ssl.SSLWantReadError, ssl.SSLWantWriteError)):
        return silent(where)
    if isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
        return unwelcome(where)
    if isinstance(error, ssl.SSLError):
        return _tls(error, where)
    if isinstance(error, socket.gaierror):
        return _unresolved(error, where)
    if isinstance(error, ConnectionRefusedError):
        hint = "nothing listens there: check the port in the url, and whether the platform runs"
        return LinkError(Fault.ROUTE, "connection refused", where=where, hint=hint)
    if isinstance(error, OSError) and error.errno in {
        errno.ENETUNREACH,
        errno.EHOSTUNREACH,
        errno.ENETDOWN,
        errno.EHOSTDOWN,
        errno.EADDRNOTAVAIL,
        errno.EACCES,
        errno.EPERM,
    }:
        hint = "check the cable or modem, and the firewall (ip route, nft list ruleset)"
        return LinkError(Fault.ROUTE, _reason(error), where=where, hint=hint)
    return lost(where, _reason(error) if isinstance(error, OSError) else str(error) or type(error).__name__)


def _unresolved(error: socket.gaierror, where: str) -> LinkError:
    what = "the name does not resolve"
    hint = "check the host in the destination's url, and the DNS server of this network"
    if error.errno in {socket.EAI_AGAIN, socket.EAI_FAIL}:
        what += ": no name server answers, or it fails"
        hint = "the link is dead, or its DNS server is: check both (resolvectl status); it is tried again"
    elif error.errno == socket.EAI_NONAME:
        what += ": there is no such name in this network"
        hint = "check the host in the destination's url, and the DNS of this network: a captive portal may hide names"
    return LinkError(Fault.NAME, what, where=where, hint=hint)


def lost(where: str, what: str) -> LinkError:
    """Make the error of an established connection that broke."""
    return LinkError(Fault.LOST, what, where=where, hint="it is tried again; if it stays, look at the platform's log")


def unwelcome(where: str) -> LinkError:
    """Make the error of a TLS connection that ended before anything was said on it.

    With TLS 1.3 a server tells what it thinks of our certificate after the handshake, and a reset may overtake it.
    """
    what = "the other side closed the new connection without a word"
    hint = "it is tried again; if it stays, it is full, or does not take our certificate: check cert_file, and its log"
    return LinkError(Fault.LOST, what, where=where, hint=hint)


def mute(where: str) -> LinkError:
    """Make the error of a connection that was taken, on which then nothing was said in time.

    Mobile networks and their proxies take connections for a platform that they do not reach.
    """
    hint = "something on the way takes connections that lead nowhere (modem, proxy), or the platform hangs: try both"
    return LinkError(Fault.SILENT, "it takes the connection, then says nothing", where=where, hint=hint)


def silent(where: str, what: str = "no answer in time") -> LinkError:
    """Make the error of a time-out."""
    hint = "it is tried again; if it stays, check the route to the host and a firewall that drops silently"
    return LinkError(Fault.SILENT, what, where=where, hint=hint)


def _chain(sock: ssl.SSLSocket) -> list[bytes]:
    """Return the certificates that were verified, DER; of a resumed session only the other side's own.

    Python 3.13 has a method for it; before, its TLS object has one that is not documented.
    """
    inner = sock if hasattr(sock, "get_verified_chain") else getattr(sock, "_sslobj", None)
    get = getattr(inner, "get_verified_chain", None)
    found: list[Any] | None = None if get is None else get()
    if not found:
        own = sock.getpeercert(binary_form=True)
        return [] if own is None else [own]
    return [item if isinstance(item, bytes) else bytes(item.public_bytes(_ssl.ENCODING_DER)) for item in found]


def _judge(chain: list[bytes], bounds: Bounds) -> int:
    """Return how long all certificates of a chain are valid; DateError if one is certainly out of date."""
    every = [validity(x509.load_der_x509_certificate(der)) for der in chain]
    for dates in every:
        if bounds.expired(dates):
            what = f"its certificate expired on {day(dates.not_after_us)}, it is {day(bounds.earliest_us)} at least"
            raise DateError(_EXPIRED, what)
        if bounds.not_yet_valid(dates):
            now = "unknown" if bounds.latest_us is None else day(bounds.latest_us)
            what = f"its certificate is not valid before {day(dates.not_before_us)}, it is {now}"
            raise DateError(_NOT_YET_VALID, what)
    return min((dates.not_after_us for dates in every), default=0)


def _unverified(error: ssl.SSLCertVerificationError, where: str) -> LinkError:
    code = error.verify_code
    if isinstance(error, DateError):
        what = error.verify_message
        hint = "if that time is wrong, set the clock (timedatectl); else the platform must renew its certificate"
    elif code in {_NOT_YET_VALID, _EXPIRED}:
        # A host without a clock of its own starts in the past: most often it is the clock, not the certificate.
        state = "not yet valid" if code == _NOT_YET_VALID else "expired"
        what = f"its certificate is {state} at this host's time, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
        hint = "if that time is wrong, set the clock (timedatectl); else the platform must renew its certificate"
    elif code in _UNKNOWN_ISSUER:
        what = "its certificate comes from an authority that is not trusted here"
        hint = "set ca_file to the platform's authority; a captive portal or TLS proxy looks like this too"
    elif code in _WRONG_NAME:
        what = "its certificate is for another name"
        hint = "write the host in the url as in the certificate"
    else:
        what = f"its certificate does not verify: {error.verify_message}"
        hint = "check ca_file, and the platform's certificate"
    return LinkError(Fault.CERTIFICATE, what, where=where, hint=hint)


def _tls(error: ssl.SSLError, where: str) -> LinkError:
    reason = error.reason or str(error)
    if "CERTIFICATE" in reason or reason in {"SSLV3_ALERT_BAD_CERTIFICATE", "TLSV1_ALERT_UNKNOWN_CA"}:
        what = f"the platform does not take our certificate ({reason.lower()})"
        if "EXPIRED" in reason:
            what = "the platform does not take our certificate: by its clock it has expired"
        hint = "set cert_file and key_file to the certificate that the platform issued for this gateway"
    elif reason in {"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE"}:
        what = "it does not speak TLS"
        hint = "a captive portal answers (log in to this network), or the port in the destination's url is wrong"
    else:
        what = f"TLS failed ({reason.lower()})"
        hint = "compare the TLS versions of both sides; TLS 1.2 is the oldest that is used"
    return LinkError(Fault.TLS, what, where=where, hint=hint)


def _unusable(path: object, what: str, hint: str) -> LinkError:
    return LinkError(Fault.FILES, what, where=str(path), hint=hint)


def _reason(error: OSError) -> str:
    return (error.strerror or str(error) or type(error).__name__).lower()
