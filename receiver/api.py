# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The reading interface: JSON for those who use the data, on an address and port of its own.

It stands apart from the gateways' port because its readers are others: that port is open to the field, this one shows
what all sensors sent. By default it listens on loopback, where a dashboard reads, or a reverse proxy with its own
sign-on; elsewhere it asks for a bearer token.
"""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Protocol

from fastapi import FastAPI, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from agent.batch.model import BUCKETS
from receiver.errors import LedgerError, ServiceError
from receiver.ledger.port import MAX_PAGE, Queries, RegisteredKey, StreamSummary

MIN_TOKEN_CHARACTERS = 16
MAX_TOKEN_CHARACTERS = 512


class Key(BaseModel):
    """A key that a gateway signs with."""

    kid: str = Field(description="thumbprint [RFC 9679], hex")
    public_key: str
    added_us: int = Field(description="microseconds since 1970-01-01 UTC")
    revoked_us: int | None


class Gateway(BaseModel):
    """A registered gateway."""

    gateway: str = Field(description="EUI-64, hex")
    name: str
    keys: list[Key]


class Stream(BaseModel):
    """One sequence of batches from one gateway."""

    stream: str = Field(description="stream id, hex")
    gateway: str = Field(description="EUI-64, hex")
    name: str
    through: int = Field(description="every batch up to this number is committed or declared withdrawn")
    hash: str = Field(description="SHA-256 of the signed header of that batch, hex")
    highest: int = Field(description="highest batch number committed")
    missing: list[tuple[int, int]] = Field(description="ranges of batch numbers that have not come yet")
    batches: int
    frames: int
    first_seen_us: int
    last_seen_us: int
    account: dict[str, int] = Field(description="where the gateway says its frames went, summed")


class Reception(BaseModel):
    """One frame as one gateway received it. Columns and units are those of the view of the same name."""

    id: int = Field(description="grows in the order of commit: the cursor")
    gateway: str
    stream: str
    seq: int
    utc_us: int | None = Field(description="end of the packet; null while nothing ties the gateway's boot to UTC")
    utc_error_us: int | None = Field(description="the true UTC is not farther away than this")
    utc_source: str | None
    boot: str
    session: int
    boottime_us: int
    counter_us: int
    frequency_hz: int
    modulation: str
    bandwidth_hz: int
    datarate: int
    coding_rate: str | None
    crc: str
    rssi_dbm: float
    rssis_dbm: float | None
    snr_db: float | None
    frequency_offset_hz: int
    if_chain: int
    rf_chain: int
    fine_timestamp_ns: int | None
    dev_addr: str | None
    phy_payload: str
    received_us: int


class Page(BaseModel):
    """Some receptions, and where to go on."""

    receptions: list[Reception]
    next: int = Field(description="give this as after to go on; the same as before when there is nothing new")


class AlarmEntry(BaseModel):
    """Something an operator must look at."""

    kind: str
    subject: str = Field(description="EUI-64 of the gateway, or thumbprint of an unknown key, hex")
    stream: str
    number: int
    detail: str
    first_us: int
    last_us: int
    count: int


class Figures(Protocol):
    """What a monitoring system asks for."""

    def text(self, accept: str) -> tuple[bytes, str]:
        """Write them; return body and content type."""
        ...


def read_token(path: Path) -> str:
    """Read the token that readers must present.

    Raises:
        ServiceError: CG-SRV-004, the file cannot be read or holds no fit token.
    """
    try:
        with path.open(encoding="ascii") as file:
            token = file.readline(MAX_TOKEN_CHARACTERS + 2).strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not ASCII"
        hint = "write a random token into it, for instance with: openssl rand -hex 32"
        raise ServiceError(f"cannot be read: {reason}", where=str(path), hint=hint, code="CG-SRV-004") from error
    if not MIN_TOKEN_CHARACTERS <= len(token) <= MAX_TOKEN_CHARACTERS or " " in token:
        what = f"a token has {MIN_TOKEN_CHARACTERS} to {MAX_TOKEN_CHARACTERS} characters without spaces"
        hint = "write a random one into it, for instance with: openssl rand -hex 32"
        raise ServiceError(what, where=str(path), hint=hint, code="CG-SRV-004")
    return token


def reading_app(ledger: Queries, token: str | None, metrics: Figures | None = None) -> FastAPI:
    """Make the application that readers talk to.

    Args:
        ledger: what they read.
        token: that they must present, None for none.
        metrics: what a monitoring system gets, None for nothing.
    """
    app = FastAPI(
        title="civigate receiver",
        description="What gateways delivered: receptions in the order of their commit, streams, accounts, alarms.",
        version="1",
    )

    @app.middleware("http")
    async def admit(request: Request, proceed: Callable[[Request], Awaitable[Response]]) -> Response:
        given = request.headers.get("authorization", "")
        if token is not None and not hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
            return JSONResponse({"detail": "bearer token required"}, 401, {"www-authenticate": "Bearer"})
        try:
            return await proceed(request)
        except LedgerError as error:
            return JSONResponse({"detail": str(error)}, 503)

    @app.get("/v1/gateways")
    def gateways() -> list[Gateway]:
        """List the registered gateways with their keys."""
        found: dict[bytes, list[RegisteredKey]] = {}
        for key in ledger.registry():
            found.setdefault(key.eui, []).append(key)
        return [
            Gateway(
                gateway=eui.hex(),
                name=keys[0].name,
                keys=[
                    Key(
                        kid=key.kid.hex(),
                        public_key=key.public_key,
                        added_us=key.added_us,
                        revoked_us=key.revoked_us,
                    )
                    for key in keys
                ],
            )
            for eui, keys in found.items()
        ]

    @app.get("/v1/streams")
    def streams() -> list[Stream]:
        """List the streams: what is there, what is missing, what the gateways say became of their frames."""
        return [_stream(summary) for summary in ledger.streams()]

    @app.get("/v1/frames")
    def frames(
        after: Annotated[int, Query(ge=0, description="cursor: `next` of the page before, 0 to begin")] = 0,
        limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 100,
    ) -> Page:
        """Page through all receptions. Late ones come when they come: whoever goes on from the cursor misses none."""
        rows = ledger.frames(after, limit)
        receptions = [Reception.model_validate(row) for row in rows]
        return Page(receptions=receptions, next=receptions[-1].id if receptions else after)

    @app.get("/v1/alarms")
    def alarms() -> list[AlarmEntry]:
        """List the alarms, latest first."""
        return [
            AlarmEntry(
                kind=row.alarm.kind,
                subject=row.alarm.subject,
                stream=row.alarm.stream_id.hex(),
                number=row.alarm.number,
                detail=row.alarm.detail,
                first_us=row.first_us,
                last_us=row.last_us,
                count=row.count,
            )
            for row in ledger.alarms()
        ]

    if metrics is not None:

        @app.get("/metrics", response_class=Response)
        def figures(request: Request) -> Response:
            """Figures for a monitoring system, in the text format of Prometheus."""
            body, content_type = metrics.text(request.headers.get("accept", ""))
            return Response(body, headers={"content-type": content_type})

    return app


def _stream(summary: StreamSummary) -> Stream:
    account = asdict(summary.account)
    return Stream(
        stream=summary.stream_id.hex(),
        gateway=summary.eui.hex(),
        name=summary.name,
        through=summary.through,
        hash=summary.hash.hex(),
        highest=summary.highest,
        missing=list(summary.missing),
        batches=summary.batches,
        frames=summary.frames,
        first_seen_us=summary.first_seen_us,
        last_seen_us=summary.last_seen_us,
        account={bucket: account[bucket] for bucket in BUCKETS},
    )
