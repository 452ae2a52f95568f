# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The bench that is this machine: its service, what the package has installed, and the concentrator that its
gateway.toml names; no rig around it.

`--gateway FILE` names another configuration than /etc/civigate/gateway.toml. Without the service of the package on
this machine there are no roles `dut` and `system`, and whoever types the command sees to it that no agent runs. With a
node on its USB and a platform beside it, it is a rig: a bench file whose [dut] has `via = ["sh", "-c"]`.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Final

from agent.config import load
from agent.hardware import default_bus
from drivers.boards import load_board
from drivers.bus import SerialPort
from drivers.linux.tty import TtyPort
from drivers.plans import load_plan
from hil_tests.bench.bridge import SOURCE, Bridge, BridgedDoor
from hil_tests.bench.limits import Limits
from hil_tests.bench.model import Bench, Run
from hil_tests.bench.remote import Place, RemoteDut, RemoteSystem

CONFIG: Final = Path("/etc/civigate/gateway.toml")
ROOT: Final = Path(__file__).resolve().parents[2]
LIMITS: Final = Limits(
    rssi_error_db=4.0,
    counter_error_ppm=50.0,
    frame_time_error_us=5_000,
    gnss_pulse_error_us=100,
    gnss_anchor_error_us=20_000,
    gnss_error_us=0,
)
"""Of a board on a table: its crystal, its calibration, and a host that knows the time."""


class LocalGnss:
    """The GNSS receiver of this machine."""

    def __init__(self, device: Path) -> None:
        self._device = device

    def port(self, folder: Path) -> AbstractContextManager[Callable[[int], SerialPort]]:
        """Give what opens it."""
        del folder
        return nullcontext(partial(TtyPort, str(self._device)))


@contextmanager
def bench(run: Run) -> Iterator[Bench]:
    """Open it.

    Raises:
        ConfigError: the configuration cannot be used.
    """
    path = Path(run.options.get("gateway", CONFIG)).resolve()
    config = load(path)
    board, plan = load_board(config.concentrator.board), load_plan(config.concentrator.plan)
    place = Place(
        via=("sh", "-c"),
        root=() if os.geteuid() == 0 else ("sudo", "-n"),
        config=str(path),
        state_dir=str(config.gateway.state_dir),
        runtime_dir=str(config.gateway.runtime_dir),
    )
    command = ["env", f"PYTHONPATH={ROOT}", sys.executable, "-c", SOURCE, str(path)]
    door = BridgedDoor(partial(Bridge, ["sh", "-c", f"exec {shlex.join(command)}"]), board, plan, config.firmware_dirs)
    dut = RemoteDut(place) if path == CONFIG and _is_installed(place.service) else None
    try:
        yield Bench(
            "local-pi",
            simulated=(config.concentrator.bus or default_bus(board)).kind == "emulator",
            limits=LIMITS,
            description={"board": board.title},
            spi=door,
            dut=dut,
            system=None if dut is None else RemoteSystem(dut, place, {}),
            gnss=None if config.gnss.device is None else LocalGnss(config.gnss.device),
        )
    finally:
        door.release()


def _is_installed(service: str) -> bool:
    if shutil.which("systemctl") is None:
        return False
    asked = ["systemctl", "cat", f"{service}.service"]
    return subprocess.run(asked, capture_output=True, check=False, timeout=30).returncode == 0
