# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""`civigate firmware`: images are found wherever they lie, known by digest, and others are called by their name."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import random
import shutil
import tarfile
import tempfile
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent import config
from agent.cli.main import main
from drivers import sx1261_patch
from drivers.errors import FirmwareError
from drivers.sx1302 import firmware, firmware_archive, firmware_search
from drivers.sx1302.firmware import FirmwareId, Mcu, pack_word


def image(seed: int) -> bytes:
    """An image that obeys the parity rule, and no program."""
    chance = random.Random(seed)
    return b"".join(pack_word(chance.randrange(1 << 14)) for _ in range(4096))


AGC, ARB, OLD, OTHER_RADIO, UNKNOWN = map(image, range(5))


@pytest.fixture(autouse=True)
def releases(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the digests of these images in the place of Semtech's."""
    known = {
        AGC: FirmwareId(Mcu.AGC, 10, "SX1250", "V2.0.0 to V2.1.0"),
        ARB: FirmwareId(Mcu.ARB, 2, None, "V2.0.0 to V2.1.0"),
        OLD: FirmwareId(Mcu.ARB, 1, None, "V1.0.0 to V1.1.2"),
        OTHER_RADIO: FirmwareId(Mcu.AGC, 6, "SX125x", "V2.0.0 to V2.1.0"),
    }
    digests = {hashlib.sha256(one).hexdigest(): identity for one, identity in known.items()}
    monkeypatch.setattr(firmware, "KNOWN_IMAGES", digests)


def c_text(name: str, content: bytes) -> str:
    rows = (", ".join(f"0x{byte:02X}" for byte in content[i : i + 16]) for i in range(0, len(content), 16))
    return f"/* {{ not this }} */\nstatic uint8_t {name}[8192] = {{\n" + ",\n".join(rows) + "\n};\n"


def program(*images: bytes) -> bytes:
    """What a compiled forwarder looks like: noise, emptiness, and images somewhere between, also at odd places."""
    chance = random.Random(7)
    parts = [b"\x7fELF", bytes(50_000)]
    for number, one in enumerate(images):
        parts += [chance.randbytes(30_001 + number), one, bytes(4096)]
    return b"".join([*parts, chance.randbytes(1_200_000)])


def read(folder: Path) -> tuple[bytes, bytes]:
    return (folder / "agc.bin").read_bytes(), (folder / "arb.bin").read_bytes()


def test_a_source_tree_is_searched(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "sx1302_hal" / "libloragw" / "src"
    source.mkdir(parents=True)
    (source / "agc_fw_sx1250.var").write_text(c_text("agc", AGC))
    (source / "agc_fw_sx1257.var").write_text(c_text("agc", OTHER_RADIO))
    (source / "arb_fw.var").write_text(c_text("arb", ARB))
    (source / "broken.var").write_text(c_text("x", ARB)[:-20000])
    (source / "loop").symlink_to(source)
    assert main(["firmware", "import", str(tmp_path / "sx1302_hal"), "--to", str(tmp_path / "fw")]) == 0
    assert read(tmp_path / "fw") == (AGC, ARB)
    said = capsys.readouterr().out
    assert "AGC version 10 SX1250 of sx1302_hal V2.0.0 to V2.1.0: written to" in said
    assert "agc_fw_sx1257.var: AGC version 6 SX125x" in said
    assert "not supported" in said
    assert main(["firmware", "list", "--in", str(tmp_path / "fw")]) == 0


def test_a_compiled_forwarder_gives_them_up(tmp_path: Path) -> None:
    forwarder = tmp_path / "lora_pkt_fwd"
    forwarder.write_bytes(program(OTHER_RADIO, ARB, AGC))
    assert main(["firmware", "import", str(forwarder), "--to", str(tmp_path)]) == 0
    assert read(tmp_path) == (AGC, ARB)


def test_an_image_across_two_blocks_of_a_file_is_found(tmp_path: Path) -> None:
    forwarder = tmp_path / "station"
    block = firmware_search.BLOCK_BYTES
    forwarder.write_bytes(bytes(block - 5000) + AGC + bytes(block - 8192 + 5000 - 1) + ARB)
    assert main(["firmware", "import", str(forwarder), "--to", str(tmp_path)]) == 0
    assert read(tmp_path) == (AGC, ARB)


def test_images_may_come_one_by_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, content in (("a.bin", AGC), ("b.bin", ARB)):
        (tmp_path / name).write_bytes(content)
    assert main(["firmware", "import", str(tmp_path / "a.bin"), "--to", str(tmp_path / "fw")]) == 3
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "no image for the ARB" in error
    assert main(["firmware", "import", str(tmp_path / "b.bin"), "--to", str(tmp_path / "fw")]) == 0
    assert read(tmp_path / "fw") == (AGC, ARB)


@pytest.mark.parametrize(
    ("content", "outcome"),
    [
        (OLD, "ARB version 1 of sx1302_hal V1.0.0 to V1.1.2: left: too old"),
        (UNKNOWN, "unknown image: left: of no release that is known"),
        (bytes(8192), ""),
        (b"{" * 1000, ""),
        (b"", ""),
    ],
)
def test_what_is_of_no_use_is_named_and_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes, outcome: str
) -> None:
    (tmp_path / "x").write_bytes(content)
    assert main(["firmware", "import", str(tmp_path / "x"), "--to", str(tmp_path / "fw")]) == 3
    said = capsys.readouterr()
    assert outcome in said.out
    assert "no image for the AGC and the ARB" in said.err
    assert not (tmp_path / "fw").exists()


def test_the_configuration_names_the_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "gateway.toml"
    config.write_text('[gateway]\nstate_dir = "state"\n[concentrator]\nboard = "rak_2287"\n')
    (tmp_path / "x").write_bytes(program(AGC, ARB))
    assert main(["firmware", "list", "-c", str(config)]) == 3
    assert "civigate firmware import PATH" in capsys.readouterr().err
    assert main(["firmware", "import", str(tmp_path / "x"), "-c", str(config), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert [one["mcu"] for one in said["images"]] == ["agc", "arb"]
    assert all("written" in one for one in said["images"])
    assert read(tmp_path / "state" / "firmware") == (AGC, ARB)


def test_a_path_or_folder_that_cannot_be_used_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["firmware", "import", str(tmp_path / "absent"), "--to", str(tmp_path)]) == 3
    assert "No such file" in capsys.readouterr().err
    (tmp_path / "x").write_bytes(program(AGC, ARB))
    assert main(["firmware", "import", str(tmp_path / "x"), "--to", str(tmp_path / "x" / "fw")]) == 3
    error = capsys.readouterr().err
    assert "cannot be written: Not a directory" in error
    assert error.count("\n") == 1


def test_emptiness_and_long_runs_do_not_take_long(tmp_path: Path) -> None:
    (tmp_path / "zeros").write_bytes(bytes(4 << 20))
    (tmp_path / "runs").write_bytes(pack_word(1) * (1 << 20))
    assert firmware_search.search(tmp_path) == []


def hal(folder: Path) -> Path:
    """What a checkout of sx1302_hal looks like."""
    source = folder / "sx1302_hal-2.1.0" / "libloragw" / "src"
    source.mkdir(parents=True)
    (source / "agc_fw_sx1250.var").write_text(c_text("agc", AGC))
    (source / "arb_fw.var").write_text(c_text("arb", ARB))
    (source / "loragw_hal.c").write_text("int main(void) { return 0; }")
    return folder / "sx1302_hal-2.1.0"


@pytest.mark.parametrize("kind", ["zip", "tar", "gztar", "xztar", "bztar"])
def test_an_archive_is_looked_into_and_not_unpacked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    hal(tmp_path / "unpacked")
    archive = Path(shutil.make_archive(str(tmp_path / "sent" / "hal"), kind, tmp_path / "unpacked"))
    before = sorted(tmp_path.rglob("*"))
    assert main(["firmware", "import", str(archive), "--to", str(tmp_path / "fw")]) == 0
    assert read(tmp_path / "fw") == (AGC, ARB)
    assert f"{archive}: " in capsys.readouterr().out
    assert set(tmp_path.rglob("*")) - set(before) == {tmp_path / "fw", *(tmp_path / "fw").iterdir()}
    shutil.rmtree(tmp_path / "unpacked")
    shutil.rmtree(tmp_path / "fw")
    assert main(["firmware", "import", str(tmp_path / "sent"), "--to", str(tmp_path / "fw")]) == 0


def test_a_compressed_forwarder_gives_them_up(tmp_path: Path) -> None:
    (tmp_path / "station.gz").write_bytes(gzip.compress(program(ARB, AGC), 1))
    assert main(["firmware", "import", str(tmp_path / "station.gz"), "--to", str(tmp_path)]) == 0
    assert read(tmp_path) == (AGC, ARB)


def test_names_in_an_archive_lead_nowhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("../../agc.bin", AGC)
        archive.writestr("/etc/arb\x1b[2J.bin", ARB)
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for name, content in (("../../../agc.bin", AGC), ("/arb.bin", ARB)):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    for name in ("x.zip", "x.tar"):
        assert main(["firmware", "import", str(tmp_path / name), "--to", str(tmp_path / name.replace(".", ""))]) == 0
    assert "\x1b" not in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.tar", "x.zip", "xtar", "xzip"]


def test_what_comes_out_of_an_archive_has_a_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(firmware_archive, "UNPACKED_LIMIT_BYTES", 3 << 20)
    bomb = bytes(2 << 20)
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", bomb)
        archive.writestr("b", bomb)
    with tarfile.open(tmp_path / "x.tgz", "w:gz") as tar:
        for name in "ab":
            info = tarfile.TarInfo(name)
            info.size = len(bomb)
            tar.addfile(info, io.BytesIO(bomb))
    (tmp_path / "x.gz").write_bytes(gzip.compress(2 * bomb))
    for name in ("x.zip", "x.tgz", "x.gz"):
        assert main(["firmware", "import", str(tmp_path / name), "--to", str(tmp_path / "fw")]) == 3
        assert "cannot be unpacked: more than 3 MiB come out of it" in capsys.readouterr().err
    monkeypatch.setattr(firmware_archive, "MEMBERS_LIMIT", 1)
    assert main(["firmware", "import", str(tmp_path / "x.zip"), "--to", str(tmp_path / "fw")]) == 3
    assert "more than 1 files" in capsys.readouterr().err


@settings(max_examples=60, deadline=None)
@given(
    magic=st.sampled_from((b"PK\3\4", b"\x1f\x8b\x08\0", b"BZh9", b"\xfd7zXZ\0", bytes(257) + b"ustar\x0000")),
    noise=st.binary(max_size=600),
)
def test_a_damaged_archive_is_one_error(magic: bytes, noise: bytes) -> None:
    with tempfile.NamedTemporaryFile() as file:
        file.write(magic + noise)
        file.flush()
        with suppress(FirmwareError):
            firmware_search.search(Path(file.name))


def test_an_archive_that_breaks_off_is_one_line_and_no_obstacle_in_a_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = Path(shutil.make_archive(str(tmp_path / "sent" / "hal"), "gztar", hal(tmp_path)))
    archive.write_bytes(archive.read_bytes()[:-2000])
    assert main(["firmware", "import", str(archive), "--to", str(tmp_path / "fw")]) == 3
    error = capsys.readouterr().err
    assert "cannot be unpacked" in error
    assert error.count("\n") == 1
    assert main(["firmware", "import", str(tmp_path), "--to", str(tmp_path / "fw")]) == 0


def test_images_where_debian_keeps_firmware_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    system = tmp_path / "lib"
    monkeypatch.setattr(firmware, "SYSTEM_FOLDER", system)
    monkeypatch.setattr(config, "SYSTEM_FOLDER", system)
    toml = tmp_path / "gateway.toml"
    toml.write_text(f'[gateway]\nstate_dir = "{tmp_path}/state"\n[concentrator]\nboard = "rak_2287"\n')
    assert main(["firmware", "list", "-c", str(toml)]) == 3
    assert "state/firmware/agc.bin: cannot be read" in capsys.readouterr().err
    assert main(["firmware", "import", str(hal(tmp_path)), "--to", str(system)]) == 0
    assert main(["firmware", "list", "-c", str(toml)]) == 0
    assert f"{system}/agc.bin: AGC version 10" in capsys.readouterr().out
    assert firmware.load_from(config.load(toml).firmware_dirs).arb == ARB


def test_the_patch_of_the_sx1261_comes_out_of_an_archive_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    patch = random.Random(1).randbytes(sx1261_patch.PATCH_BYTES)
    monkeypatch.setattr(sx1261_patch, "DIGEST", hashlib.sha256(patch).hexdigest())
    words = (f"0x{int.from_bytes(patch[at : at + 4], 'big'):08x}" for at in range(0, len(patch), 4))
    folder = hal(tmp_path)
    (folder / "libloragw/src/sx1261_pram.var").write_text("uint32_t pram[386] = { " + ", ".join(words) + " };")
    archive = shutil.make_archive(str(tmp_path / "hal"), "zip", folder)
    assert main(["firmware", "import", archive, "--to", str(tmp_path / "fw")]) == 0
    assert (tmp_path / "fw" / sx1261_patch.FILE_NAME).read_bytes() == patch
