# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""paho-mqtt 1.6 behind the callbacks of version 2; see `agent.mqttclient`.

It reaches into what 1.6 does not publish. That is safe: 1.6.1 is the last of its line, and Debian 12 changes no more of
it than security needs.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from paho.mqtt import client as mqtt

_FAILURE = 0x80
_UNSPECIFIED = 0x80
_DISCONNECTIONS = {
    mqtt.MQTT_ERR_SUCCESS: (0x00, "Success"),
    mqtt.MQTT_ERR_PROTOCOL: (0x82, "Protocol error"),
    getattr(mqtt, "MQTT_ERR_KEEPALIVE", 16): (0x8D, "Keep alive timeout"),
}
"""Why the library ended a connection, in the reason codes of MQTT 5."""
_REFUSED_LOGINS = {
    1: (0x84, "Unsupported protocol version"),
    2: (0x85, "Client identifier not valid"),
    3: (0x88, "Server unavailable"),
    4: (0x86, "Bad user name or password"),
    5: (0x87, "Not authorized"),
}
"""What MQTT 3.1.1 says of a login [section 3.2.2.3], in the reason codes of MQTT 5."""

_PUBACKS = {
    0x00: "Success",
    0x10: "No matching subscribers",
    0x80: "Unspecified error",
    0x83: "Implementation specific error",
    0x87: "Not authorized",
    0x90: "Topic name invalid",
    0x91: "Packet identifier in use",
    0x97: "Quota exceeded",
    0x99: "Payload format invalid",
}
"""Reason codes of a PUBACK [MQTT 5.0 section 3.4.2.1]."""

_Callback = Callable[..., None]
_Base: Any = mqtt.Client
"""Untyped, since the types that are installed for checking are those of version 2."""


@dataclass(frozen=True, slots=True)
class Reason:
    """A reason code of MQTT 5 [section 2.4], as version 2 of the library gives it.

    Attributes:
        value: 0 to 255.
        name: in the words of the standard.
    """

    value: int
    name: str

    @property
    def is_failure(self) -> bool:
        """Whether it is one of the codes for failures."""
        return self.value >= _FAILURE

    def __str__(self) -> str:
        return self.name


def reason_of_login(code: Any) -> Reason:
    """Translate what came with a CONNACK: a number (MQTT 3.1.1, or a broker without MQTT 5) or a reason code."""
    if not isinstance(code, int):
        return _reason(code)
    if code == 0:
        return Reason(0, "Success")
    if code >= _FAILURE:
        return Reason(code, "Unsupported protocol version")
    return Reason(*_REFUSED_LOGINS.get(code, (_UNSPECIFIED, "Unspecified error")))


def reason_of_end(code: Any) -> Reason:
    """Translate why a connection ended: an error of the library, or the broker's reason code."""
    if not isinstance(code, int):
        return _reason(code)
    return Reason(*_DISCONNECTIONS.get(code, (_UNSPECIFIED, "Unspecified error")))


def reason_of_subscription(code: Any) -> Reason:
    """Translate a broker's word about one topic: the granted QoS (MQTT 3.1.1) or a reason code."""
    if not isinstance(code, int):
        return _reason(code)
    return Reason(code, "Unspecified error" if code >= _FAILURE else f"Granted QoS {code}")


def _reason(code: Any) -> Reason:
    return Reason(code.value, code.getName())


class Client(_Base):  # type: ignore[misc]  # see `_Base`
    """A client of paho-mqtt 1.6 that calls back as version 2 does.

    Args: as of `agent.mqttclient.Client`.
    """

    def __init__(
        self,
        client_id: str,
        *,
        clean_session: bool | None,
        protocol: int,
        reconnect_on_failure: bool = True,
        manual_ack: bool = False,
    ) -> None:
        self._manual_ack = manual_ack
        self._puback_reason = Reason(0, "Success")
        super().__init__(client_id, clean_session, protocol=protocol, reconnect_on_failure=reconnect_on_failure)

    @property
    def connect_timeout(self) -> float:
        """How long TCP may take to connect, in seconds."""
        limit: float = self._connect_timeout
        return limit

    @connect_timeout.setter
    def connect_timeout(self, seconds: float) -> None:
        self._connect_timeout = seconds

    def ack(self, mid: int, qos: int) -> int:
        """Acknowledge a message of QoS 1."""
        sent: int = super()._send_puback(mid) if qos == 1 else mqtt.MQTT_ERR_SUCCESS
        return sent

    def _send_puback(self, mid: int) -> int:
        """Called by the library after `on_message`."""
        return mqtt.MQTT_ERR_SUCCESS if self._manual_ack else self.ack(mid, 1)

    def _sock_recv(self, bufsize: int) -> bytes:
        """Let an alert of TLS end the connection: 1.6 expects no such error, and its thread would die."""
        try:
            read: bytes = super()._sock_recv(bufsize)
        except ssl.SSLError as error:
            raise ConnectionResetError(str(error)) from error
        return read

    def _handle_pubackcomp(self, cmd: str) -> int:
        """Keep the reason code, which the library reads and forgets, for `on_publish`."""
        packet = bytes(self._in_packet["packet"])
        code = packet[2] if self._protocol == mqtt.MQTTv5 and len(packet) > 2 else 0
        self._puback_reason = Reason(code, _PUBACKS.get(code, f"reason code {code:#04x}"))
        done: int = super()._handle_pubackcomp(cmd)
        return done

    @property
    def on_connect(self) -> _Callback | None:
        """Called with client, userdata, flags, reason, properties."""
        found: _Callback | None = self._on_connect
        return found

    @on_connect.setter
    def on_connect(self, callback: _Callback) -> None:
        def translated(client: Any, userdata: Any, flags: Any, code: Any, properties: Any = None) -> None:
            callback(client, userdata, flags, reason_of_login(code), properties)

        self._on_connect = translated

    @property
    def on_disconnect(self) -> _Callback | None:
        """Called with client, userdata, flags, reason, properties."""
        found: _Callback | None = self._on_disconnect
        return found

    @on_disconnect.setter
    def on_disconnect(self, callback: _Callback) -> None:
        def translated(client: Any, userdata: Any, code: Any, properties: Any = None) -> None:
            callback(client, userdata, None, reason_of_end(code), properties)

        self._on_disconnect = translated

    @property
    def on_subscribe(self) -> _Callback | None:
        """Called with client, userdata, mid, reasons, properties."""
        found: _Callback | None = self._on_subscribe
        return found

    @on_subscribe.setter
    def on_subscribe(self, callback: _Callback) -> None:
        def translated(client: Any, userdata: Any, mid: int, codes: Any, properties: Any = None) -> None:
            callback(client, userdata, mid, [reason_of_subscription(code) for code in codes], properties)

        self._on_subscribe = translated

    @property
    def on_publish(self) -> _Callback | None:
        """Called with client, userdata, mid, reason, properties."""
        found: _Callback | None = self._on_publish
        return found

    @on_publish.setter
    def on_publish(self, callback: _Callback) -> None:
        def translated(client: Any, userdata: Any, mid: int) -> None:
            callback(client, userdata, mid, self._puback_reason, None)

        self._on_publish = translated
