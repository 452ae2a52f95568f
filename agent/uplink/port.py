# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The seams of the uplink: a transport on one side, the spool on the other.

The sender between them knows neither HTTP nor MQTT nor SQLite. A transport carries bytes and never judges a
signature; the sender verifies; only what it verified reaches the spool.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Protocol

from agent.errors import AgentError, UplinkError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from agent.batch.model import Anchor, Receipt, Refusal

MAX_ANSWER_BYTES = 64 * 1024
"""A receipt has about 150 bytes; one with four thousand ranges beyond its number still fits."""


class Fault(Enum):
    """What can be wrong on the way to the platform: the code and whether trying again costs next to nothing.

    A fault that shows before the platform has done any work (no name, no route, no answer) is tried again soon, so
    that a link that returns is used within seconds. A fault that the platform or something in front of it answered
    with is tried again with ever longer pauses.
    """

    NAME = ("CG-UPL-001", True)
    """The host name does not resolve."""
    ROUTE = ("CG-UPL-002", True)
    """The host refuses the TCP connection or cannot be reached."""
    SILENT = ("CG-UPL-003", True)
    """No answer within the time-out: a dead link, or a platform that does not answer."""
    LOST = ("CG-UPL-004", True)
    """An established connection broke."""
    CERTIFICATE = ("CG-UPL-005", False)
    """The platform's certificate does not verify."""
    TLS = ("CG-UPL-006", False)
    """The TLS handshake fails otherwise, for one because the platform does not take our certificate."""
    PORTAL = ("CG-UPL-007", False)
    """Something that is not the platform answers, as the login page of a captive portal does."""
    STATUS = ("CG-UPL-008", False)
    """The platform, or the proxy or broker in front of it, answers with an error."""
    LOGIN = ("CG-UPL-009", False)
    """The broker does not let this gateway in, or not to its topics."""
    NOBODY = ("CG-UPL-010", False)
    """The broker takes batches that no receiver is subscribed to, or answers."""
    FORGED = ("CG-UPL-011", False)
    """The answer to a batch does not verify with the platform's key, or is about another stream."""
    OVERSIZE = ("CG-UPL-012", False)
    """Larger than what the other side takes, or than what is read here."""
    CONFLICT = ("CG-UPL-013", False)
    """The platform has another history of this stream than the spool: a restored or cloned card."""
    STANDING = ("CG-UPL-014", False)
    """The platform refuses this gateway, not this batch: its key is unknown, revoked or of another gateway."""
    FILES = ("CG-UPL-015", False)
    """A certificate, key or password file cannot be used."""
    ADDRESS = ("CG-UPL-016", False)
    """The URL of the destination cannot be used."""
    SPOOL = ("CG-UPL-017", False)
    """The spool cannot be read."""
    INTERNAL = ("CG-UPL-018", False)
    """A defect of this program, survived."""

    @property
    def code(self) -> str:
        """The stable error code."""
        return self.value[0]

    @property
    def cheap(self) -> bool:
        """Whether another try loads nobody."""
        return self.value[1]


class LinkError(UplinkError):
    """A fault on the way to the platform.

    Args:
        fault: which.
        what: one clause, with the value that was found.
        where: host and port, or file.
        hint: one sentence: what to do next.
        batch: number of the batch that is to blame, None when another one would have fared alike.
        wait_s: how long the other side asked to be left alone.
    """

    def __init__(
        self, fault: Fault, what: str, *, where: str, hint: str, batch: int | None = None, wait_s: float = 0.0
    ) -> None:
        super().__init__(what, where=where, hint=hint, code=fault.code, retryable=True)
        self.fault = fault
        self.batch = batch
        self.wait_s = wait_s


class UnreadableBatchError(AgentError):
    """One batch whose rows in the spool are damaged: it can never be sent again, the others can."""

    exit_code = 4


@dataclass(frozen=True, slots=True)
class Reply:
    """Bytes from the platform that claim to be a receipt or a refusal. Nothing about them is verified yet.

    Attributes:
        data: COSE_Sign1, at most `MAX_ANSWER_BYTES`.
        received_us: CLOCK_BOOTTIME when they were complete.
        asked_us: CLOCK_BOOTTIME just before the request went out that they answer; None where the transport does not
            tie an answer to a request (MQTT).
        batch: number of the batch they answer, None where the transport does not know.
    """

    data: bytes
    received_us: int
    asked_us: int | None = None
    batch: int | None = None


@dataclass(frozen=True, slots=True)
class Taken:
    """The next hop took a batch over (MQTT: PUBACK). It frees nothing: it only shows that the link is alive."""

    batch: int


Arrival = Reply | Taken
"""What a transport gives."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A verified answer of the platform.

    Attributes:
        signed: what it says.
        received_us: CLOCK_BOOTTIME when it was here.
        after_us: CLOCK_BOOTTIME at a moment that certainly precedes the signing; None when no such moment is known.
    """

    signed: Receipt | Refusal
    received_us: int
    after_us: int | None

    @property
    def round_trip_us(self) -> int | None:
        """Width of the interval in which the platform signed."""
        return None if self.after_us is None else self.received_us - self.after_us


@dataclass(frozen=True, slots=True)
class Traffic:
    """Bytes that a transport's TCP connections carried, TLS included, IP and TCP headers not.

    Attributes:
        up_bytes: sent, repeated segments included.
        down_bytes: received.
        segments: TCP segments with payload that were sent, repeated ones included.
        repeated: of these, those that were sent again.
    """

    up_bytes: int = 0
    down_bytes: int = 0
    segments: int = 0
    repeated: int = 0

    def __add__(self, other: Traffic) -> Traffic:
        return Traffic(
            self.up_bytes + other.up_bytes,
            self.down_bytes + other.down_bytes,
            self.segments + other.segments,
            self.repeated + other.repeated,
        )


class Uplink(Protocol):
    """A transport to one platform. All methods but `interrupt` belong to one thread; each returns in bounded time."""

    @property
    def window(self) -> int:
        """The most batches that may be unanswered on it."""
        ...

    @property
    def traffic(self) -> Traffic:
        """What it has carried so far, over all its connections."""
        ...

    def connect(self, wake: Callable[[], None]) -> None:
        """Bring the link up; `wake` is called from any thread whenever `receive` has something to give or to raise.

        Raises:
            LinkError: it cannot be brought up, or a certificate, key or password file cannot be used.
        """
        ...

    def ask(self, stream_id: bytes) -> float:
        """Ask for the platform's receipt for a stream; a `Reply` follows, with MQTT only if there is a retained one.

        Returns:
            How long to wait for it, seconds.

        Raises:
            LinkError: the link broke or the platform answered otherwise.
        """
        ...

    def send(self, batch: int, wire: bytes, meanwhile: Callable[[], None]) -> None:
        """Send one batch; answers come by `receive`.

        Args:
            batch: its number.
            wire: its bytes.
            meanwhile: called when they are on their way, by a transport that then waits for the answer; does not raise.

        Raises:
            LinkError: the link broke, or the batch was answered with an error.
        """
        ...

    def receive(self) -> Sequence[Arrival]:
        """Return what has arrived since the last call, without waiting.

        Raises:
            LinkError: the link broke.
        """
        ...

    def interrupt(self) -> None:
        """Make a blocked call of the other thread fail soon. Safe from any thread, at any time."""
        ...

    def close(self) -> None:
        """Drop the link. Never raises; `connect` may follow."""
        ...


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A sealed batch, ready to travel: the same bytes every time it is asked for.

    Attributes:
        number: of the batch.
        header_hash: SHA-256 of its signed header, as receipts and refusals name it.
        wire: the bytes that travel.
    """

    number: int
    header_hash: bytes
    wire: bytes


class Source(Protocol):
    """What the sender reads: the sealed batches of one destination's stream. Used by the sender's thread only."""

    @property
    def stream_id(self) -> bytes:
        """The stream, 16 bytes."""
        ...

    def through(self) -> int:
        """Return the batch number up to which everything is acknowledged, 0 for nothing."""
        ...

    def newest(self) -> int:
        """Return the number of the batch sealed last, 0 for none."""
        ...

    def load(self, number: int) -> Outgoing | None:
        """Return a batch, or None when it no longer waits (acknowledged, parked, evicted).

        Raises:
            UnreadableBatchError: its rows are damaged.
            AgentError: the spool cannot be read at all.
        """
        ...

    def prepare(self, number: int) -> None:
        """Read a batch that is likely to be asked for next. Whatever is wrong with it, `load` tells."""
        ...

    def hash_of(self, number: int) -> bytes | None:
        """Return the SHA-256 of a batch's signed header, None where the spool no longer has it."""
        ...


class Sink(Protocol):
    """Where verified answers go. Every method only queues and returns at once."""

    def reached(self, *, up: bool) -> None:
        """Note whether the platform can be reached; told whenever that changes, at first it cannot."""
        ...

    def receipt(self, receipt: Receipt) -> None:
        """Free what a verified receipt of this stream covers."""
        ...

    def refusal(self, number: int, refusal: Refusal) -> None:
        """Park a batch that the platform refused for what it is, or note that it refuses the gateway."""
        ...

    def unreadable(self, number: int, error: UnreadableBatchError) -> None:
        """Park a batch that cannot be rebuilt from the spool."""
        ...

    def contradicted(self, newest: int) -> None:
        """Begin a new stream: the platform has another history of this one, up to a batch number."""
        ...

    def anchor(self, anchor: Anchor) -> None:
        """Keep a clock anchor that a receipt gave."""
        ...


class BootClock(Protocol):
    """The clock of this boot."""

    @property
    def boot_id(self) -> bytes:
        """The kernel's boot id, 16 bytes."""
        ...

    def boottime_us(self) -> int:
        """Return CLOCK_BOOTTIME, microseconds."""
        ...
