# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""`civigate filter test`: what new rules would do with what is stored."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from agent.batch.keys import Ed25519Signer
from agent.cli.main import main
from agent.frame import CrcStatus
from tests.agent.spool.gateway import CITY, WATER, frame, heard, wait_for, writer

DEVICES = (0x26011000, 0x26011001, 0x27000000)


def data_up(dev_addr: int, port: int = 1) -> bytes:
    return b"\x40" + dev_addr.to_bytes(4, "little") + b"\x80\0\0" + bytes([port]) + bytes(14)


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    """Thirty frames: ten of each device; the city has the first two devices, the waterworks the last two."""
    frames = [replace(frame(index), phy_payload=data_up(DEVICES[index % 3]), crc=CrcStatus.OK) for index in range(30)]
    with writer(tmp_path, (CITY, WATER)) as spool:
        spool.offer(heard(frames, [(0b01, 0b11, 0b10)[index % 3] for index in range(30)], destinations=2, foreign=10))
        wait_for(lambda: spool.status().queued_frames == 0)
    return tmp_path / "spool.db"


@pytest.fixture
def config(tmp_path: Path, spool: Path) -> Path:
    """The city gives up its second device for the third; the waterworks are gone; the county is new."""
    key = Ed25519Signer.generate().public.text
    destination = (
        '[[destination]]\nname = "{}"\nurl = "https://{}.example"\nreceipt_key = "{}"\n[destination.filter]\n{}\n'
    )
    file = tmp_path / "new.toml"
    file.write_text(
        f'[gateway]\nstate_dir = "{spool.parent}"\n[concentrator]\nboard = "rak_2287"\n'
        + destination.format("city", "city", key, 'dev_addr = ["26011000", "27000000/8"]')
        + destination.format("county", "county", key, 'dev_addr = ["26011000/20"]\nf_ports = [1]')
    )
    return file


def test_a_dry_run_tells_what_stays_what_goes_and_what_comes(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["filter", "test", "-c", str(config), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    city, county = said["destinations"]
    assert said["frames"] == 30
    assert (city["kept"], city["lost"], city["gained"]) == (10, 10, 10)
    assert (city["heard"], city["filtered"], city["known"]) == (40, 20, True)
    assert (county["kept"], county["lost"], county["gained"], county["known"]) == (0, 0, 20, False)


def test_a_dry_run_for_people(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["filter", "test", "-c", str(config), "--path", str(config.parent / "spool.db")]) == 0
    said = capsys.readouterr().out
    assert "of 20 stored for it, it would get 10 again, 10 no more" in said
    assert "new: it would have got 20 of them" in said
    assert "20 of 40 heard were not for it (50.0%)" in said


def test_one_frame_can_be_asked_about(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["filter", "test", "-c", str(config), "--frame", data_up(0x27000001, 2).hex()]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "data up of DevAddr 27000001 on port 2" in said
    assert "city: accepted" in said
    assert "county: filtered" in said
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["accepted"] == {"city": True, "county": False}


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        ("00" + "01" * 8 + "02" * 8 + "0000" + "00" * 4, "join request of DevEUI 0202020202020202"),
        ("e0" + "00" * 9, "Proprietary"),
        ("ff", "not LoRaWAN"),
    ],
)
def test_any_frame_can_be_asked_about(
    config: Path, capsys: pytest.CaptureFixture[str], payload: str, words: str
) -> None:
    assert main(["filter", "test", "-c", str(config), "--frame", payload]) == 0
    assert words in capsys.readouterr().out


@pytest.mark.parametrize("payload", ["4", "xy", "", "00" * 256])
def test_what_is_no_frame_is_a_usage_error(config: Path, payload: str) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["filter", "test", "-c", str(config), "--frame", payload])
    assert caught.value.code == 2
