# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Every write and flush of a disk, recorded by QEMU's `blklogwrites`, and the disk as a lying cache would leave it.

The format is that of the kernel's dm-log-writes: a superblock, then per entry one sector with sector, count, flags and
length, and its data [Documentation/admin-guide/device-mapper/log-writes.rst].
"""

from __future__ import annotations

import random
import struct
from dataclasses import dataclass
from pathlib import Path

from hil_tests.vm.disks import copy_sparse

MAGIC = 0x6A736677736872
_SUPER = struct.Struct("<QQQI")
_ENTRY = struct.Struct("<QQQQ")
_FLUSH, _FUA, _DISCARD, _MARK = 1, 2, 4, 8


@dataclass(frozen=True, slots=True)
class Entry:
    """One write, discard or flush.

    Attributes:
        sector: where on the disk, in sectors of the log.
        sectors: how many; 0 for a flush alone.
        flush: what was written before is on the medium.
        forced: this write goes to the medium at once.
        discard: it has no data.
        offset: of its data in the log.
        end: of it in the log.
    """

    sector: int
    sectors: int
    flush: bool
    forced: bool
    discard: bool
    offset: int
    end: int


class WriteLog:
    """A log, read at the end of a recording.

    Args:
        path: of the log.

    Raises:
        ValueError: it is none.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.entries: list[Entry] = []
        size = path.stat().st_size
        with path.open("rb") as log:
            magic, version, _, self.sector_bytes = _SUPER.unpack(log.read(_SUPER.size))
            if (magic, version) != (MAGIC, 1):
                raise ValueError(f"{path}: no log of writes: magic {magic:#x}, version {version}")
            at = self.sector_bytes
            while at + _ENTRY.size <= size:
                log.seek(at)
                sector, sectors, flags, _ = _ENTRY.unpack(log.read(_ENTRY.size))
                if not (sector or sectors or flags):
                    break
                data = at + self.sector_bytes
                at = data + (0 if flags & _DISCARD else sectors * self.sector_bytes)
                if at > size:
                    break
                entry = Entry(
                    sector, sectors, bool(flags & _FLUSH), bool(flags & _FUA), bool(flags & _DISCARD), data, at
                )
                self.entries.append(entry)

    @property
    def flushes(self) -> int:
        """How often the guest asked for the cache to be written."""
        return sum(entry.flush for entry in self.entries)

    def replay(self, before: Path, upto: int, drop: float, rng: random.Random, target: Path) -> int:
        """Make the disk as a power cut after the first `upto` entries leaves it; return how many writes it lost.

        Args:
            before: the disk when the recording began.
            upto: entries that the disk was given.
            drop: chance of a write after the last flush to be lost; each by itself, so that their order does not hold.
            rng: chance.
            target: the disk that is made.
        """
        copy_sparse(before, target)
        given = self.entries[:upto]
        kept_to = max((number for number, entry in enumerate(given) if entry.flush), default=-1)
        lost = 0
        with self._path.open("rb") as log, target.open("r+b") as disk:
            for number, entry in enumerate(given):
                if entry.sectors == 0 or entry.discard:
                    continue
                if number > kept_to and not entry.forced and rng.random() < drop:
                    lost += 1
                    continue
                log.seek(entry.offset)
                disk.seek(entry.sector * self.sector_bytes)
                disk.write(log.read(entry.sectors * self.sector_bytes))
        return lost
