# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Keys that sign a repository at any time, repositories of small packages, and apt in a folder that trusts them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

ROOT = Path(__file__).parents[2]
LIMIT_S = 100


@dataclass(frozen=True)
class Signer:
    """A key of one's own, in a folder of its own.

    Attributes:
        home: folder of gpg.
        key: fingerprint.
    """

    home: Path
    key: str

    def gpg(self, *words: str, at: datetime | None = None) -> str:
        """Run gpg, at another time if need be."""
        return _gpg(self.home, *words, at=at)

    def publish(
        self, folder: Path, *debs: Path, at: datetime | None = None, blocks: str = "unlimited"
    ) -> subprocess.CompletedProcess[str]:
        """Make or renew a repository, as one does by hand.

        Args:
            folder: of it.
            debs: packages to add.
            at: time of it, and of gpg.
            blocks: of 512 bytes that a file may have.
        """
        (self.home / "gpg.conf").write_text(f"faked-system-time {at:%Y%m%dT%H%M%S}\n" if at else "")
        program = [sys.executable, str(ROOT / "packaging/repository.py"), "--key", self.key, "--out", str(folder)]
        epoch = {"SOURCE_DATE_EPOCH": str(int(at.timestamp()))} if at else {}
        done = subprocess.run(
            ["sh", "-c", f'ulimit -f {blocks} && exec "$@"', "sh", *program, *map(str, debs)],
            env=os.environ | {"GNUPGHOME": str(self.home)} | epoch,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
        )
        (self.home / "gpg.conf").unlink()
        return done


def _gpg(home: Path, *words: str, at: datetime | None = None) -> str:
    when = () if at is None else ("--faked-system-time", f"{at:%Y%m%dT%H%M%S}")
    command = ("gpg", "--homedir", str(home), "--batch", "--quiet", "--passphrase", "", "--pinentry-mode", "loopback")
    done = subprocess.run([*command, *when, *words], check=True, capture_output=True, text=True, timeout=LIMIT_S)
    return done.stdout


@contextmanager
def new_signer(home: Path, *, made: datetime, ends: datetime) -> Iterator[Signer]:
    """Make a key without a passphrase that is good from one time to another, and end its agent at last."""
    home.mkdir(mode=0o700)
    _gpg(
        home,
        "--quick-generate-key",
        "test <test@civigate.example>",
        "ed25519",
        "sign",
        f"{ends:%Y%m%dT%H%M%S}",
        at=made,
    )
    listing = _gpg(home, "--list-keys", "--with-colons").splitlines()
    try:
        yield Signer(home, next(line.split(":")[9] for line in listing if line.startswith("fpr")))
    finally:
        subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=False, timeout=LIMIT_S)


def small_package(folder: Path, version: str) -> Path:
    """Build a package with nothing in it."""
    control = folder / f"small-{version}" / "DEBIAN" / "control"
    control.parent.mkdir(parents=True)
    control.write_text(
        f"Package: small\nVersion: {version}\nArchitecture: all\nMaintainer: test <test@civigate.example>\n"
        "Description: nothing\n"
    )
    deb = folder / f"small_{version}_all.deb"
    subprocess.run(["dpkg-deb", "--build", control.parents[1], deb], check=True, capture_output=True)
    return deb


@dataclass(frozen=True)
class Apt:
    """An apt that knows one repository, and writes into a folder alone."""

    root: Path

    @classmethod
    def new(cls, root: Path, repository: Path, keyring: bytes) -> Apt:
        """Copy keyring and sources of a repository, as packaging/README.md says.

        Args:
            root: folder that stands for the machine's.
            repository: folder.
            keyring: content of the file that came with it at that time.
        """
        for name in (
            "etc/apt/sources.list.d",
            "var/lib/apt/lists/partial",
            "var/cache/apt/archives/partial",
            "var/lib/dpkg",
            "usr/share/keyrings",
        ):
            (root / name).mkdir(parents=True)
        (root / "var/lib/dpkg/status").touch()
        (root / "usr/share/keyrings/civigate-archive-keyring.gpg").write_bytes(keyring)
        sources = (repository / "civigate.sources").read_text()
        there = sources.replace("Signed-By: /", f"Signed-By: {root}/")
        (root / "etc/apt/sources.list.d/civigate.sources").write_text(there)
        return cls(root)

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run apt-get; a repository that is not taken is an error."""
        options = (
            f"Dir={self.root}",
            "Dir::Bin::Methods=/usr/lib/apt/methods",
            "APT::Sandbox::User=root",
            "APT::Update::Error-Mode=any",
        )
        command = ["apt-get", *(word for option in options for word in ("-o", option)), *words]
        return subprocess.run(
            command,
            cwd=self.root,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            env=os.environ | {"LC_ALL": "C.UTF-8"},
        )
