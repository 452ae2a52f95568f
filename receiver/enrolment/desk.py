# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Decides who is let in and gets a certificate; bytes in, signed answer out.

Whatever is interrupted can be asked again: a code that was used up by a gateway stays good for that gateway, and a
certificate that was issued is kept before it is given away. So a lost answer, or a receiver that was killed anywhere in
between, costs a repetition and never the code.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from cryptography.hazmat.primitives.serialization import Encoding

from agent.batch.keys import Signer
from agent.enrolment import claim, message
from agent.enrolment.certificate import day, fingerprint, public_key_digest, validity
from agent.enrolment.message import Enrolled, Kind, Pending, Request, Said, Turned, TurnedDown
from agent.errors import BatchError, IdentityError
from receiver.enrolment.authority import Authority, read_request
from receiver.enrolment.challenge import Challenges
from receiver.enrolment.store import Admission, Applicant, EnrolmentStore, Issued
from receiver.errors import CertificateError, ReceiverError, RegistryError
from receiver.ledger.port import Ledger, RegisteredKey
from receiver.rate import Buckets

REQUESTS_PER_HOUR = 120
"""Requests of one key; a gateway needs one in two months, one that waits for approval asks every half minute."""
TRIES_PER_CODE_PER_HOUR = 20
"""Tries with one code, by whomever."""
FRESH_PART = 2 / 3
"""A certificate with so much of its time left is given again to who asks again with the same key."""
_DAY_US = 86_400_000_000
_HOUR_S = 3600
_WHO = "event=enrolment kind=%s gateway=%s kid=%s sender=%s"

_log = logging.getLogger(__name__)


class TooOftenError(ReceiverError):
    """Somebody asks more often than he may.

    Attributes:
        wait_s: seconds until he may again.
    """

    def __init__(self, where: str, wait_s: float) -> None:
        super().__init__(
            "asks too often", where=where, hint="it tries again later by itself", code="CG-ENR-010", retryable=True
        )
        self.wait_s = wait_s


@dataclass(frozen=True, slots=True)
class Policy:
    """What the operator decided.

    Attributes:
        certificate_days: validity of a certificate.
        grace_days: how long after its end a certificate may still be renewed.
        ask: whether gateways without a code wait for a person, instead of being turned away.
        authorities: that gateways shall trust to certify the platform, DER.
        settings: JSON object with the destination for gateways to configure.
    """

    certificate_days: float
    grace_days: float
    ask: bool
    authorities: tuple[bytes, ...]
    settings: str


class Desk:
    """Answers requests. Safe to use from several threads.

    Args:
        store: what enrolment remembers.
        ledger: where gateways' keys are registered.
        authority: issues certificates.
        signer: the receipt key.
        policy: of the operator.
        utc_us: the platform's clock.
    """

    def __init__(
        self,
        store: EnrolmentStore,
        ledger: Ledger,
        authority: Authority,
        signer: Signer,
        *,
        policy: Policy,
        utc_us: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._authority = authority
        self._signer = signer
        self._policy = policy
        self._utc_us = utc_us
        self._keys = Buckets[bytes](REQUESTS_PER_HOUR / _HOUR_S, REQUESTS_PER_HOUR)
        self._codes = Buckets[bytes](TRIES_PER_CODE_PER_HOUR / _HOUR_S, TRIES_PER_CODE_PER_HOUR)
        self._challenges = Challenges()

    def challenge(self) -> bytes:
        """Return a challenge for one request."""
        return self._challenges.make()

    def expects(self, data: bytes) -> bool:
        """Tell whether there is a reason to listen to a request: a code that is open, or a key that is known here.

        Raises:
            LedgerError: it cannot be told for now.
        """
        try:
            request = message.open_request(data)
            if self._ledger.key(request.key.kid) is not None or self._store.applicant(request.key.kid) is not None:
                return True
            digest = claim.digest(claim.parse(request.claim)) if request.claim else b""
        except (BatchError, IdentityError):
            return False
        return self._store.is_open(digest, self._utc_us())

    def answer(self, data: bytes, sender: str) -> tuple[bytes, Said]:
        """Decide about a request.

        Args:
            data: as received, any bytes.
            sender: address, for the operator.

        Returns:
            The signed answer, and what it says.

        Raises:
            RefusedError: the bytes are not a request.
            IdentityError: the key in it is none.
            TooOftenError: nothing was decided; it may come again after a while.
            LedgerError: nothing was decided for now.
        """
        request = message.open_request(data)
        # only now it is known that who asks has the key: before, he could use up another one's share
        if wait_s := self._keys.take(request.key.kid):
            raise TooOftenError(f"key {request.key.kid.hex()}", wait_s)
        try:
            said = self._decide(request, sender)
        except _TurnedDownError as error:
            said = TurnedDown(error.reason, error.detail, self._utc_us())
        who = request.kind.name.lower(), request.eui.hex(), request.key.kid.hex(), sender
        match said:
            case Enrolled():
                _log.info(f"{_WHO} outcome=granted certificate=%s", *who, fingerprint(said.chain[0]).hex())
            case Pending():
                _log.info(f"{_WHO} outcome=pending", *who)
            case TurnedDown(reason, detail, _):
                _log.warning(f"{_WHO} outcome=%s detail=%r", *who, reason.name.lower(), detail)
        return message.sign_answer(said, message.digest_of(data), self._signer), said

    def _decide(self, request: Request, sender: str) -> Said:
        if not self._challenges.redeem(request.nonce):
            raise _TurnedDownError(Turned.STALE, "the challenge is not known, too old, or was used")
        key = self._ledger.key(request.key.kid)
        if key is not None and key.revoked_us is not None:
            raise _TurnedDownError(Turned.REVOKED, "the gateway's key was revoked")
        if key is not None and key.eui != request.eui:
            raise _TurnedDownError(Turned.OTHER_GATEWAY, f"the key is registered for gateway {key.eui.hex()}")
        try:
            # before a code is used up for a request that cannot be granted
            csr = read_request(request.csr, request.key)
        except CertificateError as error:
            raise _TurnedDownError(Turned.BAD_REQUEST, f"{error.where} {error.what}") from error
        if request.kind is Kind.RENEW:
            self._check_renewal(request, key)
            return self._grant(request, public_key_digest(csr), settings="")
        if key is None or self._lapsed(request.eui):
            pending = self._admit(request, sender, known=key is not None)
            if pending is not None:
                return pending
        return self._grant(request, public_key_digest(csr), settings=self._policy.settings)

    def _check_renewal(self, request: Request, key: RegisteredKey | None) -> None:
        present = self._store.certificate(request.certificate)
        if key is None:
            raise _TurnedDownError(Turned.UNKNOWN, "the gateway's key is not registered here")
        if present is None or present.eui != request.eui:
            raise _TurnedDownError(Turned.UNKNOWN, "the present certificate was not issued here for this gateway")
        if present.revoked_us is not None:
            raise _TurnedDownError(Turned.REVOKED, "the present certificate was revoked")
        latest = self._store.certificates_of(request.eui)[-1]
        if latest.revoked_us is not None:
            raise _TurnedDownError(Turned.REVOKED, "the gateway's latest certificate was revoked")
        if self._utc_us() > present.not_after_us + self._policy.grace_days * _DAY_US:
            raise _TurnedDownError(
                Turned.EXPIRED, f"the certificate expired on {day(present.not_after_us)}, longer ago than is forgiven"
            )

    def _lapsed(self, eui: bytes) -> bool:
        """Tell whether a gateway had a certificate, and needs a new code for the next.

        The latest decides: when that is revoked, who has the gateway's keys must not get another with an older one.
        """
        every = self._store.certificates_of(eui)
        if not every:
            return False
        limit_us = self._utc_us() - self._policy.grace_days * _DAY_US
        return every[-1].revoked_us is not None or every[-1].not_after_us < limit_us

    def _admit(self, request: Request, sender: str, *, known: bool) -> Pending | None:
        """Let a gateway in, or say why not; None when it is in."""
        now_us, kid = self._utc_us(), request.key.kid
        keys = [key for key in self._ledger.registry() if key.eui == request.eui and key.revoked_us is None]
        applicant = Applicant(
            kid, request.eui, request.key.text, _printable(request.name), sender, "pending", now_us, now_us
        )
        if request.claim:
            occupied = any(key.kid != kid for key in keys)
            self._take_claim(request.claim, applicant, occupied=occupied, known=known)
        elif known:
            raise _TurnedDownError(Turned.EXPIRED, "its certificates have expired or were revoked: it needs a new code")
        elif not self._policy.ask:
            raise _TurnedDownError(Turned.NOT_INVITED, "a claim code is needed")
        else:
            noted = self._store.applied(applicant)
            if noted is None:
                raise _TurnedDownError(Turned.NOT_INVITED, "too many gateways wait for approval")
            if noted.state == "rejected":
                raise _TurnedDownError(Turned.NOT_INVITED, "somebody said no to this gateway")
            if noted.eui != request.eui:
                raise _TurnedDownError(Turned.OTHER_GATEWAY, f"the key was approved for gateway {noted.eui.hex()}")
            if noted.state == "pending":
                return Pending("it waits for somebody to approve it", now_us)
        self._register(request)
        return None

    def _take_claim(self, text: str, applicant: Applicant, *, occupied: bool, known: bool) -> None:
        try:
            digest = claim.digest(claim.parse(text))
        except IdentityError as error:
            raise _TurnedDownError(Turned.BAD_CLAIM, error.what) from error
        if wait_s := self._codes.take(digest):
            raise TooOftenError("claim code", wait_s)
        admission = self._store.claimed(digest, applicant, occupied=occupied, again=not known)
        if admission is not Admission.TAKEN:
            _log.warning(
                "event=claim_refused gateway=%s sender=%s problem=%r",
                applicant.eui.hex(),
                applicant.sender,
                admission.value,
            )
            raise _TurnedDownError(Turned.BAD_CLAIM, "this code does not let this gateway in")

    def _register(self, request: Request) -> None:
        noted = self._store.applicant(request.key.kid)
        name = "" if noted is None else noted.name
        key = RegisteredKey(request.eui, name, request.key.kid, request.key.text, self._utc_us())
        try:
            self._ledger.add_key(key)
        except RegistryError as error:
            raise _TurnedDownError(Turned.OTHER_GATEWAY, error.what) from error

    def _grant(self, request: Request, key_digest: bytes, *, settings: str) -> Enrolled:
        now_us = self._utc_us()
        issued = self._store.certificate_for(request.eui, key_digest)
        if issued is not None and issued.revoked_us is not None:
            raise _TurnedDownError(Turned.BAD_REQUEST, "a certificate for this very key was revoked: make a new key")
        if issued is None or not _fresh(issued, now_us):
            certificate = self._authority.issue(request.csr, request.eui, request.key, self._policy.certificate_days)
            der = certificate.public_bytes(Encoding.DER)
            issued = Issued(
                fingerprint=fingerprint(der),
                serial=certificate.serial_number,
                eui=request.eui,
                kid=request.key.kid,
                key_digest=key_digest,
                der=der,
                issued_us=now_us,
                not_after_us=validity(certificate).not_after_us,
            )
            self._store.keep(issued)
        return Enrolled(request.eui, (issued.der,), self._policy.authorities, settings, now_us)


class _TurnedDownError(Exception):
    """Ends a decision."""

    def __init__(self, reason: Turned, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


def _fresh(issued: Issued, now_us: int) -> bool:
    return issued.not_after_us - now_us >= FRESH_PART * (issued.not_after_us - issued.issued_us)


def _printable(name: str) -> str:
    return "".join(char for char in name if char.isprintable())[:100]
