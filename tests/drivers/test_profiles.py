# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Boards and plans: all that ship are sound, and mistakes in one's own are told by file and key."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from drivers.boards import CommandLine, GpioLine, board_names, known_boards, load_board
from drivers.errors import BusError, ProfileError
from drivers.linux.command import ProgramLine
from drivers.plans import TransmitBand, load_plan, plan_names

BOARD = """
title = "T"
source = "S"
spi_device = "/dev/spidev0.0"
spi_clock_hz = 2_000_000
clock_radio = "A"
rssi_offset_db = -215.4
[reset]
gpio = 17
"""

PLAN = """
title = "T"
source = "S"
[radio_a]
centre_hz = 867_500_000
[[multi_sf]]
frequency_hz = 867_100_000
radio = "A"
"""


@pytest.mark.parametrize("name", board_names())
def test_every_shipped_board_is_sound(name: str) -> None:
    board = load_board(name)
    assert board.name == name
    assert board.usb_device or board.reset or board.reset_command
    assert any(
        publication in board.source for publication in ("V2.1.0", "0904a8d", "hm-pyhelper", "chirpstack-openwrt-feed")
    )
    assert board.transmit_gains or "does not transmit" in board.source


CONCENTRATORD_MODELS = (
    "dragino_pg1302",
    "elecrow_lr1302",
    "embit_emb_lr1302_mpcie",
    "miromico_gwc_02_lw_868",
    "miromico_gwc_02_lw_915",
    "multitech_mtac_003e00",
    "multitech_mtac_003u00",
    "multitech_mtcap3_003e00",
    "multitech_mtcap3_003u00",
    "rak_2287",
    "rak_5146",
    "seeed_wm1302",
    "semtech_sx1302c490gw1",
    "semtech_sx1302c868gw1",
    "semtech_sx1302c915gw1",
    "semtech_sx1302css868gw1",
    "semtech_sx1302css915gw1",
    "semtech_sx1302css923gw1",
    "waveshare_sx1302_lorawan_gateway_hat",
)
OF_OTHER_CHIPS = (
    "imst_ic880a",
    "kerlink_ifemtocell",
    "multitech_mtac_lora_h_868",
    "multitech_mtac_lora_h_915",
    "multitech_mtcap_lora_868",
    "multitech_mtcap_lora_915",
    "pi_supply_lora_gateway_hat",
    "rak_2245",
    "rak_2246",
    "rak_2247",
    "risinghf_rhf0m301",
    "sandbox_lorago_port",
    "wifx_lorix_one",
    "multitech_mtac_lora_2g4",
    "rak_5148",
    "semtech_sx1280z3dsfgw1",
)


@pytest.mark.parametrize("model", CONCENTRATORD_MODELS)
def test_every_board_of_concentratord_that_can_be_driven_is_known_by_that_name(model: str) -> None:
    board = load_board(model)
    assert board.chip in ("SX1302", "SX1303")
    assert board.transmit_gains


@pytest.mark.parametrize("model", OF_OTHER_CHIPS)
def test_boards_with_other_chips_are_known_and_refused_in_one_line(model: str) -> None:
    with pytest.raises(ProfileError, match=r"carries an SX130[18]|listens at 2\.4 GHz") as caught:
        load_board(model)
    assert "\n" not in f"{caught.value}; {caught.value.hint}"
    assert model not in board_names()
    assert model in [known.name for known in known_boards()]


def test_no_alias_hides_another_board() -> None:
    names = [name for known in known_boards() for name in (known.name, *known.aliases)]
    assert len(set(names)) == len(names)


def test_a_board_that_is_attached_nowhere_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "board.toml"
    path.write_text(BOARD.replace('spi_device = "/dev/spidev0.0"\n', ""))
    with pytest.raises(ProfileError, match="neither this nor usb_device"):
        load_board(path)


def test_a_line_may_be_a_vendors_program(tmp_path: Path) -> None:
    record = tmp_path / "record"
    program = tmp_path / "set-line"
    program.write_text(f'#!/bin/sh\necho "$@" >> {record}\n')
    program.chmod(0o755)
    line = CommandLine((str(program), "store", "reset"), active_high=False)
    ProgramLine(line).set(active=True)
    ProgramLine(line).set(active=False)
    assert record.read_text() == "store reset 0\nstore reset 1\n"
    with pytest.raises(BusError, match="No such file") as caught:
        ProgramLine(CommandLine((str(tmp_path / "absent"),), active_high=True)).set(active=True)
    assert caught.value.code == "CG-GPIO-004"


@pytest.mark.parametrize("name", plan_names())
def test_every_shipped_plan_is_sound(name: str) -> None:
    plan = load_plan(name)
    assert plan.name == name
    frequencies = [channel.frequency_hz for channel in plan.multi_sf]
    assert len(set(frequencies)) == len(frequencies)
    assert plan.public


def test_the_boards_of_the_field_are_there() -> None:
    assert set(board_names()) >= {
        "semtech_corecell_eu868",
        "seeed_wm1302",
        "rak_2287",
        "rak_5146",
        "waveshare_sx1302",
        "elecrow_lr1302",
        "dragino_pg1302",
    }
    assert load_board("seeed_wm1302").reset == GpioLine(17, active_high=True)
    assert load_board("rak_2287").power is None


def test_regions_are_the_published_channels() -> None:
    assert [c.frequency_hz for c in load_plan("eu868").multi_sf][:3] == [868_100_000, 868_300_000, 868_500_000]
    us915 = load_plan("us915_1")
    assert [c.frequency_hz for c in us915.multi_sf] == [903_900_000 + 200_000 * i for i in range(8)]
    assert us915.service is not None
    assert (us915.service.frequency_hz, us915.service.bandwidth_hz) == (904_600_000, 500_000)
    assert load_plan("au915_7").multi_sf[7].frequency_hz == 927_800_000
    assert load_plan("cn470_11").multi_sf[7].frequency_hz == 489_300_000


def test_own_profiles_are_loaded_by_path(tmp_path: Path) -> None:
    board, plan = tmp_path / "mine.toml", tmp_path / "here.toml"
    board.write_text(BOARD)
    plan.write_text(PLAN)
    assert load_board(board).name == "mine"
    assert load_board(str(board)).reset == GpioLine(17, active_high=True)
    assert load_plan(plan).radio_hz == (867_500_000, None)


@pytest.mark.parametrize(
    ("old", "new", "message", "hint"),
    [
        ("gpio = 17", "gpio = 99", r"mine\.toml: reset\.gpio: found 99", "0 to 53"),
        ("gpio = 17", "", r"mine\.toml: reset\.gpio: missing", "add it"),
        ("gpio = 17", "gpio = true", r"reset\.gpio: found True", "whole number"),
        ("gpio = 17", 'gpio = 17\nactive = "up"', r"reset\.active: found 'up'", "high, low"),
        ("clock_radio", "clock_radoi", r"clock_radio: missing", "add it"),
        ('source = "S"', 'source = "S"\nsingle_inptu_a = true', r"single_inptu_a: unknown key", "'single_input_a'"),
        ("[reset]", "[reste]", r"mine\.toml: reste: unknown key", "'reset'"),
        ("-215.4", '"-215"', r"rssi_offset_db: found '-215'", "number from -300 to 0"),
        ('"T"', '""', r"title: found ''", "text"),
        ("[reset]", "[reset", r"mine\.toml: not TOML", "correct"),
        ("[reset]\ngpio = 17", "reset = 17", r"reset: found 17", r"table"),
    ],
)
def test_a_mistake_in_a_board_is_told(tmp_path: Path, old: str, new: str, message: str, hint: str) -> None:
    path = tmp_path / "mine.toml"
    assert old in BOARD
    path.write_text(BOARD.replace(old, new))
    with pytest.raises(ProfileError, match=message) as caught:
        load_board(path)
    assert hint in caught.value.hint


NINE = '[[multi_sf]]\nfrequency_hz = 867_100_000\nradio = "A"\n' * 8


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        (PLAN.replace("867_100_000", "866_700_000"), r"multi_sf\[0\]: .* ends 862500 Hz from", "800000 Hz"),
        (PLAN.replace('radio = "A"', 'radio = "B"'), "uses radio B, which is off", "centre"),
        (PLAN.replace("867_500_000", "870_000_000"), "no image calibration", "863-870"),
        (PLAN.split("[[multi_sf]]", maxsplit=1)[0], "no channel at all", "at least one"),
        (PLAN + NINE, "multi_sf: found 9 of them", "at most 8"),
        (
            PLAN + '[service]\nfrequency_hz=867_500_000\nradio="A"\nbandwidth_hz=200_000\nspreading_factor=7',
            r"service\.bandwidth_hz: found 200000",
            "250000",
        ),
        (PLAN + '[fsk]\nfrequency_hz=867_500_000\nradio="A"\nbitrate_bps=1', r"fsk\.bitrate_bps: found 1", "500"),
        ("lowest_spreading_factor = 4\n" + PLAN, "lowest_spreading_factor: found 4", "5 to 12"),
        ("lowest_spreading_factor = 9\nhighest_spreading_factor = 8\n" + PLAN, "no spreading factor", "lowest"),
        ("multi_sf = 5\n" + PLAN.split("[[multi_sf]]", maxsplit=1)[0], "multi_sf: found 5", "tables"),
    ],
)
def test_a_mistake_in_a_plan_is_told(tmp_path: Path, text: str, message: str, hint: str) -> None:
    path = tmp_path / "here.toml"
    path.write_text(text)
    with pytest.raises(ProfileError, match=message) as caught:
        load_plan(path)
    assert hint in caught.value.hint


def test_a_name_that_is_not_there_is_answered_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match="no such profile") as caught:
        load_plan("eu686")
    assert "eu868" in caught.value.hint
    with pytest.raises(ProfileError, match="cannot be read"):
        load_board(tmp_path / "gone.toml")
    long = tmp_path / "long.toml"
    long.write_bytes(b"#" * 70_000)
    with pytest.raises(ProfileError, match="longer than 65536"):
        load_board(long)


@pytest.mark.parametrize("name", plan_names())
def test_every_shipped_plan_says_where_its_limits_are_written(name: str) -> None:
    plan = load_plan(name)
    assert plan.transmit_source is not None
    assert len(plan.transmit_source) > 20
    assert plan.transmit
    assert all(band.name for band in plan.transmit)
    assert len({(band.name, band.low_hz) for band in plan.transmit}) == len(plan.transmit)


def test_a_plan_of_ones_own_may_say_only_what_is_different(tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    own.write_text('base = "as923"\n[[transmit]]\nlow_hz = 920_000_000\nhigh_hz = 925_000_000\nlimit_dbm = 14\n')
    plan, base = load_plan(own), load_plan("as923")
    assert (plan.name, plan.multi_sf, plan.title) == ("own", base.multi_sf, base.title)
    assert [(band.limit_dbm, band.longest_ms) for band in plan.transmit] == [(14.0, None)]
    board = tmp_path / "board.toml"
    board.write_text('base = "rak_2287"\n[reset]\ngpio = 25\n')
    assert load_board(board).reset == GpioLine(25, active_high=True)
    assert load_board(board).transmit_gains == load_board("rak_2287").transmit_gains
    for text, message in (('base = "as924"', "no such profile"), ("base = 1", "found 1")):
        own.write_text(text)
        with pytest.raises(ProfileError, match=message):
            load_plan(own)


def test_lines_and_devices_of_the_table() -> None:
    assert load_board("seeed_wm1302").sx1261_reset == GpioLine(5, active_high=False)
    assert load_board("semtech_sx1302c868gw1").sx1261_reset == GpioLine(22, active_high=False)
    assert load_board("rak_2287").sx1261_reset is None
    assert load_board("rak_2287").gnss_device == "/dev/ttyAMA0"
    assert load_board("embit_emb_lr1302_mpcie").gnss_device is None
    assert load_board("rak_2287_as923").transmit_gains[0].register == 1 << 6 | 1


def test_a_line_of_another_computer_is_named_by_its_controller(tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    own.write_text(BOARD.replace("gpio = 17", 'gpio = 227\ncontroller = "300b000.pinctrl"'))
    assert load_board(own).reset == GpioLine(227, active_high=True, controller="300b000.pinctrl")
    own.write_text(BOARD.replace("gpio = 17", "gpio = 227"))
    with pytest.raises(ProfileError, match=r"reset\.gpio: found 227"):
        load_board(own)


def test_the_page_on_the_radio_says_what_profiles_have(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "radio.md").read_text()
    own = tmp_path / "own.toml"
    own.write_text(page.split("```toml\n")[1].split("```")[0])
    assert load_board(own).reset == GpioLine(25, active_high=True)
    rows = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    told = {key for row in rows for key in row.replace("`", " ").replace(",", " ").split()}
    assert told == {one.name for one in fields(TransmitBand)} - {"name"}
