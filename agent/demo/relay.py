# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The backhaul of the demonstration: a TCP relay that can be cut, and that counts what passes."""

from __future__ import annotations

import contextlib
import socket
import threading

CHUNK_BYTES = 64 * 1024


class Relay:
    """Relay connections from a port to one of loopback.

    Counts the bytes of both directions as TCP carries them: TLS and HTTP or MQTT included, TCP/IP headers not.

    Args:
        target_port: where connections are passed on to, on 127.0.0.1.
        address: to listen on.
    """

    def __init__(self, target_port: int, address: str = "127.0.0.1") -> None:
        self._target_port = target_port
        self._address = address
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._listener: socket.socket | None = None
        self._bytes = 0
        self.port = 0
        self.restore()

    @property
    def wire_bytes(self) -> int:
        """Bytes relayed so far, both directions."""
        with self._lock:
            return self._bytes

    @property
    def open(self) -> bool:
        """Whether connections are taken."""
        with self._lock:
            return self._listener is not None

    def cut(self) -> None:
        """Take the link away: reset every connection and refuse new ones."""
        with self._lock:
            if self._listener is not None:
                # shutdown wakes the accept() of the other thread; close alone does not
                self._listener.shutdown(socket.SHUT_RDWR)
                self._listener.close()
                self._listener = None
            doomed, self._open = self._open, set()
        for connection in doomed:
            _hang_up(connection)

    def restore(self) -> None:
        """Bring the link back, on the same port."""
        listener = socket.create_server((self._address, self.port))
        with self._lock:
            self._listener = listener
            self.port = listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(listener,), name="relay", daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return  # cut
            try:
                far = socket.create_connection(("127.0.0.1", self._target_port), timeout=5)
            except OSError:
                near.close()  # nobody there: the caller sees a closed connection, as behind a real relay
                continue
            far.settimeout(None)
            for connection in (near, far):
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                if self._listener is not listener:
                    near.close()
                    far.close()
                    return
                self._open |= {near, far}
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._pump, args=(source, sink), name="relay-pump", daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while chunk := source.recv(CHUNK_BYTES):
                sink.sendall(chunk)
                with self._lock:
                    self._bytes += len(chunk)
        for connection in (source, sink):
            _hang_up(connection)
        with self._lock:
            self._open -= {source, sink}


def _hang_up(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
