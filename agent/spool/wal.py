# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The write-ahead log beside the database file, read without SQLite, and put right before SQLite sees it.

SQLite ends its reading at the first frame that does not fit its checksum and writes over what follows. After a power
cut that is right: such a frame was never confirmed. But a bit that flips in the log of a process that was killed takes
all commits behind it along. The checksum of each frame goes on from that of the frame before it, so every frame can be
checked by itself; and being linear it tells which single bit has flipped, of most bits. [SQLite database file format,
4 WAL format]

What cannot be told from a torn write is the very last commit in the log with more than one bit changed: it counts as
torn.
"""

from __future__ import annotations

import logging
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final, TypeAlias

from agent.spool import aside
from agent.spool.store import PAGE_BYTES

log = logging.getLogger(__name__)

_HEAD = struct.Struct(">IIIIIIII")
_FRAME = struct.Struct(">IIIIII")
FRAME_BYTES: Final = _FRAME.size + PAGE_BYTES
_MAGIC: Final = 0x377F0682
"""With the lowest bit set the checksums are over big-endian words."""
_VERSION: Final = 3_007_000
_MASK: Final = 0xFFFFFFFF
_SUMMED_BYTES: Final = 24
"""Of the header, before its checksum."""
_SUMMED_FRAME: Final = 8
"""Of a frame's header: page number and size of the database."""
_MOST_PAGES: Final = 1 << 26
"""64 GB: no spool is that large."""

Sum: TypeAlias = "tuple[int, int]"


class Finding(Enum):
    """How a log is."""

    SOUND = "sound"
    """Or empty, or torn at its end as a power cut does."""
    MENDED = "mended"
    """Single bits were put right: it is what it was."""
    BROKEN = "broken"
    """Commits of which pages are missing; what is left of them can be read, the database is damaged."""


@dataclass(slots=True)
class _Frame:
    offset: int
    sound: bool
    commit: bool
    patches: list[tuple[int, bytes]]
    """Bytes to write where a bit has flipped: (offset in the file, right bytes)."""
    flipped: bool
    """Whether one bit of it has flipped, but nobody knows which. It is left out when that may be its page number."""


def log_of(path: Path) -> Path:
    """Return where the log of a database lies."""
    return path.with_name(path.name + "-wal")


def committed(path: Path) -> dict[int, int]:
    """Return the pages in the log of a database as SQLite would read them: (page number: offset of its image)."""
    place = log_of(path)
    found: dict[int, int] = {}
    if not place.exists():
        return found
    with place.open("rb") as file:
        fresh: dict[int, int] = {}
        head = _header(file.read(_HEAD.size))
        if head is None or head[1]:
            return found
        salts, running, order = _start(head[0])
        while len(data := file.read(FRAME_BYTES)) == FRAME_BYTES:
            number, size, *found_salts, first, second = _FRAME.unpack_from(data)
            running = _frame_sum(data, running, order)
            if tuple(found_salts) != salts or running != (first, second):
                break
            fresh[number] = file.tell() - PAGE_BYTES
            if size:
                found.update(fresh)
                fresh.clear()
    return found


def mend(path: Path) -> tuple[Finding, list[bytes]]:
    """Put the log of a database right where bits have flipped. The caller holds the lock, and nobody has it open.

    Where pages of commits are lost, what is left of them is made readable, and the log as it was is kept beside it.

    Returns:
        What was found, and the images of pages that are left out because nothing vouches for them.

    Raises:
        OSError: it cannot be read or written.
    """
    place = log_of(path)
    if not place.exists() or place.stat().st_size < _HEAD.size + FRAME_BYTES:
        return Finding.SOUND, []
    with place.open("r+b") as file:
        header = _header(file.read(_HEAD.size))
        if header is None:
            header = _invented(place)
            if header is None:
                return Finding.SOUND, []  # never begun, or nothing is left of it
        head, patches = header
        salts, running, order = _start(head)
        frames = list(_examined(place, salts, running, order))
        last = _newest_commit(frames)
        wrong = [index for index in range(last + 1) if not frames[index].sound]
        if wrong and not _certain(frames, wrong[0]):
            log.warning("event=spool_log_torn file=%s frames=%d", place, last + 1 - wrong[0])
            last, wrong = _newest_commit(frames[: wrong[0]]), []
        patches += [patch for frame in frames[: last + 1] for patch in frame.patches]
        resealed = any(frame.flipped for frame in frames[: last + 1])
        if last < 0 or not (patches or wrong or resealed):
            return Finding.SOUND, []
        if not wrong and not resealed:
            for offset, data in patches:
                file.seek(offset)
                file.write(data)
            file.flush()
            os.fsync(file.fileno())
            log.warning("event=spool_log_mended file=%s places=%d", place, len(patches))
            return Finding.MENDED, []
    left_out = [_image(place, frames[index]) for index in wrong]
    _seal_anew(place, head, [frame for frame in frames[: last + 1] if frame.sound])
    if not wrong:
        log.warning("event=spool_log_mended file=%s places=%d", place, len(patches) + 1)
        return Finding.MENDED, []
    log.error("event=spool_log_broken file=%s frames=%d of=%d", place, len(wrong), last + 1)
    return Finding.BROKEN, left_out


def _header(data: bytes) -> tuple[bytes, list[tuple[int, bytes]]] | None:
    """Return the header of a log, and what has to be written for it to be right; None when it cannot be told."""
    if len(data) < _HEAD.size:
        return None
    for right in (data, *_flipped(data)):
        magic, version, page_bytes, *_, first, second = _HEAD.unpack(right)
        if (magic & ~1, version, page_bytes) == (_MAGIC, _VERSION, PAGE_BYTES) and _sum(
            right[:_SUMMED_BYTES], (0, 0), _order(right)
        ) == (first, second):
            return right, [] if right == data else [(0, right)]
    return None


def _flipped(data: bytes) -> Iterator[bytes]:
    for bit in range(len(data) * 8):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        yield bytes(changed)


def _invented(place: Path) -> tuple[bytes, list[tuple[int, bytes]]] | None:
    """Make a header for a log that has lost its own: the salts of its first frames, which most likely are the last."""
    with place.open("rb") as file:
        if not any(file.read(_HEAD.size)):
            return None  # a header of zeros: that of a log that was never begun
        for _ in range(3):
            one, two = file.read(FRAME_BYTES)[8:16], file.read(FRAME_BYTES)[8:16]
            if one == two and len(one) == 8:
                start = struct.pack(">IIII", _MAGIC, _VERSION, PAGE_BYTES, 0) + one
                head = start + struct.pack(">II", *_sum(start, (0, 0), "<"))
                return head, [(0, head)]
    return None


def _order(head: bytes) -> str:
    return ">" if head[3] & 1 else "<"


def _start(head: bytes) -> tuple[Sum, Sum, str]:
    """Return salts, first checksum and byte order."""
    *_, salt, other, first, second = _HEAD.unpack(head)
    return (salt, other), (first, second), _order(head)


def _image(place: Path, frame: _Frame) -> bytes:
    with place.open("rb") as file:
        file.seek(frame.offset + _FRAME.size)
        return file.read(PAGE_BYTES)


def _newest_commit(frames: list[_Frame]) -> int:
    return max(
        (index for index, frame in enumerate(frames) if frame.commit and (frame.sound or frame.flipped)), default=-1
    )


def _examined(place: Path, salts: Sum, running: Sum, order: str) -> Iterator[_Frame]:
    """Look at every frame of the newest generation, also behind one that is broken."""
    with place.open("rb") as file:
        file.seek(_HEAD.size)
        following = file.read(FRAME_BYTES)
        offset = _HEAD.size
        before = True
        while len(following) == FRAME_BYTES:
            data, following = following, file.read(FRAME_BYTES)
            found = _FRAME.unpack_from(data)
            said = (found[4], found[5])
            near = (found[2] ^ salts[0]).bit_count() + (found[3] ^ salts[1]).bit_count()
            summed = _frame_sum(data, running, order)
            patches: list[tuple[int, bytes]] = []
            flipped = False
            sound = summed == said and near <= 1
            if sound and near:
                patches = [(offset + _SUMMED_FRAME, struct.pack(">II", *salts))]
            elif not sound and near == 0:
                bits = list(_flipped_bits(data, summed, said, order))
                in_header = [bit for bit in bits if bit < _SUMMED_FRAME * 8]
                if in_header and any(number > _MOST_PAGES for number in found[:2]):
                    bits = in_header
                if _one_bit(summed, said) and (not bits or _goes_on(following, summed, order)):
                    said = summed  # the checksum itself: the frame behind it goes on from the right one
                    patches, sound = [(offset + _FRAME.size - 8, struct.pack(">II", *said))], True
                elif len(bits) == 1:
                    at = bits[0] // 8 if bits[0] < _SUMMED_FRAME * 8 else bits[0] // 8 + _FRAME.size - _SUMMED_FRAME
                    right = bytearray(data)
                    right[at] ^= 1 << bits[0] % 8
                    data = bytes(right)
                    patches, sound = [(offset + at, data[at : at + 1])], True
                elif bits:
                    # What is in the page has checksums of its own.
                    flipped, sound = True, not in_header
                else:
                    # nobody can go on from the checksum of a frame that is lost: the salts alone speak for this one
                    sound = not before
            yield _Frame(offset, sound, bool(_FRAME.unpack_from(data)[1]) and near <= 1, patches, flipped)
            running, before = said, sound
            offset += FRAME_BYTES


def _goes_on(following: bytes, said: Sum, order: str) -> bool:
    """Say whether a frame goes on from a checksum."""
    return len(following) == FRAME_BYTES and _frame_sum(following, said, order) == _FRAME.unpack_from(following)[4:]


def _one_bit(one: Sum, other: Sum) -> bool:
    return sum((a ^ b).bit_count() for a, b in zip(one, other, strict=True)) == 1


def _certain(frames: list[_Frame], first: int) -> bool:
    """Say whether a frame was once committed: commits follow each other only when they are on the disk.

    And no write that was torn differs by a single bit.
    """
    if frames[first].flipped:
        return True
    ends = [index for index in range(first, len(frames)) if frames[index].commit]
    return bool(ends) and any(frame.sound for frame in frames[ends[0] + 1 :])


def _seal_anew(place: Path, head: bytes, frames: list[_Frame]) -> None:
    """Write a log of these frames alone in the place of the one there is, which is kept."""
    salts, running, order = _start(head)
    draft = place.with_name(place.name + ".part")
    with place.open("rb") as old, draft.open("wb") as new:
        new.write(head)
        pages = 0
        for frame in frames:
            old.seek(frame.offset)
            data = bytearray(old.read(FRAME_BYTES))
            number, size = struct.unpack_from(">II", data)
            pages = max(size or pages, number)
            if frame is frames[-1]:
                data[4:8] = pages.to_bytes(4, "big")  # the end of a commit, also where that was left out
            for offset, patch in frame.patches:
                data[offset - frame.offset : offset - frame.offset + len(patch)] = patch
            data[8:16] = struct.pack(">II", *salts)
            running = _frame_sum(bytes(data), running, order)
            data[16:24] = struct.pack(">II", *running)
            new.write(data)
        new.flush()
        os.fsync(new.fileno())
    place.rename(aside.name_for(place))
    draft.rename(place)


def _frame_sum(data: bytes, running: Sum, order: str) -> Sum:
    return _sum(data[_FRAME.size :], _sum(data[:_SUMMED_FRAME], running, order), order)


def _sum(data: bytes, running: Sum, order: str) -> Sum:
    first, second = running
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    for one, other in zip(words[::2], words[1::2], strict=True):
        first = first + one + second & _MASK
        second = second + other + first & _MASK
    return first, second


def _flipped_bits(data: bytes, summed: Sum, said: Sum, order: str) -> Iterator[int]:
    """Yield the bits of what is summed up, by one of which it can differ from its checksum; none: it is not one bit.

    Of the high bits of the words several have the same effect on a sum of 32 bits.
    """
    wanted = (said[0] - summed[0] & _MASK, said[1] - summed[1] & _MASK)
    summed_bytes = data[:_SUMMED_FRAME] + data[_FRAME.size :]
    effects = [(1, 1), (0, 1)]  # of the last pair of words; of one before it, a step of the sum further
    for pair in range(len(summed_bytes) // 8 - 1, -1, -1):
        for index, (first, second) in enumerate(effects):
            at = pair * 8 + index * 4
            word = int.from_bytes(summed_bytes[at : at + 4], "big" if order == ">" else "little")
            for bit in range(32):
                sign = -1 if word >> bit & 1 else 1
                if (sign * first << bit) & _MASK == wanted[0] and (sign * second << bit) & _MASK == wanted[1]:
                    byte = at + (3 - bit // 8 if order == ">" else bit // 8)
                    yield byte * 8 + bit % 8
        effects = [(a + b & _MASK, a + 2 * b & _MASK) for a, b in effects]
