# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""A repository on a stick that is full, or pulled, before all is on it, or with a key that does not sign any more."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.packaging.conftest import Built
from tests.packaging.keys import Apt, Signer, new_signer, small_package

DAY = timedelta(days=1)
pytestmark = pytest.mark.xdist_group("packaging")


@pytest.fixture
def now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture
def signer(tmp_path: Path, now: datetime) -> Iterator[Signer]:
    """A key that is good until tomorrow."""
    with new_signer(tmp_path / "gpg", made=now - 9 * DAY, ends=now + DAY) as signer:
        yield signer


@pytest.fixture
def there(tmp_path: Path) -> Path:
    """Folder of the repository."""
    return tmp_path / "repository"


def _content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_copy_that_was_cut_short_is_no_package_and_the_next_run_ends_it(
    built: Built, signer: Signer, there: Path
) -> None:
    """Half a package under its own name was taken for another of that version, or indexed and signed."""
    assert signer.publish(there, built.deb, blocks="8").returncode != 0
    assert _content(there) == {}
    again = signer.publish(there, built.deb)
    assert again.returncode == 0, again.stderr
    assert (there / built.deb.name).read_bytes() == built.deb.read_bytes()
    assert (there / built.bill.name).read_bytes() == built.bill.read_bytes()
    index = (there / "Packages").read_text()
    assert f"Filename: ./{built.deb.name}\nSize: {built.deb.stat().st_size}\n" in index


def test_a_version_is_never_used_twice(built: Built, signer: Signer, there: Path) -> None:
    there.mkdir()
    (there / built.deb.name).write_bytes(built.deb.read_bytes()[:-1])
    assert "never used twice" in signer.publish(there, built.deb).stderr


def test_a_signing_that_fails_leaves_the_repository_as_it_was(tmp_path: Path, there: Path, now: datetime) -> None:
    """The index was replaced before gpg was asked: to apt, one that was tampered with."""
    with new_signer(tmp_path / "gpg", made=now - 9 * DAY, ends=now - DAY) as ended:
        done = ended.publish(there, small_package(tmp_path, "1"), at=now - 2 * DAY)
        assert done.returncode == 0, done.stderr
        before = _content(there)
        second = small_package(tmp_path, "2")
        assert ended.publish(there, second).returncode != 0
    assert _content(there) == before | {second.name: second.read_bytes()}


def test_a_stick_that_gets_full_keeps_the_index_it_had_and_no_draft(
    tmp_path: Path, signer: Signer, there: Path
) -> None:
    first = signer.publish(there, small_package(tmp_path, "1"))
    assert first.returncode == 0, first.stderr
    before = _content(there)
    more = [small_package(tmp_path, f"2.{number}") for number in range(12)]
    assert signer.publish(there, *more, blocks="8").returncode != 0
    assert _content(there) == before | {deb.name: deb.read_bytes() for deb in more}


@pytest.mark.skipif(shutil.which("apt-get") is None, reason="needs apt")
@pytest.mark.parametrize("days", [1, -1], ids=["a day before its end", "a day after its end"])
def test_gateways_get_a_key_with_a_new_end_before_the_old_one(
    tmp_path: Path, there: Path, now: datetime, days: int
) -> None:
    """A keyring that was copied once cut every gateway off when the key ended, extended or not."""
    ends = now + days * DAY
    with new_signer(tmp_path / "gpg", made=now - 9 * DAY, ends=ends) as signer:
        done = signer.publish(there, small_package(tmp_path, "1"), at=now - 3 * DAY)
        assert f"the key ends on {ends:%Y-%m-%d}" in done.stderr
        gateway = Apt.new(tmp_path / "gateway", there, (there / "civigate-archive-keyring.gpg").read_bytes())
        signer.gpg("--quick-set-expire", signer.key, "3y", at=now - 2 * DAY)
        done = signer.publish(there, small_package(tmp_path, "2"))
        assert done.returncode == 0, done.stderr
        assert "the key ends" not in done.stderr
    update = gateway.run("update")
    assert (update.returncode == 0) is (days > 0), update.stderr
    if days < 0:
        newest = max(there.glob("civigate-archive-keyring_*.deb"))
    else:
        assert gateway.run("download", "civigate-archive-keyring").returncode == 0
        (newest,) = gateway.root.glob("*.deb")
    subprocess.run(["dpkg-deb", "--extract", newest, gateway.root], check=True)
    update = gateway.run("update")
    assert update.returncode == 0, update.stderr
    assert (gateway.root / "usr/share/keyrings" / "civigate-archive-keyring.gpg").read_bytes() == (
        there / "civigate-archive-keyring.gpg"
    ).read_bytes()


def test_the_package_with_the_key_is_the_same_until_the_key_changes(
    tmp_path: Path, signer: Signer, there: Path
) -> None:
    assert signer.publish(there).returncode == 0
    (first,) = there.glob("*.deb")
    assert signer.publish(tmp_path / "other").returncode == 0
    assert (tmp_path / "other" / first.name).read_bytes() == first.read_bytes()
    assert signer.publish(there).returncode == 0
    assert list(there.glob("*.deb")) == [first]
