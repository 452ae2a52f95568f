# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Batches over HTTPS: one kept-alive connection, one request per batch, the answer in the response.

`POST /v1/batches` brings a batch, 200 brings the receipt and 422 the refusal; `GET /v1/streams/{hex}/receipt` brings
the receipt to resume from. Headers are the least that HTTP asks for, redirects are not followed, and what does not
look like a signed answer is named for what it most likely is.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import urllib3
from urllib3.util import SKIP_HEADER, Timeout

from agent.uplink import tcp
from agent.uplink.port import MAX_ANSWER_BYTES, Arrival, BootClock, Fault, LinkError, Reply, Traffic
from agent.uplink.tls import DatedContext, DatedSocket, link_error, lost, mute, silent, unwelcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from agent.uplink.endpoint import Endpoint

ANSWER_TYPE = "application/cose"
SLOWEST_BYTES_PER_S = 1000
"""A link that carries less is taken for dead: it bounds how long one upload may take."""

_QUIET = {"User-Agent": SKIP_HEADER, "Accept-Encoding": SKIP_HEADER}
_POST = {"Content-Type": "application/cbor", **_QUIET}
_ANSWERS = frozenset({200, 422})
_PORTAL_STATUS = 511
_BEFORE_TLS = frozenset({Fault.NAME, Fault.ROUTE})
"""Faults for which neither a session nor a certificate can be the reason."""
_DEEPEST_WRAP = 8


def _nobody() -> None:
    """Stand in until somebody connects."""


class _Line:
    """What the sockets of one uplink share, one after the other: the present one, its deadline, the sum of all."""

    def __init__(self) -> None:
        self.deadline = float("inf")
        self.sock: _BoundedSocket | None = None
        self.answered = False
        self.shaking_hands = False
        self._past = Traffic()

    @property
    def traffic(self) -> Traffic:
        return self._past if self.sock is None else self._past + tcp.traffic(self.sock)

    def closing(self, sock: _BoundedSocket) -> None:
        """Note what a socket carried: once it is closed, the kernel no longer tells."""
        if sock is self.sock:
            self._past += tcp.traffic(sock)
            self.sock = None


class _BoundedSocket(DatedSocket):
    """A TLS socket whose single operations end at the deadline of the whole request.

    A time-out per operation alone would let a server that sends one byte every few seconds hold a request for ever.
    """

    line = _Line()

    def send(self, data: Any, flags: int = 0) -> int:
        self._bound()
        return super().send(data, flags)

    def recv_into(self, buffer: Any, nbytes: int | None = None, flags: int = 0) -> int:
        self._bound()
        return super().recv_into(buffer, nbytes, flags)

    def close(self) -> None:
        self.line.closing(self)
        super().close()

    def _bound(self) -> None:
        left_s = self.line.deadline - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        timeout_s = self.gettimeout()
        if timeout_s is None or timeout_s > left_s:
            self.settimeout(left_s)


class _Context(DatedContext):
    """Makes bounded sockets of one line, and resumes the TLS session of the last one on the next."""

    sslsocket_class = _BoundedSocket
    line: _Line
    host = ""
    session: ssl.SSLSession | None = None

    def wrap_socket(  # noqa: PLR0917 - the signature is that of the standard library
        self,
        sock: socket.socket,
        server_side: bool = False,
        do_handshake_on_connect: bool = True,
        suppress_ragged_eofs: bool = True,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLSocket:
        # before the handshake: when it fails, nothing was answered on this connection
        self.line.answered = False
        self.line.shaking_hands = True
        wrapped = super().wrap_socket(
            sock,
            server_side,
            do_handshake_on_connect,
            suppress_ragged_eofs,
            # urllib3 before 2.0 leaves out the name where it is an address
            server_hostname or self.host,
            session or self.session,
        )
        assert isinstance(wrapped, _BoundedSocket)
        wrapped.line = self.line
        self.line.sock = wrapped
        self.line.shaking_hands = False
        return wrapped

    def note_session(self) -> None:
        """Keep the ticket of the connection, which TLS 1.3 sends only after the handshake.

        Once for each connection: every look at a socket's session costs some 6 kB that Python 3.11 never gives back.
        """
        if self.line.sock is not None and not self.line.answered:
            self.session = self.line.sock.session or self.session


@dataclass(frozen=True, slots=True)
class _Body:
    """The body of a request: bytes, and what is done once they are written, before the answer is waited for."""

    wire: bytes
    meanwhile: Callable[[], None]

    def __iter__(self) -> Iterator[bytes]:
        yield self.wire
        self.meanwhile()


class HttpsUplink:
    """One platform over HTTPS (`agent.uplink.port.Uplink`).

    Args:
        endpoint: where it is.
        clock: of this boot.

    Raises:
        LinkError: the URL cannot be used.
    """

    window = 1
    """A request waits for its response: there is nothing to gain from a second one on the same connection."""

    def __init__(self, endpoint: Endpoint, clock: BootClock) -> None:
        self._endpoint = endpoint
        self._where = endpoint.where
        self._clock = clock
        self._line = _Line()
        self._context: _Context | None = None
        self._shown = ""
        self._pool: urllib3.HTTPSConnectionPool | None = None
        self._arrived: deque[Arrival] = deque()
        self._wake: Callable[[], None] = _nobody
        self._interrupted = threading.Event()

    @property
    def traffic(self) -> Traffic:
        """What it has carried so far, over all its connections."""
        return self._line.traffic

    def connect(self, wake: Callable[[], None]) -> None:
        """Read the certificates, if that is not done, and note whom to wake: the first request connects."""
        self._wake = wake
        if self._context is None or self._endpoint.outdated(self._shown):
            self._context, self._shown = self._endpoint.context(_Context)
            self._context.line = self._line
            self._context.host = self._endpoint.host
        if self._pool is None:
            self._pool = self._new_pool(self._context)

    def ask(self, stream_id: bytes) -> float:
        """Fetch the platform's receipt for a stream: it is there when this returns."""
        self._request("GET", f"{self._endpoint.path}/v1/streams/{stream_id.hex()}/receipt", _QUIET, None, None)
        return self._endpoint.answer_timeout_s

    def send(self, batch: int, wire: bytes, meanwhile: Callable[[], None]) -> None:
        """Post one batch and take the answer."""
        headers = _POST | {"Content-Length": str(len(wire))}
        self._request("POST", f"{self._endpoint.path}/v1/batches", headers, _Body(wire, meanwhile), batch)

    def receive(self) -> Sequence[Arrival]:
        """Return the answers to the requests so far; LinkError when there is another certificate to show."""
        if not self._arrived and self._pool is not None and self._endpoint.outdated(self._shown):
            # with nothing to send, nothing else would show whether the new certificate works
            hint = "nothing is wrong: it connects again at once"
            raise LinkError(Fault.LOST, "connecting anew, with another certificate", where=self._where, hint=hint)
        arrived = list(self._arrived)
        self._arrived.clear()
        return arrived

    def interrupt(self) -> None:
        """Cut the connection under a request that is under way, and refuse further ones."""
        self._interrupted.set()
        sock = self._line.sock
        if sock is not None:
            # Not the method of the TLS socket: that one drops its state under the reading thread. A socket that is
            # closed already is what is wanted.
            with contextlib.suppress(OSError):
                socket.socket.shutdown(sock, socket.SHUT_RDWR)

    def close(self) -> None:
        """Drop the connection."""
        self._arrived.clear()
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()

    def _new_pool(self, context: _Context) -> urllib3.HTTPSConnectionPool:
        return urllib3.HTTPSConnectionPool(
            self._endpoint.host,
            self._endpoint.port,
            maxsize=1,
            block=True,
            retries=False,
            timeout=Timeout(connect=self._endpoint.connect_timeout_s, read=self._endpoint.answer_timeout_s),
            ssl_context=context,
            cert_reqs="CERT_REQUIRED",
            # Debian's urllib3 before 2.0 has the system's for a default, and would add them to the context's own
            ca_certs=None,
            socket_options=tcp.OPTIONS,
        )

    def _request(self, method: str, path: str, headers: dict[str, str], body: _Body | None, batch: int | None) -> None:
        sent_bytes = 0 if body is None else len(body.wire)
        self._line.deadline = (
            time.monotonic()
            + self._endpoint.connect_timeout_s
            + self._endpoint.answer_timeout_s
            + sent_bytes / SLOWEST_BYTES_PER_S
        )
        if self._pool is not None and self._endpoint.outdated(self._shown):
            self._pool.close()
            self._pool = None
            self.connect(self._wake)
        if self._endpoint.sets is not None:
            self._endpoint.sets.using = self._shown
        asked_us = self._clock.boottime_us()
        self._line.shaking_hands = False
        try:
            if self._interrupted.is_set():
                raise lost(self._where, "interrupted")
            if self._pool is None or self._context is None:
                raise lost(self._where, "not connected")
            response = self._pool.urlopen(
                method, path, body=body, headers=headers, redirect=False, preload_content=False
            )
            data = response.read(MAX_ANSWER_BYTES + 1, decode_content=False)
            self._context.note_session()
        except (urllib3.exceptions.HTTPError, OSError) as error:
            named = self._named(error)
            if not self._line.answered and named.fault not in _BEFORE_TLS:
                # It may be the resumed session that the server does not like, or our certificate, or we its: next time
                # from the beginning, with the files as they are then.
                self._context = None
            self._endpoint.blame(self._shown, named, answered=self._line.answered)
            raise named from error
        if response.status not in _ANSWERS or response.headers.get("content-type", "").split(";")[0] != ANSWER_TYPE:
            response.close()
            raise self._unexpected(response, sent_bytes, batch)
        if len(data) > MAX_ANSWER_BYTES:
            response.close()
            what = f"an answer of more than {MAX_ANSWER_BYTES} bytes"
            hint = "that is not a receipt: check what answers under this url"
            raise LinkError(Fault.OVERSIZE, what, where=self._where, hint=hint)
        response.release_conn()
        self._line.answered = True
        self._arrived.append(Reply(data, self._clock.boottime_us(), asked_us, batch))
        self._wake()

    def _named(self, error: BaseException) -> LinkError:
        # A connection that is refused is a time-out by its class in urllib3, but not in fact.
        refused = isinstance(error, urllib3.exceptions.NewConnectionError)
        if isinstance(error, (urllib3.exceptions.TimeoutError, TimeoutError)) and not refused:
            if self._line.shaking_hands:
                return mute(self._where)
            connecting = isinstance(error, urllib3.exceptions.ConnectTimeoutError)
            return silent(self._where, "no connection in time" if connecting else "no answer in time")
        # urllib3 wraps what the socket raised, sometimes twice: the innermost one has the reason.
        cause: BaseException = error
        for _ in range(_DEEPEST_WRAP):
            wrapped = next((a for a in reversed(cause.args) if isinstance(a, BaseException)), None)
            inner = wrapped or cause.__cause__ or cause.__context__
            if not isinstance(cause, urllib3.exceptions.HTTPError) or inner is None:
                break
            cause = inner
        named = link_error(cause, self._where)
        ended = isinstance(cause, (ConnectionError, ssl.SSLError, http.client.HTTPException))
        return unwelcome(self._where) if ended and named.fault is Fault.LOST and not self._line.answered else named

    def _unexpected(self, response: urllib3.BaseHTTPResponse, sent_bytes: int, batch: int | None) -> LinkError:
        """Name a response that is not a signed answer."""
        status = response.status
        location = response.headers.get("location", "")[:100]
        wait = response.headers.get("retry-after", "")[:6]
        fault, what = Fault.STATUS, f"HTTP status {status}"
        blamed: int | None = None
        if status in _ANSWERS or 300 <= status < 400 or status == _PORTAL_STATUS:
            fault = Fault.PORTAL
            kind = response.headers.get("content-type", "no content type").split(";")[0][:40]
            what = f"{what} to {location}" if location else f"{what} with {kind} instead of a signed receipt"
            hint = "a captive portal or proxy answers: log in to this network, or correct the url"
        elif status in {401, 403}:
            if self._endpoint.sets is not None and self._shown:
                self._endpoint.sets.failed(self._shown, certain=True)
            hint = "the platform does not let this gateway in: check cert_file and its registration there"
        elif status == 404:
            hint = "no receiver under this url: check its path"
        elif status == 408:
            what = f"it has waited in vain for the rest of {sent_bytes} bytes (HTTP status 408)"
            hint = "the link loses what is sent, or is very slow: check signal and data plan"
        elif status in {429, 503}:
            hint = "the platform is busy: it is tried again later"
        elif status == 413:
            fault, what, blamed = Fault.OVERSIZE, f"it takes no body of {sent_bytes} bytes (HTTP status 413)", batch
            hint = "let the proxy in front of the platform take 1 MiB (nginx: client_max_body_size 1m)"
        elif 500 <= status < 600:
            blamed = batch
            hint = "the platform, or a proxy in front of it, is ill: look at its log"
        else:
            blamed = batch
            hint = "check the url, and what answers under it"
        wait_s = float(wait) if wait.isascii() and wait.isdigit() else 0.0
        return LinkError(fault, what, where=self._where, hint=hint, batch=blamed, wait_s=wait_s)
