# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Find the microcontrollers' images wherever somebody has them: as C text, as binary, inside a program.

Nobody gets these images as files: they are arrays in the sources of sx1302_hal, and lie in one piece in every
program that was built from it. The parity in each word picks the few places in a file where an image can be, and
the digest proves it.

Archives are looked into as well.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

from drivers.errors import FirmwareError
from drivers.sx1302.firmware import IMAGE_BYTES, OPCODE_BITS, OPCODE_MASK, FirmwareId, first_bad_word, recognise
from drivers.sx1302.firmware_archive import BROKEN, members

if TYPE_CHECKING:
    from collections.abc import Iterator

FILE_LIMIT_BYTES: Final = 128 << 20
"""A longer file is no source and no forwarder."""

FILES_LIMIT: Final = 50_000
"""Files looked into below one directory; the HAL has 200."""

TEXT_LIMIT_BYTES: Final = 1 << 20
"""An image as C text takes 50 kB."""

BLOCK_BYTES: Final = 1 << 20
"""Of a file at a time, so that a Pi with little memory can search a large one."""

WINDOWS_LIMIT: Final = 20_000
"""Places in one file that are proven by digest. Long runs of one byte make many, and hold no image."""

_ARRAY: Final = re.compile(rb"\{([0-9A-Fa-fxX,\s]+)\}")
_COMMENT: Final = re.compile(rb"/\*.*?\*/|//[^\n]*", re.DOTALL)
_CONTENT: Final = re.compile(rb"[^\0]")
_EMPTY_BYTES: Final = 16
"""Emptiness obeys the parity rule as well; no image begins with so much of it."""
_WORDS: Final = IMAGE_BYTES // 2
_ALL_FIT: Final = b"\x01" * _WORDS
_ONES_LOW: Final = bytes(byte.bit_count() % 4 for byte in range(256))
"""What a low byte adds to the number of ones of its word."""
_ONES_HIGH: Final = bytes(
    ((byte << 8 & OPCODE_MASK).bit_count() - (byte >> OPCODE_BITS - 8)) % 4 for byte in range(256)
)
"""What a high byte adds, less what it says that the number is."""
_FITS: Final = bytes(total % 4 == 0 for total in range(256))


@dataclass(frozen=True, slots=True)
class FoundImage:
    """An image that was found.

    Attributes:
        path: the file it is in.
        image: its 8192 bytes.
        identity: what it is; None for an array or file that is an image by its parity, but of no known release.
    """

    path: Path
    image: bytes
    identity: FirmwareId | None


def search(path: Path) -> list[FoundImage]:
    """Return the images in a file or archive, or in all below a directory, each once, in the order of their paths.

    Links are not followed, and files below a directory that cannot be read are passed over.

    Raises:
        FirmwareError: there is no such path, it cannot be read or unpacked, or there are more files below it than
            anybody means to search.
    """
    found: dict[bytes, FoundImage] = {}
    try:
        files = list(_files(path)) if path.is_dir() else [path]
        for file in files:
            try:
                for one in _in_file(file, named=file == path):
                    found.setdefault(one.image, one)
            except OSError:
                if file == path:
                    raise
    except OSError as error:
        raise _refuse(path, f"cannot be read: {error.strerror}", "check the path", "CG-FW-008") from error
    return list(found.values())


def _files(folder: Path) -> Iterator[Path]:
    count = 0
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name != ".git")
        for name in sorted(names):
            file = Path(parent, name)
            if file.is_symlink() or not file.is_file():
                continue
            count += 1
            if count > FILES_LIMIT:
                hint = "name the folder of sx1302_hal, or the forwarder itself"
                raise _refuse(folder, f"more than {FILES_LIMIT} files", hint, "CG-FW-009")
            yield file


def _in_file(path: Path, *, named: bool) -> Iterator[FoundImage]:
    if path.stat().st_size > FILE_LIMIT_BYTES:
        return
    archive = members(path)
    if archive is None:
        with path.open("rb") as file:
            yield from _in_stream(path, file)
        return
    try:
        for name, stream in archive:
            yield from _in_stream(Path(f"{path}: {name}"), stream)
    except BROKEN as error:
        if named:
            raise _refuse(
                path, f"cannot be unpacked: {error}", "unpack it, and name the folder", "CG-FW-015"
            ) from error


def _in_stream(path: Path, stream: IO[bytes]) -> Iterator[FoundImage]:
    head = stream.read(TEXT_LIMIT_BYTES + 1)
    if len(head) == IMAGE_BYTES and first_bad_word(head) is None and any(head):
        yield FoundImage(path, head, recognise(head))
        return
    if len(head) <= TEXT_LIMIT_BYTES:
        for image in _in_text(head):
            yield FoundImage(path, image, recognise(image))
    for image in islice(_windows(head, stream), WINDOWS_LIMIT):
        identity = recognise(image)
        if identity is not None:
            yield FoundImage(path, image, identity)


def _in_text(text: bytes) -> Iterator[bytes]:
    """Yield the arrays of C text that obey the parity rule."""
    if b"{" not in text or b"\0" in text:
        return
    for array in _ARRAY.finditer(_COMMENT.sub(b" ", text)):
        numbers = array[1].split(b",")
        if not numbers[-1].strip():
            numbers.pop()
        if len(numbers) != IMAGE_BYTES:
            continue
        try:
            image = bytes(int(number, 0) for number in numbers)
        except ValueError:  # no number, or one that is no byte
            continue
        if first_bad_word(image) is None:
            yield image


def _windows(head: bytes, stream: IO[bytes]) -> Iterator[bytes]:
    """Yield every stretch of 8192 bytes, at odd and even places, whose words all obey the parity rule."""
    block, more = b"", head
    while more:
        block = block[-(IMAGE_BYTES - 1) :] + more
        for start in _candidates(block):
            yield block[start : start + IMAGE_BYTES]
        more = stream.read(BLOCK_BYTES)


def _candidates(block: bytes) -> Iterator[int]:
    if len(block) < IMAGE_BYTES:
        return
    # One addition of two long numbers adds all pairs of neighbours: no sum of two bytes below 4 carries.
    low = int.from_bytes(block[:-1].translate(_ONES_LOW), "big")
    high = int.from_bytes(block[1:].translate(_ONES_HIGH), "big")
    fits = (low + high).to_bytes(len(block) - 1, "big").translate(_FITS)
    for parity in (0, 1):
        words = fits[parity::2]
        at = words.find(_ALL_FIT)
        while at >= 0:
            start = parity + 2 * at
            content = _CONTENT.search(block, start)
            if content is None:
                break
            if content.start() - start < _EMPTY_BYTES:
                yield start
                at += 1
            else:
                at = (content.start() - parity) // 2
            at = words.find(_ALL_FIT, at)


def _refuse(path: Path, what: str, hint: str, code: str) -> FirmwareError:
    return FirmwareError(what, op="search firmware", where=str(path), hint=hint, code=code)
