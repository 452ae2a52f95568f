# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""A file is in its place as a whole or not at all, with the mode that was asked for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent import durable


def test_it_takes_the_place_of_the_old_one_with_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("old")
    umask = os.umask(0o077)
    try:
        durable.replace(path, b"new", 0o644)
    finally:
        os.umask(umask)
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"new", 0o644)
    durable.replace(path, b"newer", 0o600)
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"newer", 0o600)
    assert [each.name for each in tmp_path.iterdir()] == ["secret"]


def test_where_it_cannot_be_put_the_old_one_stays(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    (tmp_path / ".file.new").mkdir()
    with pytest.raises(OSError, match=r"\.file\.new"):
        durable.replace(path, b"new", 0o644)
    assert path.read_text() == "old"


def test_no_link_that_lies_in_the_way_is_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("another's")
    (tmp_path / ".file.new").symlink_to("precious")
    durable.replace(tmp_path / "file", b"new", 0o644)
    assert ((tmp_path / "precious").read_text(), (tmp_path / "file").is_symlink()) == ("another's", False)


def test_what_a_crash_left_is_written_anew(tmp_path: Path) -> None:
    (tmp_path / ".file.new").write_text("half of something longer")
    durable.replace(tmp_path / "file", b"new", 0o644)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"file": b"new"}


def test_a_file_system_without_modes_is_not_told_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FAT answers EPERM to a mode that is not the one of the mount."""

    def refuse(descriptor: int, mode: int) -> None:
        raise PermissionError(descriptor, mode)

    monkeypatch.setattr(os, "fchmod", refuse)
    durable.replace(tmp_path / "civigate.toml", b"said", None, tmp_path / "civigate.new")
    assert (tmp_path / "civigate.toml").read_bytes() == b"said"
