# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Put the concentrator's firmware where it is looked for, out of whatever somebody has it in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent import durable
from drivers import sx1261_patch
from drivers.errors import FirmwareError
from drivers.sx1302.firmware import FILE_NAMES, Mcu, check_file, find
from drivers.sx1302.firmware_search import FoundImage, search

_MODE = 0o644
"""Root brings it, the service's user reads it."""
_FOLDER_MODE = 0o755
"""The same, whatever the umask of what set the gateway up."""


@dataclass(frozen=True, slots=True)
class Source:
    """What a file or folder has of it.

    Attributes:
        path: of it.
        images: all that were found in it, of use or not.
        taken: those that this program can use.
        patch: file and content of the patch for an SX1261, None where there is none.
    """

    path: Path
    images: Sequence[FoundImage]
    taken: Mapping[Mcu, FoundImage]
    patch: tuple[Path, bytes] | None

    def install(self, folder: Path) -> dict[Mcu, Path]:
        """Write what can be used into a folder; return where which image is.

        Raises:
            FirmwareError: CG-FW-010, the folder cannot be written.
        """
        written = {mcu: folder / FILE_NAMES[mcu] for mcu in FILE_NAMES if mcu in self.taken}
        for mcu, target in written.items():
            _write(target, self.taken[mcu].image)
        if self.patch is not None:
            _write(folder / sx1261_patch.FILE_NAME, self.patch[1])
        return written


def look_into(path: Path) -> Source:
    """Look for images in a file, an archive, or a folder.

    Raises:
        FirmwareError: it cannot be read.
    """
    images = list(search(path))
    taken = {
        one.identity.mcu: one for one in images if one.identity and one.identity.required and not one.identity.synthetic
    }
    return Source(path, images, taken, sx1261_patch.find(path))


def missing(folders: Sequence[Path], besides: Iterable[Mcu] = ()) -> list[Mcu]:
    """Return the microcontrollers whose image is in none of the folders, leaving out some."""
    return [mcu for mcu in FILE_NAMES if mcu not in set(besides) and not _usable(folders, mcu)]


def not_found(path: Path, lacking: Iterable[Mcu]) -> FirmwareError:
    """Make the error that says what a file or folder should have had."""
    return FirmwareError(
        f"no image for the {' and the '.join(mcu.upper() for mcu in lacking)} that this program can use",
        op="import firmware",
        where=str(path),
        hint="take sx1302_hal V2.1.0 from https://github.com/Lora-net/sx1302_hal, unpacked",
        code="CG-FW-011",
    )


def _usable(folders: Sequence[Path], mcu: Mcu) -> bool:
    try:
        check_file(find(tuple(folders), mcu), mcu)
    except FirmwareError:
        return False
    return True


def _write(target: Path, image: bytes) -> None:
    """Put an image in its place, whole or not at all."""
    try:
        if not target.parent.is_dir():
            target.parent.mkdir(parents=True)
            target.parent.chmod(_FOLDER_MODE)
        durable.replace(target, image, _MODE)
    except OSError as error:
        raise FirmwareError(
            f"cannot be written: {error.strerror}",
            op="import firmware",
            where=str(target),
            hint="use sudo; in the service's folder nothing may be root's: chown it, or name another folder with --to",
            code="CG-FW-010",
        ) from error
