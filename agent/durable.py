# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Put a file in its place as a whole or not at all, and on the card before anybody is told."""

from __future__ import annotations

import os
from pathlib import Path


def replace(path: Path, content: bytes, mode: int | None, draft: Path | None = None) -> None:
    """Write a file in place of one of its name; a power cut leaves the old one or the new one.

    What lies where it is written first is removed, a symbolic link too: none leads anywhere else.

    Args:
        path: of the file; its folder is there.
        content: of it.
        mode: of it, from the first byte on, whatever the umask; None on FAT, which refuses to be told one.
        draft: where it is written first, in the same folder; None for a hidden name.

    Raises:
        OSError: the folder does not take it.
    """
    fresh = path.with_name(f".{path.name}.new") if draft is None else draft
    fresh.unlink(missing_ok=True)
    create(fresh, content, mode)
    fresh.replace(path)
    sync(path.parent)


def create(path: Path, content: bytes, mode: int | None, owner: tuple[int, int] | None = None) -> None:
    """Write a file where none is; its name is on the card after `sync` of the folder.

    Args:
        path: of the file; its folder is there. A symbolic link there counts as a file.
        content: of it.
        mode: of it, from the first byte on, whatever the umask; None on FAT, which refuses to be told one.
        owner: user and group to whom it is given before it has any content, where root makes it.

    Raises:
        FileExistsError: something of that name is there.
        OSError: the folder does not take it.
    """
    descriptor = os.open(
        path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600 if mode is None else mode
    )
    with os.fdopen(descriptor, "wb") as file:
        if owner is not None and os.geteuid() == 0:
            os.fchown(descriptor, *owner)
        if mode is not None:
            os.fchmod(descriptor, mode)
        file.write(content)
        file.flush()
        os.fsync(descriptor)


def sync(folder: Path) -> None:
    """Wait until the names in a folder are on the card.

    Raises:
        OSError: they do not get there.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
