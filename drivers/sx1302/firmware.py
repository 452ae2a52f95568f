# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The programs of the chip's two microcontrollers: read, checked, named.

The images are Semtech's; this project ships none of their bytes and knows them by digest alone. An image is
4096 words of a 14-bit core, little-endian, and every word carries its own parity: bits 15 and 14 hold the
number of ones in the opcode modulo 4. That catches a swapped, truncated or bit-flipped image before the
chip does.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Final

from drivers.errors import FirmwareError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

IMAGE_BYTES: Final = 8192
"""Size of an image: the whole program memory of one microcontroller."""

OPCODE_BITS: Final = 14
OPCODE_MASK: Final = (1 << OPCODE_BITS) - 1

SYNTHETIC_MARK: Final = b"civigate synthetic "
"""First opcodes, one character each, of an image made for the emulator.

The mark is followed by "agc" or "arb" and by one opcode that is the version the image reports. Such an
image is no program; on a real chip it would do nothing good.
"""


class Mcu(StrEnum):
    """A microcontroller of the SX1302."""

    AGC = "agc"
    ARB = "arb"
    CALIBRATION = "calibration"
    """No microcontroller: what the AGC runs for a while to calibrate SX1255 and SX1257 radios."""


@dataclass(frozen=True, slots=True)
class FirmwareId:
    """What an image is.

    Attributes:
        mcu: the microcontroller it is for.
        version: the number it reports once it runs.
        radio: the radio family an AGC image drives, "SX1250" or "SX125x"; None for the ARB.
        releases: the releases of sx1302_hal that carry it, or "synthetic".
        synthetic: made for the emulator.
    """

    mcu: Mcu
    version: int
    radio: str | None
    releases: str
    synthetic: bool = False

    @property
    def required(self) -> bool:
        """Whether this driver runs it."""
        return self.version == REQUIRED_VERSION.get(self.mcu) and self.radio in (None, "SX1250")

    def __str__(self) -> str:
        radio = "" if self.radio is None else f" {self.radio}"
        return f"{self.mcu.upper()} version {self.version}{radio} of sx1302_hal {self.releases}"


@dataclass(frozen=True, slots=True)
class Firmware:
    """A checked pair of images, ready to be loaded."""

    agc: bytes
    arb: bytes
    agc_id: FirmwareId
    arb_id: FirmwareId


KNOWN_IMAGES: Final[Mapping[str, FirmwareId]] = {
    "8f612e878b946b8c7cc59a5fc27ad33bb18ab92ad6e291d873f5d6bb7daae0d4": FirmwareId(
        Mcu.AGC, 10, "SX1250", "V2.0.0 to V2.1.0"
    ),
    "68dbe0dfa09693754d9b51d85224e0a17a8bcd6e3cbe30222672deabdd63a4f3": FirmwareId(
        Mcu.AGC, 1, "SX1250", "V1.0.0 to V1.1.2"
    ),
    "28d05612240627fb9e61ec43eba661e96d24805e1ce62b2d800c8461d400ae66": FirmwareId(
        Mcu.AGC, 6, "SX125x", "V2.0.0 to V2.1.0"
    ),
    "0783f6cac6ffc51b0a42617fcb6d4ef60abf7c76e83a8c7d81a96af0f3626477": FirmwareId(
        Mcu.AGC, 1, "SX125x", "V1.0.0 to V1.1.2"
    ),
    "a6f542395e29cd258917f5948d1067ab18e3cf08ce5ee250e2caa08539f80fd0": FirmwareId(
        Mcu.ARB, 2, None, "V2.0.0 to V2.1.0"
    ),
    "85dada4552e0d63c80a7be0b2c2c5292a6393f8ecb3046175bd5159539b3f9ac": FirmwareId(
        Mcu.ARB, 1, None, "V1.0.0 to V1.1.2"
    ),
    "48b381021068a760d53e6366094f51e35084097f272c801ba8b47e7226d68d44": FirmwareId(
        Mcu.CALIBRATION, 1, "SX125x", "V1.0.0 to V2.1.0"
    ),
}
"""SHA-256 of the decoded images in Semtech's sx1302_hal, all release tags."""

REQUIRED_VERSION: Final[Mapping[Mcu, int]] = {Mcu.AGC: 10, Mcu.ARB: 2}
"""The pair that drives SX1250 boards with the start sequence of sx1302_hal V2.x [HAL 2.1.0]."""

_OBTAIN = (
    "run: civigate firmware import PATH, where PATH is a copy of Semtech's sx1302_hal V2.1.0 or a packet forwarder "
    "built from it"
)

FILE_NAMES: Final[Mapping[Mcu, str]] = {Mcu.AGC: "agc.bin", Mcu.ARB: "arb.bin"}
"""Of the pair, in the firmware folder."""

SYSTEM_FOLDER: Final = Path("/lib/firmware/civigate")
"""Where a Debian package, or an administrator, puts firmware for the whole system."""


def pack_word(opcode: int) -> bytes:
    """Return the two bytes of a program word: the 14-bit opcode under its parity."""
    return (opcode | (opcode.bit_count() % 4) << OPCODE_BITS).to_bytes(2, "little")


def first_bad_word(image: bytes) -> int | None:
    """Return the index of the first word whose parity does not fit its opcode, or None if all do."""
    for index in range(0, len(image) - 1, 2):
        word = image[index] | image[index + 1] << 8
        if (word & OPCODE_MASK).bit_count() % 4 != word >> OPCODE_BITS:
            return index // 2
    return None


def recognise(image: bytes) -> FirmwareId | None:
    """Name an image by its digest or by the synthetic mark; None when it is unknown."""
    known = KNOWN_IMAGES.get(hashlib.sha256(image).hexdigest())
    return known if known is not None else _synthetic(image)


def _synthetic(image: bytes) -> FirmwareId | None:
    text_length = len(SYNTHETIC_MARK) + len(Mcu.AGC)
    if len(image) != IMAGE_BYTES:
        return None
    opcodes = [(image[i] | image[i + 1] << 8) & OPCODE_MASK for i in range(0, 2 * (text_length + 1), 2)]
    for mcu in Mcu:
        if opcodes[:text_length] == list(SYNTHETIC_MARK + mcu.encode("ascii")):
            radio = "SX1250" if mcu is Mcu.AGC else None
            return FirmwareId(mcu, opcodes[text_length], radio, "synthetic", synthetic=True)
    return None


def load(agc: Path, arb: Path, *, allow_synthetic: bool = False) -> Firmware:
    """Read and check the pair of images.

    Args:
        agc: file with the AGC image, 8192 bytes.
        arb: file with the ARB image, 8192 bytes.
        allow_synthetic: accept images made for the emulator; only ever true for an emulated bus.

    Raises:
        FirmwareError: a file cannot be read, is damaged, is unknown, or is not the image that is needed.
    """
    agc_image, agc_id = _read(agc, Mcu.AGC, allow_synthetic=allow_synthetic)
    arb_image, arb_id = _read(arb, Mcu.ARB, allow_synthetic=allow_synthetic)
    return Firmware(agc_image, arb_image, agc_id, arb_id)


def load_from(folders: Sequence[Path], *, allow_synthetic: bool = False) -> Firmware:
    """Read and check the pair of images, each from the first folder that has it.

    Args:
        folders: at least one; the first is the one that an error is about when none has it.
        allow_synthetic: as for `load`.

    Raises:
        FirmwareError: as `load`.
    """
    agc, arb = (find(folders, mcu) for mcu in (Mcu.AGC, Mcu.ARB))
    return load(agc, arb, allow_synthetic=allow_synthetic)


def find(folders: Sequence[Path], mcu: Mcu) -> Path:
    """Return the path of an image in the first folder that has it, else where it should be.

    A folder that this user may not search has none for him.
    """
    paths = [folder / FILE_NAMES[mcu] for folder in folders]
    return next((path for path in paths if os.access(path, os.F_OK, effective_ids=True)), paths[0])


def check_file(path: Path, mcu: Mcu) -> FirmwareId:
    """Read and check one image, and say what it is.

    Raises:
        FirmwareError: as `load`.
    """
    return _read(path, mcu, allow_synthetic=False)[1]


def _read(path: Path, mcu: Mcu, *, allow_synthetic: bool) -> tuple[bytes, FirmwareId]:
    try:
        with path.open("rb") as file:
            image = file.read(IMAGE_BYTES + 1)
    except OSError as error:
        raise _refuse(path, f"cannot be read: {error.strerror}", _OBTAIN, "CG-FW-001") from error
    return image, _check(image, path, mcu, allow_synthetic=allow_synthetic)


def _check(image: bytes, path: Path, mcu: Mcu, *, allow_synthetic: bool) -> FirmwareId:
    if len(image) != IMAGE_BYTES:
        found = "more" if len(image) > IMAGE_BYTES else str(len(image))
        raise _refuse(path, f"{found} bytes instead of {IMAGE_BYTES}", _OBTAIN, "CG-FW-002")
    bad = first_bad_word(image)
    if bad is not None:
        raise _refuse(path, f"word {bad} breaks the parity rule: the image is damaged", _OBTAIN, "CG-FW-003")
    identity = recognise(image)
    if identity is None:
        digest = hashlib.sha256(image).hexdigest()
        raise _refuse(path, f"unknown image, SHA-256 {digest[:16]}…", _OBTAIN, "CG-FW-004")
    if identity.mcu is not mcu:
        hint = _OBTAIN if identity.mcu is Mcu.CALIBRATION else "exchange the two files"
        raise _refuse(path, f"is the {identity.mcu.upper()} image, not the {mcu.upper()}'s", hint, "CG-FW-005")
    if identity.synthetic and not allow_synthetic:
        raise _refuse(path, "was made for the emulator and is no program", _OBTAIN, "CG-FW-006")
    if not identity.required:
        needed = REQUIRED_VERSION[mcu]
        radio = " for SX1250 radios" if mcu is Mcu.AGC else ""
        raise _refuse(path, f"{identity}; needed is {needed}{radio}", _OBTAIN, "CG-FW-007")
    return identity


def _refuse(path: Path, what: str, hint: str, code: str) -> FirmwareError:
    return FirmwareError(what, op="load firmware", where=str(path), hint=hint, code=code)
