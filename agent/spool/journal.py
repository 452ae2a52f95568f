# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What was heard and is not committed yet, in a file that outlives the process.

The folder should lie in memory (tmpfs): then nothing here wears the card, the death of the process costs nothing, and
the loss of power costs no more than the commit window does anyway. Nothing is synced. Each record has a number; the
spool keeps the highest one that it contains, so that what is above it can be replayed exactly once.

A segment is a file of records `<length u32, CRC-32 u32, number u64, kind u8> payload`, the CRC over number, kind and
payload. Reading stops at the first record that is not whole. A new process never appends to an old segment.
"""

from __future__ import annotations

import errno
import logging
import os
import struct
import zlib
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

import cbor2

from agent.batch.model import BUCKETS, UNKNOWN_BOOT, Account
from agent.frame import Session
from agent.spool import row
from agent.spool.intake import UNKNOWN_HOUR, Fingerprint, Heard, Hour, RoutedFrame

log = logging.getLogger(__name__)

SEGMENT_BYTES = 1 << 20
LIMIT_BYTES = 8 << 20
"""Of all segments: some 40,000 frames; beyond, `Journal.full` is true and what is heard has to be shed."""
KEPT_FINGERPRINTS = 512
"""More than the concentrator's receive memory holds (4096 bytes, a packet takes at least 16)."""

_HEAD = struct.Struct("<IIQB")
_CRC_FROM = 8
_FINGERPRINT = struct.Struct("<IHI")
_UNREADABLE = (ValueError, LookupError, TypeError, EOFError, struct.error, cbor2.CBORError)
ASIDE_BYTES = 4 << 20
"""Of records that cannot be read, kept in `unreadable.bin`."""


class _Kind(IntEnum):
    OPEN = 0
    """[spool id, [destination, ...]]: first in each segment."""
    HEARD = 1
    SESSION = 2
    """[boot id, number]: the concentrator was started. At the beginning of a segment it did so before, and the
    counter of the last frame kept follows."""
    SEEN = 3
    """Fingerprints of the packets before this segment."""


_KINDS = frozenset(_Kind)


@dataclass(frozen=True, slots=True)
class Recovered:
    """What an earlier process has left.

    Attributes:
        heard: records above the spool's position, as (number, what was heard), ascending.
        session: the last concentrator session begun, None when none is known.
        seen: fingerprints of the last packets, each once, the newest last. Also of earlier sessions: the reset
            between them does not clear the chip's memory, and a rescue may meet their packets again.
        last_counter_us: 64-bit counter of the last frame kept in that session, 0 when none is known.
    """

    heard: tuple[tuple[int, Heard], ...] = ()
    session: Session | None = None
    seen: tuple[Fingerprint, ...] = ()
    last_counter_us: int = 0


class Journal:
    """The journal of one writer. Callers serialise `append`, `begin_session` and `committed` with one lock."""

    def __init__(self, folder: Path, spool_id: bytes, destinations: Sequence[str], position: int) -> None:
        """Read what is there and begin a new segment.

        Args:
            folder: made when missing.
            spool_id: records of another spool are set aside, not replayed.
            destinations: names in the order of the configuration; older records are translated to it.
            position: highest record that the spool contains.

        Raises:
            OSError: the folder cannot be made or read.
        """
        self._folder = folder
        self._spool_id = spool_id
        self._destinations = list(destinations)
        self.unreadable = 0
        """Records found that this version cannot read; they are kept aside."""
        self.failures = 0
        """Records that could not be written (folder full): these live in memory only."""
        folder.mkdir(parents=True, exist_ok=True, mode=0o750)
        self._seen: deque[Fingerprint] = deque(maxlen=KEPT_FINGERPRINTS)
        self._session: Session | None = None
        self._descriptor: int | None = None
        self._path = folder
        self._size = 0
        self._index = 0
        self._last_counter_us = 0
        self._closed_segments: deque[tuple[Path, int, int]] = deque()  # path, last number, bytes
        self.last_number = position
        self.recovered = self._read(position)

    # ------------------------------------------------------------------ reading

    def _read(self, position: int) -> Recovered:
        heard: list[tuple[int, Heard]] = []
        for path in sorted(self._folder.glob("journal-????????.bin")):
            self._index = int(path.stem.removeprefix("journal-"))
            records = list(read_segment(path))
            if not records:
                path.unlink()  # torn before its first record was whole
                continue
            try:
                spool_id, names = _opening(records[0])
            except _UNREADABLE as error:
                log.error("event=journal_unreadable file=%s error=%s", path, error)  # noqa: TRY400 - said in full
                self.unreadable += len(records)
                path.rename(path.with_suffix(".unreadable"))
                continue
            if spool_id != self._spool_id:
                log.warning("event=journal_of_other_spool file=%s records=%d", path, len(records))
                path.rename(path.with_suffix(".other"))
                continue
            for number, kind, payload in records[1:]:
                if kind is _Kind.HEARD:
                    self.last_number = max(self.last_number, number)
                try:
                    event = self._take(kind, payload, names)
                except _UNREADABLE as error:
                    self._put_aside(path, _record(number, kind, payload), error)
                    continue
                if event is not None and number > position:
                    heard.append((number, event))
            self._closed_segments.append((path, self.last_number, path.stat().st_size))
        newest_first = dict.fromkeys(reversed(self._seen))
        return Recovered(tuple(heard), self._session, tuple(newest_first)[::-1], self._last_counter_us)

    def _take(self, kind: _Kind, payload: bytes, names: list[str]) -> Heard | None:
        if kind is _Kind.SESSION:
            session, counter_us = _session(payload)
            self._remember_session(session)
            self._last_counter_us = max(self._last_counter_us, counter_us)
        elif kind is _Kind.SEEN:
            self._seen.extend(_fingerprints(payload))
        elif kind is _Kind.HEARD:
            event = self._translate(decode_heard(payload), names)
            if event.frames:
                frame = event.frames[-1].frame
                # Frames that cannot be dated are of no session that could go on.
                if frame.session.boot_id != UNKNOWN_BOOT:
                    self._remember_session(frame.session)
                    self._last_counter_us = frame.counter_us
            self._seen.extend(event.seen)
            return event
        return None

    def _put_aside(self, path: Path, record: bytes, error: Exception) -> None:
        """Keep a record that this version cannot read, as after a step back to an older one."""
        self.unreadable += 1
        kept = self._folder / "unreadable.bin"
        if self.unreadable == 1:
            log.error("event=journal_unreadable file=%s kept=%s error=%s", path, kept, error)
        if (kept.stat().st_size if kept.exists() else 0) + len(record) <= ASIDE_BYTES:
            with kept.open("ab") as file:
                file.write(record)

    def _remember_session(self, session: Session) -> None:
        if session != self._session:
            self._session = session
            self._last_counter_us = 0

    def _translate(self, heard: Heard, names: list[str]) -> Heard:
        """Put a record of an earlier configuration into the order of the present one."""
        if names == self._destinations:
            return heard
        places = {name: index for index, name in enumerate(names)}
        tallies = tuple(heard.tallies[places[name]] if name in places else Account() for name in self._destinations)
        frames = []
        for routed in heard.frames:
            route = sum(
                1 << index
                for index, name in enumerate(self._destinations)
                if name in places and routed.route >> places[name] & 1
            )
            if route:
                frames.append(RoutedFrame(routed.frame, route))
        elsewhere = tuple(
            (name, heard.tallies[place]) for name, place in places.items() if name not in self._destinations
        )
        return Heard(tuple(frames), tallies, heard.seen, heard.hour, elsewhere)

    # ------------------------------------------------------------------ writing

    @property
    def size_bytes(self) -> int:
        """Bytes of all segments."""
        return self._size + sum(size for _, _, size in self._closed_segments)

    @property
    def full(self) -> bool:
        """Whether nothing more should be appended before something is committed."""
        return self.size_bytes >= LIMIT_BYTES

    def append(self, heard: Heard, packed: Sequence[bytes]) -> int:
        """Write a record and return its number. One that cannot be written is counted in `failures`, not raised."""
        if self._descriptor is None:
            self._begin_segment()
        self.last_number += 1
        self._seen.extend(heard.seen)
        if heard.frames and heard.frames[-1].frame.session == self._session:
            self._last_counter_us = heard.frames[-1].frame.counter_us
        self._write(_record(self.last_number, _Kind.HEARD, encode_heard(heard, packed)))
        return self.last_number

    def begin_session(self, session: Session) -> None:
        """Note that the concentrator was started."""
        self._remember_session(session)
        if self._descriptor is None:
            self._begin_segment()
        self._write(_record(self.last_number, _Kind.SESSION, cbor2.dumps([session.boot_id, session.number])))

    def committed(self, number: int) -> None:
        """Drop segments that hold nothing above `number`."""
        if self._size >= SEGMENT_BYTES:
            self._end_segment()
        droppable = self._closed_segments and self._closed_segments[0][1] <= number
        if droppable and self._descriptor is None:
            self._begin_segment()  # it carries on session and fingerprints, which the old one alone knows
            if self._descriptor is None:
                return
        while self._closed_segments and self._closed_segments[0][1] <= number:
            path, _, _ = self._closed_segments.popleft()
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                self._failed(error)

    @property
    def vanished(self) -> bool:
        """Whether somebody has deleted the file that is being written."""
        return self._descriptor is not None and os.fstat(self._descriptor).st_nlink == 0

    def write_anew(self, entries: Iterable[tuple[int, Heard, Sequence[bytes]]]) -> None:
        """Begin again with an empty folder, and what is not committed: number, what was heard, canonical bytes."""
        log.warning("event=journal_vanished folder=%s", self._folder)
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._descriptor = None
        self._closed_segments.clear()
        self._begin_segment()
        for number, heard, packed in entries:
            self._write(_record(number, _Kind.HEARD, encode_heard(heard, packed)))

    def close(self) -> None:
        """Let go of the file; what it holds stays."""
        self._end_segment()

    def _begin_segment(self) -> None:
        self._index += 1
        path = self._path = self._folder / f"journal-{self._index:08d}.bin"
        self._size = 0
        opening = [
            _record(self.last_number, _Kind.OPEN, cbor2.dumps([self._spool_id, self._destinations])),
        ]
        if self._session is not None:
            session = [self._session.boot_id, self._session.number, self._last_counter_us]
            opening.append(_record(self.last_number, _Kind.SESSION, cbor2.dumps(session)))
            seen = b"".join(_FINGERPRINT.pack(*fingerprint) for fingerprint in self._seen)
            opening.append(_record(self.last_number, _Kind.SEEN, seen))
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o750)
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o640)
        except OSError as error:
            self._failed(error)
            return
        self._write(b"".join(opening))
        if self._size == 0:  # a segment without its opening would be thrown away
            os.close(self._descriptor)
            self._descriptor = None
            path.unlink(missing_ok=True)

    def _end_segment(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
            self._closed_segments.append((self._path, self.last_number, self._size))
            self._size = 0

    def _write(self, data: bytes) -> None:
        if self._descriptor is None:
            self.failures += 1
            return
        try:
            written = os.write(self._descriptor, data)
        except OSError as error:
            self._failed(error)
            written = 0
        if written == len(data):
            self._size += written
        else:
            if written:
                self._failed(OSError(errno.ENOSPC, f"wrote {written} of {len(data)} bytes"))
            # what was written of the record would hide those behind it
            os.ftruncate(self._descriptor, self._size)

    def _failed(self, error: OSError) -> None:
        self.failures += 1
        if self.failures == 1:
            log.error("event=journal_failed folder=%s error=%s", self._folder, error)


def encode_heard(heard: Heard, packed: Sequence[bytes]) -> bytes:
    """Return the payload of a record; `packed` are the canonical bytes of the frames."""
    sessions: dict[Session, int] = {}
    frames: list[int | bytes] = []
    for routed, data in zip(heard.frames, packed, strict=True):
        frames += (sessions.setdefault(routed.frame.session, len(sessions)), routed.route, data)
    return cbor2.dumps(
        [
            [[session.boot_id, session.number] for session in sessions],
            frames,
            [[getattr(tally, name) for name in BUCKETS] for tally in heard.tallies],
            b"".join([_FINGERPRINT.pack(*fingerprint) for fingerprint in heard.seen]),
            list(heard.hour),
        ]
    )


def decode_heard(payload: bytes) -> Heard:
    """Return what `encode_heard` wrote.

    Raises:
        ValueError: it did not write this.
    """
    try:
        sessions, frames, tallies, seen, *later = cbor2.loads(payload)
        known = [Session(boot_id, number) for boot_id, number in sessions]
        return Heard(
            tuple(
                RoutedFrame(row.unpack(frames[i + 2], known[frames[i]]), frames[i + 1])
                for i in range(0, len(frames), 3)
            ),
            tuple(Account(*counts) for counts in tallies),
            tuple(_fingerprints(seen)),
            Hour(*later[0]) if later else UNKNOWN_HOUR,
        )
    except (LookupError, TypeError) as error:
        raise ValueError(f"record of the journal is not what was heard: {error}") from error


def read_segment(path: Path) -> Iterator[tuple[int, _Kind, bytes]]:
    """Yield number, kind and payload of the whole records of a segment, up to the first that is not."""
    data = path.read_bytes()
    position = 0
    while position + _HEAD.size <= len(data):
        length, crc, number, kind = _HEAD.unpack_from(data, position)
        end = position + _HEAD.size + length
        if end > len(data) or zlib.crc32(data[position + _CRC_FROM : end]) != crc:
            return
        if kind in _KINDS:  # a newer version may write more
            yield number, _Kind(kind), data[position + _HEAD.size : end]
        position = end


def _record(number: int, kind: _Kind, payload: bytes) -> bytes:
    head = _HEAD.pack(len(payload), 0, number, kind)
    crc = zlib.crc32(payload, zlib.crc32(head[_CRC_FROM:]))
    return _HEAD.pack(len(payload), crc, number, kind) + payload


def _opening(record: tuple[int, _Kind, bytes]) -> tuple[bytes, list[str]]:
    _, kind, payload = record
    if kind is not _Kind.OPEN:
        return b"", []
    spool_id, names = cbor2.loads(payload)
    return spool_id, names


def _session(payload: bytes) -> tuple[Session, int]:
    boot_id, number, *counter_us = cbor2.loads(payload)
    return Session(boot_id, number), counter_us[0] if counter_us else 0


def _fingerprints(data: bytes) -> Iterable[Fingerprint]:
    return (Fingerprint(*fields) for fields in _FINGERPRINT.iter_unpack(data))
