# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Batches over MQTT: `civigate/v1/{eui}/batch` up, `civigate/v1/{eui}/receipt` down, QoS 1, MQTT 5 or 3.1.1.

Every connection is a new client with a clean session: what is unanswered is known to the sender, so neither broker
nor library needs to remember anything, and nothing is sent twice behind its back. The library's thread only puts
what happens into a bounded queue.

A PUBACK is the broker's word, not the platform's: it moves a deadline and frees nothing. With MQTT 5 a broker also
tells when nobody is subscribed to what it took; that is named, and counts as a failure.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from paho.mqtt import client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from agent.mqttclient import Client
from agent.uplink import tcp
from agent.uplink.port import (
    MAX_ANSWER_BYTES,
    Arrival,
    BootClock,
    Fault,
    LinkError,
    Reply,
    Taken,
    Traffic,
)
from agent.uplink.tls import DatedContext, link_error, lost, silent

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from paho.mqtt.reasoncodes import ReasonCode

    from agent.uplink.endpoint import Endpoint

TOPIC_ROOT = "civigate/v1"
RETAINED_S = 0.1
"""How long to wait for a retained receipt after the broker answered the subscription, on a link without delay."""
MAX_QUEUED = 1024
"""Arrivals that wait for the sender. More is dropped and counted: receipts are cumulative, the next one says it all."""

_NO_SUBSCRIBERS = 0x10
_NOT_AUTHORISED = 0x87
_VERSIONS = {"5": mqtt.MQTTv5, "3.1.1": mqtt.MQTTv311}
_PACKET_OVERHEAD_BYTES = 64
"""Topic, packet id and lengths around a payload; generous."""


@dataclass(frozen=True, slots=True)
class _Connected:
    reason: ReasonCode
    max_packet_bytes: int | None
    receive_maximum: int | None


@dataclass(frozen=True, slots=True)
class _Subscribed:
    reason: ReasonCode


@dataclass(frozen=True, slots=True)
class _Published:
    mid: int
    reason: ReasonCode


@dataclass(frozen=True, slots=True)
class _Message:
    data: bytes
    received_us: int


@dataclass(frozen=True, slots=True)
class _Disconnected:
    reason: ReasonCode


class _Inbox:
    """What the library's thread leaves for the sender's: bounded, in order; `halt` ends every wait.

    Args:
        wake: called after each event, in the library's thread.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._changed = threading.Condition()
        self._events: deque[_Event] = deque()
        self._halted = False
        self.dropped = 0

    def put(self, event: _Event) -> None:
        """Append an event, or count it as dropped when the sender is too slow."""
        with self._changed:
            if len(self._events) < MAX_QUEUED or isinstance(event, _Disconnected):
                self._events.append(event)
            else:
                self.dropped += 1
            self._changed.notify()
        self._wake()

    def pop(self, timeout_s: float = 0.0) -> _Event | None:
        """Return the oldest event, None when none comes in time."""
        with self._changed:
            self._changed.wait_for(lambda: self._events or self._halted, timeout_s)
            return self._events.popleft() if self._events and not self._halted else None

    def give_back(self, events: Sequence[_Event]) -> None:
        """Put events back in front, in order."""
        with self._changed:
            self._events.extendleft(reversed(events))

    def halt(self) -> None:
        """Make `pop` return nothing from now on."""
        with self._changed:
            self._halted = True
            self._changed.notify()


_Event = _Connected | _Subscribed | _Published | _Message | _Disconnected


class _Client(Client):
    """Makes its connections as all of the uplink's are made: the library has no way to say how.

    It writes header and payload apart; without TCP_NODELAY the second would wait for the first one's ACK.
    """

    def _create_socket_connection(self) -> socket.socket:
        return tcp.connect(self._host, self._port, self._connect_timeout)


class MqttUplink:
    """One platform behind an MQTT broker (`agent.uplink.port.Uplink`).

    Args:
        endpoint: the broker.
        gateway_eui: 8 bytes, part of the topics and of the client id.
        clock: of this boot.
        role: appended to the client id.

    Raises:
        LinkError: the URL cannot be used.
    """

    def __init__(self, endpoint: Endpoint, gateway_eui: bytes, clock: BootClock, role: str = "") -> None:
        self._endpoint = endpoint
        self._where = endpoint.where
        self._clock = clock
        self.window = endpoint.window
        self._client_id = "-".join(filter(None, ("civigate", gateway_eui.hex(), endpoint.name, role)))
        self._batch_topic = f"{TOPIC_ROOT}/{gateway_eui.hex()}/batch"
        self._receipt_topic = f"{TOPIC_ROOT}/{gateway_eui.hex()}/receipt"
        self._client: mqtt.Client | None = None
        self._shown = ""
        self._inbox = _Inbox(lambda: None)
        self._batches: dict[int, int] = {}
        self._held: deque[tuple[int, bytes]] = deque()
        self._slots = self.window
        self._past = Traffic()
        self._max_packet_bytes: int | None = None
        self._interrupted = False

    @property
    def traffic(self) -> Traffic:
        """What it has carried so far, over all its connections."""
        client = self._client
        return self._past + (Traffic() if client is None else _carried(client.socket()))

    def connect(self, wake: Callable[[], None]) -> None:
        """Read certificates and password as they are now, connect to the broker and log in."""
        self.close()
        self._inbox = _Inbox(wake)
        if self._interrupted:
            raise lost(self._where, "interrupted")
        self._client = client = self._new_client(self._inbox)
        try:
            self._log_in(client)
        except LinkError as error:
            self._endpoint.blame(self._shown, error, answered=False)
            raise

    def _log_in(self, client: mqtt.Client) -> None:
        try:
            client.connect(
                self._endpoint.host, self._endpoint.port, self._endpoint.keepalive_s, **self._connect_options()
            )
        except (OSError, ValueError) as error:
            raise link_error(error, self._where) from error
        client.loop_start()
        connected = self._await(_Connected, "the broker does not answer the login")
        if connected.reason.is_failure:
            raise self._not_let_in(f"login refused: {connected.reason}")
        self._max_packet_bytes = connected.max_packet_bytes
        self._slots = self.window if connected.receive_maximum is None else connected.receive_maximum

    def ask(self, stream_id: bytes) -> float:
        """Subscribe to the receipts; a retained one follows at once, whatever stream it is about."""
        del stream_id
        client = self._linked()
        asked_s = time.monotonic()
        if self._endpoint.mqtt_version == "5":
            client.subscribe(self._receipt_topic, options=SubscribeOptions(qos=1))
        else:
            client.subscribe(self._receipt_topic, qos=1)
        subscribed = self._await(_Subscribed, "the broker does not answer the subscription")
        if subscribed.reason.is_failure:
            raise self._not_let_in(f"subscription to {self._receipt_topic} refused: {subscribed.reason}")
        # The retained message follows the broker's answer on the same connection, nobody says when.
        return RETAINED_S + 4 * (time.monotonic() - asked_s)

    def send(self, batch: int, wire: bytes) -> None:
        """Hand one batch to the library, which sends it from its own thread, or hold it until the broker has a slot."""
        client = self._linked()
        needed = len(wire) + len(self._batch_topic) + _PACKET_OVERHEAD_BYTES
        if self._max_packet_bytes is not None and needed > self._max_packet_bytes:
            what = f"the broker takes no packet over {self._max_packet_bytes} bytes, batch {batch} needs {needed}"
            hint = "raise the broker's packet limit to 1 MiB (mosquitto: max_packet_size), or lower batch_frames"
            raise LinkError(Fault.OVERSIZE, what, where=self._where, hint=hint, batch=batch)
        self._held.append((batch, wire))
        self._publish(client)

    def receive(self) -> Sequence[Arrival]:
        """Return the signs of life and answers that wait."""
        arrived: list[Arrival] = []
        if not self._batches and not self._held and self._client is not None:
            self._notice_certificate()
        while (event := self._inbox.pop()) is not None:
            bad = isinstance(event, _Disconnected) or (isinstance(event, _Published) and event.reason.value != 0)
            if bad and arrived:
                # What came before the bad news is given first.
                self._inbox.give_back([event])
                break
            match event:
                case _Message(data, received_us):
                    arrived.append(Reply(data, received_us))
                case _Published(mid, reason):
                    arrived.append(Taken(self._published(mid, reason)))
                case _Disconnected(reason):
                    raise self._ended(reason)
                case _Connected() | _Subscribed():
                    pass  # `_await` took them, or gave up on them
        return arrived

    def interrupt(self) -> None:
        """Make a wait for the broker fail, and refuse further ones."""
        self._interrupted = True
        self._inbox.halt()

    def close(self) -> None:
        """Drop the connection and its client."""
        client, self._client = self._client, None
        if client is None:
            return
        with contextlib.suppress(OSError, ValueError):
            client.disconnect()
        client.loop_stop()
        self._batches.clear()
        self._held.clear()

    # --- the sender's thread

    def _notice_certificate(self) -> None:
        """End the connection, between two batches, when there is another certificate to show: nothing else would."""
        if self._endpoint.scheme == "mqtts" and self._endpoint.outdated(self._shown):
            hint = "nothing is wrong: it connects again at once"
            raise LinkError(Fault.LOST, "connecting anew, with another certificate", where=self._where, hint=hint)

    def _new_client(self, inbox: _Inbox) -> mqtt.Client:
        """Make a client whose callbacks do nothing but queue."""

        def on_connect(
            _c: mqtt.Client, _u: Any, _f: mqtt.ConnectFlags, reason: ReasonCode, props: Properties | None
        ) -> None:
            limits = (getattr(props, name, None) for name in ("MaximumPacketSize", "ReceiveMaximum"))
            inbox.put(_Connected(reason, *limits))

        def on_subscribe(_c: mqtt.Client, _u: Any, _m: int, reasons: list[ReasonCode], _p: Properties | None) -> None:
            inbox.put(_Subscribed(reasons[0]))

        def on_publish(_c: mqtt.Client, _u: Any, mid: int, reason: ReasonCode, _p: Properties | None) -> None:
            inbox.put(_Published(mid, reason))

        def on_message(_c: mqtt.Client, _u: Any, message: mqtt.MQTTMessage) -> None:
            if len(message.payload) <= MAX_ANSWER_BYTES:
                inbox.put(_Message(bytes(message.payload), self._clock.boottime_us()))
            else:
                inbox.dropped += 1

        def on_disconnect(
            _c: mqtt.Client, _u: Any, _f: mqtt.DisconnectFlags, reason: ReasonCode, _p: Properties | None
        ) -> None:
            inbox.put(_Disconnected(reason))

        def on_socket_close(_c: mqtt.Client, _u: Any, sock: mqtt.SocketLike) -> None:
            self._past += _carried(sock)

        five = self._endpoint.mqtt_version == "5"
        client = _Client(
            self._client_id,
            clean_session=None if five else True,
            protocol=_VERSIONS[self._endpoint.mqtt_version],
            reconnect_on_failure=False,
        )
        client.connect_timeout = self._endpoint.connect_timeout_s
        client.max_inflight_messages_set(self.window)
        client.max_queued_messages_set(self.window)
        self._shown = ""
        if self._endpoint.scheme == "mqtts":
            tls, self._shown = self._endpoint.context(DatedContext)
            client.tls_set_context(tls)
        if self._endpoint.sets is not None:
            self._endpoint.sets.using = self._shown
        if self._endpoint.user is not None:
            client.username_pw_set(self._endpoint.user, _password(self._endpoint.password_file))
        client.on_connect = on_connect
        client.on_subscribe = on_subscribe
        client.on_publish = on_publish
        client.on_message = on_message
        client.on_disconnect = on_disconnect
        client.on_socket_close = on_socket_close
        return client

    def _connect_options(self) -> dict[str, Any]:
        if self._endpoint.mqtt_version != "5":
            return {}
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho leaves it untyped
        properties.MaximumPacketSize = MAX_ANSWER_BYTES + _PACKET_OVERHEAD_BYTES
        return {"clean_start": True, "properties": properties}

    def _linked(self) -> mqtt.Client:
        if self._client is None:
            raise lost(self._where, "not connected")
        return self._client

    def _await(self, kind: type[Any], otherwise: str) -> Any:
        """Take events until one of a kind comes, within the connect time-out; messages are kept for `receive`."""
        deadline = time.monotonic() + self._endpoint.connect_timeout_s
        kept: list[_Event] = []
        try:
            while (event := self._inbox.pop(max(0.0, deadline - time.monotonic()))) is not None:
                if isinstance(event, kind):
                    return event
                if isinstance(event, _Disconnected):
                    raise self._ended(event.reason, logging_in=kind is _Connected)
                kept.append(event)
        finally:
            self._inbox.give_back(kept)
        if self._interrupted:
            raise lost(self._where, "interrupted")
        raise silent(self._where, otherwise)

    def _ended(self, reason: ReasonCode, *, logging_in: bool = False) -> LinkError:
        if logging_in and self._endpoint.scheme == "mqtts":
            # TLS 1.3 tells a client only after the handshake that its certificate is not taken, and the library
            # does not pass that on.
            what = f"the broker closes the connection before the login ({reason})"
            hint = "most often it does not take our certificate: check cert_file and key_file, and the broker's log"
            return LinkError(Fault.TLS, what, where=self._where, hint=hint)
        what = f"the broker ended the connection ({reason})"
        hint = f"it is tried again; if it stays, look for a second client named {self._client_id} in the broker's log"
        return LinkError(Fault.LOST, what, where=self._where, hint=hint)

    def _publish(self, client: mqtt.Client) -> None:
        """Publish what is held, as far as the broker has slots (MQTT 5: receive maximum)."""
        while self._held and len(self._batches) < self._slots:
            batch, wire = self._held.popleft()
            sent = client.publish(self._batch_topic, wire, qos=1)
            if sent.rc != mqtt.MQTT_ERR_SUCCESS:
                raise lost(self._where, mqtt.error_string(sent.rc).rstrip(".").lower())
            self._batches[sent.mid] = batch

    def _published(self, mid: int, reason: ReasonCode) -> int:
        batch = self._batches.pop(mid, 0)
        self._publish(self._linked())
        if reason.value == _NO_SUBSCRIBERS:
            what = f"the broker took batch {batch}, but nobody is subscribed to {self._batch_topic}"
            hint = "start the receiver, or check its broker and topic: what the broker takes now is lost there"
            raise LinkError(Fault.NOBODY, what, where=self._where, hint=hint)
        if reason.is_failure:
            what = f"the broker does not take batch {batch}: {reason}"
            fault, hint = Fault.STATUS, "look at the broker's quota and log"
            if reason.value == _NOT_AUTHORISED:
                fault, hint = Fault.LOGIN, f"let this client publish to {self._batch_topic}"
            raise LinkError(fault, what, where=self._where, hint=hint)
        return batch

    def _not_let_in(self, what: str) -> LinkError:
        hint = "check cert_file, user and password_file, and the broker's access list for this gateway"
        return LinkError(Fault.LOGIN, what, where=self._where, hint=hint)


def _carried(sock: object) -> Traffic:
    return tcp.traffic(sock) if isinstance(sock, socket.socket) else Traffic()


def _password(path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        with path.open(encoding="utf-8") as file:
            return file.readline(4096).rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        hint = "password_file is one line of text, readable by this program"
        raise LinkError(Fault.FILES, str(error), where=str(path), hint=hint) from error
