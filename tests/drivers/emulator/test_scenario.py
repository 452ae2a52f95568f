# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Scenarios are read strictly, and the documented one means what it says."""

from __future__ import annotations

from pathlib import Path

import pytest

from drivers.emulator.device import EU868_HZ, Otaa
from drivers.emulator.lorawan import Session
from drivers.emulator.medium import Crystal
from drivers.emulator.scenario import load_scenario
from drivers.errors import ProfileError

EXAMPLE = Path(__file__).parents[3] / "docs" / "emulator.scenario.example.toml"
ABP = """
[[device]]
dev_addr = "26011BDA"
nwk_s_key = "101112131415161718191A1B1C1D1E1F"
app_s_key = "202122232425262728292A2B2C2D2E2F"
path_loss_db = 120
interval_s = 60
"""


def test_the_documented_scenario_is_understood() -> None:
    scenario = load_scenario(EXAMPLE)
    assert (scenario.seed, scenario.noise_figure_db, scenario.demodulators) == (1, 6.0, 16)
    water, parking = scenario.devices
    assert isinstance(water.activation, Otaa)
    assert water.activation.dev_eui.hex() == "70b3d57ed0000001"
    assert (water.interval_us, water.first_us, water.sf, water.confirmed) == (60_000_000, 2_000_000, 9, True)
    assert 80 < water.path_loss_db < 150
    assert isinstance(parking.activation, Session)
    assert parking.activation.dev_addr == 0x26011BDA
    assert (parking.path_loss_db, parking.poisson, parking.fading_db) == (138, True, 3)
    assert 0 <= parking.first_us <= 45_000_000
    assert parking.crystal == Crystal(-12.5, 2)
    assert parking.frequencies_hz == EU868_HZ
    assert [(fault.at_us // 1_000_000, fault.kind, fault.parameters) for fault in scenario.faults] == [
        (300, "pps_lost", {}),
        (420, "damage", {"how": "crc16", "times": 3}),
        (600, "none", {}),
    ]


def test_a_device_does_not_change_when_others_come(tmp_path: Path) -> None:
    (tmp_path / "one.toml").write_text(ABP)
    (tmp_path / "two.toml").write_text(ABP.replace("26011BDA", "26011BDB") + ABP)
    assert load_scenario(tmp_path / "one.toml").devices[0] == load_scenario(tmp_path / "two.toml").devices[1]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sede = 1", "sede: unknown key; did you mean 'seed'?"),
        ("seed = -1", "seed: found -1"),
        ("[gateway]\nposition = { x_m = 1 }", "gateway.position.y_m: missing"),
        ("[medium]\nexponent = 9", "medium.exponent: found 9"),
        ("[[device]]", "device[0].dev_eui: missing; give dev_eui, join_eui and app_key; or dev_addr and its"),
        ('[[device]]\ndev_eui = "xyz"', "device[0].dev_eui: found 3 characters; write 16 hexadecimal digits"),
        (ABP + "sf = 13", "device[0].sf: found 13; write a whole number from 7 to 12"),
        (ABP + "sf = true", "device[0].sf: found True"),
        (ABP + "interval = 5", "device[0].interval: unknown key; did you mean 'interval_s'?"),
        (ABP + "frequencies_hz = [868.1]", "device[0].frequencies_hz: found [868.1]"),
        (ABP + "traffic = 'bursts'", "device[0].traffic: found 'bursts'; write one of periodic, poisson"),
        (ABP + "position = { x_m = 1, y_m = 1 }", "device[0].path_loss_db: unknown key"),
        (ABP + ABP, "device[1].name: '26011BDA' twice"),
        (ABP.replace("path_loss_db = 120", ""), "device[0].path_loss_db: missing"),
        ("[[fault]]\nkind = 'stall'", "fault[0].at_s: missing"),
        ("[[fault]]\nat_s = 1\nkind = 'stal'", "fault[0].kind: found 'stal'; write one of none, agc_stuck, "),
        ("[[fault]]\nat_s = 1\nkind = 'stall'\ntimes = 2", "fault[0].times: unknown key"),
        ("[[fault]]\nat_s = 1\nkind = 'usb'\nhow = 'slow'", "fault[0].kind: how 'slow': expected one of stall, short"),
        ("[[fault]]\nat_s = 1\nkind = 'radio_missing'\nradio = 2", "fault[0].kind: radio 2: outside 0 to 1"),
        ("device = 3", "device: found 3"),
        ("[[device]", "not TOML"),
    ],
)
def test_what_is_not_understood_is_said_in_one_line(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "scenario.toml"
    path.write_text(text)
    with pytest.raises(ProfileError) as caught:
        load_scenario(path)
    told = f"{caught.value}; {caught.value.hint}"
    assert said in told
    assert str(path) in told
    assert "\n" not in told
