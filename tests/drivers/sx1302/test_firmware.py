# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Firmware images: only the right pair is loaded, and everything else is called by its name."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.emulator.firmware import synthetic_agc, synthetic_arb
from drivers.errors import FirmwareError
from drivers.sx1302 import firmware
from drivers.sx1302.firmware import FirmwareId, Mcu, first_bad_word, load, pack_word, recognise

if TYPE_CHECKING:
    from pathlib import Path


def _files(tmp_path: Path, agc: bytes, arb: bytes) -> tuple[Path, Path]:
    paths = tmp_path / "agc.bin", tmp_path / "arb.bin"
    for path, image in zip(paths, (agc, arb), strict=True):
        path.write_bytes(image)
    return paths


def test_synthetic_images_are_known_and_accepted_only_when_told(tmp_path: Path) -> None:
    paths = _files(tmp_path, synthetic_agc(), synthetic_arb())
    loaded = load(*paths, allow_synthetic=True)
    assert (loaded.agc, loaded.arb) == (synthetic_agc(), synthetic_arb())
    assert (loaded.agc_id.version, loaded.arb_id.version) == (10, 2)
    with pytest.raises(FirmwareError, match=r"agc\.bin: was made for the emulator"):
        load(*paths)


def _flipped(image: bytes) -> bytes:
    return image[:4000] + bytes((image[4000] ^ 0x10,)) + image[4001:]


def _swapped(image: bytes) -> bytes:
    return b"".join(image[i + 1 : i + 2] + image[i : i + 1] for i in range(0, len(image), 2))


UNKNOWN = b"".join(pack_word(index % 0x3FFF) for index in range(4096))


@pytest.mark.parametrize(
    ("agc", "arb", "message"),
    [
        (synthetic_agc()[:-1], synthetic_arb(), r"agc\.bin: 8191 bytes instead of 8192"),
        (synthetic_agc() + b"\0", synthetic_arb(), r"agc\.bin: more bytes instead of 8192"),
        (_flipped(synthetic_agc()), synthetic_arb(), r"agc\.bin: word 2000 breaks the parity rule"),
        (synthetic_agc(), _swapped(synthetic_arb()), r"arb\.bin: word \d+ breaks the parity rule"),
        (synthetic_agc(), UNKNOWN, r"arb\.bin: unknown image, SHA-256 "),
        (synthetic_arb(), synthetic_agc(), r"agc\.bin: is the ARB image, not the AGC's"),
        (synthetic_agc(version=1), synthetic_arb(), r"AGC version 1 SX1250 of sx1302_hal synthetic; needed is 10"),
    ],
)
def test_what_is_wrong_with_an_image_is_told(tmp_path: Path, agc: bytes, arb: bytes, message: str) -> None:
    with pytest.raises(FirmwareError, match=message):
        load(*_files(tmp_path, agc, arb), allow_synthetic=True)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(FirmwareError, match=r"none\.bin: cannot be read: No such file") as caught:
        load(tmp_path / "none.bin", tmp_path / "none.bin")
    assert "sx1302_hal" in caught.value.hint


@pytest.mark.parametrize(("mcu", "version", "radio"), [(Mcu.AGC, 6, "SX125x"), (Mcu.ARB, 1, None)])
def test_a_genuine_image_of_another_kind_or_age_is_named_and_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mcu: Mcu, version: int, radio: str | None
) -> None:
    identity = FirmwareId(mcu, version, radio, "V1.0.0 to V1.1.2")
    monkeypatch.setattr(firmware, "KNOWN_IMAGES", {hashlib.sha256(UNKNOWN).hexdigest(): identity})
    images = (UNKNOWN, synthetic_arb()) if mcu is Mcu.AGC else (synthetic_agc(), UNKNOWN)
    with pytest.raises(FirmwareError, match=rf"{mcu.upper()} version {version}.*V1\.0\.0"):
        load(*_files(tmp_path, *images), allow_synthetic=True)


@given(opcode=st.integers(0, (1 << 14) - 1), bit=st.integers(0, 15))
def test_each_flipped_bit_breaks_a_word(opcode: int, bit: int) -> None:
    word = pack_word(opcode)
    assert first_bad_word(word) is None
    broken = (int.from_bytes(word, "little") ^ 1 << bit).to_bytes(2, "little")
    assert first_bad_word(bytes(2) + broken) == 1


@given(image=st.binary(max_size=300))
def test_anything_can_be_asked_for_its_name(image: bytes) -> None:
    assert recognise(image) is None
