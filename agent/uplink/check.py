# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Walk the way to a platform step by step, for a person who wants to know where it ends."""

from __future__ import annotations

import errno
import os
import queue
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from agent.batch.model import Receipt, Refusal
from agent.enrolment.certificate import chain_from_pem, day, validity
from agent.errors import BatchError, IdentityError
from agent.trusted_time import Bounds
from agent.uplink.endpoint import Endpoint, open_uplink
from agent.uplink.port import BootClock, Fault, LinkError, Reply, Uplink
from agent.uplink.tls import DatedContext, link_error

MAX_ADDRESSES = 8
NAME_LIMIT_S = 20.0
"""Two name servers that are dead, of which each is asked twice, and a third one that answers, take no longer."""
SOON_DAYS = 14
"""A certificate with less left is said to expire soon; renewals begin long before."""
_DAY_US = 86_400_000_000
_NO_WAY = frozenset({errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})
"""What this host says of addresses of a kind (IPv4, IPv6) that its network does not carry."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the way.

    Attributes:
        name: "name", "tcp", "cert", "tls", "login" or "receipt".
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
        if endpoint.cert_file is not None or endpoint.sets:
            walked.append(("cert", lambda: _certificate(endpoint)))
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
    """Ask for the addresses; in a thread, since the system's own limit is minutes where name servers are dead."""
    host, port = endpoint.host, endpoint.port
    told: queue.SimpleQueue[list[str] | Exception] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            told.put([str(answer[4][0]) for answer in answers])
        except (OSError, UnicodeError) as error:
            told.put(error)

    threading.Thread(target=ask, name="resolve", daemon=True).start()
    try:
        addresses = told.get(timeout=NAME_LIMIT_S)
    except queue.Empty:
        what = f"the name does not resolve: no name server answers within {NAME_LIMIT_S:g} s"
        hint = "the link is dead, or its DNS servers are: check both (resolvectl status)"
        raise LinkError(Fault.NAME, what, where=host, hint=hint) from None
    if isinstance(addresses, UnicodeError):
        hint = "correct the host in the destination's url: two dots in a row, or a part of more than 63 letters"
        raise LinkError(Fault.NAME, "no host can have this name", where=host, hint=hint) from addresses
    if isinstance(addresses, Exception):
        raise link_error(addresses, host) from addresses
    found += list(dict.fromkeys(addresses))[:MAX_ADDRESSES]
    return f"{host} is {', '.join(found)}"


def _connect(endpoint: Endpoint, addresses: list[str], connected: list[socket.socket]) -> str:
    """Try all addresses at the same time: so one time-out is enough for all of them."""
    problems: dict[str, OSError] = {address: TimeoutError() for address in addresses}
    deadline = time.monotonic() + endpoint.connect_timeout_s
    with selectors.DefaultSelector() as trying:
        for address in addresses:
            try:
                trying.register(_begun(address, endpoint.port), selectors.EVENT_WRITE, address)
            except OSError as error:
                problems[address] = error
        begun = [key.fileobj for key in trying.get_map().values()]
        try:
            while trying.get_map() and (left_s := deadline - time.monotonic()) > 0:
                for key, _ in trying.select(left_s):
                    sock, address = key.fileobj, key.data
                    assert isinstance(sock, socket.socket)
                    trying.unregister(sock)
                    number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                    if number == 0:
                        begun.remove(sock)
                        sock.settimeout(endpoint.connect_timeout_s)
                        connected.append(sock)
                        return f"{address} port {endpoint.port} accepts"
                    problems[address] = OSError(number, os.strerror(number))
        finally:
            for left in begun:
                assert isinstance(left, socket.socket)
                left.close()
    # the last one, but of one that could be tried if there was any: the others say nothing of the platform
    tried = [address for address in addresses if problems[address].errno not in _NO_WAY]
    last = (tried or addresses)[-1]
    raise link_error(problems[last], f"{last} port {endpoint.port}") from problems[last]


def _begun(address: str, port: int) -> socket.socket:
    """Return a socket that has begun to connect.

    Raises:
        OSError: this host knows no way to that address.
    """
    family, kind, protocol, _, where = socket.getaddrinfo(
        address, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
    )[0]
    sock = socket.socket(family, kind, protocol)
    sock.setblocking(False)
    number = sock.connect_ex(where)
    if number not in {0, errno.EINPROGRESS}:
        sock.close()
        raise OSError(number, os.strerror(number))
    return sock


def _certificate(endpoint: Endpoint) -> str:
    """Say of the certificate that we show how long it is good."""
    chosen = None if endpoint.sets is None else endpoint.sets.choose()
    path = endpoint.cert_file if chosen is None else chosen.certificate
    assert path is not None, "there is one"
    try:
        dates = validity(chain_from_pem(path.read_bytes(), str(path))[0])
    except (OSError, IdentityError) as error:
        hint = "cert_file must be PEM, readable by this program"
        raise LinkError(Fault.FILES, "cannot be read", where=str(path), hint=hint) from error
    now_us = time.time_ns() // 1000
    bounds = Bounds(now_us, now_us) if endpoint.time is None else endpoint.time.bounds()
    hint = "renew it: 'civigate identity renew', or 'civigate enrol' with a new code"
    if chosen is None:
        hint = "replace cert_file and key_file by new ones, or enrol: civigate enrol"
    if bounds.expired(dates):
        what = f"our certificate expired on {day(dates.not_after_us)}"
        raise LinkError(Fault.FILES, what, where=str(path), hint=hint)
    if bounds.not_yet_valid(dates):
        what = f"our certificate is not valid before {day(dates.not_before_us)}"
        raise LinkError(Fault.FILES, what, where=str(path), hint="check the clock (timedatectl)")
    left_days = (dates.not_after_us - max(bounds.earliest_us, now_us)) // _DAY_US
    whose = "" if chosen is None else f" ({endpoint.role_of(chosen.name)})"
    note = f": expires soon, {hint}" if left_days < SOON_DAYS else ""
    if now_us > dates.not_after_us:
        note = f": by this host's clock, which nobody has set, it has expired; {hint}"
    return f"our certificate{whose} is valid until {day(dates.not_after_us)}{note}"


def _handshake(endpoint: Endpoint, connected: list[socket.socket]) -> str:
    context, _ = endpoint.context(DatedContext)
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
