# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Certificates that are out of date, renewed, or bad: over real TLS, with a clock that is wrong either way."""

from __future__ import annotations

import datetime
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.batch.keys import ring
from agent.batch.receipt import open_answer
from agent.enrolment.sets import CertificateSets, Roles
from agent.trusted_time import Bounds, TrustedTime
from agent.uplink.check import walk
from agent.uplink.endpoint import Endpoint
from agent.uplink.port import Fault
from agent.uplink.sender import Sender
from agent.uplink.tls import DatedContext, client_context
from agent.uplink.verifier import Verifier
from tests.agent.enrolment.issuing import NOW, Issuer
from tests.agent.test_trusted_time import Clock
from tests.agent.uplink.scene import (
    EUI,
    PLATFORM_KEY,
    Broker,
    Gateway,
    HostClock,
    HttpsServer,
    MqttConsumer,
    Platform,
    until,
)

Send = Callable[..., Sender]

ISSUER = Issuer()
STRANGER = Issuer("strangers")


def at(days: float) -> int:
    """UTC so many days from now."""
    return round((NOW + datetime.timedelta(days=days)).timestamp() * 1e6)


class Fixed:
    """What is certain about the time, and stays so."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds

    def bounds(self) -> Bounds:
        return self._bounds

    def certified(self, until_us: int) -> None:
        pass


class Scene:
    """A platform that lets in whom ISSUER certified."""

    def __init__(self, folder: Path, platform: Platform) -> None:
        self.folder = folder
        self.platform = platform
        self.ca = folder / "ca.pem"
        self.ca.write_bytes(ISSUER.certificate())
        self.sets = CertificateSets(folder / "sets")
        self.time = TrustedTime(None, Clock(), lambda: 0)
        self._servers: list[HttpsServer] = []

    def context(self, first_day: float = -1, last_day: float = 90, issuer: Issuer = ISSUER) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*issuer.write(self.folder, "server", first_day, last_day))
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(self.ca)
        return context

    def serve(self, context: ssl.SSLContext | None = None) -> HttpsServer:
        self._servers.append(HttpsServer(self.platform, context or self.context()))
        return self._servers[-1]

    def endpoint(self, port: int, scheme: str = "https", bounds: Bounds | None = None) -> Endpoint:
        return Endpoint(
            "city",
            f"{scheme}://localhost:{port}",
            sets=self.sets,
            time=self.time if bounds is None else Fixed(bounds),
            connect_timeout_s=15,
            answer_timeout_s=15,
        )

    def add(self, issuer: Issuer = ISSUER, last_day: float = 90, *, first_day: float = -1, ca: bytes = b"") -> str:
        pem = issuer.issue(self.sets.next_key().public_key(), first_day, last_day)
        return self.sets.add(pem, ca or self.ca.read_bytes(), enrolled=not self.sets).name

    def current(self, *args: object, **options: object) -> str:
        name = self.add(*args, **options)  # type: ignore[arg-type] # as add takes them
        self.sets.carried(name)
        return name

    @property
    def verify(self) -> Verifier:
        return Verifier([PLATFORM_KEY.public], self.time, self.sets)

    def close(self) -> None:
        for server in self._servers:
            server.stop()


@pytest.fixture
def scene(tmp_path: Path, platform: Platform) -> Iterator[Scene]:
    made = Scene(tmp_path, platform)
    yield made
    made.close()


UNKNOWN_SINCE_NOW = Bounds(at(0))
SYNCHRONISED = Bounds(at(0), at(0))


@pytest.mark.parametrize(
    ("first_day", "last_day", "bounds", "problem"),
    [
        (-1, 90, None, ""),
        (-1, 90, SYNCHRONISED, ""),
        # what this machine's clock says of a platform in three years, or two years ago: a gateway's may be as wrong
        (1000, 1090, None, "not yet valid"),
        (1000, 1090, UNKNOWN_SINCE_NOW, ""),
        (1000, 1090, Bounds(at(1001), at(1001)), ""),
        (1000, 1090, SYNCHRONISED, "not valid before"),
        (-800, -700, None, "expired"),
        (-800, -700, Bounds(at(-790)), ""),
        (-800, -700, Bounds(at(-750), at(-750)), ""),
        (-800, -700, UNKNOWN_SINCE_NOW, "expired on"),
    ],
)
def test_the_platforms_certificate_is_judged_by_what_is_certain_about_the_time(
    first_day: float, last_day: float, bounds: Bounds | None, problem: str, scene: Scene, send: Send
) -> None:
    scene.current()
    server = scene.serve(scene.context(first_day, last_day))
    endpoint = scene.endpoint(server.port, bounds=bounds or SYNCHRONISED)
    if bounds is None:
        endpoint = Endpoint(endpoint.name, endpoint.url, scene.ca, *_pair(scene))
    gateway = Gateway(2)
    sender = send(endpoint, gateway, verify=scene.verify)
    if not problem:
        until(lambda: scene.platform.has(gateway))
        return
    until(lambda: sender.status.problem is not None)
    said = sender.status.problem or ""
    assert Fault.CERTIFICATE.code in said
    assert problem in said
    assert scene.platform.arrivals == []


def _pair(scene: Scene) -> tuple[Path, Path]:
    chosen = scene.sets.choose()
    assert chosen is not None
    return chosen.certificate, chosen.key


def test_an_expired_authority_is_noticed_too(scene: Scene, send: Send, tmp_path: Path) -> None:
    old = Issuer("old", first_day=-900, last_day=-10)
    scene.current(ISSUER, ca=old.certificate())
    server = scene.serve(scene.context(issuer=old))
    gateway = Gateway(1)
    sender = send(scene.endpoint(server.port, bounds=UNKNOWN_SINCE_NOW), gateway, verify=scene.verify)
    until(lambda: sender.status.problem is not None)
    assert "expired on" in (sender.status.problem or "")
    assert scene.platform.arrivals == []


def test_the_dates_alone_are_left_to_us_everything_else_to_openssl(scene: Scene, tmp_path: Path) -> None:
    context = client_context(DatedContext, scene.ca, None, None, Fixed(SYNCHRONISED))
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.verify_flags & 0x200000
    assert not client_context(DatedContext, scene.ca, None, None).verify_flags & 0x200000


def test_what_the_platform_signs_is_the_floor_from_then_on(scene: Scene, send: Send) -> None:
    scene.current()
    gateway = Gateway(1)
    send(scene.endpoint(scene.serve().port), gateway, verify=scene.verify)
    until(lambda: scene.platform.has(gateway))
    assert abs(scene.time.bounds().earliest_us - at(0)) < 600 * 1_000_000


def test_a_renewed_certificate_is_used_on_the_running_link_and_kept_when_it_carried_a_receipt(
    scene: Scene, send: Send
) -> None:
    first = scene.current()
    gateway = Gateway(1)
    sender = send(scene.endpoint(scene.serve().port), gateway, verify=scene.verify)
    until(lambda: scene.platform.has(gateway))
    second = scene.add()
    gateway.seal()
    sender.sealed()
    until(lambda: scene.platform.has(gateway))
    until(lambda: scene.sets.roles == Roles(current=second, previous=first, factory=first))
    assert sender.status.counts.get("failures", 0) == 0


@pytest.mark.parametrize("problem", ["of another authority", "expired", "does not know the platform", "damaged"])
def test_a_bad_renewal_strands_nobody(problem: str, scene: Scene, send: Send) -> None:
    first = scene.current()
    gateway = Gateway(1)
    sender = send(scene.endpoint(scene.serve().port), gateway, verify=scene.verify)
    until(lambda: scene.platform.has(gateway))
    match problem:
        case "of another authority":
            scene.add(STRANGER)
        case "expired":
            scene.add(last_day=-0.5)
        case "does not know the platform":
            scene.add(ca=STRANGER.certificate())
        case "damaged":
            name = scene.add()
            (scene.folder / "sets" / name / "key.pem").write_text("rubbish")
    for _ in range(3):
        gateway.seal()
        sender.sealed()
        until(lambda: scene.platform.has(gateway))
    until(lambda: scene.sets.roles == Roles(current=first, factory=first))


def test_a_card_that_takes_nothing_does_not_keep_receipts_away(scene: Scene, send: Send) -> None:
    scene.current()
    new = scene.add()
    lock = scene.folder / "sets" / "lock"
    lock.unlink()
    lock.mkdir()
    gateway = Gateway(3)
    sender = send(scene.endpoint(scene.serve().port), gateway, verify=scene.verify)
    until(lambda: gateway.through() == 3)
    assert scene.sets.roles.candidate == new
    lock.rmdir()
    gateway.seal()
    sender.sealed()
    until(lambda: scene.sets.roles.current == new)


def test_when_the_current_certificate_expires_the_others_are_tried_and_a_renewal_is_urgent(
    scene: Scene, send: Send
) -> None:
    good = scene.current()
    expired = scene.current(ISSUER, -0.5)
    assert scene.sets.roles.current == expired
    gateway = Gateway(2)
    send(scene.endpoint(scene.serve().port), gateway, verify=scene.verify)
    until(lambda: scene.platform.has(gateway))
    until(lambda: scene.sets.urgent)
    assert scene.sets.using == good


def test_an_expired_certificate_is_named(scene: Scene, send: Send) -> None:
    scene.current(ISSUER, -0.5)
    sender = send(scene.endpoint(scene.serve().port), Gateway(1), verify=scene.verify)
    # with TLS 1.3 a reset may overtake what the platform says of our certificate
    until(lambda: "by its clock it has expired" in (sender.status.problem or ""))
    until(lambda: scene.sets.urgent)


@pytest.mark.parametrize(
    ("last_day", "bounds", "word"),
    [
        (-0.5, SYNCHRONISED, "FAIL our certificate expired on"),
        (-0.5, Bounds(at(-10)), "by this host's clock, which nobody has set, it has expired"),
        (5, SYNCHRONISED, "(current) is valid until"),
        (5, SYNCHRONISED, "expires soon, renew it"),
    ],
)
def test_the_check_says_how_long_our_certificate_is_good(
    last_day: float, bounds: Bounds, word: str, scene: Scene
) -> None:
    scene.current(ISSUER, last_day)
    endpoint = scene.endpoint(scene.serve().port, bounds=bounds)
    steps = walk(endpoint, EUI, bytes(16), lambda data: open_answer(data, ring(PLATFORM_KEY.public)), HostClock())
    (step,) = [step for step in steps if step.name == "cert"]
    assert word in f"{'FAIL ' if step.error else ''}{step.error.what if step.error else step.detail}"


@pytest.fixture
def broker(scene: Scene, tmp_path: Path) -> Iterator[Broker]:
    certificate, key = ISSUER.write(tmp_path, "broker")
    options = [f"cafile {scene.ca}", f"certfile {certificate}", f"keyfile {key}", "require_certificate true"]
    broker = Broker(tmp_path, *options, "allow_anonymous true")
    yield broker
    broker.kill()


@pytest.mark.parametrize("outcome", ["good", "bad"])
def test_over_mqtt_a_renewal_is_tried_between_two_batches(
    outcome: str, scene: Scene, broker: Broker, send: Send, tmp_path: Path
) -> None:
    first = scene.current()
    worker = client_context(DatedContext, scene.ca, *ISSUER.write(tmp_path, "receiver"))
    consumer = MqttConsumer(scene.platform, broker.port, worker)
    try:
        gateway = Gateway(2)
        sender = send(scene.endpoint(broker.port, "mqtts"), gateway, verify=scene.verify)
        until(lambda: scene.platform.has(gateway))
        second = scene.add(ISSUER if outcome == "good" else STRANGER)
        sender.sealed()
        roles = Roles(current=second, previous=first, factory=first)
        until(lambda: scene.sets.roles == (roles if outcome == "good" else Roles(current=first, factory=first)))
        gateway.seal()
        sender.sealed()
        until(lambda: scene.platform.has(gateway))
    finally:
        consumer.stop()
