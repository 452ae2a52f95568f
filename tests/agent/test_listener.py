# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The SX1261 as the configuration has it: for the agent, on USB, and for `civigate scan`."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest

from agent.cli.main import main
from agent.config import Bus, load, parse_bus
from agent.errors import AgentError
from agent.hardware import concentrator_opener
from agent.listener import open_sx1261, read_patch
from drivers.emulator import AirPacket, Emulator
from drivers.emulator.remote import Server
from drivers.emulator.usb import UsbPort
from drivers.errors import FirmwareError
from drivers.linux.usb import UsbBridge
from drivers.sx1261_patch import SYNTHETIC
from drivers.sx1302.transmission import LoraTransmission, Trigger, TxFate
from tests.agent.test_radio import HostTime
from tests.drivers.bench import Bench

if TYPE_CHECKING:
    from pathlib import Path


def _configuration(folder: Path, bus: str, sx1261: str = "") -> Path:
    path = folder / "gateway.toml"
    line = f'sx1261 = "{sx1261}"\n' if sx1261 else ""
    path.write_text(
        f'[gateway]\nstate_dir = "{folder}"\nruntime_dir = "{folder}"\n'
        f'[concentrator]\nboard = "semtech_corecell_eu868"\nbus = "{bus}"\nplan = "kr920"\n{line}'
    )
    return path


def test_scan_tells_the_noise_of_each_channel(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    emulator, spi = Emulator(sx1261=True), tmp_path / "spi.sock"
    emulator.set_channel(-96)
    with Server(emulator, spi, tmp_path / "control.sock"):
        config = _configuration(tmp_path, f"emulator:{spi}", f"emulator:{spi}")
        assert main(["scan", "-c", str(config), "--samples", "500"]) == 0
        assert main(["scan", "-c", str(config), "--samples", "500", "--json"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == [
        f"{megahertz} MHz: noise -96 dBm; 90 % up to -92 dBm, 99 % up to -92 dBm"
        for megahertz in ("922.100", "922.300", "922.500")
    ]
    said = json.loads(lines[3])
    assert said == {
        "frequency_hz": 922_100_000,
        "aborted": False,
        "p50_dbm": -96.0,
        "p90_dbm": -92.0,
        "p99_dbm": -92.0,
        "counts": {"-92": 100, "-96": 300, "-100": 100},
    }


def test_scan_says_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    emulator, spi = Emulator(), tmp_path / "spi.sock"
    with Server(emulator, spi, tmp_path / "control.sock"):
        assert main(["scan", "-c", str(_configuration(tmp_path, f"emulator:{spi}"))]) == 2
        assert "CG-CFG-011" in capsys.readouterr().err
        config = _configuration(tmp_path, f"emulator:{spi}", f"emulator:{spi}")
        assert main(["scan", "-c", str(config)]) == 3
        assert "CG-1261-001" in capsys.readouterr().err
        with pytest.raises(SystemExit):
            main(["scan", "-c", str(config), "--samples", "0"])


def test_the_agents_concentrator_listens_before_it_talks(tmp_path: Path) -> None:
    clock = HostTime()
    emulator, spi = Emulator(sx1261=True, monotonic_ns=clock.monotonic_ns), tmp_path / "spi.sock"
    with Server(emulator, spi, tmp_path / "control.sock"):
        opener = concentrator_opener(load(_configuration(tmp_path, f"emulator:{spi}", f"emulator:{spi}")), clock)
        concentrator = opener()
        concentrator.start()
        downlink = LoraTransmission(922_300_000, 14, 125_000, 9, 1, bytes(20))
        for channel_dbm, fate in ((-60, TxFate.REFUSED), (-90, TxFate.SENT)):
            emulator.set_channel(channel_dbm)
            concentrator.transmit(downlink, Trigger.IMMEDIATE)
            for _ in range(100):
                concentrator.receive()
                clock.sleep(0.01)
            assert concentrator.transmit_fate() is fate
        concentrator.close()


def test_on_usb_one_bridge_serves_both(tmp_path: Path) -> None:
    bench, link = Bench(sx1261=True), tmp_path / "ttyACM0"
    at = Bus("usb", link)
    with UsbPort(bench.emulator, link, time.monotonic_ns):
        bridge = UsbBridge(str(link))
        sx1261 = open_sx1261(at, SYNTHETIC, bench.clock, spi_clock_hz=2_000_000, beside=(at, bridge))
        bench.emulator.drive_sx1261_reset(active=True)
        sx1261.start(922_300_000)
        bench.emulator.set_channel(-100)
        bench.bus.transfer(b"\x00" * 5)
        sx1261.close()
        assert bridge.transfer(bytes.fromhex("005606") + bytes(2))[4] == 0x10
        with pytest.raises(AgentError, match="is said to be at usb:/dev/ttyACM7"):
            open_sx1261(
                parse_bus("usb:/dev/ttyACM7"), SYNTHETIC, bench.clock, spi_clock_hz=2_000_000, beside=(at, bridge)
            )
        bridge.close()


def test_reception_does_without_one_that_is_not_there(tmp_path: Path) -> None:
    clock = HostTime()
    emulator, spi = Emulator(monotonic_ns=clock.monotonic_ns), tmp_path / "spi.sock"
    with Server(emulator, spi, tmp_path / "control.sock"):
        config = load(_configuration(tmp_path, f"emulator:{spi}", f"emulator:{tmp_path}/nowhere.sock"))
        concentrator = concentrator_opener(config, clock)()
        concentrator.start()
        emulator.inject(AirPacket(922_100_000, b"heard", sf=7))
        assert len(concentrator.receive().packets) == 1
        concentrator.close()


def test_a_real_one_needs_the_real_patch(tmp_path: Path) -> None:
    with pytest.raises(FirmwareError, match=r"sx1261\.bin"):
        read_patch((tmp_path,), parse_bus("spi:/dev/spidev0.1"))
    assert read_patch((tmp_path,), parse_bus("emulator:/tmp/spi.sock")) == SYNTHETIC
    (tmp_path / "sx1261.bin").write_bytes(bytes(1544))
    with pytest.raises(FirmwareError, match="is not the patch"):
        read_patch((tmp_path,), parse_bus("spi:/dev/spidev0.1"))
