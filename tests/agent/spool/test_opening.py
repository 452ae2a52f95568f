# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What cannot be opened says so in one line, and is left as it was."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.errors import SpoolError
from agent.spool import store
from agent.spool.reader import SpoolReader
from agent.spool.state import sums
from tests.agent.spool.gateway import frame, heard, writer

NOBODY = 65534


def refusal(folder: Path) -> SpoolError:
    with pytest.raises(SpoolError) as caught:
        writer(folder)
    error = caught.value
    for text in (str(error), error.hint):
        assert "\n" not in text
        assert text
    return error


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    """A folder with a spool that has some frames."""
    with writer(tmp_path) as made:
        made.offer(heard([frame(index) for index in range(25)]))
        made.flush()
    return tmp_path


def test_durability_is_what_it_has_to_be(tmp_path: Path) -> None:
    connection = store.open_writer(tmp_path / "spool.db", 8 << 20)
    values = {
        name: connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("journal_mode", "synchronous", "page_size", "max_page_count", "application_id", "user_version")
    }
    connection.close()
    assert values == {
        "journal_mode": "wal",
        "synchronous": 2,
        "page_size": 1024,
        "max_page_count": 8 << 10,
        "application_id": store.APPLICATION_ID,
        "user_version": 1 << 16 | 1,
    }


def test_newer_version_is_refused_and_untouched(spool: Path) -> None:
    with sqlite3.connect(spool / "spool.db") as connection:
        connection.execute(f"PRAGMA user_version = {99 << 16 | 99}")
    connection.close()
    before = (spool / "spool.db").read_bytes()
    error = refusal(spool)
    assert error.code == "CG-SPL-003"
    assert "version 99" in str(error)
    assert (spool / "spool.db").read_bytes() == before
    with pytest.raises(SpoolError, match="version 99"):
        SpoolReader(spool / "spool.db")


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "spool.db").write_bytes(b"not a database at all, but long enough to look at" * 50)
    assert refusal(tmp_path).code == "CG-SPL-004"


def test_a_database_of_another_program_is_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "spool.db") as connection:
        connection.execute("CREATE TABLE photo (id INTEGER PRIMARY KEY)")
    connection.close()
    assert refusal(tmp_path).code == "CG-SPL-002"


@pytest.mark.parametrize("page", [0, 1, 5])
def test_damage_is_named_and_what_can_be_read_goes_on(spool: Path, page: int) -> None:
    path = spool / "spool.db"
    data = bytearray(path.read_bytes())
    data[page * 1024 + 100 * (page == 0) : (page + 1) * 1024] = b"\xa5" * (1024 - 100 * (page == 0))
    path.write_bytes(data)
    with pytest.raises(SpoolError, match="damaged") as caught, SpoolReader(path) as reader:
        reader.check()
    assert caught.value.code == "CG-SPL-004"
    with writer(spool) as again:
        assert again.salvaged is not None
        assert again.salvaged.aside.read_bytes() == bytes(data)
        with again.reader() as reader:
            assert sums(reader.state()) == []


def test_two_agents_cannot_write_one_spool(tmp_path: Path) -> None:
    with writer(tmp_path):
        error = refusal(tmp_path)
        assert error.code == "CG-SPL-005"
        assert str(os.getpid()) in str(error)
    writer(tmp_path).stop()


def test_missing_folder_is_named(tmp_path: Path) -> None:
    error = refusal(tmp_path / "nowhere")
    assert error.code == "CG-SPL-007"
    assert "nowhere" in str(error)


def test_another_gateways_spool_is_not_continued(spool: Path) -> None:
    with pytest.raises(SpoolError, match="0016c001f1500812") as caught:
        writer(spool, gateway_eui=bytes(8))
    assert caught.value.code == "CG-SPL-013"


def test_reader_wants_a_spool(tmp_path: Path) -> None:
    with pytest.raises(SpoolError, match="no spool there"):
        SpoolReader(tmp_path / "spool.db")


@pytest.fixture
def read_only(spool: Path) -> Iterator[Path]:
    spool.chmod(0o555)
    (spool / "spool.db").chmod(0o444)
    yield spool
    spool.chmod(0o755)


def test_a_read_only_folder_is_named(read_only: Path) -> None:
    """In a child that is nobody, since root may write everywhere."""
    program = (
        "import os, sys; from pathlib import Path\n"
        "from tests.agent.spool.gateway import writer; from agent.errors import SpoolError\n"
        f"os.getuid() or (os.setgroups([]), os.setgid({NOBODY}), os.setuid({NOBODY}))\n"
        "try: writer(Path(sys.argv[1]))\n"
        "except SpoolError as error: print(error.code, error, error.hint)\n"
    )
    for folder in [read_only, *read_only.parents]:
        if folder.stat().st_uid == os.getuid() and not folder.stat().st_mode & 1:
            folder.chmod(folder.stat().st_mode | 0o055)
    done = subprocess.run(
        [sys.executable, "-c", program, str(read_only)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.startswith("CG-SPL-007"), done.stdout + done.stderr
    assert done.stdout.count("\n") == 1


def test_an_interrupted_creation_is_completed(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "spool.db")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.close()
    writer(tmp_path).stop()
    with SpoolReader(tmp_path / "spool.db") as reader:
        assert reader.status().frames == 0
