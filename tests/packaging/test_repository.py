# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""A repository on a stick that is full, or pulled, before all is on it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.packaging.conftest import Built

ROOT = Path(__file__).parents[2]
LIMIT_S = 100
pytestmark = pytest.mark.xdist_group("packaging")


def make(folder: Path, deb: Path, *, blocks: str) -> subprocess.CompletedProcess[str]:
    """Add a package to a repository whose files may have so many blocks of 512 bytes; nobody has its key."""
    program = [sys.executable, str(ROOT / "packaging/repository.py"), "--key", "0" * 40, "--out", str(folder), str(deb)]
    return subprocess.run(
        ["sh", "-c", f'ulimit -f {blocks} && exec "$@"', "sh", *program],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )


def test_a_copy_that_was_cut_short_is_no_package_and_the_next_run_ends_it(built: Built, tmp_path: Path) -> None:
    """Half a package under its own name was taken for another of that version, or indexed and signed."""
    assert make(tmp_path, built.deb, blocks="8").returncode != 0
    assert list(tmp_path.glob("*.deb")) == []
    assert not (tmp_path / "Packages").exists()
    again = make(tmp_path, built.deb, blocks="unlimited")
    assert "never used twice" not in again.stderr
    assert (tmp_path / built.deb.name).read_bytes() == built.deb.read_bytes()
    assert (tmp_path / built.bill.name).read_bytes() == built.bill.read_bytes()
    index = (tmp_path / "Packages").read_text()
    assert f"Filename: ./{built.deb.name}\nSize: {built.deb.stat().st_size}\n" in index


def test_a_version_is_never_used_twice(built: Built, tmp_path: Path) -> None:
    (tmp_path / built.deb.name).write_bytes(built.deb.read_bytes()[:-1])
    assert "never used twice" in make(tmp_path, built.deb, blocks="unlimited").stderr
