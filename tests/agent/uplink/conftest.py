# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from agent.batch import receipt
from agent.batch.keys import ring
from agent.demo.authority import Authority
from agent.uplink.endpoint import Endpoint, open_uplink
from agent.uplink.sender import Sender
from tests.agent.uplink.scene import (
    EUI,
    PLATFORM_KEY,
    Gateway,
    HostClock,
    HttpsServer,
    Pauses,
    Platform,
    Relay,
    Trust,
)


@pytest.fixture(scope="session")
def trust(tmp_path_factory: pytest.TempPathFactory) -> Trust:
    folder = tmp_path_factory.mktemp("trust")
    authority = Authority(folder)
    return Trust(authority, authority.server("platform"), authority.client("gateway"), folder)


@pytest.fixture
def platform() -> Platform:
    return Platform()


@pytest.fixture
def server(trust: Trust, platform: Platform) -> Iterator[HttpsServer]:
    server = HttpsServer(platform, trust.server_context())
    yield server
    server.stop()


@pytest.fixture
def relay() -> Iterator[Callable[[int], Relay]]:
    relays: list[Relay] = []

    def make(port: int) -> Relay:
        relays.append(Relay(port))
        return relays[-1]

    yield make
    for made in relays:
        made.close()


@pytest.fixture
def pauses() -> Pauses:
    return Pauses()


@pytest.fixture
def send(pauses: Pauses) -> Iterator[Callable[..., Sender]]:
    """Start a sender that is stopped at the end of the test."""
    senders: list[Sender] = []

    def make(endpoint: Endpoint, gateway: Gateway, **options: Any) -> Sender:
        clock = HostClock()
        keys = ring(PLATFORM_KEY.public)
        values: dict[str, Any] = {
            "open_source": gateway.source,
            "sink": gateway,
            "verify": lambda data: receipt.open_answer(data, keys),
            "clock": clock,
            "window": endpoint.window,
            "answer_timeout_s": endpoint.answer_timeout_s,
            "pause": pauses,
        }
        sender = Sender(endpoint.name, open_uplink(endpoint, EUI, clock), **(values | options))
        senders.append(sender)
        sender.start()
        return sender

    yield make
    ended = [sender.stop() for sender in senders]
    assert all(ended), "a sender did not end"
