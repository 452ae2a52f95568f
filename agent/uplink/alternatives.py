# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Several ways to one platform, such as the brokers of a cluster: tried in order, the first one preferred."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.uplink.port import Arrival, Reply, Traffic, Uplink

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class Alternatives:
    """Transports of which one is used at a time (`agent.uplink.port.Uplink`).

    A link that was dropped without ever having brought an answer makes way for the next one; after a link that worked,
    the first one is tried again.

    Args:
        uplinks: at least one, in the order of preference; all lead to the same platform.
    """

    def __init__(self, uplinks: Sequence[Uplink]) -> None:
        self._uplinks = tuple(uplinks)
        self._at = 0
        self._connected = self._answered = False

    @property
    def window(self) -> int:
        """The most batches that may be unanswered, whichever is used."""
        return min(uplink.window for uplink in self._uplinks)

    @property
    def traffic(self) -> Traffic:
        """What all of them have carried so far."""
        return sum((uplink.traffic for uplink in self._uplinks), Traffic())

    def connect(self, wake: Callable[[], None]) -> None:
        """Bring up the link whose turn it is."""
        self._connected = True
        self._uplinks[self._at].connect(wake)

    def ask(self, stream_id: bytes) -> float:
        """Ask for the platform's receipt for a stream."""
        return self._uplinks[self._at].ask(stream_id)

    def send(self, batch: int, wire: bytes, meanwhile: Callable[[], None]) -> None:
        """Send one batch."""
        self._uplinks[self._at].send(batch, wire, meanwhile)

    def receive(self) -> Sequence[Arrival]:
        """Return what has arrived since the last call."""
        arrived = self._uplinks[self._at].receive()
        self._answered = self._answered or any(isinstance(arrival, Reply) for arrival in arrived)
        return arrived

    def interrupt(self) -> None:
        """Make a blocked call of the other thread fail soon, whichever link it is on by then."""
        for uplink in self._uplinks:
            uplink.interrupt()

    def close(self) -> None:
        """Drop the link, and choose the one for the next time."""
        self._uplinks[self._at].close()
        if self._connected:
            self._at = 0 if self._answered else (self._at + 1) % len(self._uplinks)
        self._connected = self._answered = False
