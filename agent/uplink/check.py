# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Walk the way to a platform step by step, for a person who wants to know where it ends."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from agent.batch.model import Receipt, Refusal
from agent.errors import BatchError
from agent.uplink.endpoint import Endpoint, open_uplink
from agent.uplink.port import BootClock, Fault, LinkError, Reply, Uplink
from agent.uplink.tls import client_context, link_error

MAX_ADDRESSES = 8


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the way.

    Attributes:
        name: "name", "tcp", "tls", "login" or "receipt".
        error: why it ends here, None when it goes on.
        detail: what was found.
        took_ms: how long it took.
    """

    name: str
    error: LinkError | None
    detail: str
    took_ms: float


def walk(
    endpoint: Endpoint,
    gateway_eui: bytes,
    stream_id: bytes,
    verify: Callable[[bytes], Receipt | Refusal],
    clock: BootClock,
) -> Iterator[Step]:
    """Yield step after step until one fails.

    Args:
        endpoint: the platform.
        gateway_eui: 8 bytes.
        stream_id: 16 bytes; the receipt of this stream is asked for.
        verify: opens signed answers with the platform's key.
        clock: of this boot.
    """
    found: list[str] = []
    connected: list[socket.socket] = []
    walked: list[tuple[str, Callable[[], str]]] = [
        ("name", lambda: _resolve(endpoint, found)),
        ("tcp", lambda: _connect(endpoint, found, connected)),
    ]
    if endpoint.scheme != "mqtt":
        walked.append(("tls", lambda: _handshake(endpoint, connected)))
    try:
        for name, run in walked:
            step = _timed(name, run)
            yield step
            if step.error is not None:
                return
    finally:
        for sock in connected:
            sock.close()
    uplink = open_uplink(endpoint, gateway_eui, clock, role="check")
    wake = threading.Event()
    try:
        login = _timed("login", lambda: _login(uplink, endpoint, wake))
        if endpoint.scheme != "https" or login.error is not None:
            yield login
        if login.error is not None:
            return
        yield _timed("receipt", lambda: _receipt(uplink, endpoint, stream_id, verify, wake))
    finally:
        uplink.close()


def _timed(name: str, run: Callable[[], str]) -> Step:
    started = time.monotonic()
    error: LinkError | None = None
    try:
        detail = run()
    except LinkError as found:
        error, detail = found, str(found)
    return Step(name, error, detail, (time.monotonic() - started) * 1000)


def _resolve(endpoint: Endpoint, found: list[str]) -> str:
    try:
        answers = socket.getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise link_error(error, endpoint.host) from error
    found += list(dict.fromkeys(str(answer[4][0]) for answer in answers))[:MAX_ADDRESSES]
    return f"{endpoint.host} is {', '.join(found)}"


def _connect(endpoint: Endpoint, addresses: list[str], connected: list[socket.socket]) -> str:
    problem: LinkError | None = None
    for address in addresses:
        try:
            connected.append(socket.create_connection((address, endpoint.port), endpoint.connect_timeout_s))
        except OSError as error:
            problem = link_error(error, f"{address} port {endpoint.port}")
        else:
            return f"{address} port {endpoint.port} accepts"
    assert problem is not None, "a name that resolves has an address"
    raise problem


def _handshake(endpoint: Endpoint, connected: list[socket.socket]) -> str:
    context = client_context(ssl.SSLContext, endpoint.ca_file, endpoint.cert_file, endpoint.key_file)
    try:
        connected[0] = wrapped = context.wrap_socket(connected[0], server_hostname=endpoint.host)
    except OSError as error:
        raise link_error(error, endpoint.where) from error
    certificate = wrapped.getpeercert() or {}
    until = str(certificate.get("notAfter", "unknown"))
    return f"{wrapped.version()}, the platform's certificate is valid until {until}"


def _login(uplink: Uplink, endpoint: Endpoint, wake: threading.Event) -> str:
    uplink.connect(wake.set)
    return f"MQTT {endpoint.mqtt_version}, the broker lets this gateway in"


def _receipt(
    uplink: Uplink,
    endpoint: Endpoint,
    stream_id: bytes,
    verify: Callable[[bytes], Receipt | Refusal],
    wake: threading.Event,
) -> str:
    deadline = time.monotonic() + uplink.ask(stream_id)
    while True:
        for arrival in uplink.receive():
            if isinstance(arrival, Reply):
                return _judge(arrival, endpoint, stream_id, verify)
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            return "the broker has none for this gateway yet: the first batch brings it"
        wake.wait(left_s)
        wake.clear()


def _judge(reply: Reply, endpoint: Endpoint, stream_id: bytes, verify: Callable[[bytes], Receipt | Refusal]) -> str:
    hint = "set receipt_key to what 'civigate-receiver identity show' prints on the platform"
    try:
        signed = verify(reply.data)
    except BatchError as error:
        what = f"the answer does not verify with receipt_key: {error.what}"
        raise LinkError(Fault.FORGED, what, where=endpoint.where, hint=hint) from error
    if isinstance(signed, Refusal):
        hint = "look at the platform (civigate-receiver status)"
        raise LinkError(Fault.STANDING, f"refused: {signed.detail}", where=endpoint.where, hint=hint)
    if signed.stream_id != stream_id:
        return f"verified, but of another stream, {signed.stream_id.hex()}"
    platform = datetime.fromtimestamp(signed.utc_us / 1e6, UTC)
    ahead_s = time.time() - signed.utc_us / 1e6
    clocks = f", platform time {platform:%Y-%m-%d %H:%M:%S} UTC, this host {ahead_s:+.1f} s" if reply.asked_us else ""
    return f"verified, everything up to batch {signed.through} is acknowledged{clocks}"
