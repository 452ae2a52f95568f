# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Whether a verified batch fits what is committed: a pure judgement, the same for every kind of ledger."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from agent.batch.model import GENESIS_HASH, Header, Reason


class Alarm(StrEnum):
    """What an operator must hear of."""

    FORK = "fork"
    """Two contents under one number, each of a history of its own."""
    ROLLBACK = "rollback"
    """A second history that grows out of one we know: a restored or a cloned card."""
    CLONE = "clone"
    """After a fork or rollback the first history goes on as well: two devices share one identity."""
    BROKEN_CHAIN = "broken chain"
    WRONG_GATEWAY = "wrong gateway"
    UNBALANCED = "unbalanced account"
    REVOKED_KEY = "revoked key"
    UNKNOWN_KEY = "unknown key"
    SUCCESSION = "key announcement"
    """A batch announces a next key, and it cannot be that."""


OVERLAP_US = 30 * 24 * 3600 * 1_000_000
"""How long a replaced key may go on in streams in which its successor has not signed yet."""


@dataclass(frozen=True, slots=True)
class Link:
    """A committed batch, as far as its neighbours must agree with it."""

    number: int
    hash: bytes
    previous_hash: bytes
    first_seq: int
    frame_count: int

    @property
    def next_seq(self) -> int:
        """Sequence number that follows the last frame."""
        return self.first_seq + self.frame_count


@dataclass(frozen=True, slots=True)
class Join:
    """A tombstone's range of withdrawn batches, held against what is committed.

    Attributes:
        first: first withdrawn number.
        last: last withdrawn number.
        last_hash: of batch `last`, as the tombstone says.
        committed_hash: of batch `last`, where it had arrived before it was withdrawn.
        successor_previous_hash: previous hash of batch `last` + 1, where that is committed.
        overlaps: whether an earlier tombstone covers part of the range.
    """

    first: int
    last: int
    last_hash: bytes
    committed_hash: bytes | None = None
    successor_previous_hash: bytes | None = None
    overlaps: bool = False


@dataclass(frozen=True, slots=True)
class Standing:
    """The key that signed a batch, and where its successors have signed in the same stream.

    Attributes:
        revoked: for good.
        replaced_us: since when a successor signs, None while none does.
        above: whether a successor has signed a committed batch of a higher number.
        below: the same, of a lower number.
    """

    revoked: bool = False
    replaced_us: int | None = None
    above: bool = False
    below: bool = False

    def flaw(self, now_us: int) -> str | None:
        """Say why the key may not sign this batch, None if it may."""
        if self.revoked:
            return "the key that signed was revoked"
        if self.replaced_us is None or self.above:
            return None
        if self.below:
            return "the key that signed was replaced, and its successor has signed earlier batches of the stream"
        if now_us > self.replaced_us + OVERLAP_US:
            return f"the key that signed was replaced more than {OVERLAP_US // 86_400_000_000} days ago"
        return None


@dataclass(frozen=True, slots=True)
class Position:
    """What is committed around a batch.

    Attributes:
        owner: EUI of the gateway the stream belongs to, None for a new stream.
        same: the committed batch of the same number.
        below: the committed batch with the nearest lower number.
        above: the committed batch with the nearest higher number.
        previous_hash: of the number before, from a batch or from a tombstone; None where neither is there.
        withdrawn_hash: what a committed tombstone that ends at this number says its hash is.
        joins: the batch's own tombstones that name batches.
        standing: of the key that signed.
    """

    owner: bytes | None = None
    same: Link | None = None
    below: Link | None = None
    above: Link | None = None
    previous_hash: bytes | None = None
    withdrawn_hash: bytes | None = None
    joins: tuple[Join, ...] = ()
    standing: Standing = Standing()


@dataclass(frozen=True, slots=True)
class Fresh:
    """New, and fits."""


@dataclass(frozen=True, slots=True)
class Repeat:
    """The same content is committed already."""


@dataclass(frozen=True, slots=True)
class Denied:
    """Does not fit; nothing may be overwritten.

    Attributes:
        reason: for the refusal.
        detail: one clause for a person.
        alarm: for the operator.
    """

    reason: Reason
    detail: str
    alarm: Alarm


Verdict = Fresh | Repeat | Denied


def judge(header: Header, header_hash: bytes, position: Position, now_us: int = 0) -> Verdict:
    """Say whether a batch fits between those that are committed.

    A repeat is one whatever became of its key since: what is committed stays so, and the gateway has to hear of it.
    """
    if position.owner is not None and position.owner != header.gateway_eui:
        detail = f"the stream belongs to gateway {position.owner.hex()}"
        return Denied(Reason.WRONG_GATEWAY, detail, Alarm.WRONG_GATEWAY)
    below, same, above = position.below, position.same, position.above
    number = header.number
    if same is not None and same.hash == header_hash:
        return Repeat()
    flaw = position.standing.flaw(now_us)
    if flaw is not None:
        return Denied(Reason.REVOKED_KEY, flaw, Alarm.REVOKED_KEY)
    if same is not None:
        grows_from_ours = header.previous_hash == same.previous_hash
        detail = f"another content is committed under number {number}"
        return Denied(Reason.FORK, detail, Alarm.ROLLBACK if grows_from_ours else Alarm.FORK)
    if position.withdrawn_hash is not None and position.withdrawn_hash != header_hash:
        return Denied(Reason.FORK, f"a tombstone names another content for number {number}", Alarm.FORK)
    if number == 1 and (header.previous_hash != GENESIS_HASH or header.first_seq != 1):
        return _broken("batch 1 must start at sequence 1 and follow no other")
    if position.previous_hash is not None and position.previous_hash != header.previous_hash:
        return _broken(f"its previous hash is not that of batch {number - 1}")
    if below is not None and not _follows(number, header.first_seq, below):
        return _broken(f"its first sequence {header.first_seq} does not follow batch {below.number}")
    if above is not None:
        ours = Link(number, header_hash, header.previous_hash, header.first_seq, header.frame_count)
        if above.number == number + 1 and above.previous_hash != header_hash:
            return _broken(f"the committed batch {above.number} follows another batch {number}")
        if not _follows(above.number, above.first_seq, ours):
            return _broken(f"its last sequence does not fit before the committed batch {above.number}")
    reached = 0
    for join in sorted(position.joins, key=lambda join: join.first):
        flaw = "overlaps another of the same batch" if join.first <= reached else _flaw(join, header)
        if flaw is not None:
            return _broken(f"its tombstone for batches {join.first} to {join.last} {flaw}")
        reached = join.last
    return Fresh()


def _flaw(join: Join, header: Header) -> str | None:
    """Say what is wrong with a tombstone that names batches, None if nothing is."""
    if not 1 <= join.first <= join.last < header.number or join.last_hash == GENESIS_HASH:
        return f"does not name batches before {header.number}"
    if join.overlaps:
        return "overlaps an earlier one"
    if join.committed_hash is not None and join.committed_hash != join.last_hash:
        return f"names another batch {join.last} than the committed one"
    successor = header.previous_hash if join.last == header.number - 1 else join.successor_previous_hash
    if successor is not None and successor != join.last_hash:
        return f"does not join the chain at batch {join.last + 1}"
    return None


def _follows(number: int, first_seq: int, before: Link) -> bool:
    """Whether a sequence continues an earlier one: exactly where the numbers adjoin, anywhere behind it elsewhere."""
    if before.number == number - 1:
        return first_seq == before.next_seq
    return first_seq >= before.next_seq


def _broken(detail: str) -> Denied:
    return Denied(Reason.BROKEN_CHAIN, detail, Alarm.BROKEN_CHAIN)
