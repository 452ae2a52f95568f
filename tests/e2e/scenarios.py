# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What backhauls, brokers and networks do to a gateway, and what its status has to say of each.

The first five are those in which the forwarders of the field lose frames. `Saying` is the contract with the person who
looks at `civigate uplink status` meanwhile: the error code, and the words that tell one trouble from another.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from agent.demo.authority import Authority, Credentials
from agent.demo.stage import Stage
from tests.e2e import obstacles
from tests.e2e.link import Link, Weather
from tests.e2e.names import Answer, Names
from tests.e2e.obstacles import HTML, REDIRECT, Behaviour, Front

FAIR = Weather()
SILENT = Weather(silent=True)
SERVER_BUSY, SERVER_UNAVAILABLE, QUOTA_EXCEEDED = 0x89, 0x88, 0x97
"""Reason codes of MQTT 5 [section 2.4]."""
CROWD = 3
CUT_S = 60.0
CUT_SHORT_S = 2.0


@dataclass(frozen=True, slots=True)
class Scene:
    """What a trouble may touch.

    Attributes:
        folder: of the stage.
        stage: the programs.
        link: the wire between gateway and platform.
        front: where the gateway believes the platform to be.
        names: what its name leads to.
        short: whether things that take long shall take less.
        until: waits for a condition while every program lives.
    """

    folder: Path
    stage: Stage
    link: Link
    front: Front
    names: Names
    short: bool
    until: Callable[[str, Callable[[], bool]], None]

    @property
    def broker_port(self) -> int:
        """Where the broker listens, on loopback."""
        return int(self.stage.broker_conf.read_text().split()[1])

    def receiver_subscribed(self) -> bool:
        """Whether the receiver has come back to the broker of now and has subscribed there, by the logs of both."""
        broker = self.stage.log_of("broker").read_text(errors="replace")
        receiver = self.stage.log_of("receiver").read_text(errors="replace")
        connected = " as civigate-receiver-" in broker[broker.rindex(" starting\n") :]
        return connected and receiver.rfind("'subscribed'") > receiver.rfind("connection ended")


Trouble = Callable[[Scene], AbstractContextManager[None]]


@dataclass(frozen=True, slots=True)
class Saying:
    """What status says of a trouble.

    Attributes:
        code: of the problem; "" for something odd about a link that works.
        words: that are in it.
    """

    code: str
    words: str


@dataclass(frozen=True, slots=True)
class Scenario:
    """A trouble, and how long it lasts.

    Attributes:
        name: for people.
        seconds: how long the trouble lasts at least; it also lasts until status has named it.
        trouble: holds while its context is entered.
        rate_hz: frames per second; enough for packets that do not fit through a hole.
        says: what status names it, by transport ("https", "mqtt"); a transport that is not here is not concerned.
        passes: whether frames arrive while it lasts.
    """

    name: str
    seconds: float
    trouble: Trouble
    rate_hz: float = 2.0
    says: Mapping[str, Saying | None] = field(default_factory=lambda: {"https": None, "mqtt": None})
    passes: bool = False


def both(code: str, words: str) -> dict[str, Saying | None]:
    """Let both transports say the same."""
    return {name: Saying(code, words) for name in ("https", "mqtt")}


def weather(found: Weather) -> Trouble:
    """Let the wire treat packets so."""

    @contextmanager
    def trouble(scene: Scene) -> Iterator[None]:
        scene.link.weather = found
        try:
            yield
        finally:
            scene.link.weather = FAIR

    return trouble


@contextmanager
def refused(scene: Scene) -> Iterator[None]:
    """Let the port refuse."""
    scene.front.cut()
    try:
        yield
    finally:
        scene.front.restore()


def behaving(choose: Callable[[Scene], Behaviour]) -> Trouble:
    """Let the front treat connections so."""

    @contextmanager
    def trouble(scene: Scene) -> Iterator[None]:
        scene.front.behave(choose(scene))
        try:
            yield
        finally:
            scene.front.behave(obstacles.passing)

    return trouble


def named(answer: Answer) -> Trouble:
    """Let the name server behave so, and let every connection be made anew."""

    @contextmanager
    def trouble(scene: Scene) -> Iterator[None]:
        with scene.names.trouble(answer):
            scene.front.behave(obstacles.passing)
            yield

    return trouble


def broker_with(*lines: str, without: str = "") -> Trouble:
    """Restart the broker with further lines in its configuration, and at the end with its own again."""

    @contextmanager
    def trouble(scene: Scene) -> Iterator[None]:
        conf = scene.stage.broker_conf
        before = conf.read_text()
        kept = [line for line in before.splitlines() if not without or not line.startswith(without)]
        conf.write_text("\n".join((*kept, *lines, "")))
        try:
            scene.stage.kill_broker()
            yield
        finally:
            conf.write_text(before)
            scene.stage.kill_broker()

    return trouble


@contextmanager
def crowded(scene: Scene) -> Iterator[None]:
    """Let others have all connections that the broker gives."""
    with broker_with("max_connections 1")(scene), ExitStack() as others:
        for _ in range(CROWD):
            others.enter_context(socket.create_connection(("127.0.0.1", scene.broker_port), 5))
        scene.front.behave(obstacles.passing)
        yield


@contextmanager
def no_receiver(scene: Scene) -> Iterator[None]:
    """Take the receiver away once it has subscribed; the broker keeps its session and its messages."""
    scene.until("the receiver to subscribe", scene.receiver_subscribed)
    scene.stage.take_away("receiver")
    try:
        yield
    finally:
        scene.stage.bring_back("receiver")


@contextmanager
def amnesia(scene: Scene) -> Iterator[None]:
    """Kill broker and receiver; the broker comes back at once and knows of no session and no retained receipt."""
    scene.stage.take_away("receiver")
    scene.stage.kill_broker()
    try:
        yield
    finally:
        scene.stage.bring_back("receiver")


def together(*troubles: Trouble) -> Trouble:
    """Let several last at a time."""

    @contextmanager
    def trouble(scene: Scene) -> Iterator[None]:
        with ExitStack() as stack:
            for one in troubles:
                stack.enter_context(one(scene))
            yield

    return trouble


def _portal_tls(scene: Scene) -> Behaviour:
    """Speak TLS with a certificate of the portal's own authority."""
    folder = scene.folder / "portal"
    folder.mkdir(exist_ok=True)
    return obstacles.secured(_context(Authority(folder).server("portal")), obstacles.saying(HTML))


def _behind_tls(scene: Scene, behaviour: Behaviour) -> Behaviour:
    """Speak TLS as the platform does: something at the platform itself answers wrongly."""
    platform = Credentials(scene.folder / "platform.pem", scene.folder / "platform.key")
    return obstacles.secured(_context(platform), behaviour)


def _context(credentials: Credentials) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(credentials.certificate, credentials.key)
    return context


def _answering(behaviour: Behaviour) -> Trouble:
    return behaving(lambda scene: _behind_tls(scene, behaviour))


FIELD = (
    Scenario("refused 5 s", 5, refused, says=both("CG-UPL-002", "connection refused")),
    Scenario("refused 20 s", 20, refused, says=both("CG-UPL-002", "connection refused")),
    Scenario("silent 5 s", 5, weather(SILENT)),
    Scenario("silent 30 s", 30, weather(SILENT), says=both("CG-UPL-003", "no connection in time")),
    Scenario("silent 120 s", 120, weather(SILENT), says=both("CG-UPL-003", "no connection in time")),
)
_PORTAL, _TLS, _NAME, _SILENT, _NOBODY = "CG-UPL-007", "CG-UPL-006", "CG-UPL-001", "CG-UPL-003", "CG-UPL-010"
_FULL, _TOO_LARGE = "CG-UPL-008", "CG-UPL-012"

WEATHER = (
    Scenario("lossy", 30, weather(Weather(loss=0.3)), rate_hz=20.0, says=both("", "loses what is sent"), passes=True),
    Scenario("slow", 30, weather(Weather(delay_s=2.0)), says=both("", "the link is slow"), passes=True),
    Scenario("slow and lossy", 120, weather(Weather(delay_s=2.0, loss=0.3))),
    Scenario("hole", 30, weather(Weather(hole_bytes=1300)), rate_hz=50.0, passes=True),
)
NETWORKS = (
    Scenario("swallowing", 60, behaving(lambda _: obstacles.swallowing), says=both(_SILENT, "then says nothing")),
    Scenario("portal", 30, behaving(lambda _: obstacles.saying(HTML)), says=both(_TLS, "a captive portal answers")),
    Scenario("portal with TLS", 30, behaving(_portal_tls), says=both("CG-UPL-005", "authority that is not trusted")),
    Scenario(
        "portal behind TLS",
        30,
        _answering(obstacles.saying(HTML)),
        says={
            "https": Saying(_PORTAL, "200 with text/html instead of a signed receipt"),
            "mqtt": Saying(_PORTAL, "no MQTT broker"),
        },
    ),
    Scenario(
        "portal redirecting",
        30,
        _answering(obstacles.saying(REDIRECT)),
        says={"https": Saying(_PORTAL, "302 to http://portal.example/login")},
    ),
    Scenario(
        "proxy that cuts",
        200,
        behaving(lambda scene: obstacles.cutting(CUT_SHORT_S if scene.short else CUT_S)),
        says={"https": None, "mqtt": Saying("", "each connection is cut after about")},
        passes=True,
    ),
    Scenario("no such name", 30, named(Answer.UNKNOWN), says=both(_NAME, "there is no such name")),
    Scenario("failing name server", 30, named(Answer.FAILURE), says=both(_NAME, "no name server answers")),
    Scenario("silent name server", 30, named(Answer.SILENCE), says=both(_NAME, "no name server answers")),
    Scenario("lying name server", 30, named(Answer.LIE), says=both("CG-UPL-002", "connection refused")),
)
_QUEUES = "max_queued_messages"
BROKERS = (
    Scenario(
        "default limits",
        60,
        together(broker_with(without=_QUEUES), no_receiver),
        rate_hz=20.0,
        says={"mqtt": Saying(_NOBODY, "but no receipt came")},
    ),
    Scenario(
        "short queues",
        60,
        together(broker_with(f"{_QUEUES} 2", "max_inflight_messages 1", without=_QUEUES), no_receiver),
        rate_hz=20.0,
        says={"mqtt": Saying(_NOBODY, "but no receipt came")},
    ),
    Scenario("amnesia", 30, amnesia, says={"mqtt": Saying(_NOBODY, "nobody is subscribed")}),
    Scenario(
        "message limit", 30, broker_with("message_size_limit 200"), says={"mqtt": Saying(_TOO_LARGE, "as large as")}
    ),
    Scenario("packet limit", 30, broker_with("max_packet_size 400"), says={"mqtt": Saying(_TOO_LARGE, "over 400")}),
    Scenario(
        "no connection left",
        30,
        crowded,
        says={"mqtt": Saying("CG-UPL-004", "closed the new connection without a word")},
    ),
    *(
        Scenario(name, 30, _answering(obstacles.broker(code)), says={"mqtt": Saying(_FULL, f"login refused: {words}")})
        for name, code, words in (
            ("login at quota", QUOTA_EXCEEDED, "Quota exceeded"),
            ("server busy", SERVER_BUSY, "Server busy"),
            ("server unavailable", SERVER_UNAVAILABLE, "Server unavailable"),
        )
    ),
    Scenario(
        "quota exceeded",
        30,
        _answering(obstacles.broker(0, QUOTA_EXCEEDED)),
        says={"mqtt": Saying(_FULL, "does not take batch")},
    ),
)
SCENARIOS = (*FIELD, *WEATHER, *NETWORKS, *BROKERS)
