# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""A uvicorn server on a socket of ours, in a thread of ours, that slow clients cannot hold."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import socket
import ssl
import threading
from collections.abc import Callable
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from receiver.errors import ServiceError
from receiver.gate import Gate, GuardedSocket, Pass, files_for

HEADERS_LIMIT_S = 10.0
"""For the headers of a request, from the first byte; for the first request, from the connection."""
HANDSHAKE_LIMIT_S = 10.0
GOODBYE_LIMIT_S = 1.0
"""For the other side's share in ending TLS."""
MAX_HEADER_BYTES = 8192
CLIENT_CERTIFICATE = "client_certificate"
"""Key in the `state` of a request: SHA-256 of the certificate that the client came with; absent without one."""
CONNECTION = "connection"
"""Key in the `state` of a request: a `receiver.gate.Pass`."""
ACCEPTED_TOGETHER = 64
"""Connections that are accepted before others are served again."""
START_LIMIT_S = 10.0
STOP_LIMIT_S = 5

_log = logging.getLogger(__name__)


def bind(address: str, port: int, key: str) -> GuardedSocket:
    """Take a TCP port, before anything else is started.

    Args:
        address: IPv4 or IPv6.
        port: TCP port.
        key: of the configuration, for the message.

    Raises:
        ServiceError: CG-SRV-001, it is occupied or not ours.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    # asyncio sets TCP_NODELAY on the connections of a listener that names its protocol, and only then; without it the
    # second part of an answer waits for the gateway's acknowledgement of the first, some 40 ms with every batch
    sock = GuardedSocket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((address, port))
    except OSError as error:
        sock.close()
        hint = f"stop the program that listens there, or change [{key}] listen or port"
        what = f"cannot listen: {error.strerror}"
        raise ServiceError(what, where=f"{address}:{port}", hint=hint, code="CG-SRV-001") from error
    return sock


class _Protocol(H11Protocol):
    """HTTP/1.1 that waits for headers only so long; uvicorn itself would wait for ever."""

    headers_limit_s = HEADERS_LIMIT_S
    gate: Gate
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn does
        super().connection_made(transport)
        tls = transport.get_extra_info("ssl_object")
        certificate = None if tls is None else tls.getpeercert(binary_form=True)
        entered = Pass(self.gate, transport.get_extra_info("socket").fileno())
        self.app_state = {**self.app_state, CONNECTION: entered}
        if certificate is not None:
            entered.prove()
            self.app_state[CLIENT_CERTIFICATE] = hashlib.sha256(certificate).digest()
        self._expect_headers()

    def data_received(self, data: bytes) -> None:
        if self._deadline is None and self._idle():
            self._expect_headers()
        super().data_received(data)
        if not self._idle():
            self._cancel()

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel()
        super().connection_lost(exc)

    def _idle(self) -> bool:
        """Whether no request is being read or answered."""
        return self.cycle is None or self.cycle.response_complete

    def _expect_headers(self) -> None:
        self._deadline = self.loop.call_later(self.headers_limit_s, self._too_slow)

    def _cancel(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_slow(self) -> None:
        self._deadline = None
        if self._idle():
            self.transport.abort()


class _Loop(asyncio.SelectorEventLoop):
    """Waits less for the other side in TLS than asyncio's minute for a hello; uvicorn has no setting for it."""

    async def create_server(self, *args: Any, **kwargs: Any) -> asyncio.Server:
        if kwargs.get("ssl") is not None:
            kwargs.setdefault("ssl_handshake_timeout", HANDSHAKE_LIMIT_S)
            kwargs.setdefault("ssl_shutdown_timeout", GOODBYE_LIMIT_S)
        return await super().create_server(*args, **kwargs)


class Listener:
    """One HTTP server in a thread.

    Args:
        name: of the thread.
        app: what it serves.
        sock: bound; it is closed when the listener stops.
        ended: called when the server ends, for whatever reason.
        tls: None for plain HTTP.
        max_connections: at a time; one more, and another one has to go.
        idle_s: after which a connection without a request is closed.
        headers_limit_s: for the headers of a request.
        shown_out: called when a connection has to go.
    """

    def __init__(
        self,
        name: str,
        app: FastAPI,
        sock: GuardedSocket,
        ended: Callable[[], None],
        *,
        tls: ssl.SSLContext | None,
        max_connections: int,
        idle_s: int,
        headers_limit_s: float = HEADERS_LIMIT_S,
        shown_out: Callable[[], None] = lambda: None,
    ) -> None:
        self._gate = Gate(files_for(max_connections), shown_out)
        sock.gate = self._gate
        protocol = type("Protocol", (_Protocol,), {"headers_limit_s": headers_limit_s, "gate": self._gate})
        config = uvicorn.Config(
            app,
            http=protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            proxy_headers=False,
            backlog=ACCEPTED_TOGETHER,
            timeout_keep_alive=idle_s,
            timeout_graceful_shutdown=STOP_LIMIT_S,
            h11_max_incomplete_event_size=MAX_HEADER_BYTES,
        )
        config.load()
        config.ssl = tls
        self._server = uvicorn.Server(config)
        self._sock = sock
        self._ended = ended
        self._up = threading.Event()
        self.name = name
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Serve; returns when connections are accepted.

        Raises:
            ServiceError: CG-SRV-003, it does not come up.
        """
        self._thread.start()
        if not self._up.wait(START_LIMIT_S) or not self._server.started:
            where = f"listener {self._thread.name}"
            raise ServiceError("did not start", where=where, hint="see the log", code="CG-SRV-003")

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._gate)

    def stop(self) -> None:
        """Finish what is being answered, for a bounded time, and end."""
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join(STOP_LIMIT_S + 5)

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=_Loop) as runner:
                runner.run(self._serve())
        except Exception:
            _log.exception("event=listener_failed name=%s", self._thread.name)
        finally:
            self._sock.close()
            self._up.set()
            self._ended()

    async def _serve(self) -> None:
        serving = asyncio.create_task(self._server.serve(sockets=[self._sock]))
        while not self._server.started and not serving.done():
            await asyncio.sleep(0.005)
        self._up.set()
        await serving
