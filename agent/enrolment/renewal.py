# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Renew certificates before they end: a thread for all destinations that were enrolled.

A renewal is due when two thirds of a certificate's time are over, and up to a twelfth later, so that gateways that were
enrolled together do not come together. It is due at once when the platform no longer takes the certificate. What it
brings is a candidate: the uplink tries it, and keeps what works.
"""

from __future__ import annotations

import hashlib
import logging
import random
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from agent.batch.keys import Signer
from agent.config import Destination
from agent.enrolment import certificate
from agent.enrolment.certificate import Validity, day
from agent.enrolment.client import NotEnrolledError, Platform, Trust
from agent.enrolment.message import Kind, Request, Turned
from agent.enrolment.sets import CertificateSet, CertificateSets
from agent.errors import AgentError, IdentityError
from agent.trusted_time import Bounds, TrustedTime
from agent.uplink.port import Fault, LinkError

DUE_PART = 2 / 3
JITTER_PART = 1 / 12
LOOK_S = 60.0
"""How often it is looked whether something is due, besides when the certificates themselves say that they changed."""
FIRST_PAUSE_S = 60.0
LONGEST_PAUSE_S = 6 * 3600.0
AFTER_SUCCESS_S = 3600.0
"""At most one certificate in so long, or in a twelfth of its time, whatever a clock or a platform says."""

_log = logging.getLogger(__name__)


def renew_at_us(validity: Validity, name: str) -> int:
    """Return when a certificate is to be renewed, UTC; the same moment whenever it is asked for a certificate."""
    span_us = validity.not_after_us - validity.not_before_us
    jitter = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") / (1 << 32)
    return validity.not_before_us + round(span_us * (DUE_PART + JITTER_PART * jitter))


def rest_s(validity: Validity) -> float:
    """Return the least time from one renewal to the next, which a certificate for minutes must outlive too."""
    return min(AFTER_SUCCESS_S, (validity.not_after_us - validity.not_before_us) * JITTER_PART / 1e6)


def due(one: CertificateSet, bounds: Bounds) -> bool:
    """Tell whether a certificate is to be renewed."""
    now_us = bounds.earliest_us if bounds.latest_us is None else bounds.latest_us
    return now_us >= renew_at_us(one.validity, one.name)


def renew(
    destination: Destination,
    sets: CertificateSets,
    signer: Signer,
    eui: bytes,
    time: TrustedTime,
    *,
    own: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> CertificateSet:
    """Get a new certificate with the present one; it becomes a candidate.

    Args:
        destination: as configured.
        sets: its certificates.
        signer: the gateway's key. Root signs as root: what a unit's SupplementaryGroups= open, its user may not open.
        eui: of the gateway.
        time: what its platform has told of it.
        own: makes root the owner of the certificates, while they are touched.

    Raises:
        AgentError: it did not come about; one line says why.
    """
    present = sets.newest()
    if present is None or destination.enrolment is None:
        hint = "enrol first: civigate enrol"
        where = f"destination {destination.name}"
        raise IdentityError("has no certificate that could be renewed", where=where, hint=hint, code="CG-ENR-015")
    problem: LinkError | None = None
    with own():
        tls_key = sets.next_key()
    # the authorities may be what is bad about a set: then those of the next one know the platform
    for authorities in dict.fromkeys(one.authorities for one in sets.order()):
        trust = Trust(authorities or destination.ca_file)
        try:
            granted = Platform(destination.enrolment, trust, time).ask(
                lambda nonce: Request(
                    Kind.RENEW,
                    nonce,
                    eui,
                    signer.public,
                    certificate.request(eui, tls_key),
                    certificate=certificate.fingerprint(present.der),
                ),
                signer,
                destination.receipt_keys,
            )
        except LinkError as error:
            if error.fault not in {Fault.CERTIFICATE, Fault.FILES}:
                raise
            problem = error
            continue
        with own():
            kept = b"" if authorities is None else authorities.read_bytes()
            return sets.add(granted.chain_pem, granted.authorities_pem or kept, enrolled=False)
    assert problem is not None, "there was a set"
    raise problem


@dataclass(slots=True)
class _Course:
    """How it goes with one destination.

    Attributes:
        destination: as configured.
        sets: its certificates.
        time: what its platform has told of it.
        wake: makes its uplink look.
        not_before_us: CLOCK_BOOTTIME of the next try at the earliest.
        pause_s: after the next failure.
    """

    destination: Destination
    sets: CertificateSets
    time: TrustedTime
    wake: Callable[[], None]
    not_before_us: int = 0
    pause_s: float = FIRST_PAUSE_S
    said: str = ""


class Renewals:
    """Keeps the certificates of all enrolled destinations fresh.

    Args:
        signers: the gateway's keys, the present one first; the platform may know only the one before as yet.
        eui: of the gateway.
        boottime_us: CLOCK_BOOTTIME.
    """

    def __init__(self, signers: Sequence[Signer], eui: bytes, boottime_us: Callable[[], int]) -> None:
        self._signers = signers
        self._eui = eui
        self._boottime_us = boottime_us
        self._courses: list[_Course] = []
        self._ended = threading.Event()
        self._noted = threading.Event()
        self._thread = threading.Thread(target=self._run, name="renewal", daemon=True)

    def add(self, destination: Destination, sets: CertificateSets, time: TrustedTime, wake: Callable[[], None]) -> None:
        """Look after a destination; before `start`. `wake` is called when it has a new certificate."""
        if destination.enrolment is not None and destination.cert_file is None:
            sets.noted = self._noted.set
            self._courses.append(_Course(destination, sets, time, wake))

    def start(self) -> None:
        """Begin, if there is anything to do."""
        if self._courses:
            self._thread.start()

    def stop(self, limit_s: float) -> None:
        """End; a conversation that is under way is not waited for longer than told."""
        self._ended.set()
        self._noted.set()
        if self._thread.is_alive():
            self._thread.join(limit_s)

    def _run(self) -> None:
        while not self._ended.is_set():
            self._noted.clear()
            for course in self._courses:
                try:
                    self._look(course)
                except Exception:
                    # a defect here must not end the renewals of the other destinations
                    _log.exception("event=renewal_defect destination=%s", course.destination.name)
                    course.not_before_us = self._boottime_us() + round(LONGEST_PAUSE_S * 1e6)
            if not self._ended.is_set():
                self._noted.wait(LOOK_S)

    def _renew(self, course: _Course) -> CertificateSet:
        problem: NotEnrolledError | None = None
        for signer in self._signers:
            try:
                return renew(course.destination, course.sets, signer, self._eui, course.time)
            except NotEnrolledError as error:
                problem = problem or error
                if error.reason is not Turned.UNKNOWN:
                    break
        assert problem is not None, "a gateway has a key"
        raise problem

    def _look(self, course: _Course) -> None:
        newest = course.sets.newest()
        if newest is None or self._boottime_us() < course.not_before_us or self._ended.is_set():
            return
        if not course.sets.urgent:
            untried = course.sets.roles.candidate is not None
            if untried or not due(newest, course.time.bounds()):
                return
        name = course.destination.name
        try:
            made = self._renew(course)
        except AgentError as error:
            level = logging.DEBUG if course.said == error.code else logging.WARNING
            course.said = error.code
            ends = day(newest.validity.not_after_us)
            _log.log(
                level, "event=not_renewed destination=%s ends=%r problem=%s; %s [%s]",
                name, ends, error, error.hint, error.code,
            )  # fmt: skip
            wait_s = error.wait_s if isinstance(error, LinkError) else 0.0
            pause_s = max(wait_s, course.pause_s * random.uniform(0.5, 1))  # noqa: S311 - spreads load, hides nothing
            course.not_before_us = self._boottime_us() + round(pause_s * 1e6)
            course.pause_s = min(2 * course.pause_s, LONGEST_PAUSE_S)
            return
        course.not_before_us = self._boottime_us() + round(rest_s(made.validity) * 1e6)
        course.pause_s, course.said = FIRST_PAUSE_S, ""
        _log.info("event=renewed destination=%s set=%s until=%r", name, made.name, day(made.validity.not_after_us))
        course.wake()
