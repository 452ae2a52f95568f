# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What the MQTT library is given and gives: a client that connects as all of the uplink does, and a bounded inbox.

The library's thread only puts what happens into the inbox; everything else is the sender's thread's.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agent.mqttclient import Client
from agent.uplink import tcp

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Sequence

    from paho.mqtt.reasoncodes import ReasonCode

MAX_QUEUED = 1024
"""Arrivals that wait for the sender. More is dropped and counted: receipts are cumulative, the next one says it all."""

NO_SUBSCRIBERS = 0x10
NOT_AUTHORISED = 0x87
TAKEN_OVER = 0x8E
TOO_LARGE = 0x95
REASONS = {
    0x83: "Implementation specific error",
    NOT_AUTHORISED: "Not authorized",
    0x88: "Server unavailable",
    0x89: "Server busy",
    0x8B: "Server shutting down",
    0x90: "Topic name invalid",
    0x93: "Receive maximum exceeded",
    TOO_LARGE: "Packet too large",
    0x96: "Message rate too high",
    0x97: "Quota exceeded",
    0x99: "Payload format invalid",
    0x9F: "Connection rate exceeded",
}
"""Names of some reason codes [MQTT 5.0 section 2.4]."""
BUSY = frozenset({0x88, 0x89, 0x8B, 0x93, 0x96, 0x97, 0x9F})
"""Those of a broker that has no room at present, for the login or for a batch."""
_GREETINGS = frozenset({0x20, 0xF0})
"""What a broker says first: CONNACK or AUTH [MQTT 5.0 section 2.1.2]."""

_FAILURE = 0x80
_UNSPECIFIED = 0x80
_REASON_OFFSET = 2


@dataclass(frozen=True, slots=True)
class Connected:
    """The broker's answer to the login, and its limits; None where it names none."""

    reason: ReasonCode
    max_packet_bytes: int | None
    receive_maximum: int | None


@dataclass(frozen=True, slots=True)
class Subscribed:
    """Its answer to a subscription."""

    reason: ReasonCode


@dataclass(frozen=True, slots=True)
class Published:
    """Its answer to a batch."""

    mid: int
    reason: ReasonCode


@dataclass(frozen=True, slots=True)
class Message:
    """An answer of the platform."""

    data: bytes
    received_us: int


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The end of the connection."""

    reason: ReasonCode


class Inbox:
    """What the library's thread leaves for the sender's: bounded, in order; `halt` ends every wait.

    Args:
        wake: called after each event, in the library's thread.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._changed = threading.Condition()
        self._events: deque[Event] = deque()
        self._halted = False
        self.dropped = 0

    def put(self, event: Event) -> None:
        """Append an event, or count it as dropped when the sender is too slow."""
        with self._changed:
            if len(self._events) < MAX_QUEUED or isinstance(event, Disconnected):
                self._events.append(event)
            else:
                self.dropped += 1
            self._changed.notify()
        self._wake()

    def pop(self, timeout_s: float = 0.0) -> Event | None:
        """Return the oldest event, None when none comes in time."""
        with self._changed:
            self._changed.wait_for(lambda: self._events or self._halted, timeout_s)
            return self._events.popleft() if self._events and not self._halted else None

    def give_back(self, events: Sequence[Event]) -> None:
        """Put events back in front, in order."""
        with self._changed:
            self._events.extendleft(reversed(events))

    def halt(self) -> None:
        """Make `pop` return nothing from now on."""
        with self._changed:
            self._halted = True
            self._changed.notify()


Event = Connected | Subscribed | Published | Message | Disconnected


class LineClient(Client):
    """Makes its connections as all of the uplink's are made: the library has no way to say how.

    It writes header and payload apart; without TCP_NODELAY the second would wait for the first one's ACK.
    """

    accepted = False
    """Whether TCP has connected."""
    greeting = b""
    """The first that came."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.reasons: dict[int, int] = {}
        """Reason codes of PUBACKs, by packet identifier, until they are looked at."""

    def _create_socket_connection(self) -> socket.socket:
        sock = tcp.connect(self._host, self._port, self._connect_timeout)
        self.accepted = True
        return sock

    def _sock_recv(self, bufsize: int) -> bytes:
        data: bytes = super()._sock_recv(bufsize)
        if not self.greeting:
            self.greeting = data[:1]
            if self.strange:
                raise ConnectionResetError("no MQTT broker")  # before the library makes something of the rest
        return data

    @property
    def strange(self) -> bool:
        """Whether something has answered that no MQTT broker says first."""
        return bool(self.greeting) and self.greeting[0] & 0xF0 not in _GREETINGS

    def _handle_pubackcomp(self, cmd: Any) -> Any:
        """Keep the reason code, and let the library see one that it knows.

        Brokers send some that the standard does not have for a PUBACK, and the library takes those for a fault of the
        protocol (mosquitto: 0x95 for a message over its message_size_limit).
        """
        packet = bytes(self._in_packet["packet"])
        if len(packet) > _REASON_OFFSET and packet[_REASON_OFFSET] >= _FAILURE:
            self.reasons[int.from_bytes(packet[:_REASON_OFFSET], "big")] = packet[_REASON_OFFSET]
            known = bytes([_UNSPECIFIED])
            self._in_packet["packet"] = bytearray(packet[:_REASON_OFFSET] + known + packet[_REASON_OFFSET + 1 :])
        return super()._handle_pubackcomp(cmd)
