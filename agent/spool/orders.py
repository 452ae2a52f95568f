# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What is done with the spool in one transaction, as values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from agent.batch.model import MAX_FRAMES, Anchor, Receipt, Refusal
from agent.spool.intake import Heard
from agent.spool.row import Fields, prepare


@dataclass(frozen=True, slots=True)
class Destination:
    """Where frames go.

    Attributes:
        name: as in the configuration.
        filter_digest: names the filter's content; when it changes, the filter version in the headers counts up.
        share: of the quota, in relation to those of the others, at least 1.
    """

    name: str
    filter_digest: bytes
    share: int = 1


@dataclass(frozen=True, slots=True)
class Policy:
    """When and how much.

    Attributes:
        batch_frames: frames after which a batch is sealed, 1 to 4096.
        batch_age_s: age of its oldest frame after which a batch is sealed.
        quota_bytes: of the database file.
        expire_hours: age after which a frame is given up although nobody has acknowledged it; None: never.
    """

    batch_frames: int
    batch_age_s: float
    quota_bytes: int
    expire_hours: int | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.batch_frames <= MAX_FRAMES:
            raise ValueError(f"batch_frames {self.batch_frames}, must be 1 to {MAX_FRAMES}")


@dataclass(frozen=True, slots=True)
class Entry:
    """One `Heard` on its way to the disk.

    Attributes:
        number: of its journal record.
        heard: what was heard.
        packed: canonical bytes of each frame.
        fields: columns of each frame, as packing has them anyway; empty: they are taken from the frames.
    """

    number: int
    heard: Heard
    packed: tuple[bytes, ...]
    fields: tuple[Fields, ...] = ()


def entry_of(number: int, heard: Heard) -> Entry:
    """Prepare what was heard for the disk.

    Raises:
        ValueError: a frame cannot be stored (`agent.spool.row.pack`).
    """
    fields, packed = prepared(heard)
    return Entry(number, heard, packed, fields)


def prepared(heard: Heard) -> tuple[tuple[Fields, ...], tuple[bytes, ...]]:
    """Return the columns and the canonical bytes of the frames of a look.

    Raises:
        ValueError: as with `entry_of`.
    """
    pairs = [prepare(routed.frame) for routed in heard.frames]
    return tuple(fields for fields, _ in pairs), tuple(packed for _, packed in pairs)


@dataclass(frozen=True, slots=True)
class Refused:
    """A refusal and the batch it answers; the refusal itself may not have been able to name it."""

    stream_id: bytes
    number: int
    refusal: Refusal


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A sealed batch whose body cannot be made again from the rows."""

    stream_id: bytes
    number: int


@dataclass(frozen=True, slots=True)
class Contradicted:
    """The platform has another history of a stream than this spool.

    Attributes:
        stream_id: 16 bytes.
        newest: highest batch number that the platform has.
    """

    stream_id: bytes
    newest: int


@dataclass(frozen=True, slots=True)
class Identify:
    """The gateway's EUI-64 has become known."""

    gateway_eui: bytes


Order: TypeAlias = "Receipt | Refused | Unreadable | Contradicted | Anchor | Identify"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a transaction did.

    Attributes:
        sealed: destinations with new batches.
        changed: destinations whose stream was replaced.
        more: whether another call has more to seal at once.
    """

    sealed: frozenset[str]
    changed: frozenset[str]
    more: bool
