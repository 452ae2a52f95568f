# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""`civigate boards`: what is known, what is in it, and what cannot be used."""

from __future__ import annotations

import json

import pytest

from agent.cli.main import main
from drivers.boards import known_boards
from drivers.plans import plan_names


def test_all_boards_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["boards"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert len(said) == len(known_boards())
    assert any(line.startswith("rak_2287 ") for line in said)
    assert next(line for line in said if line.startswith("imst_ic880a")).endswith(
        "(not supported: carries an SX1301, which is a different concentrator)"
    )
    assert main(["boards", "list", "--json"]) == 0
    assert {board["name"] for board in json.loads(capsys.readouterr().out)} == {board.name for board in known_boards()}


def test_a_board_is_shown_with_its_sources(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["boards", "show", "semtech_sx1302c868gw1"]) == 0
    said = capsys.readouterr().out
    assert "reset          GPIO23, active high" in said
    assert "transmits      12 to 27 dBm on radio A" in said
    assert "V2.1.0" in said
    assert main(["boards", "show", "multitech_mtac_003e00"]) == 0
    assert "command mts-io-sysfs store ap1/creset" in capsys.readouterr().out
    assert main(["boards", "show", "sensecap_m1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["transmit_gains"] == []


def test_a_board_that_cannot_be_run_is_refused_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["boards", "show", "rak_2245"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "RAKwireless RAK2245: carries an SX1301" in error


def test_plans_are_listed_and_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["boards", "plans"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(plan_names())
    for name in plan_names():
        assert main(["boards", "plan", name]) == 0
    assert main(["boards", "plan", "eu868"]) == 0
    said = capsys.readouterr().out
    assert "listens        868.8000 MHz, FSK 50000 bit/s" in said
    assert "may transmit   869.4 to 869.65 MHz, 29.15 dBm EIRP, 10 % of each hour" in said
    assert "as written in  ETSI EN 300 220-2" in said
    assert main(["boards", "plan", "eu868", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["multi_sf"]) == 8
    assert main(["boards", "plan", "kr920"]) == 0
    assert "from" not in (said := capsys.readouterr().out.splitlines()[6])
    assert said.endswith("4000 ms at a time, 50 ms of pause, after 5 ms below -65 dBm")
