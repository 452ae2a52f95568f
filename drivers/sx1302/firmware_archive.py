# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The files in an archive, one after the other, without unpacking it: nothing of it is written anywhere.

Zip, tar, and both also as gzip, bzip2 and xz make them; a compressed file that is no archive is one file. How much
comes out has a limit, whatever the archive says about itself. Archives in archives are not looked into.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
import zlib
from contextlib import closing
from typing import IO, TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

ARCHIVE_LIMIT_BYTES: Final = 64 << 20
"""A longer archive is not that of sx1302_hal, which has 3 MB, nor of a forwarder."""

UNPACKED_LIMIT_BYTES: Final = 256 << 20
"""What may come out of one archive in all."""

MEMBERS_LIMIT: Final = 50_000
NAME_CHARACTERS: Final = 200

_ZIP: Final = b"PK\x03\x04"
_COMPRESSIONS: Final[dict[bytes, Callable[[Any], Any]]] = {
    b"\x1f\x8b": gzip.GzipFile,
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\0": lzma.LZMAFile,
}
_TAR: Final = (257, b"ustar")

BROKEN: Final = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
    OverflowError,
    MemoryError,
    OSError,
)
"""What an archive raises that is too large, and what the libraries raise for one that is damaged or encrypted."""


class ArchiveError(ValueError):
    """An archive that is too large, damaged, or not understood."""


Member = tuple[str, IO[bytes]]
"""Name and contents, which must be read before the next is asked for."""


def members(path: Path) -> Iterator[Member] | None:
    """Return the files in an archive; None when it is none.

    Iterating, and reading what comes, raises one of `BROKEN` when it is damaged or too large; what came before is good.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(512)
    if head.startswith(_ZIP):
        return _zip(path)
    if head[_TAR[0] :].startswith(_TAR[1]):
        return _tar(path, lambda: _Limited(path.open("rb")))
    for magic, reader in _COMPRESSIONS.items():
        if head.startswith(magic):
            return _tar(path, lambda: _Limited(reader(path)))  # noqa: B023 - there is no next turn
    return None


class _Limited(io.RawIOBase):
    """A stream that ends in an error when too much has come out of it."""

    def __init__(self, stream: Any, limit_bytes: int | None = None) -> None:
        self._stream = stream
        self._left = UNPACKED_LIMIT_BYTES if limit_bytes is None else limit_bytes

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        wanted = min(size if size >= 0 else self._left + 1, self._left + 1)
        data: bytes = self._stream.read(wanted)
        self._left -= len(data)
        if self._left < 0:
            raise ArchiveError(f"more than {UNPACKED_LIMIT_BYTES >> 20} MiB come out of it")
        return data

    def close(self) -> None:
        self._stream.close()
        super().close()


def _zip(path: Path) -> Iterator[Member]:
    _check_size(path)
    left = UNPACKED_LIMIT_BYTES
    with zipfile.ZipFile(path) as archive:
        for count, info in enumerate(archive.infolist()):
            _check_count(count)
            if info.is_dir():
                continue
            with archive.open(info) as stream:
                limited = _Limited(stream, left)
                yield _named(info.filename), limited  # type: ignore[misc]  # what reads it calls nothing but read
                left = limited._left


def _tar(path: Path, open_: Callable[[], _Limited]) -> Iterator[Member]:
    _check_size(path)
    count = 0
    try:
        with closing(open_()) as stream, tarfile.open(fileobj=stream, mode="r|") as archive:
            for info in archive:
                _check_count(count)
                count += 1
                member = archive.extractfile(info) if info.isfile() else None
                if member is not None:
                    yield _named(info.name), member
    except tarfile.ReadError:
        if count:
            raise
    if not count:
        with closing(open_()) as stream:
            yield path.stem, stream  # type: ignore[misc]  # as above


def _check_size(path: Path) -> None:
    if path.stat().st_size > ARCHIVE_LIMIT_BYTES:
        raise ArchiveError(f"longer than {ARCHIVE_LIMIT_BYTES >> 20} MiB")


def _check_count(count: int) -> None:
    if count >= MEMBERS_LIMIT:
        raise ArchiveError(f"more than {MEMBERS_LIMIT} files in it")


def _named(name: str) -> str:
    """Return a name that can be shown; nothing is ever written to it."""
    return "".join(char if char.isprintable() else "?" for char in name[-NAME_CHARACTERS:])
