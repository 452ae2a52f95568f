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
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from paho.mqtt import client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from agent.uplink import tcp
from agent.uplink.mqttline import (
    BUSY,
    NO_SUBSCRIBERS,
    NOT_AUTHORISED,
    REASONS,
    TAKEN_OVER,
    TOO_LARGE,
    Connected,
    Disconnected,
    Event,
    Inbox,
    LineClient,
    Message,
    Published,
    Subscribed,
)
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
from agent.uplink.tls import DatedContext, link_error, lost, mute, silent

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from paho.mqtt.reasoncodes import ReasonCode

    from agent.uplink.endpoint import Endpoint

TOPIC_ROOT = "civigate/v1"
RETAINED_S = 0.1
"""How long to wait for a retained receipt after the broker answered the subscription, on a link without delay."""
_SIZE_HINT = "raise the broker's packet limit to 1 MiB (mosquitto: max_packet_size), or lower batch_frames"
_ROOM_HINT = "the broker is full or busy: it is tried again later; raise its limits (connections, quota, queues)"
_VERSIONS = {"5": mqtt.MQTTv5, "3.1.1": mqtt.MQTTv311}
_PACKET_OVERHEAD_BYTES = 64
"""Topic, packet id and lengths around a payload; generous."""


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
        self._client: LineClient | None = None
        self._shown = ""
        self._inbox = Inbox(lambda: None)
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
        self._inbox = Inbox(wake)
        if self._interrupted:
            raise lost(self._where, "interrupted")
        self._client = client = self._new_client(self._inbox)
        try:
            self._log_in(client)
        except LinkError as error:
            self._endpoint.blame(self._shown, error, answered=False)
            raise

    def _log_in(self, client: LineClient) -> None:
        try:
            client.connect(
                self._endpoint.host, self._endpoint.port, self._endpoint.keepalive_s, **self._connect_options()
            )
        except (OSError, ValueError) as error:
            if isinstance(error, TimeoutError):
                unheard = mute(self._where) if client.accepted else silent(self._where, "no connection in time")
                raise unheard from error
            raise link_error(error, self._where) from error
        client.loop_start()
        connected = self._await(Connected, "the broker does not answer the login")
        if connected.reason.is_failure:
            raise self._not_let_in(f"login refused: {connected.reason}", connected.reason)
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
        subscribed = self._await(Subscribed, "the broker does not answer the subscription")
        if subscribed.reason.is_failure:
            what = f"subscription to {self._receipt_topic} refused: {subscribed.reason}"
            raise self._not_let_in(what, subscribed.reason)
        # The retained message follows the broker's answer on the same connection, nobody says when.
        return RETAINED_S + 4 * (time.monotonic() - asked_s)

    def send(self, batch: int, wire: bytes, meanwhile: Callable[[], None]) -> None:
        """Hand one batch to the library, which sends it from its own thread, or hold it until the broker has a slot."""
        del meanwhile  # nothing is waited for: whoever has more may send it
        client = self._linked()
        needed = len(wire) + len(self._batch_topic) + _PACKET_OVERHEAD_BYTES
        if self._max_packet_bytes is not None and needed > self._max_packet_bytes:
            what = f"the broker takes no packet over {self._max_packet_bytes} bytes, batch {batch} needs {needed}"
            raise LinkError(Fault.OVERSIZE, what, where=self._where, hint=_SIZE_HINT, batch=batch)
        self._held.append((batch, wire))
        self._publish(client)

    def receive(self) -> Sequence[Arrival]:
        """Return the signs of life and answers that wait."""
        arrived: list[Arrival] = []
        if not self._batches and not self._held and self._client is not None:
            self._notice_certificate()
        while (event := self._inbox.pop()) is not None:
            bad = isinstance(event, Disconnected) or (isinstance(event, Published) and event.reason.value != 0)
            if bad and arrived:
                # What came before the bad news is given first.
                self._inbox.give_back([event])
                break
            match event:
                case Message(data, received_us):
                    arrived.append(Reply(data, received_us))
                case Published(mid, reason):
                    arrived.append(Taken(self._published(mid, reason)))
                case Disconnected(reason):
                    raise self._ended(reason)
                case Connected() | Subscribed():
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

    def _new_client(self, inbox: Inbox) -> LineClient:
        """Make a client whose callbacks do nothing but queue."""

        def on_connect(
            _c: mqtt.Client, _u: Any, _f: mqtt.ConnectFlags, reason: ReasonCode, props: Properties | None
        ) -> None:
            limits = (getattr(props, name, None) for name in ("MaximumPacketSize", "ReceiveMaximum"))
            inbox.put(Connected(reason, *limits))

        def on_subscribe(_c: mqtt.Client, _u: Any, _m: int, reasons: list[ReasonCode], _p: Properties | None) -> None:
            inbox.put(Subscribed(reasons[0]))

        def on_publish(_c: mqtt.Client, _u: Any, mid: int, reason: ReasonCode, _p: Properties | None) -> None:
            inbox.put(Published(mid, reason))

        def on_message(_c: mqtt.Client, _u: Any, message: mqtt.MQTTMessage) -> None:
            if len(message.payload) <= MAX_ANSWER_BYTES:
                inbox.put(Message(bytes(message.payload), self._clock.boottime_us()))
            else:
                inbox.dropped += 1

        def on_disconnect(
            _c: mqtt.Client, _u: Any, _f: mqtt.DisconnectFlags, reason: ReasonCode, _p: Properties | None
        ) -> None:
            inbox.put(Disconnected(reason))

        def on_socket_close(_c: mqtt.Client, _u: Any, sock: mqtt.SocketLike) -> None:
            self._past += _carried(sock)

        five = self._endpoint.mqtt_version == "5"
        client = LineClient(
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

    def _linked(self) -> LineClient:
        if self._client is None:
            raise lost(self._where, "not connected")
        return self._client

    def _await(self, kind: type[Any], otherwise: str) -> Any:
        """Take events until one of a kind comes, within the connect time-out; messages are kept for `receive`."""
        deadline = time.monotonic() + self._endpoint.connect_timeout_s
        kept: list[Event] = []
        try:
            while (event := self._inbox.pop(max(0.0, deadline - time.monotonic()))) is not None:
                if isinstance(event, kind):
                    return event
                if isinstance(event, Disconnected):
                    raise self._ended(event.reason, logging_in=kind is Connected)
                kept.append(event)
        finally:
            self._inbox.give_back(kept)
        if self._interrupted:
            raise lost(self._where, "interrupted")
        raise silent(self._where, otherwise)

    def _ended(self, reason: ReasonCode, *, logging_in: bool = False) -> LinkError:
        if logging_in and self._client is not None and self._client.strange:
            hint = "a captive portal or a web server answers: log in to this network, or correct the url"
            return LinkError(Fault.PORTAL, "what answers is no MQTT broker", where=self._where, hint=hint)
        if reason.value == TOO_LARGE:
            return self._too_large("a packet", None)
        if logging_in and self._endpoint.scheme == "mqtts":
            # TLS 1.3 tells a client only after the handshake that its certificate is not taken, and the library
            # does not pass that on.
            what = f"the broker closes the connection before the login ({reason})"
            hint = "most often it does not take our certificate: check cert_file and key_file, and the broker's log"
            return LinkError(Fault.TLS, what, where=self._where, hint=hint)
        what = f"the broker ended the connection ({reason})"
        hint = "it is tried again; if it stays, look at the broker's log"
        if reason.value == TAKEN_OVER:
            hint = f"a second client named {self._client_id} is there: a cloned card, or a second agent"
            return LinkError(Fault.STATUS, what, where=self._where, hint=hint)
        if reason.value in BUSY:
            return LinkError(Fault.STATUS, what, where=self._where, hint=_ROOM_HINT)
        return LinkError(Fault.LOST, what, where=self._where, hint=hint)

    def _too_large(self, what: str, batch: int | None) -> LinkError:
        what = f"the broker takes no packet as large as {what}"
        return LinkError(Fault.OVERSIZE, what, where=self._where, hint=_SIZE_HINT, batch=batch)

    def _publish(self, client: LineClient) -> None:
        """Publish what is held, as far as the broker has slots (MQTT 5: receive maximum)."""
        while self._held and len(self._batches) < self._slots:
            batch, wire = self._held.popleft()
            sent = client.publish(self._batch_topic, wire, qos=1)
            if sent.rc != mqtt.MQTT_ERR_SUCCESS:
                raise lost(self._where, mqtt.error_string(sent.rc).rstrip(".").lower())
            self._batches[sent.mid] = batch

    def _published(self, mid: int, reason: ReasonCode) -> int:
        client = self._linked()
        batch = self._batches.pop(mid, 0)
        self._publish(client)
        if reason.value == NO_SUBSCRIBERS:
            what = f"the broker took batch {batch}, but nobody is subscribed to {self._batch_topic}"
            hint = "start the receiver, or check its broker and topic: what the broker takes now is lost there"
            raise LinkError(Fault.NOBODY, what, where=self._where, hint=hint)
        if reason.is_failure:
            code = client.reasons.pop(mid, reason.value)
            if code == TOO_LARGE:
                raise self._too_large(f"batch {batch}", batch)
            what = f"the broker does not take batch {batch}: {REASONS.get(code, f'reason {code:#04x}')}"
            fault, hint = Fault.STATUS, _ROOM_HINT if code in BUSY else "look at the broker's log"
            if code == NOT_AUTHORISED:
                fault, hint = Fault.LOGIN, f"let this client publish to {self._batch_topic}"
            raise LinkError(fault, what, where=self._where, hint=hint)
        return batch

    def _not_let_in(self, what: str, reason: ReasonCode) -> LinkError:
        if reason.value in BUSY:
            return LinkError(Fault.STATUS, what, where=self._where, hint=_ROOM_HINT)
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
