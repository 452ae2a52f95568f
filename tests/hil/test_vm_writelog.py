# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Disks as a lying cache leaves them: what was flushed is there, of the rest whatever chance kept."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hil_tests.vm.writelog import MAGIC, WriteLog

SECTOR = 512
SECTORS = 16
FLUSH, FUA = 1, 2

ENTRIES = st.lists(
    st.one_of(
        st.just(None),
        st.tuples(st.integers(0, SECTORS - 1), st.binary(min_size=1, max_size=1), st.booleans()),
    ),
    max_size=30,
)


def record(path: Path, entries: list[tuple[int, bytes, bool] | None]) -> None:
    """Write a log as QEMU does: None is a flush, else sector, content and whether it is forced to the medium."""
    data = struct.pack("<QQQI", MAGIC, 1, len(entries), SECTOR).ljust(SECTOR, b"\0")
    for entry in entries:
        if entry is None:
            data += struct.pack("<QQQQ", 0, 0, FLUSH, 0).ljust(SECTOR, b"\0")
        else:
            sector, byte, forced = entry
            data += struct.pack("<QQQQ", sector, 1, FUA if forced else 0, 0).ljust(SECTOR, b"\0") + byte * SECTOR
    path.write_bytes(data)


def disk_of(entries: list[tuple[int, bytes, bool]]) -> bytes:
    disk = bytearray(SECTOR * SECTORS)
    for sector, byte, _ in entries:
        disk[sector * SECTOR : (sector + 1) * SECTOR] = byte * SECTOR
    return bytes(disk)


@settings(max_examples=60, deadline=None)
@given(entries=ENTRIES, seed=st.integers(0, 1000), drop=st.sampled_from([0.0, 0.5, 1.0]))
def test_what_was_flushed_is_there(
    tmp_path_factory: pytest.TempPathFactory,
    entries: list[tuple[int, bytes, bool] | None],
    seed: int,
    drop: float,
) -> None:
    folder = tmp_path_factory.mktemp("log")
    log, before, after = folder / "log", folder / "before", folder / "after"
    record(log, entries)
    before.write_bytes(bytes(SECTOR * SECTORS))
    writes = WriteLog(log)
    assert len(writes.entries) == len(entries)
    assert writes.flushes == entries.count(None)
    lost = writes.replay(before, len(entries), drop, random.Random(seed), after)
    last = max((number for number, entry in enumerate(entries) if entry is None), default=-1)
    safe = [entry for number, entry in enumerate(entries) if entry is not None and (number < last or entry[2])]
    late = [entry for number, entry in enumerate(entries) if entry is not None and number > last and not entry[2]]
    assert lost <= len(late)
    if drop == 1.0:
        assert lost == len(late)
        assert after.read_bytes() == disk_of(safe)
    if drop == 0.0:
        assert lost == 0
        assert after.read_bytes() == disk_of([entry for entry in entries if entry is not None])


def test_a_log_that_ends_in_the_midst_of_a_write_is_read_up_to_there(tmp_path: Path) -> None:
    log = tmp_path / "log"
    record(log, [(1, b"a", False), None, (2, b"b", False)])
    log.write_bytes(log.read_bytes()[:-100])
    assert [entry.flush for entry in WriteLog(log).entries] == [False, True]


def test_another_file_is_none(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(bytes(SECTOR))
    with pytest.raises(ValueError, match="no log of writes"):
        WriteLog(tmp_path / "log")
