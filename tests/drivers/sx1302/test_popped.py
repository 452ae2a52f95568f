# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What a process had in its hands outlives it, whatever the file was before."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.sx1302.popped import LIMIT_BYTES, Popped


def test_it_outlives_a_process_that_is_killed(tmp_path: Path) -> None:
    code = """
import os, pathlib, signal, sys
from drivers.sx1302.popped import Popped
popped = Popped(pathlib.Path(sys.argv[1]))
popped.add(b"kept long ago")
popped.only(b"begun")
popped.add(b" and ended")
os.kill(os.getpid(), signal.SIGKILL)
"""
    path = tmp_path / "run" / "popped"
    assert subprocess.run([sys.executable, "-c", code, str(path)], timeout=60).returncode == -signal.SIGKILL
    assert Popped(path).data == b"begun and ended"


@given(st.lists(st.tuples(st.booleans(), st.binary(max_size=50))))
def test_the_next_process_reads_what_this_one_has(steps: list[tuple[bool, bytes]]) -> None:
    descriptor = os.memfd_create("popped")
    path = Path(f"/proc/self/fd/{descriptor}")
    try:
        popped = Popped(path)
        for fresh, data in steps:
            popped.only(data) if fresh else popped.add(data)
            assert Popped(path).data == popped.data
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("content", [b"", b"SX", b"other\0\0\0\0\0\0", b"SXF1\xff\xff\xff\xff", b"SXF1\x08\0\0\0"])
def test_a_file_of_something_else_holds_nothing(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "popped"
    path.write_bytes(content)
    popped = Popped(path)
    assert popped.data == b""
    popped.add(b"abc")
    assert Popped(path).data == b"abc"


def test_a_folder_that_cannot_be_is_told_and_borne(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    popped = Popped(tmp_path / "file" / "popped")
    popped.add(b"abc")
    popped.only(b"c")
    assert popped.data == b"c"
    assert caplog.text.count("event=popped_not_noted") == 1


def test_it_lets_its_file_go(tmp_path: Path) -> None:
    for _ in range(20):
        Popped(tmp_path / "popped").add(b"abc")
    held = [link.readlink() for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    assert tmp_path / "popped" not in held


def test_it_has_a_limit(tmp_path: Path) -> None:
    popped = Popped(tmp_path / "popped")
    for _ in range(2 * LIMIT_BYTES // 1000):
        popped.add(b"x" * 1000)
    assert len(popped.data) == LIMIT_BYTES
    assert Popped(tmp_path / "popped").data == popped.data
