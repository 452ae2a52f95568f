# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What the emulated microcontrollers run: Semtech's images known by digest, and stand-ins of our own.

The project ships none of Semtech's bytes. Tests and demonstrations load images that obey the same structure
(4096 words of 14 bits, each under the number of its ones modulo 4) and carry a mark at their start that tells
the emulator, and only the emulator, what to be. Digests and mark are the driver's data (`drivers.sx1302.firmware`);
the judgement here is independent of the driver's.

Not modelled: the program itself. An image is looked at once, when its microcontroller is released; what it
does then is written in `drivers.emulator.mcu`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from typing import Final

from drivers.sx1302.firmware import IMAGE_BYTES, KNOWN_IMAGES, SYNTHETIC_MARK, Mcu

_WORDS: Final = IMAGE_BYTES // 2
_OPCODES: Final = 1 << 14


@dataclass(frozen=True, slots=True)
class Program:
    """What a recognised image does once it runs.

    Attributes:
        mcu: the microcontroller it is written for; on the other one it stays silent.
        version: the number it reports at boot.
    """

    mcu: Mcu
    version: int


def synthetic_agc(version: int = 10) -> bytes:
    """Return an 8192-byte AGC image for the emulator that reports `version` (0 to 255)."""
    return _synthetic(Mcu.AGC, version)


def synthetic_arb(version: int = 2) -> bytes:
    """Return an 8192-byte ARB image for the emulator that reports `version` (0 to 255)."""
    return _synthetic(Mcu.ARB, version)


def parity_holds(image: bytes) -> bool:
    """Tell whether every word of the image carries the right parity."""
    return all(map(_word_holds().__getitem__, memoryview(image).cast("H")))


def identify(image: bytes) -> Program | None:
    """Name the program of an image, by digest or by mark; None when it is neither Semtech's nor ours."""
    known = KNOWN_IMAGES.get(hashlib.sha256(image).hexdigest())
    if known is not None:
        return Program(known.mcu, known.version)
    opcodes = [word % _OPCODES for word in memoryview(image).cast("H")]
    for mcu in Mcu:
        mark = list(SYNTHETIC_MARK + mcu.encode("ascii"))
        if opcodes[: len(mark)] == mark:
            return Program(mcu, opcodes[len(mark)] & 0xFF)
    return None


def _synthetic(mcu: Mcu, version: int) -> bytes:
    if not 0 <= version <= 0xFF:
        raise ValueError(f"version {version}: outside 0 to 255")
    opcodes = [*SYNTHETIC_MARK, *mcu.encode("ascii"), version]
    # Each word behind the mark differs from its neighbours, so that a block loaded to the wrong place is noticed.
    opcodes += [(index * 2731 + 97) % _OPCODES for index in range(len(opcodes), _WORDS)]
    return b"".join((word | (word.bit_count() % 4) << 14).to_bytes(2, "little") for word in opcodes)


@cache
def _word_holds() -> bytes:
    """One byte per possible word, 1 where the parity is right: a release of an MCU looks at 4096 of them."""
    return bytes(word >> 14 == (word % _OPCODES).bit_count() % 4 for word in range(1 << 16))
