# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The sender over a real mosquitto."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import pytest

from agent.batch import receipt
from agent.batch.keys import Ed25519Signer
from agent.batch.model import Reason, Receipt
from agent.uplink.machine import Phase
from agent.uplink.port import Fault
from agent.uplink.sender import Sender
from agent.uplink.tls import DatedContext, client_context
from tests.agent.uplink.scene import (
    EUI,
    Broker,
    Gateway,
    MqttConsumer,
    Platform,
    Relay,
    Trust,
    until,
)

Send = Callable[..., Sender]
MakeRelay = Callable[[int], Relay]
Consume = Callable[..., MqttConsumer]
VERSIONS = pytest.mark.parametrize("version", ["5", "3.1.1"])


@pytest.fixture(scope="module")
def plain_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    broker = Broker(tmp_path_factory.mktemp("broker"), "allow_anonymous true")
    yield broker
    broker.kill()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    """A broker of its own, for tests that end it or that must not find anything retained."""
    broker = Broker(tmp_path, "allow_anonymous true")
    yield broker
    broker.kill()


@pytest.fixture
def consume(platform: Platform) -> Iterator[Consume]:
    consumers: list[MqttConsumer] = []

    def make(port: int) -> MqttConsumer:
        consumers.append(MqttConsumer(platform, port))
        return consumers[-1]

    yield make
    for consumer in consumers:
        consumer.stop()


def _problem(sender: Sender, fault: Fault) -> str:
    until(lambda: fault.code in (sender.status.problem or ""), f"{fault}: {sender.status.problem}")
    return str(sender.status.problem)


@VERSIONS
def test_every_batch_arrives_once(
    trust: Trust, broker: Broker, platform: Platform, consume: Consume, send: Send, version: str
) -> None:
    consume(broker.port)
    gateway = Gateway(30)
    sender = send(trust.endpoint("mqtt", broker.port, mqtt_version=version), gateway)
    assert sender.drain(15)
    assert platform.arrivals == list(range(1, 31))
    assert platform.has(gateway)
    gateway.seal(2)
    sender.sealed()
    assert sender.drain(15)
    assert platform.arrivals == list(range(1, 33))
    assert sender.status.problem is None
    assert sender.status.counts["sent"] == 32


@VERSIONS
def test_it_resumes_behind_the_retained_receipt(
    trust: Trust, broker: Broker, platform: Platform, consume: Consume, send: Send, version: str
) -> None:
    gateway = Gateway(6)
    for number in (1, 2, 3, 5):
        platform.take(gateway.wires[number])
    consume(broker.port).publish(platform.receipt(gateway.stream_id), retain=True)
    sender = send(trust.endpoint("mqtt", broker.port, mqtt_version=version), gateway)
    assert sender.drain(15)
    assert platform.arrivals == [1, 2, 3, 5, 4, 6]


def test_the_window_holds_against_a_platform_that_does_not_answer(
    trust: Trust, plain_broker: Broker, platform: Platform, consume: Consume, send: Send
) -> None:
    """The broker's PUBACK for each batch frees nothing."""
    platform.mute_after_commit = 100
    consume(plain_broker.port)
    gateway = Gateway(40)
    sender = send(trust.endpoint("mqtt", plain_broker.port, window=5), gateway)
    until(lambda: len(platform.arrivals) == 4)
    gateway.seal(3)
    sender.sealed()
    until(lambda: sender.status.newest == 43 and len(platform.arrivals) == 5)
    assert sender.status.in_flight == 5
    assert sender.status.through == 0
    assert not gateway.receipts


class SlowBroker:
    """Just enough of an MQTT 5 broker to be unreasonable: it wants two batches at a time and takes none of them."""

    def __init__(self, puback_reason: int | None = None, login: int = 0) -> None:
        self._login = login
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._puback_reason = puback_reason
        self.port = int(self._listener.getsockname()[1])
        self.published = 0
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                with contextlib.suppress(OSError, IndexError), client, client.makefile("rb") as stream:
                    while True:
                        self._answer(client, *self._packet(stream))

    def _packet(self, stream: BinaryIO) -> tuple[int, bytes]:
        kind, length, shift = stream.read(1)[0], 0, 0
        while True:
            digit = stream.read(1)[0]
            length |= (digit & 0x7F) << shift
            shift += 7
            if not digit & 0x80:
                return kind >> 4, stream.read(length)

    def _answer(self, client: socket.socket, kind: int, body: bytes) -> None:
        if kind == 1:
            client.sendall(bytes([0x20, 6, 0, self._login, 3, 0x21, 0, 2]))  # CONNACK, receive maximum 2
        elif kind == 8:
            client.sendall(bytes([0x90, 4, *body[:2], 0, 1]))  # SUBACK, QoS 1
        elif kind == 3:
            self.published += 1
            if self._puback_reason is not None:
                start = 2 + int.from_bytes(body[:2], "big")
                client.sendall(bytes([0x40, 3, *body[start : start + 2], self._puback_reason]))
        elif kind == 12:
            client.sendall(bytes([0xD0, 0]))


def test_no_more_is_published_than_the_broker_has_slots_for(trust: Trust, send: Send) -> None:
    """MQTT 5 receive maximum: more unacknowledged publishes would be a protocol error, and the end of the link."""
    broker = SlowBroker()
    try:
        sender = send(trust.endpoint("mqtt", broker.port, window=16), Gateway(40))
        until(lambda: sender.status.in_flight == 15 and broker.published == 2)
        sender.sealed()
        assert not sender.drain(0.2)
        assert broker.published == 2
    finally:
        broker.close()


@pytest.mark.parametrize(
    ("reason", "fault", "words"),
    [
        (0x97, Fault.STATUS, "Quota exceeded"),
        (0x87, Fault.LOGIN, f"civigate/v1/{EUI.hex()}/batch"),
        (0x95, Fault.OVERSIZE, "no packet as large as batch 1"),
    ],
)
def test_a_broker_that_does_not_take_a_batch_is_named(
    trust: Trust, send: Send, reason: int, fault: Fault, words: str
) -> None:
    broker = SlowBroker(reason)
    try:
        assert words in _problem(send(trust.endpoint("mqtt", broker.port), Gateway(1)), fault)
    finally:
        broker.close()


@VERSIONS
def test_a_web_server_in_the_place_of_the_broker_is_named(trust: Trust, send: Send, version: str) -> None:
    def serve(listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                with client:
                    client.recv(4096)
                    client.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n" + b"<p>Welcome!</p>" * 20)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        endpoint = trust.endpoint("mqtt", listener.getsockname()[1], mqtt_version=version, connect_timeout_s=1.0)
        assert "no MQTT broker" in _problem(send(endpoint, Gateway(1)), Fault.PORTAL)
        listener.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize(("reason", "words"), [(0x97, "full or busy"), (0x89, "full or busy"), (0x87, "access list")])
def test_a_login_that_is_refused_for_want_of_room_is_told_from_one_without_rights(
    trust: Trust, send: Send, reason: int, words: str
) -> None:
    broker = SlowBroker(login=reason)
    try:
        fault = Fault.LOGIN if reason == 0x87 else Fault.STATUS
        assert words in _problem(send(trust.endpoint("mqtt", broker.port), Gateway(1)), fault)
    finally:
        broker.close()


@VERSIONS
def test_an_answer_that_does_not_come_makes_it_send_the_same_bytes_again(
    trust: Trust, broker: Broker, platform: Platform, consume: Consume, send: Send, version: str
) -> None:
    platform.mute_after_commit = 3
    consume(broker.port)
    gateway = Gateway(3)
    endpoint = trust.endpoint("mqtt", broker.port, answer_timeout_s=0.3, mqtt_version=version)
    sender = send(endpoint, gateway)
    assert "receiver" in _problem(sender, Fault.NOBODY)
    assert sender.drain(15)
    # The receipt for the first of them covers all three, perhaps before the others have arrived again.
    assert platform.arrivals[:4] == [1, 2, 3, 1]
    assert set(platform.wires) == set(gateway.wires.values())


def test_a_batch_that_nobody_is_subscribed_to_is_not_delivered(
    trust: Trust, broker: Broker, platform: Platform, consume: Consume, send: Send
) -> None:
    gateway = Gateway(3)
    sender = send(trust.endpoint("mqtt", broker.port), gateway)
    assert f"civigate/v1/{EUI.hex()}/batch" in _problem(sender, Fault.NOBODY)
    assert sender.status.through == 0
    consume(broker.port)
    assert sender.drain(15)
    assert platform.has(gateway)
    until(lambda: sender.status.problem is None)


def test_a_broker_that_forgets_its_state_costs_nothing(
    trust: Trust, broker: Broker, platform: Platform, consume: Consume, send: Send
) -> None:
    """Killed hard, nothing persistent: retained receipts, sessions and queued batches are gone."""
    consumer = consume(broker.port)
    gateway = Gateway(5)
    sender = send(trust.endpoint("mqtt", broker.port, answer_timeout_s=2.0), gateway)
    assert sender.drain(15)
    consumer.subscribed.clear()
    broker.kill()
    gateway.seal(5)
    sender.sealed()
    until(lambda: sender.status.problem is not None)
    broker.start()
    assert consumer.subscribed.wait(15)
    assert sender.drain(15)
    assert platform.has(gateway)


def test_a_silent_link_is_noticed_by_the_missing_answer(
    trust: Trust, broker: Broker, platform: Platform, consume: Consume, send: Send, relay: MakeRelay
) -> None:
    consume(broker.port)
    between = relay(broker.port)
    gateway = Gateway(1)
    options = {"answer_timeout_s": 0.3, "connect_timeout_s": 0.3}
    sender = send(trust.endpoint("mqtt", between.port, **options), gateway)
    assert sender.drain(15)
    between.silence()
    gateway.seal(5)
    sender.sealed()
    _problem(sender, Fault.SILENT)
    between.resume()
    assert sender.drain(15)
    assert platform.has(gateway)


def test_a_silent_link_with_nothing_to_send_is_noticed_by_the_keepalive(
    trust: Trust, broker: Broker, consume: Consume, send: Send, relay: MakeRelay
) -> None:
    consume(broker.port)
    between = relay(broker.port)
    gateway = Gateway(1)
    sender = send(trust.endpoint("mqtt", between.port, keepalive_s=1), gateway)
    assert sender.drain(15)
    between.silence()
    until(lambda: sender.status.problem is not None)


def test_a_new_stream_is_not_misled_by_what_is_retained(
    trust: Trust, broker: Broker, platform: Platform, consume: Consume, send: Send
) -> None:
    """A forged receipt, one for another stream and plain rubbish: counted, and nothing is freed by them."""
    consumer = consume(broker.port)
    gateway = Gateway(3)
    forged = Receipt(gateway.stream_id, 3, gateway.hashes[3], 1)
    foreign = Receipt(bytes(16), 3, gateway.hashes[3], 1)
    sender = send(trust.endpoint("mqtt", broker.port, answer_timeout_s=60.0), gateway)
    consumer.publish(receipt.sign_receipt(foreign, platform.signer), retain=True)
    assert sender.drain(15)
    arrived = list(platform.arrivals)
    platform.mute_after_commit = 1
    gateway.seal()
    sender.sealed()
    until(lambda: len(platform.arrivals) == len(arrived) + 1)
    through = Receipt(gateway.stream_id, 4, gateway.hashes[4], 1)
    consumer.publish(receipt.sign_receipt(forged, Ed25519Signer.generate()))
    consumer.publish(receipt.sign_receipt(through, Ed25519Signer.generate()))
    consumer.publish(b"rubbish")
    consumer.publish(bytes(100_000))
    consumer.publish(receipt.sign_receipt(foreign, platform.signer))
    until(lambda: sender.status.counts.get("forged") == 3 and sender.status.counts.get("foreign", 0) >= 1)
    assert sender.status.through == 3
    consumer.publish(receipt.sign_receipt(through, platform.signer))
    assert sender.drain(15)
    assert sender.status.through == 4


def test_refusals_park_or_wait(trust: Trust, broker: Broker, platform: Platform, consume: Consume, send: Send) -> None:
    consume(broker.port)
    platform.refuse = {2: Reason.BROKEN_CHAIN, 3: Reason.UNKNOWN_KEY}
    gateway = Gateway(4)
    sender = send(trust.endpoint("mqtt", broker.port), gateway)
    assert "UNKNOWN_KEY" in _problem(sender, Fault.STANDING)
    assert {number for number, refusal in gateway.refusals if refusal.reason is Reason.BROKEN_CHAIN} == {2}
    platform.refuse = {}
    assert sender.drain(15)
    assert sorted(platform.committed[gateway.stream_id]) == [1, 3, 4]
    assert sender.status.phase is Phase.ONLINE


def test_anchors_come_only_from_batches_that_no_earlier_process_can_have_sent(
    trust: Trust, broker: Broker, platform: Platform, consume: Consume, send: Send
) -> None:
    consume(broker.port)
    gateway = Gateway(3)
    sender = send(trust.endpoint("mqtt", broker.port), gateway)
    assert sender.drain(15)
    assert not gateway.anchors
    gateway.seal()
    sender.sealed()
    assert sender.drain(15)
    until(lambda: len(gateway.anchors) == 1)


def test_bytes_per_batch(trust: Trust, broker: Broker, consume: Consume, send: Send, relay: MakeRelay) -> None:
    consumer = consume(broker.port)
    between = relay(broker.port)
    gateway = Gateway(1)
    sender = send(trust.endpoint("mqtt", between.port), gateway)
    assert sender.drain(15)
    up, down = between.up_bytes, between.down_bytes
    count = 20
    for _ in range(count):
        gateway.seal()
        sender.sealed()
        assert sender.drain(15)
    # the acknowledgement of the last receipt may leave after the status was drawn up
    until(lambda: sender._uplink.traffic.repeated or sender._uplink.traffic.up_bytes == between.up_bytes)
    carried = sum(len(gateway.wires[number]) for number in range(2, count + 2))
    receipts = count * len(consumer.platform.receipt(gateway.stream_id))
    up_each = (between.up_bytes - up - carried) / count
    down_each = (between.down_bytes - down - receipts) / count
    print(f"mqtt: {up_each:.0f} bytes up and {down_each:.0f} down per batch beside batch and receipt")
    assert up_each < 60
    assert down_each < 70


@pytest.fixture
def closed_broker(tmp_path: Path, trust: Trust) -> Iterator[Broker]:
    """TLS with client certificates, passwords, and an access list."""
    (tmp_path / "passwords").write_text("gateway-17:$7$101$")
    acl = tmp_path / "acl"
    acl.write_text(
        "user receiver\ntopic readwrite civigate/#\n"
        f"user gateway\ntopic write civigate/v1/{EUI.hex()}/batch\ntopic read civigate/v1/{EUI.hex()}/receipt\n"
    )
    broker = Broker(
        tmp_path,
        f"cafile {trust.authority.certificate}",
        f"certfile {trust.server.certificate}",
        f"keyfile {trust.server.key}",
        "require_certificate true",
        "use_identity_as_username true",
        "allow_anonymous false",
        f"acl_file {acl}",
    )
    yield broker
    broker.kill()


@VERSIONS
def test_tls_with_client_certificates(
    trust: Trust, closed_broker: Broker, platform: Platform, send: Send, version: str
) -> None:
    worker = trust.authority.client("receiver")
    endpoint = trust.endpoint("mqtts", closed_broker.port, mqtt_version=version)
    context = client_context(DatedContext, trust.authority.certificate, worker.certificate, worker.key)
    consumer = MqttConsumer(platform, closed_broker.port, context)
    try:
        gateway = Gateway(4)
        sender = send(endpoint, gateway)
        assert sender.drain(15)
        assert platform.has(gateway)
    finally:
        consumer.stop()


def test_a_broker_that_does_not_let_us_in_is_named(trust: Trust, closed_broker: Broker, send: Send) -> None:
    bare = trust.endpoint("mqtts", closed_broker.port, cert_file=None, key_file=None)
    assert "cert_file" in _problem(send(bare, Gateway(1)), Fault.TLS)


def test_a_certificate_that_was_missing_is_used_without_a_restart(
    trust: Trust, closed_broker: Broker, send: Send, tmp_path: Path
) -> None:
    certificate = tmp_path / "mine.pem"
    sender = send(trust.endpoint("mqtts", closed_broker.port, cert_file=certificate), Gateway())
    assert str(certificate) in _problem(sender, Fault.FILES)

    shutil.copy(trust.client.certificate, certificate)

    until(lambda: sender.status.phase is Phase.ONLINE)


@VERSIONS
def test_user_and_password(trust: Trust, tmp_path: Path, send: Send, version: str) -> None:
    passwords = tmp_path / "passwords"
    program = shutil.which("mosquitto_passwd")
    assert program is not None, "mosquitto_passwd is part of the mosquitto package"
    subprocess.run([program, "-c", "-b", passwords, "gateway-17", "right"], check=True, capture_output=True)
    broker = Broker(tmp_path, f"password_file {passwords}", "allow_anonymous false")
    (tmp_path / "right").write_text("right\n")
    (tmp_path / "wrong").write_text("wrong\n")
    try:
        options = {"user": "gateway-17", "mqtt_version": version}
        right = trust.endpoint("mqtt", broker.port, password_file=tmp_path / "right", **options)
        wrong = trust.endpoint("mqtt", broker.port, password_file=tmp_path / "wrong", **options)
        sender = send(right, Gateway())
        until(lambda: sender.status.phase is Phase.ONLINE)
        assert "password_file" in _problem(send(wrong, Gateway(1)), Fault.LOGIN)
    finally:
        broker.kill()


def test_a_batch_over_the_brokers_limit_is_named(trust: Trust, tmp_path: Path, send: Send) -> None:
    broker = Broker(tmp_path, "allow_anonymous true", "max_packet_size 200")
    try:
        sender = send(trust.endpoint("mqtt", broker.port), Gateway(1))
        assert "max_packet_size" in _problem(sender, Fault.OVERSIZE)
    finally:
        broker.kill()
