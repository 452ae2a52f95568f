# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What the reading interface answers, as JSON and in its OpenAPI document."""

from __future__ import annotations

from pydantic import BaseModel, Field


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
    more: bool = Field(description="whether there may be others now; a page may be empty and yet not the last")


class Heard(BaseModel):
    """How one gateway heard a transmission."""

    id: int
    gateway: str
    stream: str
    seq: int
    utc_us: int | None
    utc_error_us: int | None
    utc_source: str | None
    rssi_dbm: float
    rssis_dbm: float | None
    snr_db: float | None
    frequency_offset_hz: int
    fine_timestamp_ns: int | None
    received_us: int


class Uplink(BaseModel):
    """One transmission of a device, with every reception of it that is here. Late copies join it."""

    uplink: int = Field(description="its name for good: the id of the reception that was committed first")
    utc_us: int | None = Field(description="of the reception whose time is known best")
    utc_error_us: int | None
    dev_addr: str | None
    frequency_hz: int
    modulation: str
    bandwidth_hz: int
    datarate: int
    coding_rate: str | None
    phy_payload: str
    gateways: int = Field(description="how many heard it")
    receptions: list[Heard]


class UplinkPage(BaseModel):
    """Transmissions of which something new came, and where to go on."""

    uplinks: list[Uplink]
    next: int = Field(description="give this as after to go on; an uplink comes again when another reception joins it")
    more: bool


class GapHour(BaseModel):
    """What one hour of a gateway's uptime came to. Columns are those of the view gap_ledger."""

    gateway: str
    stream: str
    boot: str | None
    hour: int | None
    begin_us: int | None
    heard: int
    bad_crc: int
    filtered: int
    duplicate: int
    kept: int
    received: int
    late: int
    evicted: int
    expired: int
    quarantined: int
    overrun: int
    missing: int


class Silence(BaseModel):
    """A time of which a gateway reports nothing."""

    gateway: str
    from_us: int
    to_us: int
    cause: str


class Hole(BaseModel):
    """Batches that have not come."""

    gateway: str
    stream: str
    first: int
    last: int
    frames: int | None = Field(description="that can be in them at most")
    after_us: int | None
    before_us: int | None


class GapLedger(BaseModel):
    """What is missing, and why."""

    hours: list[GapHour]
    silences: list[Silence]
    holes: list[Hole]


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
