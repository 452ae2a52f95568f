# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""`civigate probe`: the concentrator is found, and not disturbed."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING

import pytest

from agent.cli.main import main
from agent.config import load
from drivers.boards import load_board
from drivers.emulator import Emulator, Model
from drivers.emulator.emulator import pins_of
from drivers.emulator.program import run_program
from drivers.emulator.remote import Server
from drivers.emulator.usb import UsbPort
from tests.drivers.bench import Bench

if TYPE_CHECKING:
    from pathlib import Path

EUI = "0016c001ff123456"


def test_a_running_concentrator_is_found_and_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bench = Bench()
    bench.started()
    spi = tmp_path / "spi.sock"
    with Server(bench.emulator, spi, tmp_path / "control.sock"):
        assert main(["probe", "--bus", f"emulator:{spi}"]) == 0
        assert main(["probe", "--bus", f"emulator:{spi}", "--json"]) == 0
    assert bench.emulator.stats().running
    assert bench.emulator.stats().resets == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"emulator:{spi}: SX1302, EUI {EUI}, receiving"
    assert "civigate gnss --device /dev/ttyAMA0" in lines[3]
    said = json.loads(lines[-1])
    assert (said["chip"], said["eui"], said["receiving"]) == ("SX1302", EUI, True)
    assert "rak_2287" in said["boards"]
    assert "rak_5146" not in said["boards"]


def test_where_nothing_answers_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    emulator, spi = Emulator(), tmp_path / "spi.sock"
    emulator.drive_reset(active=True)
    with Server(emulator, spi, tmp_path / "control.sock"):
        assert main(["probe", "--bus", f"emulator:{spi}"]) == 3
    assert "no concentrator (version register reads 0x00)" in capsys.readouterr().out
    assert main(["probe", "--bus", f"emulator:{spi}"]) == 3
    said = capsys.readouterr()
    assert "spi.sock" in said.out
    assert said.out.count("\n") == 2


def test_a_bus_of_no_kind_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["probe", "--bus", "pci:/dev/x"])
    assert caught.value.code == 2
    assert 'unknown kind "pci"' in capsys.readouterr().err


def test_a_concentrator_on_usb_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    link = tmp_path / "ttyACM0"
    with UsbPort(Emulator(model=Model.SX1303), link, time.monotonic_ns):
        assert main(["probe", "--bus", f"usb:{link}"]) == 0
    assert f"usb:{link}: SX1303, EUI {EUI}" in capsys.readouterr().out


def test_what_was_found_is_written_into_the_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bench, spi, config = Bench(), tmp_path / "spi.sock", tmp_path / "gateway.toml"
    config.write_text("# the town hall\n[concentrator]  # on the mast\n#board = 1\n")
    with Server(bench.emulator, spi, tmp_path / "control.sock"):
        bus = ["probe", "--bus", f"emulator:{spi}", "--write", str(config)]
        assert main(bus) == 1
        error = capsys.readouterr().err
        assert "profiles fit" in error
        assert "choose with --bus and --board" in error
        assert config.read_text().count("\n") == 3
        assert main([*bus, "--board", "rak_2287"]) == 0
    assert config.read_text() == (
        f'# the town hall\n[concentrator]  # on the mast\nbus = "emulator:{spi}"\n#board = 1\nboard = "rak_2287"\n'
    )
    assert load(config).concentrator.board == "rak_2287"


def test_a_board_is_known_by_its_lines_and_its_sensor_and_written(tmp_path: Path) -> None:
    """Other boards with the same lines have their sensor at another address, or other power steps."""
    config = tmp_path / "gateway.toml"
    words = ["probe", "--try-boards", "--bus", "spi:/dev/spidev0.0", "--write", str(config)]
    program = "import sys; from agent.cli.main import main; sys.exit(main(sys.argv[1:]))"
    emulator = Emulator(pins=pins_of(load_board("waveshare_sx1302")), celsius=21.0)
    assert run_program(emulator, [sys.executable, "-c", program, *words]) == 0
    assert load(config).concentrator.board == "waveshare_sx1302"
    without_sensor = Emulator(pins=pins_of(load_board("waveshare_sx1302")), celsius=None)
    assert run_program(without_sensor, [sys.executable, "-c", program, *words]) == 1


@pytest.mark.parametrize(
    ("board", "fits", "does_not"),
    [("seeed_wm1302", "elecrow_lr1302", "semtech_corecell_eu868"), ("dragino_pg1302", "dragino_pg1302", "rak_2287")],
)
def test_the_lines_that_lead_to_the_chip_are_found_with_the_real_libraries(
    tmp_path: Path, board: str, fits: str, does_not: str
) -> None:
    out = tmp_path / "out"
    program = (
        "import sys; from agent.cli.main import main; sys.stdout = open(sys.argv[1], 'w'); "
        "code = main(['probe', '--bus', 'spi:/dev/spidev0.0', '--try-boards', '--json']); sys.stdout.close(); "
        "sys.exit(code)"
    )
    emulator = Emulator(pins=pins_of(load_board(board)))
    assert run_program(emulator, [sys.executable, "-c", program, str(out)]) == 0
    said = json.loads(out.read_text())
    assert said["chip"] == "SX1302"
    assert said["radios"] == ["SX1250", "SX1250"]
    assert emulator.high_lines() == [], "all lines are inputs again"
    assert fits in said["boards"]
    assert does_not not in said["boards"]
