# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The journal: what was offered survives the process, once."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from agent.batch.model import Account
from agent.frame import Session
from agent.spool import journal as journals
from agent.spool import row
from agent.spool.intake import Fingerprint, Heard, fingerprint
from agent.spool.journal import KEPT_FINGERPRINTS, Journal
from tests.agent.spool.gateway import BOOT, CITY, SESSION, WATER, Platform, frame, heard, wait_for, writer

SPOOL = bytes(16)


def open_journal(folder: Path, position: int = 0, names: tuple[str, ...] = ("city",)) -> Journal:
    return Journal(folder, SPOOL, names, position)


def append(journal: Journal, *looks: Heard) -> list[int]:
    return [journal.append(one, [row.pack(routed.frame) for routed in one.frames]) for one in looks]


def test_records_above_the_position_come_back(tmp_path: Path) -> None:
    looks = [heard([frame(index)], foreign=index) for index in range(5)]
    journal = open_journal(tmp_path)
    assert append(journal, *looks) == [1, 2, 3, 4, 5]
    journal.close()
    assert open_journal(tmp_path, 2).recovered.heard == ((3, looks[2]), (4, looks[3]), (5, looks[4]))
    again = open_journal(tmp_path, 5)
    assert again.recovered.heard == ()
    assert append(again, looks[0]) == [6]


def test_a_tail_torn_at_any_byte_costs_only_its_record(tmp_path: Path) -> None:
    looks = [heard([frame(index, size=12)]) for index in range(3)]
    journal = open_journal(tmp_path / "whole")
    ends = []
    for look in looks:
        append(journal, look)
        ends.append(journal.size_bytes)
    journal.close()
    (segment,) = (tmp_path / "whole").iterdir()
    data = segment.read_bytes()
    for cut in range(len(data) + 1):
        folder = tmp_path / "torn"
        folder.mkdir()
        (folder / segment.name).write_bytes(data[:cut])
        whole = sum(cut >= end for end in ends)
        torn = open_journal(folder)
        assert [one for _, one in torn.recovered.heard] == looks[:whole], cut
        assert append(torn, looks[0]) == [whole + 1]
        torn.close()
        assert len(open_journal(folder).recovered.heard) == whole + 1
        shutil.rmtree(folder)


def test_a_damaged_record_is_not_replayed(tmp_path: Path) -> None:
    looks = [heard([frame(index, size=12)]) for index in range(3)]
    journal = open_journal(tmp_path)
    append(journal, *looks)
    journal.close()
    (segment,) = tmp_path.iterdir()
    data = segment.read_bytes()
    for position in range(0, len(data), 7):
        segment.write_bytes(data[:position] + bytes([data[position] ^ 0x10]) + data[position + 1 :])
        got = [one for _, one in open_journal(tmp_path).recovered.heard]
        assert got == looks[: len(got)]
        for path in tmp_path.iterdir():
            path.unlink()


def test_committed_segments_go_and_the_size_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journals, "SEGMENT_BYTES", 2000)
    monkeypatch.setattr(journals, "LIMIT_BYTES", 10_000)
    journal = open_journal(tmp_path)
    for index in range(200):
        (number,) = append(journal, heard([frame(index)]))
        journal.committed(number - 3)
        assert journal.size_bytes < 10_000
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) == journal.size_bytes
    while not journal.full:
        append(journal, heard([frame(0)]))
    journal.committed(journal.last_number)
    assert not journal.full


def test_fingerprints_of_the_last_session_outlive_segments_and_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journals, "SEGMENT_BYTES", 500)
    journal = open_journal(tmp_path)
    journal.begin_session(Session(BOOT, 1))
    append(journal, heard([frame(99)]))
    journal.begin_session(Session(BOOT, 2))
    frames = [frame(index, Session(BOOT, 2)) for index in range(20)]
    for one in frames:
        journal.committed(append(journal, heard([one]))[0])
    journal.close()
    for _ in range(2):  # a process that hears nothing must not forget
        again = open_journal(tmp_path, 21)
        assert again.recovered.session == Session(BOOT, 2)
        assert again.recovered.seen[-20:] == tuple(fingerprint(one.counter_us, one.phy_payload) for one in frames)
        assert again.recovered.last_counter_us == frames[-1].counter_us
        again.close()


def test_the_newest_fingerprints_survive_any_number_of_lives(tmp_path: Path) -> None:
    """Also those of the session before: a life that is killed while it starts the chip has none of its own."""
    journal = open_journal(tmp_path)
    newest: list[Fingerprint] = []
    for life in range(60):
        journal.begin_session(Session(BOOT, life + 1))
        look = heard([frame(index) for index in range(20 * life, 20 * life + 20)])
        journal.committed(append(journal, look)[0])
        newest += look.seen
        journal.begin_session(Session(BOOT, 1000 + life))  # killed right behind this
        journal.close()
        journal = open_journal(tmp_path, journal.last_number)
        assert journal.recovered.seen == tuple(newest[-KEPT_FINGERPRINTS:])


def test_a_record_that_cannot_be_read_is_kept_aside_and_the_others_come(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    append(journal, heard([frame(0)]))
    journal.last_number += 1
    journal._write(journals._record(journal.last_number, journals._Kind.HEARD, b"\x81\x00"))  # of a later version
    append(journal, heard([frame(2)]))
    journal.close()
    again = open_journal(tmp_path)
    assert [number for number, _ in again.recovered.heard] == [1, 3]
    assert again.unreadable == 1
    assert b"\x81\x00" in (tmp_path / "unreadable.bin").read_bytes()
    again.close()


def test_a_journal_deleted_under_a_running_agent_is_written_anew(tmp_path: Path) -> None:
    with writer(tmp_path, commit_window_s=0.0) as spool:
        spool.offer(heard([frame(0)]))
        wait_for(lambda: spool.status().queued_frames == 0)
        shutil.rmtree(tmp_path / "journal")
        spool.offer(heard([frame(1)]))
        wait_for(lambda: spool.status().queued_frames == 0)
        wait_for(lambda: any((tmp_path / "journal").glob("journal-*.bin")))
        assert spool.status().journal_failures == 0


def test_frames_for_a_destination_that_is_gone_are_counted(tmp_path: Path) -> None:
    spool = writer(tmp_path, (CITY, WATER))
    spool.offer(heard([frame(0), frame(1)], [1, 3], destinations=2))  # the thread never ran: only the journal has it
    spool._pending.journal.close()
    spool._abandon()
    with writer(tmp_path, (CITY,)) as again, again.reader() as reader:
        assert again.flush()
        city, water = reader.status().streams
        assert (city.account.spooled, city.unsealed + city.sealed) == (2, 2)
        assert water.account == Account(heard=2, filtered=1, spooled=1, evicted=1)
        assert reader.check() == []


def test_records_of_another_configuration_are_translated(tmp_path: Path) -> None:
    journal = open_journal(tmp_path, names=("city", "water"))
    look = heard([frame(0), frame(1), frame(2)], [1, 2, 3], destinations=2)
    append(journal, look)
    journal.close()
    ((_, swapped),) = open_journal(tmp_path, names=("water", "city")).recovered.heard
    assert [routed.route for routed in swapped.frames] == [2, 1, 3]
    ((_, less),) = open_journal(tmp_path, names=("water",)).recovered.heard
    assert [(routed.frame, routed.route) for routed in less.frames] == [(frame(1), 1), (frame(2), 1)]
    assert less.tallies == (Account(heard=3, filtered=1, spooled=2),)


def test_a_journal_of_another_spool_is_set_aside(tmp_path: Path) -> None:
    other = Journal(tmp_path, b"1" * 16, ("city",), 0)
    append(other, heard([frame(0)]))
    other.close()
    assert open_journal(tmp_path).recovered.heard == ()
    assert [path.suffix for path in tmp_path.iterdir()] == [".other"]


def test_a_folder_that_refuses_costs_durability_not_frames(tmp_path: Path) -> None:
    with writer(tmp_path) as spool:
        shutil.rmtree(tmp_path / "journal")
        (tmp_path / "journal").write_bytes(
            b""
        )  # a file where the folder was: nothing can be created there, root or not
        spool.begin_session(BOOT)
        assert spool.offer(heard([frame(0)]))
        assert spool.flush()
        assert spool.status().journal_failures > 0
        with spool.reader() as reader:
            assert Platform().collect(reader)[0].body.frames == (frame(0),)


def test_what_a_writer_left_uncommitted_is_taken_over_once(tmp_path: Path) -> None:
    frames = [frame(index) for index in range(7)]
    left = writer(tmp_path, (CITY, WATER), commit_window_s=3600.0)  # never started: nothing reaches the disk
    left.offer(heard(frames[:4], [1, 2, 3, 1], destinations=2))
    left.offer(heard(frames[4:], [3, 3, 3], destinations=2))
    left._abandon()
    for _ in range(2):
        with writer(tmp_path, (CITY, WATER)) as spool:
            assert spool.flush()
    with spool.reader() as reader:
        assert [stored.frame for stored in reader.frames()] == frames
        assert Platform().collect(reader, "city")[0].body.account.spooled == 6
    assert spool.recovered.heard == ()


def test_session_numbers_are_never_used_twice(tmp_path: Path) -> None:
    numbers = []
    for life in range(4):
        spool = writer(tmp_path, commit_window_s=3600.0)
        numbers.append(spool.begin_session(BOOT).number)
        numbers.append(spool.begin_session(BOOT).number)
        assert spool.recovered.session == (SESSION if life == -1 else None if life == 0 else Session(BOOT, numbers[-3]))
        spool._abandon()
    assert numbers == list(range(1, 9))
