# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What a gateway's connections may meet on their way to the platform: portals, proxies, brokers that are full.

A `Front` stands where the gateway believes the platform to be. It passes connections on, or lets something else have
them; every connection that comes is counted.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable
from typing import BinaryIO

CHUNK_BYTES = 64 * 1024
BACKLOG = 64
LIMIT_S = 30.0

Connect = Callable[[], socket.socket]
Behaviour = Callable[[socket.socket, Connect], None]
"""Has an accepted connection until it returns or somebody hangs up; may connect to the platform."""

PAGE = b"<!doctype html><title>Free Wi-Fi</title><p>Please accept our terms."
HTML = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n%s" % (len(PAGE), PAGE)
REDIRECT = b"HTTP/1.1 302 Found\r\nLocation: http://portal.example/login\r\nContent-Length: 0\r\n\r\n"


class Front:
    """A port of this machine that behaves as told.

    Args:
        target_port: of the platform, on the same address.
        address: of this machine.
    """

    def __init__(self, target_port: int, address: str) -> None:
        self._target = (address, target_port)
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._behaviour: Behaviour = passing
        self._listener: socket.socket | None = None
        self._address = address
        self.port = 0
        self.accepted = 0
        """Connections so far."""
        self.restore()

    def behave(self, behaviour: Behaviour) -> None:
        """Treat connections in another way from now on; those that are open end."""
        with self._lock:
            self._behaviour = behaviour
        self._hang_up()

    def cut(self) -> None:
        """Refuse connections; those that are open end."""
        with self._lock:
            listener, self._listener = self._listener, None
        if listener is not None:
            # shutdown wakes the accept() of the other thread; close alone does not
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        self._hang_up()

    def restore(self) -> None:
        """Take connections again, on the same port."""
        if self._listener is not None:
            return
        listener = socket.create_server((self._address, self.port), backlog=BACKLOG)
        self._listener = listener
        self.port = int(listener.getsockname()[1])
        threading.Thread(target=self._accept, args=(listener,), name="front", daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = listener.accept()
                with self._lock:
                    self.accepted += 1
                    self._open.add(near)
                    behaviour = self._behaviour
                near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self._serve, args=(behaviour, near), name="front-one", daemon=True).start()

    def _serve(self, behaviour: Behaviour, near: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError, IndexError):
            behaviour(near, self._connect)
        hang_up(near)
        with self._lock:
            self._open.discard(near)

    def _connect(self) -> socket.socket:
        far = socket.create_connection(self._target, LIMIT_S)
        far.settimeout(None)
        far.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._lock:
            self._open.add(far)
        return far

    def _hang_up(self) -> None:
        with self._lock:
            doomed, self._open = self._open, set()
        for connection in doomed:
            hang_up(connection)


def hang_up(connection: socket.socket) -> None:
    """End a connection, also under a thread that waits on it."""
    with contextlib.suppress(OSError):
        socket.socket.shutdown(connection, socket.SHUT_RDWR)
    connection.close()


def passing(near: socket.socket, connect: Connect) -> None:
    """Pass everything on, both ways."""
    far = connect()
    back = threading.Thread(target=_pump, args=(far, near), name="front-back", daemon=True)
    back.start()
    _pump(near, far)
    hang_up(far)
    back.join()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while chunk := source.recv(CHUNK_BYTES):
            sink.sendall(chunk)
    for connection in (source, sink):
        with contextlib.suppress(OSError):
            socket.socket.shutdown(connection, socket.SHUT_RDWR)


def swallowing(near: socket.socket, _connect: Connect) -> None:
    """Take the connection and all that comes on it, and never say anything."""
    while near.recv(CHUNK_BYTES):
        pass


def cutting(after_s: float) -> Behaviour:
    """Pass on, and cut each connection so long after it came."""

    def behaviour(near: socket.socket, connect: Connect) -> None:
        timer = threading.Timer(after_s, hang_up, (near,))
        timer.daemon = True
        timer.start()
        try:
            passing(near, connect)
        finally:
            timer.cancel()

    return behaviour


def dripping(chunk_bytes: int, pause_s: float) -> Behaviour:
    """Pass on what comes from the gateway in small pieces with pauses between them, and the rest as it comes."""

    def behaviour(near: socket.socket, connect: Connect) -> None:
        far = connect()
        threading.Thread(target=_pump, args=(far, near), name="front-back", daemon=True).start()
        pause = threading.Event()
        while chunk := near.recv(chunk_bytes):
            far.sendall(chunk)
            pause.wait(pause_s)
        hang_up(far)

    return behaviour


def saying(answer: bytes) -> Behaviour:
    """Answer whatever is said first with the same bytes, and hang up."""

    def behaviour(near: socket.socket, _connect: Connect) -> None:
        near.settimeout(LIMIT_S)
        near.recv(CHUNK_BYTES)
        near.sendall(answer)

    return behaviour


def secured(context: ssl.SSLContext, behaviour: Behaviour) -> Behaviour:
    """Speak TLS first."""

    def wrapped(near: socket.socket, connect: Connect) -> None:
        near.settimeout(LIMIT_S)
        with contextlib.closing(context.wrap_socket(near.dup(), server_side=True)) as inside:
            inside.settimeout(None)
            behaviour(inside, connect)

    return wrapped


def broker(login: int, taken: int = 0) -> Behaviour:
    """Be an MQTT 5 broker that answers every login, and every batch, with the same reason code."""

    def behaviour(near: socket.socket, _connect: Connect) -> None:
        with near.makefile("rb") as stream:
            while True:
                kind, body = _packet(stream)
                if kind == 1:
                    near.sendall(bytes([0x20, 3, 0, login, 0]))  # CONNACK
                elif kind == 8:
                    near.sendall(bytes([0x90, 4, *body[:2], 0, 1]))  # SUBACK, QoS 1
                elif kind == 3:
                    start = 2 + int.from_bytes(body[:2], "big")
                    near.sendall(bytes([0x40, 3, *body[start : start + 2], taken]))  # PUBACK
                elif kind == 12:
                    near.sendall(bytes([0xD0, 0]))
                if kind == 14 or login:
                    return

    return behaviour


def _packet(stream: BinaryIO) -> tuple[int, bytes]:
    """Read a control packet [MQTT 5.0 §2.1]; IndexError at the end."""
    kind, length, shift = stream.read(1)[0] >> 4, 0, 0
    while True:
        digit = stream.read(1)[0]
        length |= (digit & 0x7F) << shift
        shift += 7
        if not digit & 0x80:
            return kind, stream.read(length)
