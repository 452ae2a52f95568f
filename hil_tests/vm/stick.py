# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""A USB stick with a signed repository of packages, as `packaging/repository.py` makes it, and files on FAT partitions.

FAT is read and written by mtools: no mount, no root.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from hil_tests.vm.image import BOOT_BYTES, BOOT_OFFSET_BYTES, ROOT

LABEL = "stick"
MOUNT = "/media/stick"
_ROOM_BYTES = 32 << 20
_LIMIT_S = 300


def build_packages(out: Path, *versions: str) -> list[Path]:
    """Build the gateway's package from the working tree, once per version, which may be made up.

    Raises:
        subprocess.CalledProcessError: it cannot be built.
    """
    built = []
    for version in versions:
        command = [
            sys.executable,
            str(ROOT / "packaging" / "deb.py"),
            "--out",
            str(out),
            "--version",
            version,
            "civigate",
        ]
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=_LIMIT_S)
        built.append(Path(done.stdout.strip()))
    return built


def make_stick(folder: Path, packages: Sequence[Path]) -> Path:
    """Return a disk, FAT without a partition table, with a repository of these packages signed by a throw-away key."""
    with tempfile.TemporaryDirectory(prefix="cg-gpg-") as home:
        environment = {**os.environ, "GNUPGHOME": home}

        def gpg(*words: str) -> str:
            command = ("gpg", "--batch", "--quiet", "--passphrase", "", *words)
            return subprocess.run(
                command, env=environment, check=True, capture_output=True, text=True, timeout=_LIMIT_S
            ).stdout

        gpg("--quick-generate-key", "bench <bench@civigate.example>", "ed25519", "sign", "1d")
        listing = gpg("--list-keys", "--with-colons").splitlines()
        key = next(line.split(":")[9] for line in listing if line.startswith("fpr"))
        repository = folder / "repository" / "civigate"
        script = str(ROOT / "packaging" / "repository.py")
        told = ["--out", str(repository), "--key", key, "--url", f"file:{MOUNT}/civigate"]
        subprocess.run(
            [sys.executable, script, *told, *map(str, packages)],
            env=environment,
            check=True,
            capture_output=True,
            timeout=_LIMIT_S,
        )
        gpg("--export", "--output", str(repository / "stick.asc"), key)
        subprocess.run(["gpgconf", "--kill", "all"], env=environment, check=False, capture_output=True)
    stick = folder / "stick.raw"
    size = sum(path.stat().st_size for path in repository.rglob("*") if path.is_file()) + _ROOM_BYTES
    with stick.open("wb") as file:
        file.truncate(size // (1 << 20) * (1 << 20))
    subprocess.run(["mkfs.fat", "-F", "32", "-n", LABEL, str(stick)], check=True, capture_output=True, timeout=_LIMIT_S)
    mtools("mcopy", "-s", "-i", str(stick), str(repository), "::/")
    return stick


class BootPartition:
    """The FAT partition of a card that no machine has in it: what a technician sees on a laptop.

    Args:
        disk: of the card.
    """

    def __init__(self, disk: Path) -> None:
        self._disk = disk
        self._image = f"{disk}@@{BOOT_OFFSET_BYTES}"

    def write(self, name: str, content: str) -> None:
        """Drop a file there, in place of one of that name."""
        with tempfile.NamedTemporaryFile("w") as file:
            file.write(content)
            file.flush()
            mtools("mcopy", "-o", "-i", self._image, file.name, f"::/{name}")

    def read(self, name: str) -> str:
        """Return a file's content.

        Raises:
            subprocess.CalledProcessError: there is none.
        """
        return mtools("mtype", "-i", self._image, f"::/{name}")

    def names(self) -> list[str]:
        """Return what there is."""
        return [
            line.removeprefix("::/") for line in mtools("mdir", "-b", "-i", self._image, "::/").splitlines() if line
        ]

    def sectors(self) -> bytes:
        """Return all of it, with what belongs to no file any more."""
        with self._disk.open("rb") as disk:
            disk.seek(BOOT_OFFSET_BYTES)
            return disk.read(BOOT_BYTES)


def mtools(*command: str) -> str:
    """Run one of mtools and return what it says.

    Raises:
        subprocess.CalledProcessError: it fails.
    """
    environment = {**os.environ, "MTOOLS_SKIP_CHECK": "1"}
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True, timeout=_LIMIT_S)
    return done.stdout
