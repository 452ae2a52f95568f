# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Batches over HTTPS: `POST /v1/batches` brings one, `GET /v1/streams/{hex}/receipt` asks what is there.

Bytes on the wire count: responses carry no header that nobody needs. Whoever is slow, large, or never verifies is
turned away before it costs anything: limits on connections, on the time for headers, on the rate of a body, on the
memory of all bodies together, on strangers per address; `receiver.intake` limits each gateway.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import anyio
import anyio.to_thread
from fastapi import FastAPI, Path, Request, Response
from starlette.requests import ClientDisconnect

from agent.batch.model import Reason
from receiver.errors import LedgerError
from receiver.intake import Answer, Intake, TooFastError
from receiver.listener import CLIENT_CERTIFICATE
from receiver.rate import Buckets, origin

ANSWER_TYPE = "application/cose"
BODY_GRACE_S = 15.0
"""Any body may take so long ..."""
SLOWEST_BYTES_PER_S = 500
"""... and as much longer as it has arrived at this rate: a poor cellular link passes, a trickle does not."""
MAX_BUFFERED_BYTES = 128 * 1024 * 1024
"""Bodies in memory at a time."""
WORKERS = 4
"""Batches that are verified at a time; the ledger commits one at a time anyway."""
_NOT_OURS = frozenset({Reason.MALFORMED, Reason.UNKNOWN_KEY, Reason.BAD_SIGNATURE})

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Door:
    """What decides about a request before its content does.

    Attributes:
        max_body_bytes: largest body.
        strangers: bucket per address for batches that do not verify, None for no limit.
        body_grace_s: any body may take so long.
        what: comes, for messages.
        monotonic_s: clock.
        held_back: is told the name of a limit when something is turned away for it.
    """

    max_body_bytes: int
    strangers: Buckets[str] | None = None
    body_grace_s: float = BODY_GRACE_S
    what: str = "a batch"
    monotonic_s: Callable[[], float] = time.monotonic
    held_back: Callable[[str], None] = lambda _limit: None
    _buffered_bytes: int = 0

    async def read(self, request: Request) -> bytes | Response:
        """Read a body within all limits, or give the response that says which one it breaks.

        The caller calls `done` when it needs the bytes no more.
        """
        announced = request.headers.get("content-length", "")
        body = bytearray()
        problem = self._too_large() if announced.isdigit() and int(announced) > self.max_body_bytes else None
        started_s = self.monotonic_s()
        chunks = request.stream().__aiter__()
        try:
            while problem is None:
                due_s = started_s + self.body_grace_s + len(body) / SLOWEST_BYTES_PER_S
                chunk = await asyncio.wait_for(anext(chunks), max(due_s - self.monotonic_s(), 0))
                body += chunk
                self._buffered_bytes += len(chunk)
                if len(body) > self.max_body_bytes:
                    problem = self._too_large()
                elif self._buffered_bytes > MAX_BUFFERED_BYTES:
                    self.held_back("memory")
                    problem = _plain(503, "too much at a time, try again", close=True)
        except StopAsyncIteration:
            return bytes(body)
        except TimeoutError:
            problem = _plain(408, f"{self.what} came too slowly", close=True)
        except ClientDisconnect:
            problem = _plain(400, "nobody is there any more", close=True)
        self.done(len(body))
        return problem

    def done(self, size: int) -> None:
        """Give the memory of a body back."""
        self._buffered_bytes -= size

    def _too_large(self) -> Response:
        return _plain(413, f"{self.what} has at most {self.max_body_bytes} bytes", close=True)


def gateway_app(intake: Intake, door: Door, revoked: Callable[[bytes], bool] | None = None) -> FastAPI:
    """Make the application that gateways talk to.

    Args:
        intake: takes batches.
        door: decides about requests before their content does.
        revoked: tells whether a client certificate, named by its fingerprint, was revoked; None where none can be.
    """
    app = FastAPI(title="civigate receiver", docs_url=None, redoc_url=None, openapi_url=None)
    workers = anyio.CapacityLimiter(WORKERS)

    def turned_away(request: Request) -> bool:
        fingerprint = request.scope.get("state", {}).get(CLIENT_CERTIFICATE)
        return revoked is not None and fingerprint is not None and revoked(fingerprint)

    @app.post("/v1/batches")
    async def post_batch(request: Request) -> Response:
        address = request.client.host if request.client else "unknown"
        if door.strangers is not None and (wait_s := door.strangers.wait_s(origin(address))):
            door.held_back("strangers")
            return _later(429, wait_s, "too many batches from here did not verify", close=True)
        wire = await door.read(request)
        if isinstance(wire, Response):
            return wire

        def take() -> Answer:
            if turned_away(request):
                return intake.turn_away(wire, "the certificate that the gateway came with was revoked", address)
            return intake.submit(wire, sender=address)

        try:
            answer = await anyio.to_thread.run_sync(take, limiter=workers)
        except TooFastError as error:
            return _later(429, error.wait_s, str(error))
        except LedgerError as error:
            return _unavailable(error)
        finally:
            door.done(len(wire))
        if door.strangers is not None and answer.refusal is not None and answer.refusal.reason in _NOT_OURS:
            door.strangers.take(origin(address))
        return _answer(answer)

    @app.get("/v1/streams/{stream}/receipt")
    async def get_receipt(request: Request, stream: Annotated[str, Path(pattern="^[0-9a-f]{32}$")]) -> Response:
        stream_id = bytes.fromhex(stream)
        try:
            if await anyio.to_thread.run_sync(turned_away, request, limiter=workers):
                return _plain(403, "the certificate that the gateway came with was revoked", close=True)
            data = await anyio.to_thread.run_sync(intake.receipt, stream_id, limiter=workers)
        except LedgerError as error:
            return _unavailable(error)
        return Response(data, 200, media_type=ANSWER_TYPE)

    @app.get("/v1/health")
    async def get_health() -> Response:
        return _plain(200, "ok")

    return app


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
