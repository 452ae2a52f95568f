# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Several ways to one platform, over real servers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.batch import receipt
from agent.batch.keys import ring
from agent.uplink.alternatives import Alternatives
from agent.uplink.endpoint import open_uplink
from agent.uplink.sender import Sender
from tests.agent.uplink.scene import (
    EUI,
    PLATFORM_KEY,
    Broker,
    Gateway,
    HostClock,
    HttpsServer,
    MqttConsumer,
    Pauses,
    Platform,
    Trust,
    free_port,
)

Start = Callable[..., Sender]


@pytest.fixture
def start(trust: Trust) -> Iterator[Start]:
    senders: list[Sender] = []

    def make(scheme: str, ports: list[int], gateway: Gateway) -> Sender:
        clock, keys = HostClock(), ring(PLATFORM_KEY.public)
        ways = [open_uplink(trust.endpoint(scheme, port), EUI, clock) for port in ports]
        sender = Sender(
            "city",
            Alternatives(ways),
            open_source=gateway.source,
            sink=gateway,
            verify=lambda data: receipt.open_answer(data, keys),
            clock=clock,
            pause=Pauses(),
        )
        senders.append(sender)
        sender.start()
        return sender

    yield make
    ended = [sender.stop() for sender in senders]
    assert all(ended)


def test_the_second_way_is_taken_while_the_first_is_closed_and_the_first_again_afterwards(
    trust: Trust, platform: Platform, start: Start
) -> None:
    port, gateway = free_port(), Gateway(3)
    second = HttpsServer(platform, trust.server_context())
    try:
        sender = start("https", [port, second.port], gateway)
        assert sender.drain(15)
        assert platform.has(gateway)
    finally:
        second.stop()
    first = HttpsServer(platform, trust.server_context(), port)
    try:
        gateway.seal()
        sender.sealed()
        assert sender.drain(15)
        assert platform.has(gateway)
    finally:
        first.stop()


def test_a_way_that_answers_wrongly_makes_way_too(
    platform: Platform, server: HttpsServer, start: Start, trust: Trust
) -> None:
    other = HttpsServer(platform, trust.server_context())
    other.divert = lambda handler: handler._answer(200, "text/html", b"<h1>log in</h1>")
    try:
        gateway = Gateway(2)
        assert start("https", [other.port, server.port], gateway).drain(15)
        assert platform.has(gateway)
    finally:
        other.stop()


def test_a_broker_that_is_gone_makes_way_to_the_next(platform: Platform, tmp_path: Path, start: Start) -> None:
    broker = Broker(tmp_path, "allow_anonymous true")
    consumer = MqttConsumer(platform, broker.port)
    try:
        gateway = Gateway(3)
        assert start("mqtt", [free_port(), broker.port], gateway).drain(20)
        assert platform.has(gateway)
    finally:
        consumer.stop()
        broker.kill()
