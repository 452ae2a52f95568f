# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The running receiver: listeners, broker, ledger, control; started in order, ended together."""

from __future__ import annotations

import contextlib
import logging
import queue
import signal
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from agent.batch import keyfile
from receiver.administration import Local
from receiver.api.access import read_token
from receiver.api.app import reading_app
from receiver.config import ApiSection, EnrolmentSection, HttpsSection, ReceiverConfig
from receiver.control import ControlServer
from receiver.enrolment.authority import CERTIFICATE_FILE
from receiver.enrolment.office import Office
from receiver.errors import ServiceError
from receiver.gate import GuardedSocket
from receiver.http import Door, gateway_app
from receiver.intake import Intake
from receiver.ledger.opening import open_ledger
from receiver.listener import Listener, bind
from receiver.mqtt import MqttConsumer
from receiver.rate import Buckets
from receiver.tally import Tally
from receiver.tls import server_context

if TYPE_CHECKING:
    from receiver.ledger.port import Queries
    from receiver.metrics import Metrics

UPKEEP_PAUSE_S = 0.01
"""Between two portions of times that are estimated anew, or of frames that are dropped: batches that wait go first."""
UPKEEP_LOOK_S = 10.0
"""How long something may wait that another receiver has left undone."""
UPKEEP_INTERVAL_S = 3600.0
UPKEEP_FRAMES = 5000
BROKER_LIMIT_S = 3.0
"""How long to wait for a broker before saying "ready" without it."""
API_CONNECTIONS = 100
API_IDLE_S = 30
FORGOTTEN_US = 30 * 24 * 3600 * 1_000_000
"""A gateway whose certificate ended longer ago is out of use, and warns nobody any more."""
ENROLMENT_IDLE_S = 10
_ASKED = "asked to"

_log = logging.getLogger(__name__)


class Service:
    """One receiver.

    Args:
        config: checked.

    Raises:
        AgentError: a port, file, key or the ledger cannot be used; nothing is left open.
    """

    def __init__(self, config: ReceiverConfig) -> None:
        self._config = config
        self._ended = threading.Event()
        self._changed = threading.Event()
        # Signal handlers may put here at any moment; an Event could deadlock with its own wait.
        self._why: queue.SimpleQueue[str] = queue.SimpleQueue()
        with contextlib.ExitStack() as undo:
            signer = keyfile.load(config.identity.key_file)
            https = config.https
            tls = None if https is None else server_context(https.certificate, https.key, https.client_ca)
            token = None if config.api is None or config.api.token_file is None else read_token(config.api.token_file)
            sockets: dict[str, GuardedSocket] = {}
            enrolment = config.enrolment
            enrolment_tls = None if enrolment is None else _enrolment_context(config, enrolment)
            for key, section in self._listening():
                if section is not None:
                    sockets[key] = undo.enter_context(bind(section.listen, section.port, key))
            ledger = self._ledger = undo.enter_context(contextlib.closing(open_ledger(config, patient=True)))
            rate = Buckets[bytes](config.limits.batches_per_s, config.limits.burst)
            tally = Tally()
            self.intake = Intake(ledger, signer, committed=self._changed.set, rate=rate, tally=tally)
            # who has entered the data folder is trusted to bring as much as he likes
            by_hand = Intake(ledger, signer, committed=self._changed.set, tally=tally)
            self._office = None
            if enrolment is not None:
                with contextlib.suppress(OSError):  # named below
                    config.receiver.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._office = Office(enrolment, config.receiver.data_dir, ledger, signer, tally.hold_back)
                undo.callback(self._office.close)
            self.mqtt = None if config.mqtt is None else MqttConsumer(config.mqtt, self.intake, signer.kid[:6].hex())
            self._listeners = []
            if https is not None:
                door = Door(https.max_body_bytes, _strangers(https.strangers_per_minute), held_back=tally.hold_back)
                self._listeners.append(
                    Listener(
                        "https",
                        gateway_app(self.intake, door, None if self._office is None else self._office.store.is_revoked),
                        sockets["https"],
                        lambda: self._why.put("a listener ended"),
                        tls=tls,
                        max_connections=https.max_connections,
                        shown_out=lambda: tally.hold_back("connections"),
                        idle_s=https.idle_s,
                    )
                )
            if enrolment is not None and self._office is not None:
                self._listeners.append(
                    Listener(
                        "enrolment",
                        self._office.app,
                        sockets["enrolment"],
                        lambda: self._why.put("a listener ended"),
                        tls=enrolment_tls,
                        max_connections=enrolment.max_connections,
                        shown_out=lambda: tally.hold_back("connections"),
                        idle_s=ENROLMENT_IDLE_S,
                    )
                )
            if config.api is not None:
                self._listeners.append(
                    Listener(
                        "api",
                        reading_app(ledger, token, self._metrics(ledger) if config.api.metrics else None),
                        sockets["api"],
                        lambda: self._why.put("a listener ended"),
                        tls=None,
                        max_connections=API_CONNECTIONS,
                        idle_s=API_IDLE_S,
                    )
                )
            self._control = None
            if config.ledger.url is None:
                # a database takes changes of others by itself
                self._control = ControlServer(config.receiver.data_dir, Local(ledger, lambda: by_hand).handlers())
            self._upkeep = threading.Thread(target=self._keep_up, name="upkeep", daemon=True)
            self._undo = undo.pop_all()

    def run(self) -> int:
        """Serve until SIGTERM, SIGINT or the end of a listener; return the exit code."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        with self.serving():
            if self.mqtt is not None:
                self.mqtt.tried.wait(BROKER_LIMIT_S)
            _log.info("event=ready %s", " ".join(self._places()))
            why = self._why.get()
            _log.info("event=stopping why=%r", why)
        return 0 if why == _ASKED else 1

    def stop(self) -> None:
        """Ask a running receiver to end."""
        self._why.put(_ASKED)

    @contextlib.contextmanager
    def serving(self) -> Iterator[None]:
        """Start everything, and end it in the order that loses nothing: first what brings batches, last the ledger."""
        with self._undo:
            try:
                if self._control is not None:
                    self._control.start()
                self._upkeep.start()
                if self._office is not None:
                    self._office.start()
                for listener in self._listeners:
                    listener.start()
                if self.mqtt is not None:
                    self.mqtt.start()
                yield
            finally:
                self._ended.set()
                self._changed.set()
                for listener in self._listeners:
                    listener.stop()
                if self.mqtt is not None:
                    self.mqtt.stop()
                if self._control is not None:
                    self._control.stop()
                if self._upkeep.is_alive():
                    self._upkeep.join()
                _log.info("event=stopped %s", self._sums())

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self.stop()

    def _keep_up(self) -> None:
        """Estimate times anew whenever anchors came, here or at another receiver; now and then, drop old frames."""
        due_s = time.monotonic()
        self._changed.set()
        while not self._ended.is_set():
            self._changed.wait(UPKEEP_LOOK_S)
            self._changed.clear()
            try:
                while self.intake.revise() and not self._ended.wait(UPKEEP_PAUSE_S):
                    pass
                if time.monotonic() >= due_s:
                    keep_days = self._config.ledger.keep_days
                    while self._ledger.upkeep(time.time_ns() // 1000, keep_days, UPKEEP_FRAMES):
                        if self._ended.wait(UPKEEP_PAUSE_S):
                            return
                    due_s = time.monotonic() + UPKEEP_INTERVAL_S
            except OSError as error:
                _log.warning("event=upkeep_failed error=%r", str(error))

    def _listening(self) -> tuple[tuple[str, HttpsSection | EnrolmentSection | ApiSection | None], ...]:
        """Return the sections that listen, with their names."""
        config = self._config
        return ("https", config.https), ("enrolment", config.enrolment), ("api", config.api)

    def _places(self) -> Iterator[str]:
        for key, section in self._listening():
            if section is not None:
                host = f"[{section.listen}]" if ":" in section.listen else section.listen
                yield f"{key}={host}:{section.port}"
        if self._config.mqtt is not None:
            yield f"mqtt={self._config.mqtt.host}:{self._config.mqtt.port}"

    def _metrics(self, ledger: Queries) -> Metrics:
        # most receivers do without; its library is loaded for those that do not
        try:
            from receiver import metrics  # noqa: PLC0415
        except ImportError as error:
            hint = "install prometheus-client (Debian: python3-prometheus-client), or take the line out"
            raise ServiceError("a library is missing", where="[api] metrics", hint=hint, code="CG-SRV-006") from error

        mqtt, office, listeners = self.mqtt, self._office, self._listeners
        sources = metrics.Sources(
            self.intake.tally,
            ledger,
            connections=lambda: {listener.name: listener.connections for listener in listeners},
            certificates=dict(_certificates(self._config)),
            gateways_end_us=(lambda: None)
            if office is None
            else lambda: office.store.first_end_us(time.time_ns() // 1000 - FORGOTTEN_US),
            broker=None
            if mqtt is None
            else lambda: metrics.Broker(mqtt.subscribed.is_set(), mqtt.dropped, mqtt.waiting),
            max_gateways=0 if self._config.api is None else self._config.api.metrics_gateways,
        )
        return metrics.Metrics(sources)

    def _sums(self) -> str:
        tally = self.intake.tally
        return f"accepted={tally.accepted} repeated={tally.repeated} refused={tally.refused} frames={tally.frames}"


def _enrolment_context(config: ReceiverConfig, section: EnrolmentSection) -> ssl.SSLContext:
    """Make the TLS side of the enrolment's port: nobody needs a certificate to come."""
    if section.certificate is not None and section.key is not None:
        return server_context(section.certificate, section.key, None)
    assert config.https is not None, "the configuration was checked"
    return server_context(config.https.certificate, config.https.key, None)


def _certificates(config: ReceiverConfig) -> Iterator[tuple[str, Path]]:
    """Give the certificates that end, by their use."""
    if config.https is not None:
        yield "https", config.https.certificate
    if config.enrolment is not None:
        if config.enrolment.certificate is not None:
            yield "enrolment", config.enrolment.certificate
        yield "authority", config.enrolment.folder(config.receiver.data_dir) / CERTIFICATE_FILE
    if config.mqtt is not None and config.mqtt.cert_file is not None:
        yield "mqtt", config.mqtt.cert_file


def _strangers(per_minute: int) -> Buckets[str] | None:
    return None if per_minute == 0 else Buckets[str](per_minute / 60, max(per_minute, 1))
