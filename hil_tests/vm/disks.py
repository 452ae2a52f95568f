# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Disks as files: sparse copies, a disk for the gateway's state, and what a file system holds after a power cut.

ext4 is checked and read as after a reboot (journal replayed by e2fsck), without a mount and without root.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

STATE_LABEL = "state"
STATE_BYTES = 64 << 20
_LIMIT_S = 600
_REPAIRED = 1
"""What e2fsck returns when it has repaired something, as after every power cut."""


def copy_sparse(source: Path, target: Path) -> Path:
    """Copy a file without its holes."""
    subprocess.run(["cp", "--sparse=always", str(source), str(target)], check=True, timeout=_LIMIT_S)
    return target


def make_state_disk(path: Path) -> Path:
    """Make an empty disk for /var/lib/civigate."""
    with path.open("wb") as file:
        file.truncate(STATE_BYTES)
    subprocess.run(
        [
            "mke2fs",
            "-q",
            "-F",
            "-t",
            "ext4",
            "-L",
            STATE_LABEL,
            "-E",
            "lazy_itable_init=0,lazy_journal_init=0",
            str(path),
        ],
        check=True,
        timeout=_LIMIT_S,
    )
    return path


def recover(image: Path, folder: Path) -> Path:
    """Check the file system as a boot would, and copy all its files out; return where they are.

    Raises:
        AssertionError: e2fsck finds what a power cut must not do.
    """
    done = subprocess.run(["e2fsck", "-fy", str(image)], capture_output=True, text=True, check=False, timeout=_LIMIT_S)
    assert done.returncode <= _REPAIRED, f"e2fsck ends with {done.returncode}: {done.stdout}"
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        ["debugfs", "-R", f"rdump / {folder}", str(image)], capture_output=True, check=True, timeout=_LIMIT_S
    )
    return folder
