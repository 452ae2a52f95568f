# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The way to the chip of a virtual machine, with both of its halves on this machine."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.demo.stage import free_port
from drivers.boards import load_board
from drivers.emulator import AirPacket, Emulator
from drivers.emulator.remote import Server
from drivers.plans import load_plan
from hil_tests.bench.bridge import SOURCE, BridgedDoor
from hil_tests.vm import door_server
from hil_tests.vm.door import connect
from tests.e2e.conftest import until


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="cg-door-") as name:
        yield Path(name)


def test_the_chip_is_reached_through_a_port_again_and_again(folder: Path) -> None:
    config, port = folder / "gateway.toml", free_port()
    config.write_text(f'[concentrator]\nbus = "emulator:{folder}/spi.sock"\nboard = "semtech_corecell_eu868"\n')
    served = [sys.executable, door_server.__file__, str(port), sys.executable, "-c", SOURCE, str(config)]
    emulator = Emulator()
    door = BridgedDoor(lambda: connect(port), load_board("semtech_corecell_eu868"), load_plan("eu868"), ())
    with Server(emulator, folder / "spi.sock", folder / "control.sock"), subprocess.Popen(served) as server:
        try:
            until(lambda: _listens(port), "the port")
            for number in range(2):
                concentrator = door.open_concentrator()
                concentrator.start()
                emulator.inject(AirPacket(freq_hz=868_100_000, payload=bytes([number])))
                assert [packet.payload for packet in concentrator.receive().packets] == [bytes([number])]
                concentrator.close()
                door.release()
        finally:
            door.release()
            server.kill()


def _listens(port: int) -> bool:
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return any(line.split()[1].endswith(f":{port:04X}") and line.split()[3] == "0A" for line in lines)
