# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The bench that is this machine, with the concentrator that its gateway.toml names; no rig around it.

`--gateway FILE` names another configuration than /etc/civigate/gateway.toml.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from agent.clock import HostClock
from agent.config import GatewayConfig, load
from agent.radio import concentrator_opener, default_bus, lines_of, open_bus
from drivers.boards import Board, load_board
from drivers.bus import OutputLine, SerialPort, SpiBus
from drivers.linux.tty import TtyPort
from drivers.plans import ChannelPlan, load_plan
from drivers.sx1302.concentrator import Concentrator
from hil_tests.bench.limits import Limits
from hil_tests.bench.model import Bench, Run
from hil_tests.bench.trace import Trace

CONFIG: Final = Path("/etc/civigate/gateway.toml")
LIMITS: Final = Limits(rssi_error_db=4.0, counter_error_ppm=50.0, gnss_error_us=0)
"""Of a board on a table: its crystal, its calibration, and a host that knows the time."""


@dataclass(frozen=True)
class LocalDoor:
    """The way to the concentrator of this machine."""

    config: GatewayConfig
    board: Board
    plan: ChannelPlan
    trace: Trace

    def open_bus(self) -> SpiBus:
        """Open its bus."""
        return self.trace.of(open_bus(self.config.concentrator.bus or default_bus(self.board), self.board.spi_clock_hz))

    def open_reset(self) -> OutputLine | None:
        """Open its reset line."""
        bus = self.config.concentrator.bus or default_bus(self.board)
        return None if bus.kind == "usb" else lines_of(bus, self.board, self.open_bus())[0]

    def open_concentrator(self, temperature: Callable[[], float] | None = None) -> Concentrator:
        """Open all of it as the agent does."""
        del temperature
        return concentrator_opener(self.config, HostClock())()

    def thermometer(self) -> Callable[[], float] | None:
        """Return nothing yet: the driver reads it."""
        return None

    def release(self) -> None:
        """Hold nothing that would have to be let go."""

    def evidence(self, folder: Path) -> None:
        """Write the SPI trace."""
        self.trace.write(folder / "spi-trace.txt")


class LocalGnss:
    """The GNSS receiver of this machine."""

    def __init__(self, device: Path) -> None:
        self._device = device

    def port(self, folder: Path) -> AbstractContextManager[Callable[[int], SerialPort]]:
        """Give what opens it."""
        del folder
        return nullcontext(partial(TtyPort, str(self._device)))


def door_of(config: GatewayConfig) -> LocalDoor:
    """Return the way to a configured concentrator of this machine."""
    board, plan = load_board(config.concentrator.board), load_plan(config.concentrator.plan)
    return LocalDoor(config, board, plan, Trace())


@contextmanager
def bench(run: Run) -> Iterator[Bench]:
    """Open it."""
    config = load(Path(run.options.get("gateway", CONFIG)))
    door = door_of(config)
    yield Bench(
        "local-pi",
        simulated=(config.concentrator.bus or default_bus(door.board)).kind == "emulator",
        limits=LIMITS,
        description={"board": door.board.title},
        spi=door,
        gnss=None if config.gnss.device is None else LocalGnss(config.gnss.device),
    )
