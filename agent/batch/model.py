# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What batches, receipts and refusals say, as values. How they become bytes is in the modules beside this one."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from operator import attrgetter

from agent.frame import Frame

FORMAT_VERSION = 1
HASH_BYTES = 32
GENESIS_HASH = bytes(HASH_BYTES)
"""Stands for "no batch yet": previous hash of batch 1, and hash in a receipt through batch 0."""

UNKNOWN_BOOT = bytes(16)
"""Boot id of something that happened in a boot that is not known."""

MAX_FRAMES = 4096
"""Frames in one batch."""
MAX_BODY_BYTES = 2 * 1024 * 1024
"""Uncompressed body. The largest batch of the longest frames, each with a session of its own, stays below."""
MAX_WIRE_BYTES = MAX_BODY_BYTES + 4096
"""Batch as it travels: signed header and body. Any body fits, even one that does not compress."""
MAX_NUMBER = (1 << 53) - 1
"""Largest number, count or time anywhere in the format: what a double holds exactly, for readers in any language."""
MAX_ANCHORS = 1024
"""Anchors in one batch."""
MAX_TOMBSTONES = 1024
"""Tombstones in one batch."""
MAX_HOURS = 1024
"""Hours in the account of one batch."""
HOUR_US = 3_600_000_000
"""An hour of the account, by CLOCK_BOOTTIME."""
MAX_HEALTH = 64
"""Entries of the health record; names are at most 32 characters long."""
MAX_SUCCESSION_BYTES = 512
"""A signed announcement of the next key."""
MAX_RANGES = 1024
"""Ranges beyond `through` in one receipt; further ones are left out, which only means that batches are sent again."""
MAX_DETAIL_BYTES = 240
"""The clause for a person in a refusal, UTF-8."""


class TimeSource(IntEnum):
    """Where a clock anchor comes from."""

    KERNEL = 1
    """The host's clock while the kernel says that it is synchronised (adjtimex)."""
    GNSS = 2
    """GNSS receiver with PPS on the concentrator's counter."""
    PLATFORM = 3
    """The time in a signed receipt, bounded by the round trip."""


@dataclass(frozen=True, slots=True)
class Anchor:
    """One known pair of CLOCK_BOOTTIME and UTC.

    Attributes:
        boot_id: the kernel's boot id, 16 bytes.
        boottime_us: CLOCK_BOOTTIME, microseconds.
        utc_us: UTC, microseconds since 1970-01-01, POSIX count (no leap seconds).
        uncertainty_us: half-width of the interval that holds the true UTC.
        source: where it comes from.
    """

    boot_id: bytes
    boottime_us: int
    utc_us: int
    uncertainty_us: int
    source: TimeSource


@dataclass(frozen=True, slots=True)
class Account:
    """Where the frames went that the radio delivered since the previous batch of the stream.

    `heard = bad_crc + filtered + duplicate + spooled` in every account. Over a whole stream,
    `spooled = delivered + waiting + evicted + expired + quarantined`.

    Attributes:
        heard: frames the radio delivered.
        bad_crc: payload CRC wrong; counted, never stored.
        filtered: not for this destination (rule: deny by default); counted, never stored.
        duplicate: a second copy of the same reception.
        spooled: committed to the spool for this destination.
        evicted: taken out of the spool unacknowledged, over the quota (see tombstones).
        expired: taken out of the spool unacknowledged, over the age limit (see tombstones).
        quarantined: refused by the platform, parked on the gateway.
        overrun: faults in the radio's FIFO that may each have cost frames: overflow, damaged records.
    """

    heard: int = 0
    bad_crc: int = 0
    filtered: int = 0
    duplicate: int = 0
    spooled: int = 0
    evicted: int = 0
    expired: int = 0
    quarantined: int = 0
    overrun: int = 0

    def __add__(self, other: Account) -> Account:
        """Add bucket by bucket."""
        return Account(
            self.heard + other.heard,
            self.bad_crc + other.bad_crc,
            self.filtered + other.filtered,
            self.duplicate + other.duplicate,
            self.spooled + other.spooled,
            self.evicted + other.evicted,
            self.expired + other.expired,
            self.quarantined + other.quarantined,
            self.overrun + other.overrun,
        )

    def __neg__(self) -> Account:
        """Turn the sign of every bucket, to take a part away by adding."""
        return Account(*(-count for count in self.counts))

    @property
    def counts(self) -> tuple[int, ...]:
        """The buckets, in the order of the batch format."""
        return _COUNTS(self)

    @property
    def balanced(self) -> bool:
        """Whether every frame heard is in exactly one bucket."""
        return self.heard == self.bad_crc + self.filtered + self.duplicate + self.spooled


BUCKETS = (
    "heard",
    "bad_crc",
    "filtered",
    "duplicate",
    "spooled",
    "evicted",
    "expired",
    "quarantined",
    "overrun",
)
"""The buckets of an account, in the order of the batch format."""
_COUNTS = attrgetter(*BUCKETS)


@dataclass(frozen=True, slots=True)
class HourAccount:
    """The part of an account that belongs to one hour of one boot.

    Every bucket counts a frame in the hour in which it was heard, whatever became of it later. The hour is an interval
    of CLOCK_BOOTTIME; its UTC follows from the clock anchors of the boot.

    Attributes:
        boot_id: the kernel's boot id, 16 bytes; all zero, with hour 0: not known any more, or never.
        hour: CLOCK_BOOTTIME divided by `HOUR_US`.
        account: its part.
    """

    boot_id: bytes
    hour: int
    account: Account


class Loss(IntEnum):
    """Why frames that were in the spool never travel."""

    EVICTED = 1
    EXPIRED = 2
    DAMAGED = 3


@dataclass(frozen=True, slots=True)
class Tombstone:
    """A declared gap: frames of this stream that were taken out of the spool and will never travel.

    Frames of a batch that is sealed already cannot leave it, because its number stands for exactly these frames: the
    whole batch is withdrawn. A tombstone names a contiguous range of withdrawn batches and carries the hash that joins
    the chain across it. Their accounts are added to that of the batch with the tombstone, so that the sums still match.

    Attributes:
        count: how many frames.
        first_boottime_us: end of packet of the first of them, by the host of the boot `first_boot_id`.
        last_boottime_us: end of packet of the last of them, by the host of the boot `last_boot_id`.
        reason: why.
        first_boot_id: the kernel's boot id, 16 bytes, all zero where it is not known.
        last_boot_id: the same for the last of them.
        first_number: first withdrawn batch, 0 when the frames were in no batch (and have no sequence numbers).
        last_number: last withdrawn batch, 0 when the frames were in no batch.
        last_hash: SHA-256 of the signed header of batch `last_number`, 32 zero bytes without one.
    """

    count: int
    first_boottime_us: int
    last_boottime_us: int
    reason: Loss
    first_boot_id: bytes = UNKNOWN_BOOT
    last_boot_id: bytes = UNKNOWN_BOOT
    first_number: int = 0
    last_number: int = 0
    last_hash: bytes = GENESIS_HASH


@dataclass(frozen=True, slots=True)
class Predecessor:
    """The stream that a new one takes the place of, as far as the gateway knows that the platform has it.

    Attributes:
        stream_id: 16 bytes.
        through: every batch up to it was acknowledged; 0 for none.
        hash: of that batch; 32 zero bytes for none.
    """

    stream_id: bytes
    through: int
    hash: bytes


@dataclass(frozen=True, slots=True)
class Body:
    """What a batch carries.

    Attributes:
        frames: contiguous in the stream, oldest first; may be empty (accounting only).
        account: since the previous batch of the stream.
        anchors: clock anchors since the previous batch.
        tombstones: gaps declared since the previous batch.
        health: small integers by name, e.g. {"uptime_s": 5, "concentrator_starts": 1}.
        hours: the account by hour: together these are `account`.
        succession: announces the gateway's next key (`agent.batch.succession`), not verified here; empty for none.
        predecessor: in batch 1 of a stream that takes the place of another.
    """

    frames: tuple[Frame, ...]
    account: Account = field(default_factory=Account)
    anchors: tuple[Anchor, ...] = ()
    tombstones: tuple[Tombstone, ...] = ()
    health: dict[str, int] = field(default_factory=dict)
    hours: tuple[HourAccount, ...] = ()
    succession: bytes = b""
    predecessor: Predecessor | None = None


@dataclass(frozen=True, slots=True)
class Header:
    """What is signed.

    Attributes:
        gateway_eui: EUI-64 of the gateway, 8 bytes.
        stream_id: 16 random bytes, made with the spool.
        number: from 1, no gaps within the stream.
        first_seq: stream sequence number of the first frame, from 1, contiguous over batches.
        frame_count: frames in the body; the last sequence number is first_seq + frame_count - 1.
        previous_hash: SHA-256 of the previous batch's signed header, 32 zero bytes for batch 1.
        body_sha256: of the uncompressed body.
        body_length: of the uncompressed body, bytes.
        filter_version: counts the changes of this destination's filter.
        version: of the format.
    """

    gateway_eui: bytes
    stream_id: bytes
    number: int
    first_seq: int
    frame_count: int
    previous_hash: bytes
    body_sha256: bytes
    body_length: int
    filter_version: int
    version: int = FORMAT_VERSION


@dataclass(frozen=True, slots=True)
class Receipt:
    """What the platform has: signed, cumulative; the only thing that frees space on a gateway.

    Attributes:
        stream_id: 16 bytes.
        through: every batch up to this number is verified and committed; 0 for none.
        hash: SHA-256 of the signed header of batch `through`, 32 zero bytes for 0.
        utc_us: the platform's clock when it signed, microseconds since 1970-01-01.
        beyond: inclusive ranges (first, last) committed beyond `through`, ascending.
    """

    stream_id: bytes
    through: int
    hash: bytes
    utc_us: int
    beyond: tuple[tuple[int, int], ...] = ()


class Reason(IntEnum):
    """Why the platform refuses a batch."""

    MALFORMED = 1
    """The bytes are not a batch of this format."""
    UNKNOWN_KEY = 2
    """No gateway is registered with the key that signed; register it, then it is accepted."""
    REVOKED_KEY = 3
    """The key was revoked; the batch is kept in quarantine."""
    BAD_SIGNATURE = 4
    BODY_MISMATCH = 5
    """The body does not hash to what was signed."""
    FORK = 6
    """Another content is already committed under this stream and number."""
    BROKEN_CHAIN = 7
    """The previous hash is not that of the previous batch."""
    UNBALANCED = 8
    """The accounting does not add up."""
    UNSUPPORTED_VERSION = 9
    WRONG_GATEWAY = 10
    """The key is registered for another gateway, or the stream belongs to another one."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """The platform's signed no to one batch.

    Attributes:
        stream_id: as in the batch; 16 zero bytes where it could not be read.
        number: as in the batch; 0 where it could not be read.
        batch_hash: SHA-256 of the batch's signed header, or of all bytes received where that could not be read.
        reason: why.
        detail: one clause for a person.
        utc_us: the platform's clock when it signed.
    """

    stream_id: bytes
    number: int
    batch_hash: bytes
    reason: Reason
    detail: str
    utc_us: int
