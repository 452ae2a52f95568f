# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The sender over real HTTPS: the way it should be, and everything that can stand in it."""

from __future__ import annotations

import contextlib
import errno
import functools
import shutil
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import urllib3

from agent.batch import receipt
from agent.batch.keys import Ed25519Signer, ring
from agent.batch.model import Reason, Receipt
from agent.demo.authority import Authority
from agent.uplink.machine import Phase
from agent.uplink.port import Fault
from agent.uplink.sender import NEAR_CAP_S, STANDING, Sender
from agent.uplink.tls import DatedSocket
from tests.agent.uplink.scene import (
    PLATFORM_KEY,
    Gateway,
    Handler,
    HostClock,
    HttpsServer,
    Pauses,
    Platform,
    Relay,
    Trust,
    free_port,
    until,
)

Send = Callable[..., Sender]
MakeRelay = Callable[[int], Relay]


def _problem(sender: Sender, fault: Fault) -> str:
    """Wait until a fault is what the status names."""
    until(lambda: fault.code in (sender.status.problem or ""), f"{fault}: {sender.status.problem}")
    return str(sender.status.problem)


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


def test_a_batch_sealed_while_online_goes_at_once(
    trust: Trust, server: HttpsServer, platform: Platform, send: Send
) -> None:
    gateway = Gateway()
    sender = send(trust.endpoint("https", server.port), gateway)
    until(lambda: sender.status.phase is Phase.ONLINE)
    for _ in range(3):
        gateway.seal()
        sender.sealed()
        assert sender.drain(15)
    assert platform.arrivals == [1, 2, 3]


def test_it_resumes_behind_what_the_platform_has(
    trust: Trust, server: HttpsServer, platform: Platform, send: Send
) -> None:
    gateway = Gateway(6)
    for number in (1, 2, 3, 5):
        platform.take(gateway.wires[number])
    sender = send(trust.endpoint("https", server.port), gateway)
    assert sender.drain(15)
    assert platform.arrivals == [1, 2, 3, 5, 4, 6]


def test_headers_are_few(trust: Trust, server: HttpsServer, send: Send, relay: MakeRelay) -> None:
    """Bytes on the TCP connection per batch, TLS included, beside the batch and its receipt."""
    between = relay(server.port)
    gateway = Gateway(1)
    sender = send(trust.endpoint("https", between.port), gateway)
    assert sender.drain(15)
    up, down = between.up_bytes, between.down_bytes
    count = 20
    gateway.seal(count)
    sender.sealed()
    assert sender.drain(15)
    carried = sum(len(gateway.wires[number]) for number in range(2, count + 2))
    receipts = count * len(server.platform.receipt(gateway.stream_id))
    up_each = (between.up_bytes - up - carried) / count
    down_each = (between.down_bytes - down - receipts) / count
    print(f"https: {up_each:.0f} bytes up and {down_each:.0f} down per batch beside batch and receipt")
    assert up_each < 200
    assert down_each < 130
    # What the status says is what TCP carried; the relay only sees what has already arrived, and each byte once: a busy
    # machine answers so late that the kernel repeats a segment.
    until(lambda: sender.status.traffic.repeated or sender.status.traffic.up_bytes == between.up_bytes)
    assert sender.status.traffic.up_bytes >= between.up_bytes
    assert sender.status.traffic.down_bytes == between.down_bytes


def test_a_new_connection_resumes_the_tls_session(
    trust: Trust, server: HttpsServer, send: Send, relay: MakeRelay
) -> None:
    between = relay(server.port)
    gateway = Gateway(1)
    sender = send(trust.endpoint("https", between.port), gateway)
    assert sender.drain(15)
    first = between.up_bytes + between.down_bytes
    server.drop_connections()
    gateway.seal()
    sender.sealed()
    assert sender.drain(15)
    second = between.up_bytes + between.down_bytes - first
    print(f"https: first connection {first} bytes, resumed {second} bytes")
    assert server.connections == 2
    assert second < first - 1000


def test_a_server_with_other_keys_costs_a_new_session_and_nothing_else(
    trust: Trust, server: HttpsServer, platform: Platform, send: Send
) -> None:
    """Restarted, it cannot read the ticket of the session before."""
    gateway = Gateway(1)
    sender = send(trust.endpoint("https", server.port), gateway)
    assert sender.drain(15)
    server.stop()
    restarted = HttpsServer(platform, trust.server_context(), server.port)
    try:
        gateway.seal(3)
        sender.sealed()
        assert sender.drain(15)
        assert platform.has(gateway)
    finally:
        restarted.stop()


def test_a_port_where_nobody_listens_is_named_and_tried_again(
    trust: Trust, platform: Platform, send: Send, pauses: Pauses
) -> None:
    port = free_port()
    gateway = Gateway(3)
    sender = send(trust.endpoint("https", port), gateway)
    problem = _problem(sender, Fault.ROUTE)
    assert problem.startswith(f"localhost:{port}: connection refused; ")
    until(lambda: len(pauses.wanted_s) > 8)
    assert sender.status.phase in {Phase.BACKOFF, Phase.CONNECTING}
    assert max(pauses.wanted_s) <= NEAR_CAP_S
    assert len(set(pauses.wanted_s)) > 3, "no jitter"
    server = HttpsServer(platform, trust.server_context(), port)
    try:
        assert sender.drain(15)
        assert platform.arrivals == [1, 2, 3]
        until(lambda: sender.status.problem is None)
    finally:
        server.stop()


def test_a_silent_link_is_noticed_and_what_was_under_way_is_sent_again(
    trust: Trust, server: HttpsServer, platform: Platform, send: Send, relay: MakeRelay
) -> None:
    between = relay(server.port)
    gateway = Gateway(1)
    sender = send(trust.endpoint("https", between.port, answer_timeout_s=0.3, connect_timeout_s=0.3), gateway)
    assert sender.drain(15)
    between.silence()
    gateway.seal(5)
    sender.sealed()
    _problem(sender, Fault.SILENT)
    assert sender.status.through == 1
    between.resume()
    assert sender.drain(15)
    assert platform.has(gateway)


def test_a_server_that_drips_its_answer_is_given_up(trust: Trust, server: HttpsServer, send: Send) -> None:
    """Each byte comes well within the time-out, so only a limit on the whole request helps."""
    over = threading.Event()

    def drip(handler: Handler) -> None:
        with contextlib.suppress(OSError):
            while not over.wait(0.02):
                handler.wfile.write(b"H")

    server.divert = drip
    try:
        sender = send(trust.endpoint("https", server.port, answer_timeout_s=0.2, connect_timeout_s=0.2), Gateway(1))
        _problem(sender, Fault.SILENT)
    finally:
        over.set()


def test_committed_but_not_answered_is_sent_again_with_the_same_bytes(
    trust: Trust, server: HttpsServer, platform: Platform, send: Send
) -> None:
    platform.mute_after_commit = 2
    gateway = Gateway(3)
    sender = send(trust.endpoint("https", server.port), gateway)
    assert sender.drain(15)
    assert platform.has(gateway)
    # The resuming receipt shows that the batch is there: not even a second copy travels.
    assert platform.arrivals == [1, 2, 3]
    assert set(platform.wires) == set(gateway.wires.values())


def test_the_same_bytes_travel_when_a_batch_is_sent_again(
    trust: Trust, server: HttpsServer, platform: Platform, send: Send
) -> None:
    refused = iter([True, True, False])

    def unwell(handler: Handler) -> None:
        if handler.command == "POST" and next(refused):
            platform.wires.append(b"")
            handler._answer(500, "text/plain", b"")
        else:
            server.divert = None
            handler._answer(200, "application/cose", platform.receipt(gateway.stream_id))

    gateway = Gateway(2)
    server.divert = unwell
    sender = send(trust.endpoint("https", server.port), gateway)
    assert sender.drain(15)
    assert platform.has(gateway)


@pytest.mark.parametrize("status", [200, 302, 511])
def test_a_captive_portal_is_named_and_frees_nothing(
    trust: Trust, server: HttpsServer, platform: Platform, send: Send, status: int
) -> None:
    def portal(handler: Handler) -> None:
        page = b"<html>Welcome! Please accept our terms.</html>" * 100
        handler.send_response_only(status)
        handler.send_header("content-type", "text/html; charset=utf-8")
        handler.send_header("content-length", str(len(page)))
        if status == 302:
            handler.send_header("location", "http://portal.example/login")
        handler.end_headers()
        handler.wfile.write(page)

    server.divert = portal
    gateway = Gateway(2)
    sender = send(trust.endpoint("https", server.port), gateway)
    problem = _problem(sender, Fault.PORTAL)
    assert "captive portal" in problem
    assert ("http://portal.example/login" in problem) == (status == 302)
    assert sender.status.through == 0
    assert not gateway.receipts
    server.divert = None
    assert sender.drain(15)
    assert platform.has(gateway)


@pytest.mark.parametrize(
    "case",
    [
        (401, Fault.STATUS, "cert_file"),
        (404, Fault.STATUS, "path"),
        (408, Fault.STATUS, "signal"),
        (413, Fault.OVERSIZE, "client_max_body_size"),
        (429, Fault.STATUS, "busy"),
        (500, Fault.STATUS, "log"),
        (418, Fault.STATUS, "418"),
    ],
)
def test_http_errors_are_named(trust: Trust, server: HttpsServer, send: Send, case: tuple[int, Fault, str]) -> None:
    status, fault, word = case

    def answer(handler: Handler) -> None:
        if handler.command == "GET":
            handler._answer(200, "application/cose", server.platform.receipt(gateway.stream_id))
        else:
            handler._answer(status, "text/plain", b"no")

    gateway = Gateway(1)
    server.divert = answer
    sender = send(trust.endpoint("https", server.port), gateway)
    assert word in _problem(sender, fault)
    assert sender.status.waiting + sender.status.in_flight == 1


def test_an_answer_without_end_is_not_read_to_its_end(trust: Trust, server: HttpsServer, send: Send) -> None:
    server.divert = lambda handler: handler._answer(200, "application/cose", bytes(10_000_000))
    sender = send(trust.endpoint("https", server.port), Gateway(1))
    _problem(sender, Fault.OVERSIZE)
    assert sender.status.traffic.down_bytes < 5_000_000


def test_the_platform_can_change_its_key_while_both_are_configured(
    trust: Trust, server: HttpsServer, platform: Platform, send: Send
) -> None:
    following, gateway = Ed25519Signer.generate(), Gateway(1)
    both = ring(PLATFORM_KEY.public, following.public)
    sender = send(trust.endpoint("https", server.port), gateway, verify=lambda data: receipt.open_answer(data, both))
    assert sender.drain(15)
    platform.signer = following
    gateway.seal(2)
    sender.sealed()
    assert sender.drain(15)
    assert sender.status.through == 3
    assert sender.status.counts["receipts"] >= 3


def test_a_forged_receipt_frees_nothing(trust: Trust, server: HttpsServer, platform: Platform, send: Send) -> None:
    platform.signer = Ed25519Signer.generate()
    gateway = Gateway(2)
    sender = send(trust.endpoint("https", server.port), gateway)
    assert "receipt_key" in _problem(sender, Fault.FORGED)
    assert sender.status.counts["forged"] > 0
    assert not gateway.receipts
    assert sender.status.through == 0


def test_a_receipt_for_another_stream_frees_nothing(
    trust: Trust, server: HttpsServer, platform: Platform, send: Send
) -> None:
    platform.forget_stream = True
    gateway = Gateway(2)
    sender = send(trust.endpoint("https", server.port), gateway)
    _problem(sender, Fault.FORGED)
    assert sender.status.counts["foreign"] > 0
    assert not gateway.receipts
    platform.forget_stream = False
    assert sender.drain(15)


@pytest.mark.parametrize("reason", sorted(set(Reason) - STANDING))
def test_a_refused_batch_is_parked_and_the_queue_goes_on(
    trust: Trust, server: HttpsServer, platform: Platform, send: Send, reason: Reason
) -> None:
    platform.refuse = {2: reason}
    gateway = Gateway(4)
    sender = send(trust.endpoint("https", server.port), gateway)
    assert sender.drain(15)
    assert platform.arrivals == [1, 2, 3, 4]
    assert [(number, refusal.reason) for number, refusal in gateway.refusals] == [(2, reason)]
    assert sender.status.counts["refused"] == 1
    assert gateway.receipts[-1].beyond == ((3, 4),)


@pytest.mark.parametrize("reason", sorted(STANDING))
def test_a_refused_gateway_waits_and_says_so_once(
    trust: Trust, server: HttpsServer, send: Send, reason: Reason, caplog: pytest.LogCaptureFixture
) -> None:
    platform, pauses = server.platform, Pauses()
    platform.refuse = dict.fromkeys(range(1, 5), reason)
    gateway = Gateway(4)
    sender = send(trust.endpoint("https", server.port), gateway, pause=pauses)
    assert reason.name in _problem(sender, Fault.STANDING)
    until(lambda: len(pauses.wanted_s) > 5)
    until(lambda: sender.status.phase is Phase.REFUSED)
    assert {(number, refusal.reason) for number, refusal in gateway.refusals} == {(1, reason)}
    assert set(platform.arrivals) == {1}
    platform.refuse = {}
    assert sender.drain(15)
    assert platform.has(gateway)
    assert sum(reason.name in record.getMessage() for record in caplog.records if record.levelname == "WARNING") == 1


def test_a_batch_that_cannot_be_rebuilt_is_skipped(
    trust: Trust, server: HttpsServer, platform: Platform, send: Send
) -> None:
    gateway = Gateway(5)
    gateway.damaged, gateway.evicted = {2}, {4}
    sender = send(trust.endpoint("https", server.port), gateway)
    assert sender.drain(15)
    assert platform.arrivals == [1, 3, 5]
    assert gateway.unreadable_batches == [2]


def test_a_restored_card_is_noticed_and_nothing_of_its_stream_is_sent(
    trust: Trust, server: HttpsServer, platform: Platform, send: Send
) -> None:
    """The platform has more of the stream than the spool: nothing is freed, and the spool is told."""
    gateway = Gateway(5)
    platform.committed[gateway.stream_id] = {number: gateway.hashes[number] for number in range(1, 6)}
    platform.committed[gateway.stream_id] |= {number: bytes([number]) * 32 for number in range(6, 9)}
    sender = send(trust.endpoint("https", server.port), gateway)
    problem = _problem(sender, Fault.CONFLICT)
    assert "the platform has batch 8 of this stream, the spool only 5" in problem
    assert "restored" in problem
    assert set(gateway.contradictions) == {8}
    assert not platform.arrivals
    assert not gateway.receipts


def test_another_content_at_the_platform_is_noticed(
    trust: Trust, server: HttpsServer, platform: Platform, send: Send
) -> None:
    gateway = Gateway(5)
    platform.committed[gateway.stream_id] = {1: gateway.hashes[1], 2: gateway.hashes[2], 3: bytes([3]) * 32}
    sender = send(trust.endpoint("https", server.port), gateway)
    assert "batch 3 at the platform is not the one in this spool" in _problem(sender, Fault.CONFLICT)
    assert set(gateway.contradictions) == {3}
    assert not platform.arrivals
    assert not gateway.receipts


def test_a_platform_that_went_back_gets_what_is_still_there(
    trust: Trust, server: HttpsServer, platform: Platform, send: Send, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = Gateway(4)
    gateway.receipts.append(Receipt(gateway.stream_id, 2, gateway.hashes[2], 0))
    sender = send(trust.endpoint("https", server.port), gateway)
    until(lambda: set(platform.arrivals) == {3, 4})
    assert sender.drain(15)
    assert sender.status.counts["stale"] == 3
    assert "uplink_platform_went_back" in caplog.text


def test_receipts_give_clock_anchors(trust: Trust, server: HttpsServer, send: Send) -> None:
    before_us = time.time_ns() // 1000
    gateway = Gateway(3)
    sender = send(trust.endpoint("https", server.port), gateway)
    assert sender.drain(15)
    assert 1 <= len(gateway.anchors) <= 4
    for anchor in gateway.anchors:
        assert anchor.boot_id == HostClock.boot_id
        # Where the anchor puts this very moment, against what the clock says: within its own bound.
        now_us, host_us = time.time_ns() // 1000, HostClock().boottime_us()
        assert abs(anchor.utc_us + host_us - anchor.boottime_us - now_us) <= anchor.uncertainty_us + 1000
        assert before_us <= anchor.utc_us <= now_us


def test_live_batches_pass_the_backlog(trust: Trust, server: HttpsServer, platform: Platform, send: Send) -> None:
    gateway = Gateway(12)
    gate = threading.Semaphore(0)
    asked = threading.Event()

    def slow(handler: Handler) -> None:
        if handler.command == "GET":
            handler._answer(200, "application/cose", platform.receipt(gateway.stream_id))
            return
        asked.set()
        gate.acquire(timeout=15)
        answer = platform.take(handler.wire)
        assert answer is not None
        handler._answer(200, "application/cose", answer[1])

    server.divert = slow
    sender = send(trust.endpoint("https", server.port, answer_timeout_s=15.0), gateway)
    assert asked.wait(15)
    gateway.seal()
    sender.sealed()
    for _ in range(13):
        gate.release()
    assert sender.drain(15)
    assert platform.arrivals[:3] == [1, 13, 2]


def test_a_session_that_fails_ends_the_moment_it_is_told_to(trust: Trust, server: HttpsServer, send: Send) -> None:
    """A request that waits for its answer does not hold up the end of the service."""
    asked = threading.Event()
    over = threading.Event()

    def silent(handler: Handler) -> None:
        del handler
        asked.set()
        over.wait(60)

    server.divert = silent
    try:
        sender = send(trust.endpoint("https", server.port, answer_timeout_s=300.0), Gateway(1))
        assert asked.wait(15)
        assert sender.stop(15)
        assert sender.status.phase is Phase.OFFLINE
    finally:
        over.set()


def test_no_client_certificate_is_named(trust: Trust, server: HttpsServer, send: Send) -> None:
    sender = send(trust.endpoint("https", server.port, cert_file=None, key_file=None), Gateway(1))
    until(lambda: "cert_file" in (sender.status.problem or ""))


def test_a_foreign_certificate_is_named(trust: Trust, server: HttpsServer, send: Send) -> None:
    sender = send(trust.endpoint("https", server.port, ca_file=None), Gateway(1))
    assert "ca_file" in _problem(sender, Fault.CERTIFICATE)


def test_only_the_authorities_of_the_destination_are_trusted(
    trust: Trust, server: HttpsServer, platform: Platform, send: Send, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Debian 12 has its urllib3 add those of the system to whatever context it is given, and fail without a file."""
    of_debian = functools.partial(urllib3.HTTPSConnectionPool, ca_certs=str(trust.authority.certificate))
    monkeypatch.setattr(urllib3, "HTTPSConnectionPool", of_debian)
    gateway = Gateway(1)
    sender = send(trust.endpoint("https", server.port, ca_file=Authority(tmp_path).certificate), gateway)
    assert "ca_file" in _problem(sender, Fault.CERTIFICATE)
    assert not platform.has(gateway)


def test_a_reason_on_this_side_is_told_as_it_is(
    trust: Trust, server: HttpsServer, send: Send, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was told that the other side had closed the connection, which had us renew the certificate for ever."""

    def fail(*_: object) -> None:
        raise FileNotFoundError(errno.ENOENT, "No such file or directory")

    monkeypatch.setattr(DatedSocket, "do_handshake", fail)
    sender = send(trust.endpoint("https", server.port), Gateway(1))
    assert "no such file" in _problem(sender, Fault.LOST)


def test_a_certificate_that_was_renewed_is_used_without_a_restart(
    trust: Trust, server: HttpsServer, platform: Platform, send: Send, tmp_path: Path
) -> None:
    stranger = Authority(tmp_path).client("gateway")
    certificate, key = tmp_path / "mine.pem", tmp_path / "mine.key"
    shutil.copy(stranger.certificate, certificate)
    shutil.copy(stranger.key, key)
    gateway = Gateway(1)
    sender = send(trust.endpoint("https", server.port, cert_file=certificate, key_file=key), gateway)
    until(lambda: "cert_file" in (sender.status.problem or ""))

    shutil.copy(trust.client.key, key)
    shutil.copy(trust.client.certificate, certificate)

    assert sender.drain(15)
    assert platform.has(gateway)


def test_a_missing_certificate_is_waited_for(
    trust: Trust, server: HttpsServer, platform: Platform, send: Send, tmp_path: Path
) -> None:
    """It concerns one destination; the gateway goes on for the others."""
    certificate = tmp_path / "mine.pem"
    gateway = Gateway(1)
    sender = send(trust.endpoint("https", server.port, cert_file=certificate), gateway)
    assert str(certificate) in _problem(sender, Fault.FILES)

    shutil.copy(trust.client.certificate, certificate)

    assert sender.drain(15)
    assert platform.has(gateway)


def test_a_wrong_name_is_named(trust: Trust, server: HttpsServer, send: Send) -> None:
    endpoint = trust.endpoint("https", server.port, url=f"https://127.0.0.2:{server.port}")
    relay_listener = socket.create_server(("127.0.0.2", server.port))
    try:
        forward = threading.Thread(target=_forward_once, args=(relay_listener, server.port), daemon=True)
        forward.start()
        sender = send(endpoint, Gateway(1))
        assert "another name" in _problem(sender, Fault.CERTIFICATE)
    finally:
        relay_listener.close()


def _forward_once(listener: socket.socket, port: int) -> None:
    with contextlib.suppress(OSError):
        near, _ = listener.accept()
        far = socket.create_connection(("127.0.0.1", port))
        far.sendall(near.recv(65536))
        while chunk := far.recv(65536):
            near.sendall(chunk)


def test_something_without_tls_is_named(trust: Trust, send: Send) -> None:
    listener = socket.create_server(("127.0.0.1", 0))

    def speak() -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = listener.accept()
                near.sendall(b"220 mail.example ESMTP\r\n" * 8)
                near.close()

    threading.Thread(target=speak, daemon=True).start()
    try:
        sender = send(trust.endpoint("https", listener.getsockname()[1]), Gateway(1))
        assert "port" in _problem(sender, Fault.TLS)
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def test_a_name_that_does_not_resolve_is_named(trust: Trust, send: Send) -> None:
    sender = send(trust.endpoint("https", 443, url="https://platform.invalid"), Gateway(1))
    assert "DNS" in _problem(sender, Fault.NAME)


def test_receipts_are_verified_before_they_count(platform: Platform) -> None:
    """The scene itself: what the platform signs opens with its key and with no other."""
    signed = platform.receipt(bytes(16))
    with pytest.raises(Exception, match="key"):
        receipt.open_answer(signed, lambda _: None)
