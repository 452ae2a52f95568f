# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What batches in files prove, for somebody who trusts nothing but a gateway's first public key.

Keys that follow it are learnt from the batches that announce them. Files may come in any order, overlap and repeat.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from agent.batch import succession
from agent.batch.codec import Opened, glimpse, open_wire
from agent.batch.errors import RefusedError, UnknownKeyError
from agent.batch.keys import PublicKey
from agent.batch.model import Account, Tombstone
from receiver.batchfile import read_batches
from receiver.errors import EvidenceError
from receiver.evidence import Chain, Step, follow
from receiver.ledger.port import Withdrawn

MAX_REFUSED = 1000
"""Messages that are not accepted, and told one by one; more are only counted."""


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file that was read: its path, SHA-256 and number of messages."""

    path: str
    sha256: str
    messages: int


@dataclass(frozen=True, slots=True)
class Refused:
    """A message that does not count, or the place from which on a file is none of ours.

    Attributes:
        where: file and place in it.
        reason: one clause.
        stream_id: as it claims, 16 zero bytes where it cannot be read.
        number: the same, 0 where it cannot be read.
    """

    where: str
    reason: str
    stream_id: bytes = bytes(16)
    number: int = 0


@dataclass(slots=True)
class KeySpan:
    """A key that signed batches of a stream.

    Attributes:
        kid: its thumbprint.
        first: lowest number that it signed.
        last: highest number that it signed.
        batches: how many.
        announced_by: kid of the key that announced it in a batch; None for a key that was given.
    """

    kid: bytes
    first: int
    last: int
    batches: int = 1
    announced_by: bytes | None = None


@dataclass(slots=True)
class StreamAudit:
    """What the files hold of one stream.

    Attributes:
        stream_id: 16 bytes.
        gateway_eui: EUI-64 of the gateway.
        chain: numbers, hashes and sequences.
        account: sum over the batches; of withdrawn ones their successor speaks.
        repeats: copies of batches that were there already.
        withdrawn_frames: in batches that were withdrawn and are here all the same.
        keys: that signed, by their first batch.
        tombstones: declared gaps, with the number of the batch that declares each.
    """

    stream_id: bytes
    gateway_eui: bytes
    chain: Chain = field(default_factory=Chain)
    account: Account = field(default_factory=Account)
    repeats: int = 0
    withdrawn_frames: int = 0
    keys: list[KeySpan] = field(default_factory=list)
    tombstones: list[tuple[int, Tombstone]] = field(default_factory=list)
    first: int = 0
    last: int = 0

    @property
    def from_start(self) -> bool:
        """Whether the stream is here from its first batch on."""
        return self.first == 1

    @property
    def waiting(self) -> int | None:
        """Frames that the gateway has kept, but neither delivered nor declared lost; None where the files do not say.

        Those of batches that are missing here count among them.
        """
        if not self.from_start:
            return None
        account = self.account
        lost = account.evicted + account.expired + account.quarantined
        # what is in a batch that was withdrawn but is here counts twice: as lost, or in the batch that took it on
        return account.spooled - self.chain.frames - lost + self.withdrawn_frames

    @property
    def ok(self) -> bool:
        """Whether everything fits and nothing is missing."""
        return self.chain.ok and not self.chain.missing


@dataclass(slots=True)
class Audit:
    """What files prove."""

    files: list[SourceFile] = field(default_factory=list)
    streams: list[StreamAudit] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    refused_count: int = 0

    @property
    def ok(self) -> bool:
        """Whether every message is good, every chain whole, and there is anything at all."""
        return bool(self.streams) and not self.refused_count and all(stream.ok for stream in self.streams)


@dataclass(slots=True)
class _Gathered:
    """Batches of one stream, before they are put in order."""

    gateway_eui: bytes
    steps: dict[int, Step] = field(default_factory=dict)
    accounts: dict[int, Account] = field(default_factory=dict)
    signed_by: dict[int, bytes] = field(default_factory=dict)
    tombstones: list[tuple[int, Tombstone]] = field(default_factory=list)
    repeats: int = 0
    flaws: list[str] = field(default_factory=list)


def audit(paths: Iterable[Path], trusted: Iterable[PublicKey], owners: Mapping[bytes, bytes] | None = None) -> Audit:
    """Read files and say what they prove.

    Args:
        paths: of files with batches (docs/batch-format.md, chapter 10.3).
        trusted: public keys of the gateways; those that follow them need not be given.
        owners: EUI-64 of the gateway by kid, as far as it is known; of others the first batch says it.

    Raises:
        EvidenceError: CG-EVI-001, a file cannot be read.
    """
    return _Reader([Path(path) for path in paths], trusted, owners or {}).read()


class _Reader:
    def __init__(self, paths: Sequence[Path], trusted: Iterable[PublicKey], owners: Mapping[bytes, bytes]) -> None:
        self._paths = paths
        self._owners = dict(owners)
        self._keys = {key.kid: key for key in trusted}
        self._announced_by: dict[bytes, bytes] = {}
        self._gathered: dict[bytes, _Gathered] = {}
        self._audit = Audit()

    def read(self) -> Audit:
        """Read everything; messages of unknown keys are read again as long as others announce keys."""
        unknown: dict[tuple[Path, int], Refused] = {}
        for path in self._paths:
            self._audit.files.append(self._file(path, unknown))
        known = -1
        while unknown and known != len(self._keys):
            known = len(self._keys)
            self._again(unknown)
        for refused in unknown.values():
            self._refuse(refused)
        for stream_id, gathered in self._gathered.items():
            self._audit.streams.append(self._finish(stream_id, gathered))
        return self._audit

    def _file(self, path: Path, unknown: dict[tuple[Path, int], Refused]) -> SourceFile:
        count = 0
        try:
            for count, wire in enumerate(read_batches(path), 1):
                self._take(wire, (path, count), unknown)
        except EvidenceError as error:
            if error.code == "CG-EVI-001":
                raise
            self._refuse(Refused(str(path), error.what))
        return SourceFile(str(path), _sha256(path), count)

    def _again(self, unknown: dict[tuple[Path, int], Refused]) -> None:
        for path in dict.fromkeys(path for path, _ in unknown):
            for count, wire in enumerate(_readable(path), 1):
                if unknown.pop((path, count), None) is not None:
                    self._take(wire, (path, count), unknown)

    def _take(self, wire: bytes, place: tuple[Path, int], unknown: dict[tuple[Path, int], Refused]) -> None:
        try:
            opened = open_wire(wire, self._keys.get)
        except RefusedError as error:
            seen = glimpse(wire)
            refused = Refused(f"{place[0]}, batch {place[1]}", error.what, seen.stream_id, seen.number)
            if isinstance(error, UnknownKeyError):
                unknown[place] = refused
            else:
                self._refuse(refused)
            return
        self._learn(opened)
        self._gather(opened)

    def _refuse(self, refused: Refused) -> None:
        self._audit.refused_count += 1
        if len(self._audit.refused) < MAX_REFUSED:
            self._audit.refused.append(refused)

    def _learn(self, opened: Opened) -> None:
        if not opened.body.succession:
            return
        try:
            said = succession.read(opened.body.succession)
        except RefusedError:
            return
        if (said.gateway_eui, said.predecessor) == (opened.header.gateway_eui, opened.kid):
            if said.successor.kid not in self._keys:
                self._announced_by[said.successor.kid] = opened.kid
            self._keys.setdefault(said.successor.kid, said.successor)

    def _gather(self, opened: Opened) -> None:
        header, body = opened.header, opened.body
        stream = self._gathered.setdefault(header.stream_id, _Gathered(header.gateway_eui))
        known = stream.steps.get(header.number)
        if known is not None:
            stream.repeats += 1
            if known.hash != opened.hash:
                stream.flaws.append(f"two contents under number {header.number}: a fork")
            return
        if header.gateway_eui != stream.gateway_eui:
            stream.flaws.append(f"batch {header.number} is of another gateway, {header.gateway_eui.hex()}")
        owner = self._owners.setdefault(opened.kid, header.gateway_eui)
        if owner != header.gateway_eui:
            stream.flaws.append(f"batch {header.number} is signed with a key of another gateway, {owner.hex()}")
        if not body.account.balanced:
            stream.flaws.append(f"the account of batch {header.number} does not add up")
        if body.hours and sum((part.account for part in body.hours), Account()) != body.account:
            stream.flaws.append(f"the account of batch {header.number} is not the sum of its hours")
        stream.steps[header.number] = Step(header, opened.hash)
        stream.accounts[header.number] = body.account
        stream.signed_by[header.number] = opened.kid
        stream.tombstones += [(header.number, stone) for stone in body.tombstones]

    def _finish(self, stream_id: bytes, gathered: _Gathered) -> StreamAudit:
        numbers = sorted(gathered.steps)
        done = StreamAudit(stream_id, gathered.gateway_eui, repeats=gathered.repeats)
        done.first, done.last = numbers[0], numbers[-1]
        done.tombstones = sorted(gathered.tombstones, key=lambda item: item[0])
        for flaw in gathered.flaws:
            done.chain.flaw(flaw)
        withdrawn = [
            Withdrawn(stone.first_number, stone.last_number, stone.last_hash, stone.count)
            for _, stone in done.tombstones
            if stone.last_number
        ]
        follow(done.chain, [gathered.steps[number] for number in numbers], withdrawn, from_start=False)
        for number in numbers:
            if any(item.first <= number <= item.last for item in withdrawn):
                done.withdrawn_frames += gathered.steps[number].header.frame_count
            else:
                done.account += gathered.accounts[number]
        done.keys = list(self._spans(numbers, gathered.signed_by, done.chain.flaw))
        if done.waiting is not None and done.waiting < 0 and not done.chain.missing:
            done.chain.flaw(f"{-done.waiting} frames more were delivered than the gateway says it has kept")
        return done

    def _spans(
        self, numbers: Sequence[int], signed_by: dict[int, bytes], flaw: Callable[[str], None]
    ) -> Iterator[KeySpan]:
        spans: dict[bytes, KeySpan] = {}
        for number in numbers:
            kid = signed_by[number]
            if kid not in spans:
                spans[kid] = KeySpan(kid, number, number, 0, self._announced_by.get(kid))
            spans[kid] = replace(spans[kid], last=number, batches=spans[kid].batches + 1)
        for span in spans.values():
            older = spans.get(span.announced_by) if span.announced_by is not None else None
            if older is not None and older.last > span.first:
                flaw(f"key {older.kid.hex()} signed batch {older.last}, after its successor had signed {span.first}")
        yield from spans.values()


def _readable(path: Path) -> Iterator[bytes]:
    """Give the messages of a file up to where it is none of ours any more, which was told before."""
    try:
        yield from read_batches(path)
    except EvidenceError as error:
        if error.code == "CG-EVI-001":
            raise


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
