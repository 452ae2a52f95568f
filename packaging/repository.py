# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Make a signed apt repository of a folder: to serve over HTTP, or to carry on a stick.

    python packaging/repository.py --key FINGERPRINT --out /media/stick/civigate build/deb/*.deb

It is a flat one [sources.list(5)]: packages, Packages, Release, InRelease, the public key, alone and as a package,
and a file for /etc/apt/sources.list.d. Packages that are there already stay, so that a version can be gone back to;
the same name with other content is refused.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import os
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import archive_keyring
from archive_keyring import KEYRING

PLACE = f"/{archive_keyring.FOLDER}/{KEYRING}"
EARLY = timedelta(days=365)
"""Before its end, a key should be extended: in so long every gateway will have asked for upgrades."""
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
        SystemExit: a package of that name is there with other content, or gpg does not know the key.
        OSError: the folder does not take it; no package is there in part, and the index is as it was.
        subprocess.CalledProcessError: dpkg-deb or gpg has failed; likewise.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for deb in debs:
        there = folder / deb.name
        if there.exists() and there.read_bytes() != deb.read_bytes():
            raise SystemExit(f"{there}: is there with other content; a version is never used twice")
        if not there.exists():
            _write(folder, {there.name: deb.read_bytes()})
        listing = deb.with_suffix(".cdx.json")
        if listing.exists():
            _write(folder, {listing.name: listing.read_bytes()})
    exported = subprocess.run(["gpg", "--batch", "--export", key], check=True, stdout=subprocess.PIPE).stdout
    changed, _ = key_times(key)
    keyring = archive_keyring.file_name(changed)
    # What is there stays: another dpkg may make other bytes of the same key.
    if not (folder / keyring).exists():
        _write(folder, {keyring: archive_keyring.build(exported, changed)})
    index = "\n".join(_stanza(deb) for deb in sorted(folder.glob("*.deb"))).encode()
    indices = {"Packages": index, "Packages.gz": gzip.compress(index, 9, mtime=0)}
    release = _release(indices, origin, now, valid_days).encode()
    # All is signed before any of it is replaced, and what apt believes comes last.
    signed = _sign(release, key)
    sources = _sources(url or folder.resolve().as_uri(), offline=url is None).encode()
    _write(folder, {KEYRING: exported, "civigate.sources": sources, **indices, "Release": release, **signed})


def key_times(key: str) -> tuple[datetime, datetime | None]:
    """Return when a key was changed last, and when it ends, if it does; both in UTC.

    Raises:
        SystemExit: gpg does not know it.
    """
    listing = subprocess.run(
        ["gpg", "--batch", "--with-colons", "--list-sigs", key], check=False, stdout=subprocess.PIPE, text=True
    )
    # doc/DETAILS of GnuPG: field 6 is the time of creation, 7 that of expiration
    records = [line.split(":") for line in listing.stdout.splitlines()]
    made = [int(record[5]) for record in records if record[0] == "sig"]
    ends = [int(record[6]) for record in records if record[0] == "pub" and record[6]]
    if not made:
        raise SystemExit(f"{key}: gpg knows no such key; gpg --list-secret-keys says what it knows")
    return datetime.fromtimestamp(max(made), UTC), datetime.fromtimestamp(ends[0], UTC) if ends else None


def _sign(release: bytes, key: str) -> dict[str, bytes]:
    with tempfile.TemporaryDirectory(prefix="civigate-repository-") as scratch:
        # by name: whoever asks for the passphrase finds his terminal at standard input
        file = Path(scratch) / "Release"
        file.write_bytes(release)
        said = ("gpg", "--batch", "--quiet", "--local-user", key, "--output", "-")
        kinds = {"Release.gpg": ("--armor", "--detach-sign"), "InRelease": ("--clearsign",)}
        return {
            name: subprocess.run([*said, *kind, str(file)], check=True, stdout=subprocess.PIPE).stdout
            for name, kind in kinds.items()
        }


def _stanza(deb: Path) -> str:
    fields = subprocess.run(["dpkg-deb", "--field", str(deb)], check=True, capture_output=True, text=True).stdout
    content = deb.read_bytes()
    sums = "".join(f"{name}: {digest(content).hexdigest()}\n" for name, digest in _DIGESTS.items())
    head, _, description = fields.rstrip("\n").partition("\nDescription: ")
    return f"{head}\nFilename: ./{deb.name}\nSize: {len(content)}\n{sums}Description: {description}\n"


def _release(indices: Mapping[str, bytes], origin: str, now: datetime, valid_days: int | None) -> str:
    lines = [f"Origin: {origin}", "Label: civigate", "Suite: stable", "Architectures: all"]
    lines.append(f"Date: {format_datetime(now, usegmt=True)}")
    if valid_days is not None:
        lines.append(f"Valid-Until: {format_datetime(now + timedelta(days=valid_days), usegmt=True)}")
    for name, digest in _DIGESTS.items():
        lines.append(f"{name}:")
        for file, content in indices.items():
            lines.append(f" {digest(content).hexdigest()} {len(content)} {file}")
    return "\n".join(lines) + "\n"


def _sources(url: str, *, offline: bool) -> str:
    # A Pi without a network has a clock that is behind. apt of Debian 12 then takes what was signed "in the future";
    # that of Debian 13 asks sqv, which has no such option: there the clock is set first, see packaging/README.md.
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


def _write(folder: Path, files: Mapping[str, bytes]) -> None:
    # A stick may be full, or be pulled: nothing has its name before all of it is there, and *.deb finds no draft. The
    # mode is left to the umask, since a repository is for others to read, and FAT refuses to be told one.
    drafts = {folder / f".{name}.new": folder / name for name in files}
    try:
        for draft, content in zip(drafts, files.values(), strict=True):
            with draft.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        for draft, path in drafts.items():
            draft.replace(path)
    finally:
        for draft in drafts:
            draft.unlink(missing_ok=True)


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
    _, ends = key_times(args.key)
    if ends is not None and ends - now < EARLY:
        print(f"the key ends on {ends:%Y-%m-%d}: extend it now, as packaging/README.md says", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
