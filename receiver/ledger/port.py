# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What the receiver asks of a ledger, whatever database it stands on."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from agent.batch.codec import Opened
from agent.batch.model import GENESIS_HASH, Account, Reason
from receiver.ledger.chain import Alarm, Denied

MAX_PAGE = 1000
"""Frames in one page of a query."""


@dataclass(frozen=True, slots=True)
class QuarantineLimits:
    """What refused batches may take at most.

    Attributes:
        batches: number in all.
        bytes: size in all.
        per_key: number per key.
    """

    batches: int = 1000
    bytes: int = 256 * 1024 * 1024
    per_key: int = 64


@dataclass(frozen=True, slots=True)
class RegisteredKey:
    """A key and the gateway it speaks for.

    Attributes:
        eui: EUI-64 of the gateway, 8 bytes.
        name: what people call it.
        kid: thumbprint of the key.
        public_key: one-line text form.
        added_us: UTC, microseconds since 1970-01-01.
        revoked_us: the same, None while the key is active.
        follows: thumbprint of the key that it takes the place of, None for a first one.
        replaced_us: since when a key that follows it has signed, None while none has.
    """

    eui: bytes
    name: str
    kid: bytes
    public_key: str
    added_us: int
    revoked_us: int | None = None
    follows: bytes | None = None
    replaced_us: int | None = None


@dataclass(frozen=True, slots=True)
class StreamState:
    """What a receipt says of a stream.

    Attributes:
        stream_id: 16 bytes.
        through: every batch up to this number is committed.
        hash: of that batch.
        beyond: inclusive ranges committed beyond it, ascending; at most as many as were asked for.
    """

    stream_id: bytes
    through: int = 0
    hash: bytes = GENESIS_HASH
    beyond: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Admitted:
    """The batch is committed.

    Attributes:
        state: of its stream, after the commit.
        repeat: whether it had been committed before.
    """

    state: StreamState
    repeat: bool


@dataclass(frozen=True, slots=True)
class Parked:
    """A batch that was not accepted, with what is known of it.

    Attributes:
        wire: all bytes as received.
        reason: why it was refused.
        detail: one clause for a person.
        sender: address or topic it came from.
        batch_hash: what the refusal names it by.
        stream_id: 16 zero bytes where it could not be read.
        number: 0 where it could not be read.
        kid: of the signature where that verified.
    """

    wire: bytes
    reason: Reason
    detail: str
    sender: str
    batch_hash: bytes
    stream_id: bytes = bytes(16)
    number: int = 0
    kid: bytes | None = None


@dataclass(frozen=True, slots=True)
class ParkedRow:
    """A batch in quarantine.

    Attributes:
        id: names it in commands.
        received_us: when it came.
        parked: itself, and why it is there.
    """

    id: int
    received_us: int
    parked: Parked


@dataclass(frozen=True, slots=True)
class Raised:
    """An alarm.

    Attributes:
        kind: what.
        subject: EUI of the gateway, or kid where no gateway is known, hex.
        stream_id: 16 bytes.
        number: of the batch.
        detail: one clause for a person.
    """

    kind: Alarm
    subject: str
    stream_id: bytes
    number: int
    detail: str


@dataclass(frozen=True, slots=True)
class StreamSummary:
    """One stream, for people and programs that watch."""

    stream_id: bytes
    eui: bytes
    name: str
    through: int
    hash: bytes
    highest: int
    batches: int
    frames: int
    first_seen_us: int
    last_seen_us: int
    account: Account
    missing: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class StreamPosition:
    """How far one stream is: what is told of it often, because it costs little.

    Attributes:
        eui: of its gateway.
        last_seen_us: when its latest batch was committed.
        missing: ranges of batches that have not come.
    """

    eui: bytes
    last_seen_us: int
    missing: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class SignedLink:
    """The evidence of one committed batch; `frames` that are stored, None where they are not kept any more."""

    number: int
    hash: bytes
    kid: bytes
    public_key: str
    signed_header: bytes
    frames: int | None
    account: Account


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """A range of batches that a tombstone names."""

    first: int
    last: int
    last_hash: bytes
    frames: int


@dataclass(frozen=True, slots=True)
class AlarmRow:
    """One alarm: what, since when, how often."""

    alarm: Raised
    first_us: int
    last_us: int
    count: int


@dataclass(frozen=True, slots=True)
class GapHour:
    """What one hour of a boot of a gateway came to: a row of the view `gap_ledger`.

    Attributes:
        gateway: EUI-64, hex.
        stream: id, hex.
        boot: of the gateway, hex; None for what it could not tell apart, as `hour`.
        hour: CLOCK_BOOTTIME divided by an hour.
        begin_us: UTC at which it began; None while nothing ties the boot to UTC.
        heard: frames that the radio delivered.
        bad_crc: counted, never stored.
        filtered: the same.
        duplicate: the same.
        kept: committed to the spool of the gateway.
        received: stored here.
        late: of these, committed more than five minutes after they were heard.
        evicted: lost over the quota of the gateway, declared.
        expired: lost over its age limit, declared.
        quarantined: refused here, parked on the gateway.
        overrun: faults of the radio's FIFO that may each have cost frames.
        missing: kept, but neither here nor declared: on the gateway still, or in batches that have not come. Below 0
            while the batch that accounts for frames that are here has not come.
    """

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


@dataclass(frozen=True, slots=True)
class Hole:
    """Batches that have not come: a row of the view `hole`.

    Attributes:
        gateway: EUI-64, hex.
        stream: id, hex.
        first: number.
        last: number.
        frames: that can be in them at most.
        after_us: UTC of the last frame before them, None where it is not known.
        before_us: UTC of the first frame after them, None where it is not known.
    """

    gateway: str
    stream: str
    first: int
    last: int
    frames: int | None
    after_us: int | None
    before_us: int | None


Column = int | float | str | None
"""A value of the `reception` view."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which receptions a reader asks for; None asks for all.

    Attributes:
        eui: of the gateway.
        first_addr: lowest DevAddr.
        last_addr: highest DevAddr.
        since_us: UTC, from it on.
        until_us: UTC, up to and without it.
    """

    eui: bytes | None = None
    first_addr: int | None = None
    last_addr: int | None = None
    since_us: int | None = None
    until_us: int | None = None


_DEV_ADDR = re.compile(r"([0-9a-f]{8})(?:/([0-9]|[12][0-9]|3[0-2]))?")


def parse_dev_addr(text: str) -> tuple[int, int]:
    """Return the lowest and the highest DevAddr of an address or a prefix, such as 26000000/7.

    Raises:
        ValueError: it is none.
    """
    match = _DEV_ADDR.fullmatch(text.lower())
    if match is None:
        raise ValueError("not 8 hex digits, or those with / and a number of bits")
    rest = (1 << (32 - int(match[2] or 32))) - 1
    first = int(match[1], 16) & ~rest
    return first, first | rest


@dataclass(frozen=True, slots=True)
class Found:
    """A page of receptions.

    Attributes:
        rows: of the view, by id.
        next: where to go on: every id up to it was looked at.
        more: whether there may be others now.
    """

    rows: list[dict[str, Column]]
    next: int
    more: bool


@dataclass(frozen=True, slots=True)
class Transmission:
    """One transmission of a device.

    Attributes:
        uplink: its name: the id of its first reception.
        receptions: all that are here, by id.
    """

    uplink: int
    receptions: list[dict[str, Column]]


class Queries(Protocol):
    """What can be asked of a ledger. Every method may be called from any thread.

    Raises (all methods):
        LedgerError: the database does not give; `retryable` says whether it may later.
    """

    def key(self, kid: bytes) -> RegisteredKey | None:
        """Find a registered key by its thumbprint."""
        ...

    def registry(self) -> list[RegisteredKey]:
        """List all keys, by gateway and age."""
        ...

    def state(self, stream_id: bytes, max_ranges: int) -> StreamState:
        """Say what is committed of a stream; `through` 0 for one that was never seen."""
        ...

    def streams(self) -> list[StreamSummary]:
        """Summarise all streams."""
        ...

    def positions(self) -> list[StreamPosition]:
        """Say of all streams how far they are, without counting what is there."""
        ...

    def links(self, stream_id: bytes) -> Iterator[SignedLink]:
        """Give the stored evidence of a stream in the order of numbers."""
        ...

    def withdrawn(self, stream_id: bytes) -> list[Withdrawn]:
        """List the ranges of batches that tombstones of a stream name."""
        ...

    def hours_add_up(self, stream_id: bytes) -> bool:
        """Tell whether the accounts by hours of a stream are those of its batches, and sum up to that of the whole."""
        ...

    def gap_hours(self, eui: bytes | None, since_us: int | None, until_us: int | None) -> list[GapHour]:
        """Give the gap ledger of a gateway or all, of hours that begin in a period; by gateway and time."""
        ...

    def holes(self, eui: bytes | None) -> list[Hole]:
        """Give the batches that have not come, of a gateway or all."""
        ...

    def last_signs(self, eui: bytes | None) -> dict[str, int]:
        """Give CLOCK_BOOTTIME of the last sign of each boot, by its id in hex."""
        ...

    def frames(self, after: int, limit: int) -> Sequence[dict[str, Column]]:
        """Give receptions with an id beyond `after`, in the order of their commit."""
        ...

    def highest(self) -> int:
        """Return the highest id of a reception, 0 for none."""
        ...

    def search(self, after: int, limit: int, wanted: Wanted, *, bulk: bool = False) -> Found:
        """Give receptions with an id beyond `after`, in the order of their commit; `bulk` for who wants them all."""
        ...

    def transmissions(self, after: int, limit: int, wanted: Wanted) -> tuple[list[Transmission], int, bool]:
        """Give transmissions of which a reception beyond `after` is wanted; where to go on; whether there is more."""
        ...

    def alarms(self) -> list[AlarmRow]:
        """List the alarms, latest first."""
        ...

    def quarantined(self) -> tuple[int, int]:
        """Count what is in quarantine: batches, bytes."""
        ...

    def quarantine(self) -> Iterator[ParkedRow]:
        """Give what is in quarantine, the oldest first."""
        ...

    def quarantined_row(self, number: int) -> ParkedRow | None:
        """Find what is in quarantine by its id."""
        ...

    def close(self) -> None:
        """Let go of the database."""
        ...


class Ledger(Queries, Protocol):
    """One committed truth. Every method may be called from any thread; what it wrote is durable when it returns.

    Raises (all methods):
        LedgerError: the database does not take or give; `retryable` says whether it may later.
    """

    def add_key(self, key: RegisteredKey) -> bool:
        """Register a key, with its gateway where that is new; False if it was registered already, unchanged.

        Raises:
            RegistryError: CG-REG-001, the key belongs to another gateway; CG-REG-002, it was revoked.
        """
        ...

    def rotate_key(self, key: RegisteredKey) -> bytes:
        """Register a key that takes the place of the one its gateway has; return the kid of that.

        Both are accepted until the first batch of the new one is committed.

        Raises:
            RegistryError: as `add_key`; CG-REG-003, the gateway has no active key; CG-REG-007, the key was replaced.
        """
        ...

    def revoke(self, eui: bytes, kid: bytes | None, at_us: int) -> int:
        """Revoke one key of a gateway, or all; return how many were active until now."""
        ...

    def admit(self, opened: Opened, received_us: int, max_ranges: int) -> Admitted | Denied:
        """Judge a verified batch and commit it, in one transaction; a repeat and a denial change nothing."""
        ...

    def park(self, parked: Parked, alarm: Raised | None, at_us: int) -> None:
        """Keep refused bytes within the limits, and count the alarm."""
        ...

    def discard(self, number: int) -> bool:
        """Drop what is in quarantine by its id; False if it is not there."""
        ...

    def revise(self, limit: int) -> bool:
        """Estimate the time of up to `limit` frames anew, from anchors that came later; True while more wait."""
        ...

    def upkeep(self, now_us: int, keep_days: int, limit: int) -> bool:
        """Drop frames whose time is over, make room for those to come; True while there is more to drop.

        Their batches stay, as evidence, and are not taken again. Frames go by the week in which they were received,
        from Monday on: once all of it is longer ago than they are kept.

        Args:
            now_us: this machine's clock, microseconds since 1970-01-01 UTC.
            keep_days: how long frames are kept, 0 for ever.
            limit: about how many are dropped in one transaction, where that takes its time.
        """
        ...
