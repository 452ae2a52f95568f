# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Batches over HTTPS: `POST /v1/batches` brings one, `GET /v1/streams/{hex}/receipt` asks what is there.

Bytes on the wire count: responses carry no header that nobody needs. Whoever is slow, large, or never verifies is
turned away before it costs anything: limits on connections, on the time for headers, on the rate of a body, on the
memory of all bodies together, on strangers per address; `receiver.intake` limits each gateway.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Annotated

import anyio
import anyio.to_thread
from fastapi import FastAPI, Path, Request, Response
from starlette.requests import ClientDisconnect

from receiver.errors import LedgerError
from receiver.gate import Pass
from receiver.intake import NOT_OURS, Answer, Intake, TooFastError
from receiver.listener import CLIENT_CERTIFICATE, CONNECTION
from receiver.rate import Buckets, origin

ANSWER_TYPE = "application/cose"
BODY_GRACE_S = 15.0
"""Any body may take so long ..."""
SLOWEST_BYTES_PER_S = 500
"""... and as long again for every part that arrived at this rate: a poor cellular link passes, a trickle does not,
and neither does a body that stops."""
MAX_BUFFERED_BYTES = 128 * 1024 * 1024
"""Bodies in memory at a time."""
STRANGERS_SHARE = 4
"""One origin may hold one part in so many of it, for what came on connections that have not proved themselves."""
WORKERS = 4
"""Batches that are verified at a time; the ledger commits one at a time anyway."""

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Door:
    """What decides about a request before its content does.

    Attributes:
        max_body_bytes: largest body.
        strangers: bucket per origin for what does not verify, None for no limit.
        body_grace_s: any body may take so long.
        what: comes, for messages.
        monotonic_s: clock.
        max_buffered_bytes: bodies in memory at a time.
        held_back: is told the name of a limit when something is turned away for it.
    """

    max_body_bytes: int
    strangers: Buckets[str] | None = None
    body_grace_s: float = BODY_GRACE_S
    what: str = "a batch"
    monotonic_s: Callable[[], float] = time.monotonic
    max_buffered_bytes: int = MAX_BUFFERED_BYTES
    held_back: Callable[[str], None] = lambda _limit: None
    _buffered_bytes: int = 0
    _of_strangers: Counter[str] = field(default_factory=Counter)

    @contextlib.asynccontextmanager
    async def read(self, request: Request) -> AsyncIterator[bytes | Response]:
        """Read a body within all limits, or give the response that says which one it breaks.

        The body counts as memory in use until the context ends.
        """
        stranger = None if has_proved(request) else origin(address_of(request))
        body = bytearray()
        try:
            problem = await self._fill(body, request, stranger)
            yield bytes(body) if problem is None else problem
        finally:
            self._count(-len(body), stranger)

    async def _fill(self, body: bytearray, request: Request, stranger: str | None) -> Response | None:
        announced = request.headers.get("content-length", "")
        if announced.isdigit() and int(announced) > self.max_body_bytes:
            return self._too_large()
        due_s, counted = self.monotonic_s() + self.body_grace_s, 0
        chunks = request.stream().__aiter__()
        try:
            while True:
                chunk = await asyncio.wait_for(anext(chunks), max(due_s - self.monotonic_s(), 0))
                body += chunk
                self._count(len(chunk), stranger)
                if len(body) - counted >= self.body_grace_s * SLOWEST_BYTES_PER_S:
                    due_s, counted = self.monotonic_s() + self.body_grace_s, len(body)
                if len(body) > self.max_body_bytes:
                    return self._too_large()
                if self._full(stranger):
                    self.held_back("memory")
                    return _plain(503, "too much at a time, try again", close=True)
        except StopAsyncIteration:
            return None
        except TimeoutError:
            return _plain(408, f"{self.what} came too slowly", close=True)
        except ClientDisconnect:
            return _plain(400, "nobody is there any more", close=True)

    def _full(self, stranger: str | None) -> bool:
        share = self.max_buffered_bytes // STRANGERS_SHARE
        return self._buffered_bytes > self.max_buffered_bytes or (
            stranger is not None and self._of_strangers[stranger] > share
        )

    def _count(self, size: int, stranger: str | None) -> None:
        self._buffered_bytes += size
        if stranger is not None:
            self._of_strangers[stranger] += size
            if self._of_strangers[stranger] == 0:
                del self._of_strangers[stranger]

    def _too_large(self) -> Response:
        return _plain(413, f"{self.what} has at most {self.max_body_bytes} bytes", close=True)


def address_of(request: Request) -> str:
    """Return the address that a request came from."""
    return request.client.host if request.client else "unknown"


def connection_of(request: Request) -> Pass | None:
    """Return what can be said and asked of the connection that a request came on."""
    entered = request.scope.get("state", {}).get(CONNECTION)
    return entered if isinstance(entered, Pass) else None


def has_proved(request: Request) -> bool:
    """Tell whether the connection of a request has proved itself."""
    entered = connection_of(request)
    return entered is not None and entered.proven


def gateway_app(intake: Intake, door: Door, revoked: Callable[[bytes], bool] | None = None) -> FastAPI:
    """Make the application that gateways talk to.

    Args:
        intake: takes batches.
        door: decides about requests before their content does.
        revoked: tells whether a client certificate, named by its fingerprint, was revoked; None where none can be.
    """
    app = FastAPI(title="civigate receiver", docs_url=None, redoc_url=None, openapi_url=None)
    workers = anyio.CapacityLimiter(WORKERS)

    def too_strange(request: Request, known: Callable[[], bool]) -> Response | None:
        """Hold back who comes from where too much did not verify, unless there is a reason to listen to him.

        One address may stand for many: a gateway that is known is heard whatever its neighbours do.
        """
        if door.strangers is None or has_proved(request):
            return None
        wait_s = door.strangers.wait_s(origin(address_of(request)))
        if not wait_s or known():
            return None
        door.held_back("strangers")
        return _later(429, wait_s, "too many batches from here did not verify", close=True)

    def turned_away(request: Request) -> bool:
        fingerprint = request.scope.get("state", {}).get(CLIENT_CERTIFICATE)
        return revoked is not None and fingerprint is not None and revoked(fingerprint)

    @app.post("/v1/batches")
    async def post_batch(request: Request) -> Response:
        address = address_of(request)
        async with door.read(request) as wire:
            if isinstance(wire, Response):
                return wire

            def take() -> Answer | Response:
                if turned_away(request):
                    return intake.turn_away(wire, "the certificate that the gateway came with was revoked", address)
                held = too_strange(request, lambda: intake.is_known(wire))
                return held or intake.submit(wire, sender=address)

            try:
                answer = await anyio.to_thread.run_sync(take, limiter=workers)
            except TooFastError as error:
                return _later(429, error.wait_s, str(error))
            except LedgerError as error:
                return _unavailable(error)
        if isinstance(answer, Response):
            return answer
        if answer.refusal is None or answer.refusal.reason not in NOT_OURS:
            prove(request)
        else:
            doubt(request)
            if door.strangers is not None:
                door.strangers.take(origin(address))
        return _answer(answer)

    @app.get("/v1/streams/{stream}/receipt")
    async def get_receipt(request: Request, stream: Annotated[str, Path(pattern="^[0-9a-f]{32}$")]) -> Response:
        stream_id = bytes.fromhex(stream)

        def ask() -> bytes | Response:
            if turned_away(request):
                return _plain(403, "the certificate that the gateway came with was revoked", close=True)
            known = intake.is_stream(stream_id)
            if known:
                prove(request)
            elif held := too_strange(request, lambda: known):
                return held
            elif door.strangers is not None and not has_proved(request):
                door.strangers.take(origin(address_of(request)))
            return intake.receipt(stream_id)

        try:
            said = await anyio.to_thread.run_sync(ask, limiter=workers)
        except LedgerError as error:
            return _unavailable(error)
        return said if isinstance(said, Response) else Response(said, 200, media_type=ANSWER_TYPE)

    @app.get("/v1/health")
    async def get_health() -> Response:
        return _plain(200, "ok")

    return app


def prove(request: Request) -> None:
    """Note that the connection of a request has proved itself."""
    entered = connection_of(request)
    if entered is not None:
        entered.prove()


def doubt(request: Request) -> None:
    """Take back that the connection of a request has proved itself."""
    entered = connection_of(request)
    if entered is not None:
        entered.doubt()


def _answer(answer: Answer) -> Response:
    return Response(answer.data, 422 if answer.refusal is not None else 200, media_type=ANSWER_TYPE)


def _plain(status: int, text: str, *, close: bool = False) -> Response:
    headers = {"connection": "close"} if close else None
    return Response(f"{text}\n", status, headers, media_type="text/plain")


def _later(status: int, wait_s: float, text: str, *, close: bool = False) -> Response:
    response = _plain(status, text, close=close)
    response.headers["retry-after"] = str(math.ceil(wait_s))
    return response


def _unavailable(error: LedgerError) -> Response:
    _log.error("event=ledger_failed error=%r hint=%r code=%s", str(error), error.hint, error.code)
    return _later(503, 10, "the ledger does not take anything now")
