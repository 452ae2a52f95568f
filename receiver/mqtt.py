# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Batches by MQTT: `civigate/v1/{eui}/batch` comes in, `civigate/v1/{eui}/receipt` goes back.

A batch is acknowledged to the broker after its commit, so that a receiver that is killed gets it again. That is a
courtesy only: gateways keep a batch until they have its receipt. Receipts are retained, for gateways that connect
later; refusals are not, because they would hide the receipt, and whoever missed one is refused again.

The library's thread only queues; one thread of ours verifies and commits. Batches that wait together share a receipt.
"""

from __future__ import annotations

import logging
import re
import secrets
import socket
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from paho.mqtt import client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from agent.batch.model import MAX_WIRE_BYTES
from agent.mqttclient import Client
from receiver.config import MqttSection
from receiver.errors import LedgerError, ServiceError
from receiver.intake import NOT_OURS, Answer, Intake, TooFastError
from receiver.rate import Buckets
from receiver.retained import RetainedReceipts
from receiver.tls import client_context

if TYPE_CHECKING:
    from paho.mqtt.reasoncodes import ReasonCode

TOPIC_ROOT = "civigate/v1"
RECEIVE_MAXIMUM = 64
"""Batches that the broker may have unacknowledged with us (MQTT 5)."""
MAX_QUEUED_BYTES = 64 * 1024 * 1024
"""Payloads that wait for us; then the library stops reading from the broker ..."""
FULL_LIMIT_S = 10.0
"""... for so long, then a batch is dropped: its gateway sends it again."""
TOGETHER = 16
"""Batches that are taken together and share their receipts."""
SESSION_EXPIRY_S = 3600
CONNECT_LIMIT_S = 10.0
LONGEST_PAUSE_S = 30
LEDGER_PAUSE_S = 4.0
"""Longest pause before a batch is offered to a ledger again that could not take it: to ask costs next to nothing."""
STOP_LIMIT_S = 10.0
RETAINED_LOOK_S = 0.1
"""How often to see whether the broker has the receipts that other receivers may overtake."""
RUBBISH_PER_MINUTE = 60
"""Messages on the topic of one gateway that do not verify; more are taken from the broker unread and unanswered."""
_PACKET_OVERHEAD_BYTES = 256
_TOPIC = re.compile(rf"{TOPIC_ROOT}/([0-9a-f]{{16}})/batch")
_VERSIONS = {"5": mqtt.MQTTv5, "3.1.1": mqtt.MQTTv311}

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Message:
    """A batch as it came.

    Attributes:
        eui: from the topic.
        wire: payload.
        mid: for the acknowledgement.
        qos: the same.
        connection: counts connections; an acknowledgement is good only on its own.
    """

    eui: bytes
    wire: bytes
    mid: int
    qos: int
    connection: int


class _Inbox:
    """What the library's thread leaves for ours, bounded by bytes."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._messages: deque[_Message] = deque()
        self._bytes = 0
        self._closed = False

    def put(self, message: _Message) -> bool:
        """Append a message, after a bounded wait for room; False if there was none."""
        with self._changed:
            room = self._changed.wait_for(
                lambda: self._closed or self._bytes + len(message.wire) <= MAX_QUEUED_BYTES, FULL_LIMIT_S
            )
            if not room or self._closed:
                return False
            self._messages.append(message)
            self._bytes += len(message.wire)
            self._changed.notify_all()
            return True

    def take(self, limit_s: float | None) -> list[_Message] | None:
        """Wait for messages and return some of them; none after a limit, None when the inbox was closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._messages, limit_s)
            if self._closed:
                return None
            taken = [self._messages.popleft() for _ in range(min(TOGETHER, len(self._messages)))]
            self._bytes -= sum(len(message.wire) for message in taken)
            self._changed.notify_all()
            return taken

    def __len__(self) -> int:
        return len(self._messages)

    def close(self) -> None:
        """End every wait."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


class MqttConsumer:
    """Takes batches from a broker, for as long as it takes to reach it.

    Args:
        section: the broker.
        intake: the way into the ledger.
        client_name: tells this receiver from others at the broker.

    Raises:
        ServiceError: a certificate, key or password file cannot be used.
    """

    def __init__(self, section: MqttSection, intake: Intake, client_name: str) -> None:
        self._section = section
        self._intake = intake
        self._inbox = _Inbox()
        self._stop = threading.Event()
        self._connections = 0
        self._rubbish = Buckets[bytes](RUBBISH_PER_MINUTE / 60, RUBBISH_PER_MINUTE)
        self._said = ""
        self.subscribed = threading.Event()
        """Set while batches can come."""
        self.tried = threading.Event()
        """Set once the first attempt to reach the broker has succeeded or failed."""
        self.dropped = 0
        # With a shared subscription the others take over what one leaves, and a broker would go on to put a share aside
        # for a session that never returns. Alone, the session keeps what comes while we restart.
        self._keeps_session = section.shared_group is None
        suffix = "" if self._keeps_session else f"-{secrets.token_hex(4)}"
        self._client = self._new_client(f"civigate-receiver-{client_name}{suffix}")
        self._retained = RetainedReceipts(intake.newer, self._retain)
        self._worker = threading.Thread(target=self._run, name="mqtt-intake", daemon=True)

    @property
    def waiting(self) -> int:
        """Batches that wait to be verified."""
        return len(self._inbox)

    def start(self) -> None:
        """Connect, now or whenever the broker is there, and take batches."""
        section = self._section
        self._worker.start()
        if section.version == "5":
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call] # paho leaves it untyped
            properties.ReceiveMaximum = RECEIVE_MAXIMUM
            properties.MaximumPacketSize = MAX_WIRE_BYTES + _PACKET_OVERHEAD_BYTES
            properties.SessionExpiryInterval = SESSION_EXPIRY_S if self._keeps_session else 0
            self._client.connect_async(
                section.host,
                section.port,
                section.keepalive_s,
                clean_start=not self._keeps_session,
                properties=properties,
            )
        else:
            self._client.connect_async(section.host, section.port, section.keepalive_s)
        self._client.loop_start()

    def stop(self) -> None:
        """Finish the batch at hand and leave the broker."""
        self._stop.set()
        self._inbox.close()
        if self._worker.is_alive():
            self._worker.join(STOP_LIMIT_S)
        self._client.disconnect()
        self._client.loop_stop()

    # -- the library's thread

    def _new_client(self, client_id: str) -> mqtt.Client:
        section = self._section
        client = Client(
            client_id,
            clean_session=None if section.version == "5" else not self._keeps_session,
            protocol=_VERSIONS[section.version],
            manual_ack=True,
        )
        client.connect_timeout = CONNECT_LIMIT_S
        client.reconnect_delay_set(1, LONGEST_PAUSE_S)
        if section.tls:
            client.tls_set_context(client_context(section.ca_file, section.cert_file, section.key_file))
        if section.user is not None:
            password = None if section.password_file is None else read_password(section.password_file)
            client.username_pw_set(section.user, password)
        client.on_socket_open = _send_at_once
        client.on_connect = self._on_connect
        client.on_connect_fail = self._on_connect_fail
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        return client

    def _on_connect(
        self,
        client: mqtt.Client,
        _userdata: object,
        _flags: mqtt.ConnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        self._connections += 1
        if reason.is_failure:
            self._say(f"login refused: {reason}")
            return
        topic = f"{TOPIC_ROOT}/+/batch"
        if self._section.shared_group is not None:
            topic = f"$share/{self._section.shared_group}/{topic}"
        client.subscribe(topic, qos=1)

    def _on_subscribe(
        self,
        _client: mqtt.Client,
        _userdata: object,
        _mid: int,
        reasons: Sequence[ReasonCode],
        _properties: Properties | None,
    ) -> None:
        if reasons[0].is_failure:
            self._say(f"subscription refused: {reasons[0]}")
            return
        self.subscribed.set()
        self._say("subscribed")

    def _on_connect_fail(self, _client: mqtt.Client, _userdata: object) -> None:
        self._say("cannot be reached, or TLS fails")

    def _on_disconnect(
        self,
        _client: mqtt.Client,
        _userdata: object,
        _flags: mqtt.DisconnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        self.subscribed.clear()
        self._connections += 1
        if not self._stop.is_set():
            self._say(f"connection ended: {reason}")

    def _on_message(self, _client: mqtt.Client, _userdata: object, message: mqtt.MQTTMessage) -> None:
        match = _TOPIC.fullmatch(message.topic)
        if match is None:
            _log.warning("event=ignored topic=%r", message.topic[:100])
            return
        queued = _Message(bytes.fromhex(match[1]), bytes(message.payload), message.mid, message.qos, self._connections)
        if not self._inbox.put(queued):
            self.dropped += 1

    def _say(self, state: str) -> None:
        """Log a state once, however often it repeats."""
        self.tried.set()
        if state != self._said:
            self._said = state
            level = logging.INFO if state == "subscribed" else logging.WARNING
            _log.log(level, "event=broker broker=%s:%d state=%r", self._section.host, self._section.port, state)

    # -- our thread

    def _run(self) -> None:
        while (messages := self._inbox.take(RETAINED_LOOK_S if self._retained else None)) is not None:
            # the last receipt of a stream says what all before it say
            receipts: dict[tuple[bytes, bytes], Answer] = {}
            done: list[_Message] = []
            for message in messages:
                if not self._take(message, receipts):
                    return
                done.append(message)
            for (eui, _), answer in receipts.items():
                self._acknowledge(eui, answer)
            for message in done:
                if message.connection == self._connections:
                    self._client.ack(message.mid, message.qos)
            if self.subscribed.is_set():
                try:
                    self._retained.look_after()
                except LedgerError as error:
                    _log.warning("event=receipt_not_renewed error=%r code=%s", str(error), error.code)

    def _acknowledge(self, eui: bytes, answer: Answer) -> None:
        if self._section.shared_group is not None and answer.receipt is not None:
            self._retained.leave(eui, answer.receipt, answer.data)
        else:
            self._retain(eui, answer.data)

    def _retain(self, eui: bytes, data: bytes) -> mqtt.MQTTMessageInfo:
        return self._client.publish(_receipt_topic(eui), data, qos=1, retain=True)

    def _take(self, message: _Message, receipts: dict[tuple[bytes, bytes], Answer]) -> bool:
        """Commit a batch or refuse it; False when we are to stop before the ledger took it."""
        pause_s = 1.0
        while True:
            try:
                if self._rubbish.wait_s(message.eui) and not self._intake.is_known(message.wire):
                    self._intake.tally.hold_back("strangers")
                    return True
                answer = self._intake.submit(message.wire, sender=f"mqtt {message.eui.hex()}", topic_eui=message.eui)
            except TooFastError as error:
                # no answer: the gateway sends it again when it has waited long enough
                _log.warning("event=held_back gateway=%s wait_s=%.1f", message.eui.hex(), error.wait_s)
                return True
            except LedgerError as error:
                _log.error("event=ledger_failed error=%r hint=%r code=%s", str(error), error.hint, error.code)
                if not error.retryable:
                    return True  # it would not help this batch to hold up all others; its gateway keeps it
                if self._stop.wait(pause_s):
                    return False
                pause_s = min(2 * pause_s, LEDGER_PAUSE_S)
                continue
            except Exception:
                _log.exception("event=batch_failed gateway=%s", message.eui.hex())
                return True
            if answer.receipt is not None:
                receipts[message.eui, answer.receipt.stream_id] = answer
            else:
                if answer.refusal is not None and answer.refusal.reason in NOT_OURS:
                    self._rubbish.take(message.eui)
                self._client.publish(_receipt_topic(message.eui), answer.data, qos=1)
            return True


def read_password(path: Path) -> str:
    """Read the first line of a password file.

    Raises:
        ServiceError: CG-SRV-005, it cannot be read.
    """
    try:
        with path.open(encoding="utf-8") as file:
            return file.readline(4096).rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        hint = "correct [mqtt] password_file, or the file's permissions"
        raise ServiceError(f"cannot be read: {reason}", where=str(path), hint=hint, code="CG-SRV-005") from error


def _receipt_topic(eui: bytes) -> str:
    return f"{TOPIC_ROOT}/{eui.hex()}/receipt"


def _send_at_once(_client: mqtt.Client, _userdata: object, sock: mqtt.SocketLike) -> None:
    if isinstance(sock, socket.socket):
        # the library writes header and payload apart; the second would wait for the acknowledgement of the first
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
