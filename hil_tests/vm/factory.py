# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Cards with civigate installed: a clean Debian is started, apt installs the package from a stick, and it is shut down.

What comes out is what a maker of cards would copy: installed, never set up, without key or identity. It is kept in the
cache, since installing takes minutes; the test of the installation never takes it from there.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from hil_tests.vm.disks import copy_sparse
from hil_tests.vm.gateway import Gateway
from hil_tests.vm.image import Card, cache_folder, card
from hil_tests.vm.machine import Disk, Machine
from hil_tests.vm.stick import build_packages, make_stick

OLD, NEW = "0.1.0~vm1", "0.1.0~vm2"
"""Two versions of the same working tree: what an upgrade goes from and to."""


@dataclass(frozen=True, slots=True)
class Installed:
    """A card with civigate on it.

    Attributes:
        card: what it was made of.
        disk: the card; to be copied.
        stick: repository with `OLD` and `NEW`.
        boot_s, install_s: how long boot and installation took.
        said: by apt.
    """

    card: Card
    disk: Path
    stick: Path
    boot_s: float
    install_s: float
    said: str


def install(suite: str, folder: Path, look: Callable[[Gateway], None] = lambda _: None) -> Installed:
    """Install in a clean system.

    Args:
        suite: of Debian.
        folder: for the card and everything else; empty.
        look: called when it is installed and still on.
    """
    empty = card(suite)
    packages = build_packages(folder / "packages", OLD, NEW)
    stick = make_stick(folder, [*sorted(empty.pool.glob("*.deb")), *packages])
    disk = copy_sparse(empty.disk, folder / "installed.raw")
    with Machine(empty, disk, folder / "installing", disks=[Disk(stick, read_only=True)]) as machine:
        boot_s = machine.boot()
        gateway = Gateway(machine)
        gateway.trust_stick()
        began = time.monotonic()
        said = gateway.install(OLD)
        install_s = time.monotonic() - began
        look(gateway)
        machine.power_off()
    return Installed(empty, disk, stick, boot_s, install_s, said)


def installed(suite: str) -> Installed:
    """Return a card with the package of the working tree on it, from the cache if it is there."""
    empty = card(suite)
    with tempfile.TemporaryDirectory(prefix="cg-debs-") as folder:
        digest = _digest(empty, build_packages(Path(folder), OLD, NEW))
    kept = cache_folder() / f"installed-{suite}-{digest}"
    with kept.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # other tests wait for the same card
        if not kept.exists():
            print(f"installing civigate on a card of {suite}", file=sys.stderr, flush=True)
            with tempfile.TemporaryDirectory(prefix="civigate-vm-", dir=cache_folder()) as folder:
                keep(install(suite, Path(folder)), digest)
    told = json.loads((kept / "facts.json").read_text())
    return Installed(empty, kept / "installed.raw", kept / "stick.raw", **told)


def keep(made: Installed, digest: str = "") -> None:
    """Put a card into the cache, in place of those of its suite that were made of something else."""
    digest = digest or _digest(made.card, sorted((made.disk.parent / "packages").glob("*.deb")))
    kept = cache_folder() / f"installed-{made.card.suite}-{digest}"
    for old in cache_folder().glob(f"installed-{made.card.suite}-*"):
        if old.stem != kept.name:
            shutil.rmtree(old) if old.is_dir() else old.unlink()
    with tempfile.TemporaryDirectory(prefix="civigate-vm-", dir=cache_folder()) as scratch:
        fresh = Path(scratch) / "card"
        fresh.mkdir()
        copy_sparse(made.disk, fresh / "installed.raw")
        copy_sparse(made.stick, fresh / "stick.raw")
        told = {name: value for name, value in asdict(made).items() if name in {"boot_s", "install_s", "said"}}
        (fresh / "facts.json").write_text(json.dumps(told))
        with suppress(OSError):  # the same card was put there meanwhile
            fresh.rename(kept)


def _digest(made_of: Card, packages: Sequence[Path]) -> str:
    told = hashlib.sha256(made_of.disk.parent.name.encode())
    for package in packages:
        told.update(package.read_bytes())
    return told.hexdigest()[:12]
