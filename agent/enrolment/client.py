# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The gateway's side of the conversation about certificates, over HTTPS.

Whom it talks to is certain before it says anything: the platform's certificate verifies with the authorities that were
given, or has the fingerprint that was given, or verifies with the system's authorities. There is no way to do without.
"""

from __future__ import annotations

import contextlib
import hmac
import http.client
import re
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from agent.batch.keys import PublicKey, Signer
from agent.enrolment import certificate, message
from agent.enrolment.message import Enrolled, Request, Said, Turned, TurnedDown
from agent.errors import AgentError, BatchError, IdentityError
from agent.trusted_time import TrustedTime
from agent.uplink.port import Fault, LinkError
from agent.uplink.tls import DatedContext, DatedSocket, client_context, link_error

TIMEOUT_S = 15.0
"""For each operation on the connection."""
LIMIT_S = 60.0
"""For a whole request with its answer."""
TRIES = 3
"""Challenges that may turn out to be stale, because the platform was restarted in between."""
_FINGERPRINT = re.compile(r"[0-9a-f]{64}")
_SIGNED = frozenset({200, 202, 403})


class _Socket(DatedSocket):
    """A socket whose operations end at the deadline of the whole conversation, however slowly the other side drips."""

    def recv_into(self, buffer: Any, nbytes: int | None = None, flags: int = 0) -> int:
        left_s = (self.context.deadline_s if isinstance(self.context, _Context) else LIMIT_S) - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        self.settimeout(min(TIMEOUT_S, left_s))
        return super().recv_into(buffer, nbytes, flags)


class _Context(DatedContext):
    """Makes such sockets."""

    sslsocket_class = _Socket
    deadline_s = float("inf")


class NotEnrolledError(AgentError):
    """The platform does not let this gateway in, or not yet.

    Args:
        said: its answer.
        where: the platform.
    """

    def __init__(self, said: Said, where: str) -> None:
        if isinstance(said, TurnedDown):
            what = f"turned down as {said.reason.name}: {said.detail}"
            hint, code, retryable = _HINTS[said.reason], "CG-ENR-006", False
        else:
            what = f"not yet: {said.detail}" if not isinstance(said, Enrolled) else "an answer for another gateway"
            hint = "at the platform: civigate-receiver gateways approve EUI; then try again"
            code, retryable = "CG-ENR-007", True
        super().__init__(what, where=where, hint=hint, code=code, retryable=retryable)
        self.reason = said.reason if isinstance(said, TurnedDown) else None


_HINTS = {
    Turned.BAD_CLAIM: "ask the operator for a new code: civigate-receiver gateways invite",
    Turned.REVOKED: "somebody revoked this gateway on purpose: ask the operator",
    Turned.OTHER_GATEWAY: "check the EUI of this gateway, and what 'civigate-receiver gateways list' says of its key",
    Turned.NOT_INVITED: "ask the operator for a claim code, and give it with --claim-file",
    Turned.STALE: "try again",
    Turned.UNKNOWN: "enrol again with a new code: civigate enrol",
    Turned.EXPIRED: "enrol again with a new code: civigate enrol",
    Turned.BAD_REQUEST: "try again; if it stays, the versions of gateway and platform do not fit",
}


@dataclass(frozen=True, slots=True)
class Trust:
    """What the platform's certificate is judged by.

    Attributes:
        authorities: file with the only authorities trusted; None for those of the system.
        fingerprint: SHA-256 of the one certificate trusted, 64 hex digits; None to verify by authorities.
    """

    authorities: Path | None = None
    fingerprint: str | None = None


@dataclass(frozen=True, slots=True)
class Granted:
    """What an enrolment or a renewal brought.

    Attributes:
        enrolled: the platform's answer.
        receipt_key: the platform's.
    """

    enrolled: Enrolled
    receipt_key: PublicKey

    @property
    def chain_pem(self) -> bytes:
        """The certificate and those behind it."""
        return certificate.chain_to_pem(self.enrolled.chain, "certificate")

    @property
    def authorities_pem(self) -> bytes:
        """The authorities of the platform; empty for none."""
        return certificate.chain_to_pem(self.enrolled.authorities, "authorities of the platform")


def parse_fingerprint(text: str) -> str:
    """Read a SHA-256 as people write it, with or without colons.

    Raises:
        ValueError: it is none.
    """
    digits = text.strip().lower().replace(":", "").removeprefix("sha256")
    if not _FINGERPRINT.fullmatch(digits):
        raise ValueError("not 64 hex digits")
    return digits


class Platform:
    """Where gateways enrol.

    Args:
        url: https://HOST[:PORT], without a path.
        trust: what its certificate is judged by.
        time: what is known of the time; what the platform signs is added to it.

    Raises:
        LinkError: the URL cannot be used.
    """

    def __init__(self, url: str, trust: Trust, time: TrustedTime) -> None:
        split = urlsplit(url)
        host = split.hostname
        problem = split.scheme != "https" or not host or split.username is not None or split.query or split.fragment
        try:
            self._port = split.port or 443
        except ValueError:
            problem = True
        if problem or host is None:
            hint = "expected https://HOST[:PORT], as 'civigate-receiver gateways invite' prints it"
            raise LinkError(Fault.ADDRESS, f"cannot be used: {url[:100]!r}", where="enrolment URL", hint=hint)
        self._host = host
        self._path = split.path.rstrip("/")
        self._trust = trust
        self._time = time
        self.where = f"{self._host}:{self._port}"

    def ask(self, make: Callable[[bytes], Request], signer: Signer, expected: Sequence[PublicKey]) -> Granted:
        """Ask for a certificate.

        Args:
            make: makes the request of a challenge.
            signer: the gateway's key.
            expected: the platform's receipt keys; none at the first contact, where the connection vouches for it.

        Raises:
            NotEnrolledError: the platform says no, or not yet.
            LinkError: it cannot be reached, or does not answer as agreed.
            IdentityError: the certificate that came is not for this gateway.
        """
        for attempt in range(1, TRIES + 1):
            with self._connected() as connection:
                nonce = self._post(connection, message.CHALLENGE_PATH, b"", frozenset({200}), message.NONCE_BYTES)
                if len(nonce) != message.NONCE_BYTES:
                    raise self._odd("its challenge has a wrong length")
                data = message.sign_request(make(nonce), signer)
                answer = self._post(connection, message.ENROLMENT_PATH, data, _SIGNED, message.MAX_ANSWER_BYTES)
            try:
                said, key = message.open_answer(answer, message.digest_of(data), expected)
            except (BatchError, IdentityError) as error:
                what = f"the answer does not verify: {error}"
                hint = "if the platform has a new receipt key, add it to next_receipt_keys of the destination"
                raise LinkError(Fault.FORGED, what, where=self.where, hint=hint) from error
            self._time.signed(said.utc_us)
            stale = isinstance(said, TurnedDown) and said.reason is Turned.STALE
            if not stale or attempt == TRIES:
                break
        if not isinstance(said, Enrolled) or said.eui != make(nonce).eui:
            raise NotEnrolledError(said, self.where)
        return Granted(said, key)

    @contextlib.contextmanager
    def _connected(self) -> Iterator[http.client.HTTPSConnection]:
        """Connect, and make sure who it is."""
        pinned = self._trust.fingerprint
        context = client_context(_Context, self._trust.authorities, None, None, self._time)
        context.deadline_s = time.monotonic() + LIMIT_S
        if pinned is not None:
            # the fingerprint says more than any authority could; it is compared before anything is sent
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            context.time = None
        connection = http.client.HTTPSConnection(self._host, self._port, timeout=TIMEOUT_S, context=context)
        try:
            try:
                connection.connect()
            except OSError as error:
                raise link_error(error, self.where) from error
            if pinned is not None:
                self._compare(connection.sock, pinned)
            yield connection
        finally:
            connection.close()

    def _compare(self, sock: ssl.SSLSocket, pinned: str) -> None:
        found = certificate.fingerprint(sock.getpeercert(binary_form=True) or b"").hex()
        if not hmac.compare_digest(found, pinned):
            what = f"its certificate has the fingerprint {found}, not the one that was given"
            hint = "compare with what 'civigate-receiver gateways invite' prints; somebody may be in between"
            raise LinkError(Fault.CERTIFICATE, what, where=self.where, hint=hint)

    def _post(
        self, connection: http.client.HTTPSConnection, path: str, body: bytes, statuses: frozenset[int], most: int
    ) -> bytes:
        """Send one request and return the body of its answer."""
        try:
            connection.request("POST", self._path + path, body, {"Content-Type": message.CONTENT_TYPE})
            response = connection.getresponse()
            data = response.read(most + 1)
        except (OSError, http.client.HTTPException) as error:
            raise self._named(error) from error
        if response.status in statuses and len(data) <= most:
            signed = response.headers.get_content_type() == message.CONTENT_TYPE
            if signed or path == message.CHALLENGE_PATH:
                return data
        raise self._unexpected(response)

    def _named(self, error: Exception) -> LinkError:
        if isinstance(error, http.client.HTTPException):
            return self._odd(f"it does not answer as HTTP does: {type(error).__name__}")
        return link_error(error, self.where)

    def _unexpected(self, response: http.client.HTTPResponse) -> LinkError:
        wait = response.headers.get("retry-after", "")[:6]
        wait_s = float(wait) if wait.isascii() and wait.isdigit() else 0.0
        hint = "check the URL: it is that of [enrolment], on a port of its own"
        if response.status in {429, 503}:
            hint = "the platform is busy, or was asked too often: try again later"
        what = f"HTTP status {response.status} with {response.headers.get_content_type()[:40]}"
        return LinkError(Fault.STATUS, what, where=self.where, hint=hint, wait_s=wait_s)

    def _odd(self, what: str) -> LinkError:
        hint = "check the URL, and what answers under it"
        return LinkError(Fault.PORTAL, what, where=self.where, hint=hint)
