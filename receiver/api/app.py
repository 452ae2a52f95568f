# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The reading interface: JSON for those who use the data, on an address and port of its own.

It stands apart from the gateways' port because its readers are others: that port is open to the field, this one shows
what all sensors sent. By default it listens on loopback, where a dashboard reads, or a reverse proxy with its own
sign-on; elsewhere it asks for a bearer token.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Annotated, Protocol

from fastapi import Depends, FastAPI, HTTPException, Query, Request, Response
from fastapi.responses import JSONResponse

from agent.batch.model import BUCKETS
from receiver.api.access import refusal
from receiver.api.model import (
    AlarmEntry,
    GapLedger,
    Gateway,
    Heard,
    Key,
    Page,
    Reception,
    Stream,
    Uplink,
    UplinkPage,
)
from receiver.errors import LedgerError
from receiver.gaps import gaps
from receiver.ledger.port import MAX_PAGE, RegisteredKey, StreamSummary, Transmission, Wanted, parse_dev_addr
from receiver.ledger.reader import LedgerReader

EUI = "^[0-9a-f]{16}$"
MAX_US = 1 << 53
MAX_ID = (1 << 63) - 1

After = Annotated[int, Query(ge=0, le=MAX_ID, description="cursor: `next` of the page before, 0 to begin")]
Limit = Annotated[int, Query(ge=1, le=MAX_PAGE)]


class Figures(Protocol):
    """What a monitoring system asks for."""

    def text(self, accept: str) -> tuple[bytes, str]:
        """Write them; return body and content type."""
        ...


def selection(
    gateway: Annotated[str | None, Query(pattern=EUI, description="EUI-64, hex")] = None,
    dev_addr: Annotated[
        str | None,
        Query(
            pattern="^[0-9a-f]{8}(/([0-9]|[12][0-9]|3[0-2]))?$",
            description="of data frames: a DevAddr, or a prefix with its length in bits, like 26000000/7",
        ),
    ] = None,
    since_us: Annotated[int | None, Query(ge=0, le=MAX_US, description="UTC, from it on")] = None,
    until_us: Annotated[int | None, Query(ge=0, le=MAX_US, description="UTC, up to and without it")] = None,
) -> Wanted:
    """Read which receptions are wanted. What has no known time is left out where a period is asked for."""
    if since_us is not None and until_us is not None and since_us > until_us:
        raise HTTPException(422, "until_us lies before since_us")
    first, last = (None, None) if dev_addr is None else parse_dev_addr(dev_addr)
    return Wanted(None if gateway is None else bytes.fromhex(gateway), first, last, since_us, until_us)


def reading_app(ledger: LedgerReader, token: str | None, metrics: Figures | None = None) -> FastAPI:
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
        try:
            return refusal(request, token) or await proceed(request)
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
    def frames(wanted: Annotated[Wanted, Depends(selection)], after: After = 0, limit: Limit = 100) -> Page:
        """Page through receptions. Late ones come when they come: whoever goes on from the cursor misses none."""
        found = ledger.search(after, limit, wanted)
        return Page(receptions=[Reception.model_validate(row) for row in found.rows], next=found.next, more=found.more)

    @app.get("/v1/uplinks")
    def uplinks(wanted: Annotated[Wanted, Depends(selection)], after: After = 0, limit: Limit = 100) -> UplinkPage:
        """Page through transmissions, each with all receptions of it, in the order in which receptions came.

        One that got another reception since comes again, with all of them: keep the latest by its name.
        """
        some, reached, more = ledger.transmissions(after, limit, wanted)
        return UplinkPage(uplinks=[_uplink(one) for one in some], next=reached, more=more)

    @app.get("/v1/gaps")
    def gap_ledger(
        gateway: Annotated[str | None, Query(pattern=EUI, description="only this one")] = None,
        since_us: Annotated[int | None, Query(ge=0, le=MAX_US, description="hours that end later; UTC")] = None,
        until_us: Annotated[int | None, Query(ge=0, le=MAX_US, description="hours that begin earlier; UTC")] = None,
    ) -> GapLedger:
        """Say by gateway and hour what was heard, received, late, missing, and why; where nothing was reported."""
        eui = None if gateway is None else bytes.fromhex(gateway)
        with ledger.snapshot() as state:
            return GapLedger.model_validate(asdict(gaps(state, eui, since_us, until_us, time.time_ns() // 1000)))

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


def _uplink(one: Transmission) -> Uplink:
    heard = [Heard.model_validate(row) for row in one.receptions]
    best = min(heard, key=lambda reception: (reception.utc_us is None, reception.utc_error_us, reception.id))
    shared = one.receptions[0]
    return Uplink.model_validate(
        {
            **shared,
            "uplink": one.uplink,
            "utc_us": best.utc_us,
            "utc_error_us": best.utc_error_us,
            "gateways": len({reception.gateway for reception in heard}),
            "receptions": heard,
        }
    )
