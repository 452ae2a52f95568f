# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""A disk on which bytes can be counted: a file system of its own on a loop device, where one may be mounted.

Then the count is that of the block layer, with what the file system itself adds. Elsewhere it is what the kernel counts
as caused by this process (write_bytes in /proc/self/io), and the rows say so.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SIZE_BYTES = 2 << 30
SECTOR_BYTES = 512


@dataclass(frozen=True, slots=True)
class Disk:
    """A place to write to.

    Attributes:
        folder: on it.
        stat: the kernel's counters of its device; None: there is none of its own.
    """

    folder: Path
    stat: Path | None

    @property
    def where(self) -> str:
        """What is counted."""
        return "process" if self.stat is None else "block layer"

    def written_bytes(self) -> int:
        """Return what was written so far; with a device of its own, after all that is due was."""
        if self.stat is None:
            lines = Path("/proc/self/io").read_text(encoding="ascii").splitlines()
            return next(int(line.split()[1]) for line in lines if line.startswith("write_bytes:"))
        descriptor = os.open(self.folder, os.O_RDONLY)
        try:
            subprocess.run(["sync", "-f", str(self.folder)], check=True)
        finally:
            os.close(descriptor)
        return int(self.stat.read_text(encoding="ascii").split()[6]) * SECTOR_BYTES


@contextmanager
def disk() -> Iterator[Disk]:
    """Make one, and take it away again."""
    with tempfile.TemporaryDirectory(prefix="civigate-bench-", dir=os.environ.get("CIVIGATE_BENCH_DIR")) as place:
        folder, image = Path(place) / "disk", Path(place) / "image"
        folder.mkdir()
        device = _mount(image, folder)
        try:
            yield Disk(folder, Path("/sys/block") / device / "stat" if device else None)
        finally:
            if device:
                subprocess.run(["umount", "--lazy", str(folder)], check=True)  # a queue of others may not let go


def _mount(image: Path, folder: Path) -> str | None:
    """Mount a new ext4 and return the name of its device, None where that is not allowed."""
    if os.geteuid() != 0:
        return None
    with image.open("wb") as file:
        file.truncate(SIZE_BYTES)
    lazy = "lazy_itable_init=0,lazy_journal_init=0"
    for command in (["mkfs.ext4", "-q", "-E", lazy, str(image)], ["mount", "-o", "loop", str(image), str(folder)]):
        try:
            if subprocess.run(command, capture_output=True, check=False).returncode:
                return None
        except FileNotFoundError:
            return None
    number = folder.stat().st_dev
    return (Path("/sys/dev/block") / f"{os.major(number)}:{os.minor(number)}").resolve().name
