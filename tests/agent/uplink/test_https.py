# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The sender over real HTTPS."""

from __future__ import annotations

from collections.abc import Callable

from agent.uplink.machine import Phase
from agent.uplink.sender import Sender
from tests.agent.uplink.scene import Gateway, HttpsServer, Platform, Trust, until

Send = Callable[..., Sender]


def test_every_batch_arrives_once_in_order_on_one_connection(
    trust: Trust, server: HttpsServer, platform: Platform, send: Send
) -> None:
    gateway = Gateway(20)
    sender = send(trust.endpoint("https", server.port), gateway)
    assert sender.drain(15)
    assert platform.has(gateway)
    assert platform.arrivals == list(range(1, 21))
    assert server.connections == 1
    until(lambda: sender.status.phase is Phase.ONLINE)
    assert sender.status.through == 20
    assert sender.status.counts["sent"] == 20
    assert sender.status.problem is None
