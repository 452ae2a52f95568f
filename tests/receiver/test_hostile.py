# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Whoever opens, holds and sends what he should not: the gateways beside him still deliver."""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from agent.batch.model import Reason, Refusal
from agent.batch.receipt import open_answer
from receiver import mqtt
from receiver.gate import BACKLOG, LOW_FILES, Gate, GuardedSocket
from receiver.http import Door, gateway_app
from receiver.intake import Intake
from receiver.ledger.sqlite import SqliteLedger
from receiver.listener import Listener, bind
from receiver.rate import Buckets
from receiver.tls import server_context
from tests.receiver.broker import broker, mast
from tests.receiver.gateway import Gateway
from tests.receiver.platform import LIMIT_S, Certificates, free_port, platform, until

MOST = 12
"""Connections of the listener under attack."""


class Attacked:
    """A listener with few connections, and what its enemies hold of it."""

    def __init__(self, port: int, certificates: Certificates, listener: Listener) -> None:
        self.port = port
        self.certificates = certificates
        self.listener = listener
        self.shown_out = 0
        self.held: list[socket.socket] = []

    def raw(self, sent: bytes = b"") -> socket.socket:
        sock = socket.create_connection(("127.0.0.1", self.port), LIMIT_S)
        sock.sendall(sent)
        self.held.append(sock)
        return sock

    def tls(self, sent: bytes = b"") -> ssl.SSLSocket:
        context = ssl.create_default_context(cafile=str(self.certificates.authority))
        raw = socket.create_connection(("127.0.0.1", self.port), LIMIT_S)
        self.held.append(raw)
        sock = context.wrap_socket(raw, server_hostname="localhost")
        self.held.append(sock)
        sock.sendall(sent)
        return sock

    @contextmanager
    def honest(self) -> Iterator[httpx.Client]:
        context = ssl.create_default_context(cafile=str(self.certificates.authority))
        with httpx.Client(base_url=f"https://localhost:{self.port}", verify=context, timeout=LIMIT_S) as client:
            yield client


@contextmanager
def attacked(intake: Intake, certificates: Certificates, most: int = MOST, **door: object) -> Iterator[Attacked]:
    port = free_port()
    served = Listener(
        "https",
        gateway_app(intake, Door(100_000, **door)),  # type: ignore[arg-type] # its own limits
        bind("127.0.0.1", port, "https"),
        lambda: None,
        tls=server_context(certificates.server.certificate, certificates.server.key, None),
        max_connections=most,
        idle_s=60,
        headers_limit_s=60,
        shown_out=lambda: setattr(made, "shown_out", made.shown_out + 1),
    )
    made = Attacked(port, certificates, served)
    served.start()
    try:
        yield made
    finally:
        for sock in made.held:
            sock.close()
        served.stop()


def post(client: httpx.Client, wire: bytes) -> int:
    return client.post("/v1/batches", content=wire).status_code


def test_thousands_of_half_open_connections_keep_nobody_out(
    intake: Intake, certificates: Certificates, gateway: Gateway
) -> None:
    with attacked(intake, certificates) as place, place.honest() as before, place.honest() as after:
        assert post(before, gateway.wire()) == 200
        for _ in range(10 * MOST):
            place.raw()
        until(lambda: place.shown_out >= 9 * MOST)
        assert place.listener.connections <= MOST
        assert post(after, gateway.wire()) == 200
        # the connection that had proved itself is still the same one
        assert post(before, gateway.wire()) == 200
        assert len(before._transport._pool.connections) == 1  # type: ignore[attr-defined] # httpx has no word for it


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"POST /v1/batches HTTP/1.1\r\nHost: x\r\nX-Slow: ",
        b"POST /v1/batches HTTP/1.1\r\nHost: x\r\nContent-Length: 50000\r\n\r\nx",
    ],
    ids=["silent", "slow header", "slow body"],
)
def test_slow_clients_keep_nobody_out(
    sent: bytes, intake: Intake, certificates: Certificates, gateway: Gateway
) -> None:
    with attacked(intake, certificates) as place, place.honest() as client:
        for _ in range(2 * MOST):
            place.tls(sent)
        assert post(client, gateway.wire()) == 200
        for _ in range(MOST):
            place.tls(sent)
        assert post(client, gateway.wire()) == 200
        assert place.shown_out >= MOST


def test_a_body_that_stops_in_the_middle_is_cut_off_however_much_of_it_came(
    intake: Intake, certificates: Certificates
) -> None:
    """Much that came fast once paid for hours of silence, with all of it in memory."""
    with attacked(intake, certificates, body_grace_s=0.3) as place:
        head = b"POST /v1/batches HTTP/1.1\r\nHost: x\r\nContent-Length: 99999\r\n\r\n"
        sock = place.tls(head + bytes(99_000))
        sock.settimeout(LIMIT_S)
        assert sock.recv(4096).startswith(b"HTTP/1.1 408 ")


def test_bodies_of_strangers_take_their_share_of_the_memory_and_no_more(
    intake: Intake, certificates: Certificates, gateway: Gateway
) -> None:
    with (
        attacked(intake, certificates, max_buffered_bytes=100_000) as place,
        place.honest() as known,
        place.honest() as unknown,
    ):
        assert post(known, gateway.wire()) == 200
        head = b"POST /v1/batches HTTP/1.1\r\nHost: x\r\nContent-Length: 30000\r\n\r\n"
        place.tls(head + bytes(24_000))
        until(lambda: post(unknown, bytes(3000)) == 503)
        assert post(known, gateway.wire(100)) == 200


def test_neighbours_behind_one_address_do_not_pay_for_each_other(
    intake: Intake, certificates: Certificates, gateway: Gateway
) -> None:
    with attacked(intake, certificates, strangers=Buckets(per_s=1e-6, burst=2)) as place:
        with place.honest() as rogue:
            assert [post(rogue, b"garbage") for _ in range(3)] == [422, 422, 429]
        with place.honest() as client:
            assert client.get(f"/v1/streams/{bytes(16).hex()}/receipt").status_code == 429
            assert post(client, gateway.wire()) == 200
            assert client.get(f"/v1/streams/{gateway.stream_id.hex()}/receipt").status_code == 200
        with place.honest() as stranger:
            assert post(stranger, Gateway(seed=b"unknown").wire()) == 429


def test_a_gateway_over_its_rate_costs_no_decompression(
    ledger: SqliteLedger, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    from agent.batch import codec
    from receiver.intake import TooFastError

    intake = Intake(ledger, gateway.signer, rate=Buckets(per_s=1e-6, burst=1))
    intake.submit(gateway.wire(), sender="here")

    def forbidden(*_: object) -> bytes:
        raise AssertionError("decompressed")

    monkeypatch.setattr(codec, "_decompress", forbidden)
    with pytest.raises(TooFastError):
        intake.submit(gateway.wire(), sender="here")
    assert intake.tally.held_back["gateway"] == 1


def test_old_batches_again_and_again_change_nothing_and_count_against_their_gateway_alone(
    ledger: SqliteLedger, certificates: Certificates, gateway: Gateway
) -> None:
    other = Gateway(eui=b"\x22" * 8, seed=b"other")
    ledger.add_key(other.registration)
    intake = Intake(ledger, gateway.signer, rate=Buckets(per_s=1e-6, burst=6))
    with attacked(intake, certificates) as place, place.honest() as client:
        old = gateway.wires(3)
        assert [post(client, wire) for wire in old + old + old] == [200] * 6 + [429] * 3
        assert post(client, other.wire()) == 200
    assert len(ledger.frames(0, 100)) == 12
    assert (intake.tally.accepted, intake.tally.repeated) == (4, 3)


def test_few_open_files_are_enough_to_stay_open() -> None:
    """Each connection is an open file: without a bound before TLS, the listener could accept nobody any more."""
    script = f"""
import resource, sys
sys.path.insert(0, {str(Path.cwd())!r})
resource.setrlimit(resource.RLIMIT_NOFILE, (700, 700))
from receiver.gate import files_for, RESERVED_FILES
assert files_for(10_000) == 700 - RESERVED_FILES
assert files_for(5) == 5
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_connections_leave_low_numbers_of_files_to_those_that_need_them() -> None:
    with GuardedSocket(socket.AF_INET, socket.SOCK_STREAM) as listening:
        listening.gate = Gate(2)
        listening.bind(("127.0.0.1", 0))
        listening.listen(BACKLOG)
        with socket.create_connection(listening.getsockname()):
            accepted, _ = listening.accept()
            with accepted:
                assert accepted.fileno() >= LOW_FILES
                assert len(listening.gate) == 1
            assert len(listening.gate) == 0


def test_the_oldest_stranger_of_the_largest_crowd_goes_first() -> None:
    with contextlib.ExitStack() as stack:
        gate = Gate(4)
        socks = [stack.enter_context(socket.socket()) for _ in range(9)]
        numbers = [sock.fileno() for sock in socks]

        def enter(index: int, address: str) -> None:
            gate.enter(socks[index], address)

        def here() -> set[int]:
            return {index for index, number in enumerate(numbers) if number in gate._guests}

        enter(0, "10.0.0.1")
        enter(1, "10.0.0.2")
        enter(2, "10.0.0.2")
        enter(3, "10.0.0.3")
        gate.prove(numbers[1])
        enter(4, "10.0.0.3")
        assert here() == {0, 1, 2, 4}, "two of 10.0.0.3, the older goes"
        gate.prove(numbers[0])
        gate.prove(numbers[2])
        gate.prove(numbers[4])
        enter(5, "10.0.0.9")
        assert here() == {0, 1, 2, 4}, "the newcomer is the only stranger"
        gate.prove(numbers[1])
        gate.leave(numbers[4])
        enter(6, "10.0.0.2")
        gate.prove(numbers[6])
        assert gate.is_proven(numbers[6])
        gate.doubt(numbers[0])
        enter(7, "10.0.0.2")
        assert here() == {1, 2, 6, 7}


def test_rubbish_on_the_topic_of_a_gateway_is_answered_so_often_and_no_more(
    certificates: Certificates,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(mqtt, "RUBBISH_PER_MINUTE", 2)
    folder = tmp_path_factory.mktemp("r")
    gateway = Gateway()
    with broker(tmp_path_factory.mktemp("broker"), certificates) as at:
        made = platform(folder, certificates, extra=at.section())
        with made.serving() as service, mast(at, gateway.eui) as heard:
            assert service.mqtt is not None
            until(service.mqtt.subscribed.is_set)
            made.json("gateways", "add", gateway.eui.hex(), "--key", gateway.signer.public.text)
            for number in range(6):
                heard.publish(b"rubbish %d" % number)
            for _ in range(2):
                said = open_answer(heard.answer().payload, made.resolve)
                assert isinstance(said, Refusal)
                assert said.reason is Reason.MALFORMED
            until(lambda: service.intake.tally.held_back["strangers"] == 4)
            heard.publish(gateway.wire())
            assert not isinstance(open_answer(heard.answer().payload, made.resolve), Refusal)
