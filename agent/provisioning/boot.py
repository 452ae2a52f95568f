# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The boot partition: where a laptop leaves civigate.toml, and finds what came of it.

It is FAT, so that any laptop reads it. What is written there has the line ends that the simplest editor of any of them
shows right, and is on the card before the function returns.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO, Final

from agent import durable
from agent.provisioning import request

FOLDERS: Final = (Path("/boot/firmware"), Path("/boot"))
"""Where Raspberry Pi OS mounts it, since bookworm and before."""
FILE_NAME: Final = "civigate.toml"
DISGUISED: Final = "civigate.toml.txt"
"""What a laptop that hides the ends of names makes of it."""
NOTE_NAME: Final = "civigate-error.txt"
SHEET_NAME: Final = "civigate-report.html"
MAX_BYTES: Final = 64 * 1024
"""A file of ours is not longer."""


class BootPartition:
    """One boot partition.

    Args:
        folder: where it is mounted.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def request(self) -> Path | None:
        """Return the path of civigate.toml, None when there is none; FAT does not tell upper case from lower.

        Of two, that which was not read yet: whoever tries again may leave a new one beside the outcome of the last.
        """
        there = self._files()
        return next((path for path in there if not _is_outcome(path)), there[0] if there else None)

    def note(self, text: str) -> None:
        """Leave a note beside the file, in plain words.

        Raises:
            OSError: the partition does not take it.
        """
        _put(self.folder / NOTE_NAME, _crlf(text))

    def leave_sheet(self, page: bytes) -> None:
        """Leave the doctor's commissioning sheet.

        Raises:
            OSError: the partition does not take it.
        """
        _put(self.folder / SHEET_NAME, page)

    def publish(self, text: str) -> None:
        """Put what came of it in the place of civigate.toml; a note of before is gone.

        Where that lay is overwritten: sectors that belong to no file any more can be read with any card reader.

        Raises:
            OSError: the partition does not take it.
        """
        there, *others = self._files() or [self.folder / FILE_NAME]
        _replace(there, _crlf(text))
        for other in others:
            _replace(other, b"")
            other.unlink()
        (self.folder / NOTE_NAME).unlink(missing_ok=True)

    def _files(self) -> list[Path]:
        """Return those that are called civigate.toml, the right name first."""
        try:
            names = {path.name.lower(): path for path in self.folder.iterdir() if path.is_file()}
        except OSError:
            return []
        return [names[name] for name in (FILE_NAME, DISGUISED) if name in names]


def find(folders: tuple[Path, ...] = FOLDERS) -> BootPartition:
    """Return the boot partition of this machine: the first folder that has a civigate.toml, or else that is there."""
    partitions = [BootPartition(folder) for folder in folders if folder.is_dir()]
    given = (partition for partition in partitions if partition.request() is not None)
    return next(given, None) or next(iter(partitions), BootPartition(folders[0]))


def _crlf(text: str) -> bytes:
    return text.replace("\n", "\r\n").encode()


def _is_outcome(path: Path) -> bool:
    """Whether a file was read already; one that cannot be read says so when it is taken."""
    try:
        with path.open("rb") as file:
            return request.is_outcome(file.read(MAX_BYTES))
    except OSError:
        return False


def _replace(path: Path, content: bytes) -> None:
    if not path.exists():
        _put(path, content)
        return
    with path.open("r+b") as before:
        _put(path, content)
        _blank(before)


def _put(path: Path, content: bytes) -> None:
    durable.replace(path, content, None, path.with_name("civigate.new"))


def _blank(file: BinaryIO) -> None:
    """Overwrite a file that has no name any more but is open, and so still has its sectors."""
    file.write(bytes(min(os.fstat(file.fileno()).st_size, MAX_BYTES)))
    file.flush()
    os.fsync(file.fileno())
