# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Enrolment over HTTPS, on a port of its own: gateways that come here have no certificate yet, or one that has expired.

`POST /v1/enrolment/challenge` gives a challenge, `POST /v1/enrolment` takes a signed request and gives a signed
answer: status 200 with a certificate, 202 to ask again later, 403 for no. The port of the batches stays closed to
whoever has no certificate. The limits are those of that port; where requests are turned away again and again, only
those are listened to for a while that come with a good code, or with a key that is known here.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable

import anyio
import anyio.to_thread
from fastapi import FastAPI, Request, Response

from agent.enrolment.message import CHALLENGE_PATH, CONTENT_TYPE, ENROLMENT_PATH, Enrolled, Pending, Said
from agent.errors import BatchError, IdentityError
from receiver.enrolment.desk import Desk, TooOftenError
from receiver.errors import CertificateError, LedgerError
from receiver.http import Door, address_of, prove
from receiver.rate import Buckets, origin

WORKERS = 2

_log = logging.getLogger(__name__)


def enrolment_app(desk: Desk, door: Door, strangers: Buckets[str] | None) -> FastAPI:
    """Make the application that new gateways talk to.

    Args:
        desk: decides.
        door: the limits of a body.
        strangers: bucket per address for requests that are not granted; None for no limit.
    """
    app = FastAPI(title="civigate enrolment", docs_url=None, redoc_url=None, openapi_url=None)
    workers = anyio.CapacityLimiter(WORKERS)

    def held_back(request: Request, known: Callable[[], bool]) -> Response | None:
        """Hold back who comes from where too much was not granted, unless there is a reason to listen to him."""
        wait_s = 0.0 if strangers is None else strangers.wait_s(origin(address_of(request)))
        if not wait_s or known():
            return None
        door.held_back("enrolment")
        return _later(429, wait_s, "too many requests from here were not granted")

    @app.post(CHALLENGE_PATH)
    async def post_challenge() -> Response:
        # costs next to nothing, and who is welcome needs one before he can show that he is
        return Response(desk.challenge(), 200, media_type="application/octet-stream")

    @app.post(ENROLMENT_PATH)
    async def post_enrolment(request: Request) -> Response:
        address = address_of(request)
        async with door.read(request) as data:
            if isinstance(data, Response):
                return data

            def decide() -> tuple[bytes, Said] | Response:
                return held_back(request, lambda: desk.expects(data)) or desk.answer(data, address)

            try:
                decided = await anyio.to_thread.run_sync(decide, limiter=workers)
            except (BatchError, IdentityError) as error:
                _count(strangers, address)
                return _plain(400, str(error))
            except TooOftenError as error:
                door.held_back("enrolment")
                return _later(429, error.wait_s, str(error))
            except (LedgerError, CertificateError) as error:
                _log.error("event=enrolment_failed error=%r hint=%r code=%s", str(error), error.hint, error.code)
                return _later(503, 10, "nothing can be decided now")
        if isinstance(decided, Response):
            return decided
        answer, said = decided
        if isinstance(said, Enrolled):
            prove(request)
            return Response(answer, 200, media_type=CONTENT_TYPE)
        _count(strangers, address)
        return Response(answer, 202 if isinstance(said, Pending) else 403, media_type=CONTENT_TYPE)

    return app


def _count(strangers: Buckets[str] | None, address: str) -> None:
    if strangers is not None:
        strangers.take(origin(address))


def _plain(status: int, text: str) -> Response:
    return Response(f"{text}\n", status, {"connection": "close"}, media_type="text/plain")


def _later(status: int, wait_s: float, text: str) -> Response:
    response = _plain(status, text)
    response.headers["retry-after"] = str(math.ceil(wait_s))
    return response
