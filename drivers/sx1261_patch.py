# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The patch for the SX1261's RAM: read, checked, found.

It is Semtech's; this project ships none of its bytes and knows it by its digest. It lies as an array of 386 words of 32
bits in the sources of sx1302_hal, and in one piece in every program that was built from it.
"""

from __future__ import annotations

import hashlib
import os
import re
from array import array
from pathlib import Path
from typing import TYPE_CHECKING, Final

from drivers.errors import FirmwareError
from drivers.sx1302.firmware_archive import BROKEN, members

if TYPE_CHECKING:
    from collections.abc import Iterator

WORDS: Final = 386
WORD_BYTES: Final = 4
PATCH_BYTES: Final = WORDS * WORD_BYTES

DIGEST: Final = "2f1a728415a38298d07b77ebb1b54c9b9cdfe21fd830bf842d79d73f23b99074"
"""SHA-256 of the words, big-endian, in sx1302_hal V2.0.0 to V2.1.0."""

FILE_NAME: Final = "sx1261.bin"
"""In the firmware folder."""

SYNTHETIC: Final = b"civigate synthetic sx1261 patch ".ljust(PATCH_BYTES, b"\x00")
"""A stand-in that only an emulator takes."""

TEXT_NAME: Final = "sx1261_pram.var"
TEXT_LIMIT_BYTES: Final = 1 << 16
PROGRAM_LIMIT_BYTES: Final = 4 << 20
"""A packet forwarder has less than one; to look into more takes minutes on a Pi."""

FILES_LIMIT: Final = 50_000
_NUMBER: Final = re.compile(rb"0[xX][0-9a-fA-F]{1,8}\b")
_ELF: Final = b"\x7fELF"
_OBTAIN = (
    "run: civigate firmware import PATH, where PATH is a copy of Semtech's sx1302_hal V2.1.0 or a packet forwarder "
    "built from it"
)


def load(path: Path) -> bytes:
    """Read and check the patch.

    Raises:
        FirmwareError: the file cannot be read, or is not the patch.
    """
    try:
        with path.open("rb") as file:
            patch = file.read(PATCH_BYTES + 1)
    except OSError as error:
        raise _refuse(path, f"cannot be read: {error.strerror}", "CG-FW-012") from error
    if not is_patch(patch):
        digest = hashlib.sha256(patch).hexdigest()
        raise _refuse(path, f"is not the patch for the SX1261: SHA-256 {digest[:16]}…", "CG-FW-013")
    return patch


def is_patch(data: bytes) -> bool:
    """Say whether these bytes are the patch."""
    return hashlib.sha256(data).hexdigest() == DIGEST


def find(path: Path) -> tuple[Path, bytes] | None:
    """Look for the patch in a file or archive, or in all below a folder; None when it is not there.

    Files that cannot be read are passed over, as is what takes too long to look into.
    """
    files = _below(path) if path.is_dir() else iter((path,))
    for file in files:
        try:
            for place, data in _contents(file):
                for candidate in _in_file(data):
                    if is_patch(candidate):
                        return place, candidate
        except BROKEN:
            continue
    return None


def _contents(path: Path) -> Iterator[tuple[Path, bytes]]:
    archive = members(path)
    if archive is None:
        if path.stat().st_size <= PROGRAM_LIMIT_BYTES:
            yield path, path.read_bytes()
        return
    for name, stream in archive:
        data = stream.read(PROGRAM_LIMIT_BYTES + 1)
        if len(data) <= PROGRAM_LIMIT_BYTES:
            yield Path(f"{path}: {name}"), data


def _below(folder: Path) -> Iterator[Path]:
    """The likely file first: the source has it under a name of its own."""
    others: list[Path] = []
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name != ".git")
        for name in sorted(names):
            if name == TEXT_NAME:
                yield Path(parent, name)
            elif len(others) < FILES_LIMIT:
                others.append(Path(parent, name))
    yield from (file for file in others if file.is_file() and not file.is_symlink())


def _in_file(data: bytes) -> Iterator[bytes]:
    if len(data) == PATCH_BYTES:
        yield data
    if len(data) <= TEXT_LIMIT_BYTES:
        numbers = _NUMBER.findall(data)
        if len(numbers) == WORDS:
            yield b"".join(int(number, 16).to_bytes(WORD_BYTES, "big") for number in numbers)
    if data.startswith(_ELF):
        yield from _windows(data)


def _windows(program: bytes) -> Iterator[bytes]:
    """Every stretch of words in a program, turned to big-endian."""
    words = array("I", program[: len(program) // WORD_BYTES * WORD_BYTES])
    words.byteswap()
    turned = memoryview(words).cast("B")
    for at in range(0, len(turned) - PATCH_BYTES + 1, WORD_BYTES):
        if turned[at] or turned[at + 1] or turned[at + 2] or turned[at + 3]:
            yield bytes(turned[at : at + PATCH_BYTES])


def _refuse(path: Path, what: str, code: str) -> FirmwareError:
    return FirmwareError(what, op="load firmware", where=str(path), hint=_OBTAIN, code=code)
