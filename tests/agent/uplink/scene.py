# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Both ends of the uplink for its tests: sealed batches on one side, a platform that verifies and signs on the other.

The platform keeps what it commits in memory, which is all that is simplified: batches, receipts, refusals, TLS,
HTTP and MQTT are the real ones.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt import client as mqtt

from agent.batch import codec, receipt
from agent.batch.errors import RefusedError
from agent.batch.keys import Ed25519Signer, ring
from agent.batch.model import GENESIS_HASH, Account, Anchor, Body, Reason, Receipt, Refusal
from agent.demo.authority import Authority, Credentials
from agent.mqttclient import Client
from agent.uplink.endpoint import Endpoint
from agent.uplink.numbers import Numbers
from agent.uplink.port import Outgoing, UnreadableBatchError

LIMIT_S = 15.0
EUI = bytes.fromhex("0016c001ff10a235")
GATEWAY_KEY = Ed25519Signer.generate()
PLATFORM_KEY = Ed25519Signer.generate()


def until(condition: Callable[[], object], what: str = "") -> None:
    """Wait until a condition holds, and fail the test when it does not in time."""
    deadline = time.monotonic() + LIMIT_S
    tick = threading.Event()
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"not within {LIMIT_S:.0f} s: {what or condition}")
        tick.wait(0.003)


class HostClock:
    """CLOCK_BOOTTIME of this machine."""

    boot_id = bytes(range(16))

    def boottime_us(self) -> int:
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000


class Pauses:
    """Notes how long the sender wants to wait, and waits next to nothing."""

    def __init__(self) -> None:
        self.wanted_s: list[float] = []

    def __call__(self, seconds: float) -> None:
        self.wanted_s.append(seconds)
        threading.Event().wait(0.01)


class Gateway:
    """The sealed batches of one stream, and what came back about them (Source and Sink)."""

    def __init__(self, batches: int = 0) -> None:
        self.stream_id = hashlib.sha256(str(id(self)).encode()).digest()[:16]
        self.wires: dict[int, bytes] = {}
        self.hashes: dict[int, bytes] = {0: GENESIS_HASH}
        self.receipts: list[Receipt] = []
        self.refusals: list[tuple[int, Refusal]] = []
        self.unreadable_batches: list[int] = []
        self.anchors: list[Anchor] = []
        self.contradictions: list[int] = []
        self.up: list[bool] = []
        self.damaged: set[int] = set()
        self.evicted: set[int] = set()
        self.prepared: list[int] = []
        self.seal(batches)

    def seal(self, count: int = 1, heard: int = 1) -> None:
        for _ in range(count):
            number = len(self.wires) + 1
            sealed = codec.seal(
                Body(frames=(), account=Account(heard=heard, filtered=heard)),
                GATEWAY_KEY,
                gateway_eui=EUI,
                stream_id=self.stream_id,
                number=number,
                first_seq=1,
                previous_hash=self.hashes[number - 1],
            )
            self.hashes[number] = sealed.hash
            self.wires[number] = codec.pack(sealed.signed_header, sealed.body)

    @contextlib.contextmanager
    def source(self) -> Iterator[Gateway]:
        yield self

    def through(self) -> int:
        return max((receipt.through for receipt in self.receipts), default=0)

    def newest(self) -> int:
        return len(self.wires)

    def load(self, number: int) -> Outgoing | None:
        if number in self.damaged:
            raise UnreadableBatchError("row 7 has a wrong CRC", where=f"batch {number}", hint="-", code="CG-SPL-009")
        if number in self.evicted:
            return None
        return Outgoing(number, self.hashes[number], self.wires[number])

    def prepare(self, number: int) -> None:
        self.prepared.append(number)

    def hash_of(self, number: int) -> bytes | None:
        return self.hashes.get(number)

    def reached(self, *, up: bool) -> None:
        self.up.append(up)

    def receipt(self, receipt: Receipt) -> None:
        self.receipts.append(receipt)

    def refusal(self, number: int, refusal: Refusal) -> None:
        self.refusals.append((number, refusal))

    def unreadable(self, number: int, error: UnreadableBatchError) -> None:
        del error
        self.unreadable_batches.append(number)

    def contradicted(self, newest: int) -> None:
        self.contradictions.append(newest)

    def anchor(self, anchor: Anchor) -> None:
        self.anchors.append(anchor)


@dataclass
class Platform:
    """Verifies, commits to memory, signs. `arrivals` has every batch number in the order of arrival."""

    signer: Ed25519Signer = PLATFORM_KEY
    registered: bool = True
    committed: dict[bytes, dict[int, bytes]] = field(default_factory=dict)
    arrivals: list[int] = field(default_factory=list)
    wires: list[bytes] = field(default_factory=list)
    refuse: dict[int, Reason] = field(default_factory=dict)
    forget_stream: bool = False
    mute_after_commit: int = 0
    """So many batches are committed without an answer."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def receipt(self, stream_id: bytes) -> bytes:
        numbers = self.committed.get(stream_id, {})
        done = Numbers.of((number, number) for number in numbers)
        ranges = list(done.ranges)
        through = ranges.pop(0)[1] if ranges and ranges[0][0] == 1 else 0
        value = Receipt(
            bytes(16) if self.forget_stream else stream_id,
            through,
            numbers[through] if through else GENESIS_HASH,
            time.time_ns() // 1000,
            tuple(ranges),
        )
        return receipt.sign_receipt(value, self.signer)

    def take(self, wire: bytes) -> tuple[bool, bytes] | None:
        """Return whether the batch is accepted, and the signed answer; None when no answer may go out."""
        with self.lock:
            keys = ring(GATEWAY_KEY.public) if self.registered else ring()
            glimpse = codec.glimpse(wire)
            self.arrivals.append(glimpse.number)
            self.wires.append(wire)
            reason = self.refuse.get(glimpse.number)
            try:
                opened = codec.open_wire(wire, keys)
                reason = reason or self._judge(opened)
            except RefusedError as error:
                reason = reason or error.reason
            if reason is not None:
                no = Refusal(
                    glimpse.stream_id, glimpse.number, glimpse.batch_hash, reason, "so it is", time.time_ns() // 1000
                )
                return False, receipt.sign_refusal(no, self.signer)
            self.committed.setdefault(opened.header.stream_id, {})[opened.header.number] = opened.hash
            if self.mute_after_commit:
                self.mute_after_commit -= 1
                return None
            return True, self.receipt(opened.header.stream_id)

    def _judge(self, opened: codec.Opened) -> Reason | None:
        there = self.committed.get(opened.header.stream_id, {})
        number = opened.header.number
        if there.get(number, opened.hash) != opened.hash:
            return Reason.FORK
        if there.get(number - 1, opened.header.previous_hash) != opened.header.previous_hash:
            return Reason.BROKEN_CHAIN
        return None

    def has(self, gateway: Gateway) -> bool:
        """Say whether every batch of a gateway is committed, with the right content."""
        return self.committed.get(gateway.stream_id) == {n: h for n, h in gateway.hashes.items() if n}


class Handler(BaseHTTPRequestHandler):
    """HTTP/1.1 with keep-alive, and headers as few as uvicorn's."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: HttpsServer
    wire: bytes

    def do_GET(self) -> None:
        self.server.requests.append(self.requestline)
        if not self._diverted():
            stream_id = bytes.fromhex(self.path.split("/")[-2])
            self._answer(200, "application/cose", self.server.platform.receipt(stream_id))

    def do_POST(self) -> None:
        self.server.requests.append(self.requestline)
        self.wire = self.rfile.read(int(self.headers["content-length"]))
        if self._diverted():
            return
        answer = self.server.platform.take(self.wire)
        if answer is None:
            self.close_connection = True  # committed, and gone before a word
            return
        self._answer(200 if answer[0] else 422, "application/cose", answer[1])

    def _diverted(self) -> bool:
        diverted = self.server.divert
        if diverted is not None:
            diverted(self)
        return diverted is not None

    def _answer(self, status: int, kind: str, data: bytes) -> None:
        self.send_response_only(status)
        self.send_header("content-length", str(len(data)))
        self.send_header("content-type", kind)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


class HttpsServer(ThreadingHTTPServer):
    """A receiver's HTTPS side on loopback."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, platform: Platform, context: ssl.SSLContext, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.platform = platform
        self.context = context
        self.requests: list[str] = []
        self.connections = 0
        self.open: list[socket.socket] = []
        self.divert: Callable[[Handler], None] | None = None
        self._thread = threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def finish_request(self, request: Any, client_address: Any) -> None:
        self.connections += 1
        try:
            wrapped = self.context.wrap_socket(request, server_side=True)
        except (OSError, ssl.SSLError):
            return
        self.open.append(wrapped)
        with contextlib.suppress(OSError, ValueError):
            super().finish_request(wrapped, client_address)
        # The socket that was given here is no longer the one to close.
        with contextlib.suppress(OSError):
            wrapped.shutdown(socket.SHUT_RDWR)
        wrapped.close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        del request, client_address

    def drop_connections(self) -> None:
        for connection in self.open:
            with contextlib.suppress(OSError):
                socket.socket.shutdown(connection, socket.SHUT_RDWR)
        self.open.clear()

    def stop(self) -> None:
        self.shutdown()
        self.server_close()
        self.drop_connections()
        self._thread.join(LIMIT_S)


@dataclass(frozen=True)
class Trust:
    """The certificates of a test session."""

    authority: Authority
    server: Credentials
    client: Credentials
    folder: Path

    def server_context(self, *, client_certificates: bool = True) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.server.certificate, self.server.key)
        if client_certificates:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(self.authority.certificate)
        return context

    def endpoint(self, scheme: str, port: int, **changes: Any) -> Endpoint:
        values: dict[str, Any] = {
            "name": "city",
            "url": f"{scheme}://localhost:{port}",
            "ca_file": self.authority.certificate,
            "cert_file": self.client.certificate,
            "key_file": self.client.key,
            "connect_timeout_s": 5.0,
            "answer_timeout_s": 5.0,
        }
        if scheme == "mqtt":
            values |= {"ca_file": None, "cert_file": None, "key_file": None}
        return Endpoint(**(values | changes))


class Relay:
    """A TCP relay that can go silent (keeps connections, forwards nothing) and that counts bytes."""

    def __init__(self, target_port: int) -> None:
        self.target_port = target_port
        self.up_bytes = 0
        self.down_bytes = 0
        self._flow = threading.Event()
        self._flow.set()
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def silence(self) -> None:
        self._flow.clear()

    def resume(self) -> None:
        """Forward again; connections from before stay dead, as behind a NAT that forgot them."""
        self.reset()
        self._flow.set()

    def reset(self) -> None:
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._open.clear()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._flow.set()
        self.reset()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                try:
                    far = socket.create_connection(("127.0.0.1", self.target_port), LIMIT_S)
                except OSError:
                    near.close()
                    continue
                for connection in (near, far):
                    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._open += [near, far]
                threading.Thread(target=self._pump, args=(near, far, True), daemon=True).start()
                threading.Thread(target=self._pump, args=(far, near, False), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, up: bool) -> None:
        with contextlib.suppress(OSError):
            while chunk := source.recv(65536):
                if not self._flow.wait(60):
                    break
                sink.sendall(chunk)
                if up:
                    self.up_bytes += len(chunk)
                else:
                    self.down_bytes += len(chunk)
        for connection in (source, sink):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


class Broker:
    """mosquitto on loopback."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.port = free_port()
        self._config = folder / f"mosquitto-{self.port}.conf"
        self._log = folder / f"mosquitto-{self.port}.log"
        lines = (f"listener {self.port} 127.0.0.1", "set_tcp_nodelay true", "user root", *options)
        self._config.write_text("\n".join(lines) + "\n")
        self._process: subprocess.Popen[bytes]
        self.start()

    def start(self) -> None:
        program = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
        assert program is not None, "mosquitto is not installed (make setup does it)"
        with self._log.open("ab") as log:
            self._process = subprocess.Popen([program, "-c", str(self._config)], stdout=log, stderr=log)
        until(self._accepts, f"mosquitto: {self._log}")

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(LIMIT_S)

    def _accepts(self) -> bool:
        assert self._process.poll() is None, self._log.read_text()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False


class MqttConsumer:
    """A receiver's MQTT side: takes batches, publishes receipts (retained) and refusals."""

    def __init__(self, platform: Platform, port: int, context: ssl.SSLContext | None = None) -> None:
        self.platform = platform
        self.subscribed = threading.Event()
        self._client = Client("receiver", clean_session=None, protocol=mqtt.MQTTv5)
        self._client.reconnect_delay_set(1, 1)
        if context is not None:
            self._client.tls_set_context(context)
        self._client.on_connect = self._on_connect
        self._client.on_subscribe = self._on_subscribe
        self._client.on_message = self._on_message
        self._client.connect("localhost", port)
        self._client.loop_start()
        assert self.subscribed.wait(LIMIT_S)

    def publish(self, data: bytes, *, retain: bool = False) -> None:
        self._client.publish(f"civigate/v1/{EUI.hex()}/receipt", data, qos=1, retain=retain).wait_for_publish(LIMIT_S)

    def stop(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _on_connect(self, client: mqtt.Client, _u: Any, _f: Any, reason: Any, _p: Any) -> None:
        if not reason.is_failure:
            client.subscribe("civigate/v1/+/batch", qos=1)

    def _on_subscribe(self, _c: mqtt.Client, _u: Any, _m: int, _r: Any, _p: Any) -> None:
        self.subscribed.set()

    def _on_message(self, client: mqtt.Client, _u: Any, message: mqtt.MQTTMessage) -> None:
        answer = self.platform.take(bytes(message.payload))
        if answer is not None:
            topic = message.topic.replace("/batch", "/receipt")
            client.publish(topic, answer[1], qos=1, retain=answer[0])
