# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The Debian package that brings the public key of a repository, so that gateways have its new end before the old one.

It needs nothing but Python and dpkg-deb, since whoever signs may do so on a machine of its own.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import subprocess
import tempfile
import tomllib
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path

PACKAGE = "civigate-archive-keyring"
KEYRING = f"{PACKAGE}.gpg"
FOLDER = "usr/share/keyrings"
_VENDOR = Path(__file__).with_name("vendor.toml")


def file_name(changed: datetime) -> str:
    """Return the name of the package of a key that changed last at some time, in UTC."""
    return f"{PACKAGE}_{_version(changed)}_all.deb"


def build(keys: bytes, changed: datetime) -> bytes:
    """Return the package: of the same key the same bytes, and of a key that was changed a higher version.

    Args:
        keys: as gpg exports them.
        changed: when the newest signature in them was made, in UTC.

    Raises:
        subprocess.CalledProcessError: dpkg-deb has failed.
    """
    vendor = tomllib.loads(_VENDOR.read_text(encoding="utf-8"))
    maintainer = f"{vendor['name']} <{vendor['email']}>"
    log = (
        f"{PACKAGE} ({_version(changed)}) unstable; urgency=medium\n\n  * The key as it was at that time.\n\n"
        f" -- {maintainer}  {format_datetime(changed)}\n"
    )
    rights = (
        "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\n"
        f"Files: *\nCopyright: {changed.year} {vendor['name']}\nLicense: CC0-1.0\n"
        " A public key, and no work that anybody could hold rights in: /usr/share/common-licenses/CC0-1.0\n"
    )
    files = {
        f"{FOLDER}/{KEYRING}": keys,
        f"usr/share/doc/{PACKAGE}/changelog.gz": gzip.compress(log.encode(), 9, mtime=0),
        f"usr/share/doc/{PACKAGE}/copyright": rights.encode(),
    }
    sums = "".join(f"{hashlib.md5(content).hexdigest()}  {name}\n" for name, content in files.items())  # noqa: S324
    control = (
        f"Package: {PACKAGE}\nVersion: {_version(changed)}\nArchitecture: all\nMaintainer: {maintainer}\n"
        f"Section: misc\nPriority: optional\nHomepage: {vendor['url']}\n"
        "Description: key of the repository that civigate comes from\n"
        " apt believes the repository by this key, until the key ends. Where this\n"
        " package is installed, an upgrade brings the key with its new end in time.\n"
    )
    files |= {"DEBIAN/control": control.encode(), "DEBIAN/md5sums": sums.encode()}
    with tempfile.TemporaryDirectory(prefix="civigate-keyring-") as scratch:
        tree = Path(scratch) / "tree"
        for name, content in files.items():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            (tree / name).write_bytes(content)
        for path in [tree, *tree.rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)
            os.utime(path, (changed.timestamp(), changed.timestamp()))
        deb = Path(scratch) / "deb"
        subprocess.run(
            ["dpkg-deb", "--root-owner-group", "-Zxz", "--threads-max=1", "--build", str(tree), str(deb)],
            check=True,
            stdout=subprocess.DEVNULL,
            env={**os.environ, "SOURCE_DATE_EPOCH": str(int(changed.timestamp())), "LC_ALL": "C.UTF-8"},
        )
        return deb.read_bytes()


def _version(changed: datetime) -> str:
    return f"{changed.astimezone(UTC):%Y%m%d.%H%M%S}"
