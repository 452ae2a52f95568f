# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The sender's thread: pauses, what it does when its own side fails, and how it ends."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable

import pytest

from agent import service
from agent.errors import SpoolError
from agent.uplink.endpoint import open_uplink
from agent.uplink.machine import Phase
from agent.uplink.port import Fault, Outgoing
from agent.uplink.sender import (
    FAR_CAP_S,
    NEAR_CAP_S,
    PATIENCE_S,
    STANDING_CAP_S,
    STANDING_NEAR_CAP_S,
    STANDING_PATIENCE_S,
    Sender,
)
from tests.agent.uplink.scene import (
    EUI,
    Gateway,
    Handler,
    HostClock,
    HttpsServer,
    Pauses,
    Platform,
    Trust,
    free_port,
    until,
)

Send = Callable[..., Sender]


class LateClock(HostClock):
    """A clock that can be put forward."""

    def __init__(self) -> None:
        self.offset_us = 0

    def boottime_us(self) -> int:
        return super().boottime_us() + self.offset_us


def test_pauses_stay_short_while_nothing_answers_and_grow_in_a_long_outage(trust: Trust, send: Send) -> None:
    clock, pauses = LateClock(), Pauses()
    send(trust.endpoint("https", free_port()), Gateway(1), clock=clock, pause=pauses)
    until(lambda: len(pauses.wanted_s) >= 30)
    assert max(pauses.wanted_s) <= NEAR_CAP_S
    assert pauses.wanted_s[0] <= 0.5
    clock.offset_us += round(PATIENCE_S * 1_000_000)
    before = len(pauses.wanted_s) + 1
    until(lambda: len(pauses.wanted_s) >= before + 30)
    assert NEAR_CAP_S < max(pauses.wanted_s[before:]) <= FAR_CAP_S


def test_pauses_grow_at_once_when_something_answers_wrongly(trust: Trust, server: HttpsServer, send: Send) -> None:
    pauses = Pauses()
    server.divert = lambda handler: handler._answer(503, "text/plain", b"later")
    send(trust.endpoint("https", server.port), Gateway(1), pause=pauses)
    until(lambda: len(pauses.wanted_s) >= 30)
    assert NEAR_CAP_S < max(pauses.wanted_s) <= FAR_CAP_S


def test_a_platform_that_asks_for_patience_gets_it(trust: Trust, server: HttpsServer, send: Send) -> None:
    def busy(handler: Handler) -> None:
        handler.send_response_only(503)
        handler.send_header("retry-after", "37")
        handler.send_header("content-length", "0")
        handler.end_headers()

    pauses = Pauses()
    server.divert = busy
    send(trust.endpoint("https", server.port), Gateway(1), pause=pauses)
    until(lambda: pauses.wanted_s)
    assert pauses.wanted_s[0] == 37.0


def test_a_try_that_took_long_was_a_pause_already(trust: Trust, send: Send) -> None:
    """Nobody answers the handshake for half a second, which is as long as the first pause can be."""
    pauses = Pauses()
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        endpoint = trust.endpoint("https", nobody.getsockname()[1], connect_timeout_s=0.5)
        sender = send(endpoint, Gateway(1), pause=pauses)
        until(lambda: pauses.wanted_s)
    assert pauses.wanted_s[0] == 0.0
    assert Fault.SILENT.code in (sender.status.problem or "")


def test_the_spool_is_told_whether_the_platform_is_reached(trust: Trust, server: HttpsServer, send: Send) -> None:
    gateway = Gateway(1)
    sender = send(trust.endpoint("https", server.port), gateway)
    assert sender.drain(15)
    assert gateway.up == [True]
    server.divert = lambda handler: handler._answer(503, "text/plain", b"later")
    gateway.seal()
    sender.sealed()
    until(lambda: gateway.up[:2] == [True, False])
    server.divert = None
    assert sender.drain(15)
    assert gateway.up[-1]
    sender.stop()
    assert not gateway.up[-1]


def test_the_next_batch_is_read_while_the_answer_is_waited_for(
    trust: Trust, server: HttpsServer, platform: Platform, send: Send
) -> None:
    gateway = Gateway(4)
    sender = send(trust.endpoint("https", server.port), gateway)
    assert sender.drain(60)
    assert platform.has(gateway)
    assert gateway.prepared == [2, 3, 4], "and nothing is, behind the newest"


def test_success_resets_the_pauses(trust: Trust, server: HttpsServer, send: Send) -> None:
    pauses, gateway = Pauses(), Gateway(1)
    server.divert = lambda handler: handler._answer(503, "text/plain", b"later")
    sender = send(trust.endpoint("https", server.port), gateway, pause=pauses)
    until(lambda: len(pauses.wanted_s) >= 15)
    server.divert = None
    assert sender.drain(15)
    done = len(pauses.wanted_s)
    server.divert = lambda handler: handler._answer(503, "text/plain", b"later")
    gateway.seal()
    sender.sealed()
    until(lambda: len(pauses.wanted_s) > done)
    assert pauses.wanted_s[done] <= 0.5


def test_a_refused_gateway_is_patient_for_an_hour_and_then_pauses_longer(
    trust: Trust, server: HttpsServer, platform: Platform, send: Send
) -> None:
    clock, pauses = LateClock(), Pauses()
    platform.registered = False
    sender = send(trust.endpoint("https", server.port), Gateway(1), clock=clock, pause=pauses)
    until(lambda: len(pauses.wanted_s) >= 40)
    assert FAR_CAP_S / 4 < max(pauses.wanted_s) <= STANDING_NEAR_CAP_S
    clock.offset_us += round(STANDING_PATIENCE_S * 1_000_000)
    before = len(pauses.wanted_s) + 1
    until(lambda: len(pauses.wanted_s) >= before + 40)
    assert STANDING_NEAR_CAP_S < max(pauses.wanted_s[before:]) <= STANDING_CAP_S
    platform.registered = True
    assert sender.drain(15)


def test_a_pause_ends_when_somebody_asks_for_it(
    trust: Trust, server: HttpsServer, platform: Platform, send: Send
) -> None:
    def busy(handler: Handler) -> None:
        handler.send_response_only(503)
        handler.send_header("retry-after", "60")
        handler.send_header("content-length", "0")
        handler.end_headers()

    server.divert, gateway = busy, Gateway(1)
    sender = send(trust.endpoint("https", server.port), gateway, pause=None)
    until(lambda: sender.status.phase is Phase.BACKOFF and sender.status.retry_at_us is not None)
    server.divert = None
    assert not platform.has(gateway)
    sender.retry()
    assert sender.drain(15)


def test_the_status_tells_when_the_next_try_is(trust: Trust, send: Send) -> None:
    sender = send(trust.endpoint("https", free_port()), Gateway(2))
    until(lambda: sender.status.phase is Phase.BACKOFF and sender.status.retry_at_us is not None)
    status = sender.status
    assert (status.waiting, status.in_flight, status.through, status.newest) == (2, 0, 0, 2)
    assert not sender.drain(0.05)


class TroubledGateway(Gateway):
    """A spool that fails at first."""

    def __init__(self, batches: int, errors: list[Exception]) -> None:
        super().__init__(batches)
        self.errors = errors

    def load(self, number: int) -> Outgoing | None:
        if self.errors:
            raise self.errors.pop()
        return super().load(number)


def test_a_spool_that_cannot_be_read_is_named_and_read_again(
    trust: Trust, server: HttpsServer, platform: Platform, send: Send, caplog: pytest.LogCaptureFixture
) -> None:
    error = SpoolError("input/output error", where="spool.db", hint="check the card", code="CG-SPL-009")
    gateway = TroubledGateway(2, [error] * 3)
    sender = send(trust.endpoint("https", server.port), gateway)
    assert sender.drain(15)
    assert platform.has(gateway)
    assert (
        sum("check the card" in record.getMessage() for record in caplog.records if record.levelname == "WARNING") == 1
    )


def test_a_defect_is_said_with_its_trace_and_survived(
    trust: Trust, server: HttpsServer, platform: Platform, send: Send, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = TroubledGateway(2, [ZeroDivisionError("a defect")] * 3)
    sender = send(trust.endpoint("https", server.port), gateway)
    assert sender.drain(15)
    assert platform.has(gateway)
    traces = [record for record in caplog.records if record.exc_info]
    assert len(traces) == 1
    assert Fault.INTERNAL.code in caplog.text


def test_it_ends_while_it_waits_for_the_next_try(trust: Trust) -> None:
    """With the real pause: a stop does not wait for a back-off to be over."""
    gateway, clock = Gateway(1), HostClock()
    sender = Sender(
        "city",
        open_uplink(trust.endpoint("https", free_port()), EUI, clock),
        open_source=gateway.source,
        sink=gateway,
        verify=lambda _: pytest.fail("nothing to verify"),
        clock=clock,
    )
    sender.start()
    until(lambda: sender.status.counts.get("failures", 0) >= 3)
    assert sender.stop(5)
    assert sender.status.phase is Phase.OFFLINE
    assert not sender.alive


def test_a_clean_end_does_not_wait_for_a_platform_that_is_away(
    trust: Trust, send: Send, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is left travels after the next start; whoever ends the service should not have to wait for nothing."""
    monkeypatch.setattr(service, "DRAIN_S", 3600.0)
    sender = send(trust.endpoint("https", free_port()), Gateway(1))
    until(lambda: sender.status.phase is Phase.BACKOFF)

    ending = threading.Thread(target=service.Service._end, args=([sender],), daemon=True)
    ending.start()
    ending.join(15)

    assert not ending.is_alive()
    assert not sender.alive
