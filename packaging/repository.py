# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Make a signed apt repository of a folder: to serve over HTTP, or to carry on a stick.

    python packaging/repository.py --key FINGERPRINT --out /media/stick/civigate build/deb/*.deb

It is a flat one [sources.list(5)]: packages, Packages, Release, InRelease, the public key, and a file for
/etc/apt/sources.list.d. Packages that are there already stay, so that a version can be gone back to; the same name with
other content is refused.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import os
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

KEYRING = "civigate-archive-keyring.gpg"
PLACE = f"/usr/share/keyrings/{KEYRING}"
_DIGESTS = {"SHA256": hashlib.sha256, "SHA512": hashlib.sha512}


def make(
    folder: Path, debs: Sequence[Path], key: str, *, origin: str, now: datetime, valid_days: int | None, url: str | None
) -> None:
    """Add packages to a repository, or begin one, and sign what is then in it.

    Args:
        folder: of the repository.
        debs: packages to add.
        key: fingerprint of the key, in the keyring of gpg.
        origin: field of the Release file, for pinning.
        now: for the Release file.
        valid_days: after which apt refuses it; None: never, which a stick needs.
        url: where it will be found; None: where it lies, as on a stick.

    Raises:
        SystemExit: a package of that name is there with other content.
        OSError: the folder does not take it; no package is there in part.
        subprocess.CalledProcessError: dpkg-deb or gpg has failed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for deb in debs:
        there = folder / deb.name
        if there.exists() and there.read_bytes() != deb.read_bytes():
            raise SystemExit(f"{there}: is there with other content; a version is never used twice")
        if not there.exists():
            _write(there, deb.read_bytes())
        listing = deb.with_suffix(".cdx.json")
        if listing.exists():
            _write(folder / listing.name, listing.read_bytes())
    index = "\n".join(_stanza(deb) for deb in sorted(folder.glob("*.deb")))
    _write(folder / "Packages", index.encode())
    _write(folder / "Packages.gz", gzip.compress(index.encode(), 9, mtime=0))
    _write(folder / "Release", _release(folder, origin, now, valid_days).encode())
    sign = ("gpg", "--batch", "--yes", "--quiet", "--local-user", key)
    subprocess.run([*sign, "--clearsign", "--output", str(folder / "InRelease"), str(folder / "Release")], check=True)
    subprocess.run(
        [*sign, "--armor", "--detach-sign", "--output", str(folder / "Release.gpg"), str(folder / "Release")],
        check=True,
    )
    exported = subprocess.run(["gpg", "--batch", "--export", key], check=True, capture_output=True)
    _write(folder / KEYRING, exported.stdout)
    _write(folder / "civigate.sources", _sources(url or folder.resolve().as_uri(), offline=url is None).encode())


def _stanza(deb: Path) -> str:
    fields = subprocess.run(["dpkg-deb", "--field", str(deb)], check=True, capture_output=True, text=True).stdout
    content = deb.read_bytes()
    sums = "".join(f"{name}: {digest(content).hexdigest()}\n" for name, digest in _DIGESTS.items())
    head, _, description = fields.rstrip("\n").partition("\nDescription: ")
    return f"{head}\nFilename: ./{deb.name}\nSize: {len(content)}\n{sums}Description: {description}\n"


def _release(folder: Path, origin: str, now: datetime, valid_days: int | None) -> str:
    lines = [f"Origin: {origin}", "Label: civigate", "Suite: stable", "Architectures: all"]
    lines.append(f"Date: {format_datetime(now, usegmt=True)}")
    if valid_days is not None:
        lines.append(f"Valid-Until: {format_datetime(now + timedelta(days=valid_days), usegmt=True)}")
    for name, digest in _DIGESTS.items():
        lines.append(f"{name}:")
        for file in ("Packages", "Packages.gz"):
            content = (folder / file).read_bytes()
            lines.append(f" {digest(content).hexdigest()} {len(content)} {file}")
    return "\n".join(lines) + "\n"


def _sources(url: str, *, offline: bool) -> str:
    # A Pi without a network has a clock that is behind: apt would refuse what was signed "in the future".
    late = "Check-Date: no\n" if offline else ""
    return (
        textwrap.dedent(f"""\
        # Copy the key first, and compare its fingerprint: see packaging/README.md of civigate
        Types: deb
        URIs: {url}
        Suites: ./
        Signed-By: {PLACE}
        """)
        + late
    )


def _write(path: Path, content: bytes) -> None:
    # A stick may be full, or be pulled: nothing has its name before all of it is there, and *.deb finds no draft. The
    # mode is left to the umask, since a repository is for others to read, and FAT refuses to be told one.
    draft = path.with_name(f".{path.name}.new")
    with draft.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def main(argv: Sequence[str] | None = None) -> int:
    """Make or renew a repository."""
    parser = argparse.ArgumentParser(description="Make a signed apt repository of a folder.")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="of the repository")
    parser.add_argument("--key", required=True, metavar="FINGERPRINT", help="of the key that signs, known to gpg")
    parser.add_argument("--url", help="where it will be served (default: where it lies, as on a stick)")
    parser.add_argument("--origin", default="civigate", help="field Origin, for apt_preferences(5)")
    parser.add_argument("--valid-days", type=int, metavar="N", help="apt refuses it afterwards; not for a stick")
    parser.add_argument("debs", nargs="*", type=Path, metavar="DEB", help="packages to add")
    args = parser.parse_args(argv)
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    now = datetime.now(UTC) if epoch is None else datetime.fromtimestamp(int(epoch), UTC)
    make(args.out, args.debs, args.key, origin=args.origin, now=now, valid_days=args.valid_days, url=args.url)
    print(args.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
