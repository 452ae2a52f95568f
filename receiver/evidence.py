# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Whether a row of batches proves what it should: signatures, chain, sums, gaps. For the ledger and for files alike.

Nothing here trusts what the ledger computed when it took the batches: everything is derived anew from what was signed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from agent.batch import cose
from agent.batch.codec import read_header
from agent.batch.errors import RefusedError
from agent.batch.keys import PublicKey, ring
from agent.batch.model import GENESIS_HASH, Account, Header
from receiver.ledger.port import Queries, SignedLink, StreamSummary, Withdrawn

MAX_FLAWS = 20
"""Flaws that are told of one stream; more are only counted."""


@dataclass(frozen=True, slots=True)
class Step:
    """A batch as a member of its chain, signature verified."""

    header: Header
    hash: bytes


@dataclass(slots=True)
class Chain:
    """What the batches of one stream prove.

    Attributes:
        batches: looked at.
        frames: in them.
        missing: ranges of numbers between the first and the last batch that are neither there nor declared withdrawn.
        flaws: what does not fit, one clause each, at most `MAX_FLAWS`.
        flaw_count: how many there are.
    """

    batches: int = 0
    frames: int = 0
    missing: list[tuple[int, int]] = field(default_factory=list)
    flaws: list[str] = field(default_factory=list)
    flaw_count: int = 0

    def flaw(self, text: str) -> None:
        """Note something that does not fit."""
        self.flaw_count += 1
        if len(self.flaws) < MAX_FLAWS:
            self.flaws.append(text)

    @property
    def ok(self) -> bool:
        """Whether everything that is there fits."""
        return self.flaw_count == 0


def follow(chain: Chain, steps: Iterable[Step], withdrawn: Sequence[Withdrawn], *, from_start: bool) -> None:
    """Walk along the batches of a stream, in the order of their numbers.

    Args:
        chain: what is found is added to it.
        steps: the batches.
        withdrawn: ranges of numbers that tombstones name.
        from_start: whether batch 1 must be there.
    """
    ends = {item.last: item.last_hash for item in withdrawn}
    number, reached, next_seq = 0, GENESIS_HASH, 1
    known = from_start
    for step in steps:
        header = step.header
        chain.batches += 1
        chain.frames += header.frame_count
        gap = (number + 1, header.number - 1)
        if known and gap[0] <= gap[1]:
            chain.missing.extend(_uncovered(gap, withdrawn))
        expected = reached if header.number == number + 1 and known else ends.get(header.number - 1)
        if header.number == 1:
            expected = GENESIS_HASH
        if expected is not None and header.previous_hash != expected:
            chain.flaw(f"batch {header.number} does not follow batch {header.number - 1}: other previous hash")
        if known and (header.first_seq < next_seq or (header.number == number + 1 and header.first_seq != next_seq)):
            chain.flaw(f"batch {header.number} starts at sequence {header.first_seq}, expected {next_seq}")
        if header.number in ends and ends[header.number] != step.hash:
            chain.flaw(f"a tombstone names another batch {header.number}")
        number, reached, next_seq = header.number, step.hash, header.first_seq + header.frame_count
        known = True


def _uncovered(gap: tuple[int, int], withdrawn: Sequence[Withdrawn]) -> Iterable[tuple[int, int]]:
    """Give the parts of a gap that no tombstone declares."""
    first, last = gap
    for item in sorted(withdrawn, key=lambda item: item.first):
        if item.last < first or item.first > last:
            continue
        if item.first > first:
            yield first, item.first - 1
        first = item.last + 1
    if first <= last:
        yield first, last


@dataclass(frozen=True, slots=True)
class StreamReport:
    """What the ledger holds of a stream, checked.

    Attributes:
        summary: what the ledger says.
        chain: what its evidence proves.
        frames_waiting: frames that the gateway counted as kept but has not delivered, nor declared lost.
        sums_match: whether every frame heard is in exactly one bucket, and the sums are those of the batches, also by
            hours.
    """

    summary: StreamSummary
    chain: Chain
    frames_waiting: int
    sums_match: bool

    @property
    def complete(self) -> bool:
        """Whether no batch is missing among those that are there."""
        return not self.summary.missing

    @property
    def ok(self) -> bool:
        """Whether everything fits and nothing is missing."""
        return self.chain.ok and self.sums_match and self.complete


def report(ledger: Queries, summary: StreamSummary) -> StreamReport:
    """Check one stream of the ledger against its stored evidence; `summary` is of the same state of the ledger."""
    withdrawn = ledger.withdrawn(summary.stream_id)
    chain = Chain()
    total = Account()

    def steps() -> Iterable[Step]:
        nonlocal total
        for link in ledger.links(summary.stream_id):
            if not any(item.first <= link.number <= item.last for item in withdrawn):
                total += link.account
            if link.number == summary.through and link.hash != summary.hash:
                chain.flaw(f"receipts name another batch {link.number} than the stored one")
            yield _verified(link, summary, chain)

    follow(chain, steps(), withdrawn, from_start=True)
    if chain.frames != summary.frames:
        chain.flaw(f"{summary.frames} frames are counted, the batches say {chain.frames}")
    if tuple(chain.missing) != summary.missing:
        chain.flaw("other batches are missing than the ledger says")
    account = summary.account
    # what was withdrawn but arrived all the same was moved from the lost to the delivered ones
    recovered = replace(account, evicted=total.evicted, expired=total.expired)
    waiting = account.spooled - summary.frames - account.evicted - account.expired - account.quarantined
    sums_match = recovered == total and account.balanced and (waiting >= 0 or bool(summary.missing))
    sums_match = sums_match and ledger.hours_add_up(summary.stream_id)
    return StreamReport(summary, chain, waiting, sums_match)


def _verified(link: SignedLink, summary: StreamSummary, chain: Chain) -> Step:
    """Verify a stored header: its hash, its signature, what it names, and the frames that it stands for."""
    where = f"batch {link.number}"
    if hashlib.sha256(link.signed_header).digest() != link.hash:
        chain.flaw(f"the stored header of {where} does not hash to what was acknowledged")
    try:
        key = PublicKey.from_text(link.public_key)
        cose.verify(cose.read(link.signed_header, where=where), ring(key), where=where)
    except RefusedError as error:
        chain.flaw(f"{where}: {error.what}")
    header = read_header(link.signed_header)
    if (header.gateway_eui, header.stream_id, header.number) != (summary.eui, summary.stream_id, link.number):
        chain.flaw(f"the stored header of {where} belongs to another batch")
    if link.frames is not None and link.frames != header.frame_count:
        chain.flaw(f"{where} was signed with {header.frame_count} frames, {link.frames} are stored")
    return Step(header, link.hash)
