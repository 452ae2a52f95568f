# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Does the way to each platform lead all the way: name, TCP, TLS, certificates, a signed receipt?"""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from agent.doctor.causes import found, of_error, table
from agent.doctor.finding import Finding, Value, Verdict, ok
from agent.doctor.shown import shown_by
from agent.doctor.wording import span

if TYPE_CHECKING:
    from agent.batch.model import Receipt, Refusal
    from agent.config import Destination, GatewayConfig
    from agent.doctor.context import Context
    from agent.trusted_time import Bounds, TrustedTime
    from agent.uplink.check import Step
    from agent.uplink.port import LinkError

CONNECT_LIMIT_S = 10.0
ANSWER_LIMIT_S = 15.0
"""More than that a healthy link takes nowhere; shorter ones of the configuration hold."""
WAYS_LIMIT_S = 50.0
"""For all ways together, which are walked at the same time; within the limit of the check, so each has its finding."""
CLOCK_LIMIT_S: Final = 5.0
"""More than this, and it is no matter of the link's delay any more."""
_DAY_US: Final = 86_400_000_000


def platforms(context: Context) -> Iterator[Finding]:
    """Walk all ways to all destinations, at the same time."""
    if context.config is None:
        return
    if not context.config.destination:
        yield found("no-destination", "platform", "no [[destination]] in the configuration", config=context.path)
        return
    jobs = [_Job(context, destination, url) for destination in context.config.destination for url in destination.urls]
    deadline = time.monotonic() + WAYS_LIMIT_S
    for job in jobs:
        job.start()
    for destination in context.config.destination:
        mine = [job for job in jobs if job.destination is destination]
        for job in mine:
            job.finish(deadline)
        yield from _judge(context, destination, mine)


class _Job(threading.Thread):
    """One way to one platform, walked in a thread of its own."""

    def __init__(self, context: Context, destination: Destination, url: str) -> None:
        super().__init__(name=f"doctor-{destination.name}", daemon=True)
        self.destination = destination
        self.url = url
        self.findings: tuple[Finding, ...] = ()
        self._context = context
        self._steps: list[Step] = []
        self._walked: tuple[Finding, ...] | None = None

    def run(self) -> None:
        try:
            self._walked = tuple(_walk(self._context, self.destination, self.url, self._steps))
        except PermissionError as error:
            evidence = f"{self.destination.name}: {error.filename} may not be read by this user"
            self._walked = (found("no-rights", "platform", evidence),)
        except Exception as error:  # as in examine: whatever it is, it is a finding
            evidence = f"{self.destination.name}: the check itself failed: {type(error).__name__}: {error}"
            self._walked = (found("crashed", "platform", evidence),)

    def finish(self, deadline: float) -> None:
        """Wait for the end of the way until then; one that has none by then does not lead to the platform."""
        self.join(max(0.0, deadline - time.monotonic()))
        self.findings = self._unended() if self._walked is None else self._walked

    @property
    def leads(self) -> bool:
        """Whether it is known to lead to the platform: it was walked to its end."""
        return any(
            finding.check == "platform" and (finding.verdict is Verdict.OK or finding.code == _no_receipt())
            for finding in self.findings
        )

    def _unended(self) -> tuple[Finding, ...]:
        name = f"{self.destination.name}: {self.url}"
        if not self._steps:
            evidence = f"{name}: nothing is known of it after {WAYS_LIMIT_S:g} s"
            return (found("way-unwalked", "platform", evidence, config=self._context.path),)
        evidence = f"{name}: {self._steps[-1].detail}; then no answer within {WAYS_LIMIT_S:g} s"
        return (found("no-answer", "platform", evidence),)


def _no_receipt() -> str:
    return table()["no-receipt"].code


def _judge(context: Context, destination: Destination, jobs: list[_Job]) -> Iterator[Finding]:
    """A destination with several ways is well when one leads there."""
    any_leads = any(job.leads for job in jobs)
    for job in jobs:
        for finding in job.findings:
            if finding.verdict is Verdict.FAIL and any_leads and not job.leads:
                yield found("way-fails", "platform", finding.evidence)
            else:
                yield finding
    if any_leads:
        yield from _agents_view(context, destination)


def _agents_view(context: Context, destination: Destination) -> Iterator[Finding]:
    """Say what the running agent has to complain of, where the way itself is good."""
    if context.report is None or context.said("radio") is None:
        return
    told = context.report.said.get("destinations")
    for status in told if isinstance(told, list) else ():
        if status.get("destination") == destination.name and status.get("problem"):
            evidence = f"{destination.name}: the agent is in {status.get('phase')}: {status['problem']}"
            yield found("agent-cannot-send", "platform", evidence)


@dataclass(frozen=True, slots=True)
class _Way:
    """One URL of one destination."""

    context: Context
    destination: Destination
    url: str


@dataclass(slots=True)
class _Noting:
    """A trusted time that notes how long the platform's certificate is good; nothing is kept."""

    trusted: TrustedTime
    until_us: int | None = None

    def bounds(self) -> Bounds:
        return self.trusted.bounds()

    def certified(self, until_us: int) -> None:
        self.until_us = until_us


@dataclass(slots=True)
class _Answer:
    """The platform's signed answer."""

    ahead_s: float | None = None
    found: list[Receipt | Refusal] = field(default_factory=list)


def _walk(context: Context, destination: Destination, url: str, steps: list[Step]) -> Iterator[Finding]:
    from agent.batch.keys import ring
    from agent.batch.receipt import open_answer
    from agent.enrolment.enrolling import folder_of, sets_of
    from agent.trusted_time import TrustedTime
    from agent.uplink.check import walk
    from agent.uplink.endpoint import Endpoint

    config = context.config
    assert config is not None
    keys, answer = ring(*destination.receipt_keys), _Answer()
    noting = _Noting(TrustedTime(folder_of(config, destination.name), context.clock))

    def verify(data: bytes) -> Receipt | Refusal:
        signed = open_answer(data, keys)
        answer.ahead_s = time.time() - signed.utc_us / 1e6
        answer.found.append(signed)
        return signed

    endpoint = replace(
        Endpoint.of(destination, url, sets=sets_of(config, destination.name), time=noting),
        connect_timeout_s=min(destination.connect_timeout_s, CONNECT_LIMIT_S),
        answer_timeout_s=min(destination.answer_timeout_s, ANSWER_LIMIT_S),
    )
    eui, stream_id = _known(config, destination.name)
    way = _Way(context, destination, url)
    for step in walk(endpoint, eui, stream_id, verify, context.clock):
        steps.append(step)
        if step.error is not None:
            yield _failed(way, step.error, endpoint.host, endpoint.port)
            return
    yield from _reached(way, steps, noting, answer)


def _known(config: GatewayConfig, destination: str) -> tuple[bytes, bytes]:
    """Return EUI and stream, as far as configuration and spool know them; zeros else, which do for asking."""
    from agent.batch.codec import EUI_BYTES, STREAM_BYTES
    from agent.spool.reader import SpoolReader

    eui, stream_id = config.gateway.eui or bytes(EUI_BYTES), bytes(STREAM_BYTES)
    with suppress(OSError), SpoolReader(config.spool_path) as reader:
        eui = config.gateway.eui or reader.state().gateway_eui or eui
        stream_id = reader.head(destination).stream_id
    return eui, stream_id


def _reached(way: _Way, steps: list[Step], noting: _Noting, answer: _Answer) -> Iterator[Finding]:
    """Judge a way that leads to the platform."""
    context, destination = way.context, way.destination
    took_ms = sum(step.took_ms for step in steps)
    until = "" if noting.until_us is None else f", its certificate is good until {_day(noting.until_us)}"
    last = steps[-1]
    values: dict[str, Value] = {
        "destination": destination.name,
        "url": way.url,
        "took_ms": round(took_ms),
        "clock_ahead_s": None if answer.ahead_s is None else round(answer.ahead_s, 3),
        "platform_certificate_until_us": noting.until_us,
    }
    name = f"{destination.name}: {way.url}"
    if not answer.found:
        yield found("no-receipt", "platform", f"{name}: {last.detail}", values)
    else:
        yield ok("platform", f"{name}: a signed receipt after {took_ms:.0f} ms{until}", values)
    asked = "this host" in last.detail
    if asked and answer.ahead_s is not None and abs(answer.ahead_s) > CLOCK_LIMIT_S + took_ms / 1000:
        evidence = (
            f"this gateway is {span(answer.ahead_s)} {'ahead of' if answer.ahead_s > 0 else 'behind'} the platform"
        )
        yield found("clock-wrong", "clock", evidence, {"clock_ahead_s": round(answer.ahead_s, 1)})
    certificate = next((step.detail for step in steps if step.name == "cert"), "")
    if certificate:
        evidence = f"{destination.name}: {certificate.partition(': ')[0]}"
        if _due(context, destination, time.time() - answer.ahead_s if asked and answer.ahead_s is not None else None):
            yield found("our-certificate-soon", "certificate", evidence, config=context.path)
        else:
            yield ok("certificate", evidence)


def _failed(way: _Way, error: LinkError, name: str, port: int) -> Finding:
    """Say why the way ends where it does."""
    context = way.context
    if error.code == "CG-UPL-015" and isinstance(error.__cause__, PermissionError):
        evidence = f"{way.destination.name}: {error.where} may not be read by this user"
        return found("no-rights", "platform", evidence)
    address = f" ({error.where})" if " port " in error.where else ""
    said = f"{way.destination.name}: {way.url}{address}: {error.what} [{error.code}]"
    if error.code == "CG-UPL-015" and "our certificate" in error.what:
        early = "not valid before" in error.what
        return found(
            "our-certificate-early" if early else "our-certificate-expired", "certificate", said, config=context.path
        )
    if error.code == "CG-UPL-005":
        shown = shown_by(name, port, CONNECT_LIMIT_S)
        if "authority that is not trusted" in error.what:
            foreign = shown is not None and not shown.fits
            seen = "" if shown is None else f"; it showed a certificate for {shown.subject} from {shown.issuer}"
            return found(
                "captive-portal" if foreign else "unknown-authority", "platform", said + seen, config=context.path
            )
        if "for another name" in error.what:
            seen = "" if shown is None else f"; it is for {shown.subject}"
            return found("platform-name", "platform", said + seen, config=context.path)
    finding = of_error("platform", error, name=_more_exactly(error))
    return replace(finding, evidence=said)


def _more_exactly(error: LinkError) -> str | None:
    """Return the cause of an error whose code stands for several."""
    if error.code == "CG-UPL-001" and "no name server answers" in error.what:
        return "dns-silent"
    if error.code == "CG-UPL-008" and error.what.startswith("HTTP status 404"):
        return "bad-address"
    # a network without this kind of address; what is refused by the platform or a firewall has other numbers
    if isinstance(error.__cause__, OSError) and error.__cause__.errno in {errno.ENETUNREACH, errno.ENETDOWN}:
        return "unreachable"
    return None


def _due(context: Context, destination: Destination, utc_s: float | None) -> bool:
    """Say whether our certificate, which is good, should have been renewed by now: one that lives for days only is not.

    Args:
        context: of the look.
        destination: whose certificate.
        utc_s: the platform's time; None when it did not tell.
    """
    from agent.enrolment.certificate import chain_from_pem, validity
    from agent.enrolment.enrolling import sets_of
    from agent.errors import IdentityError
    from agent.uplink.check import SOON_DAYS

    assert context.config is not None
    sets = sets_of(context.config, destination.name)
    chosen = None if destination.cert_file is not None or not sets else sets.choose()
    path = destination.cert_file if chosen is None else chosen.certificate
    if path is None:
        return False
    with suppress(OSError, IdentityError):
        dates = validity(chain_from_pem(path.read_bytes(), str(path))[0])
        now_us = time.time_ns() // 1000 if utc_s is None else round(utc_s * 1e6)
        if utc_s is None and now_us > dates.not_after_us:
            return False  # by a clock that nobody has set: by one that is right, it would not be good
        return dates.not_after_us - now_us < min(SOON_DAYS * _DAY_US, (dates.not_after_us - dates.not_before_us) / 4)
    return False


def _day(utc_us: int) -> str:
    from agent.enrolment.certificate import day

    return day(utc_us)
