# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The bench that needs nothing: an emulated concentrator in this process, everything else real programs.

Chip, node and path are `virtual`. There is no golden gateway, and nothing here proves anything about hardware.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib import metadata
from typing import Final

from agent.demo.stage import GATEWAY_EUI
from drivers.emulator import Emulator
from drivers.sx1302.counter import WRAP_US
from hil_tests.bench.limits import Limits
from hil_tests.bench.model import Bench, Run
from hil_tests.bench.town import Town, TownClock, TownDisk, TownDut, TownPlatform, TownPower
from hil_tests.bench.trace import Trace
from hil_tests.bench.virtual import VirtualAir, VirtualDoor, VirtualGnss, VirtualNode, VirtualPath

BEFORE_WRAP_US: Final = 2_000_000
"""So soon after each reset the counter wraps: whatever is tested here is tested across that."""


@contextmanager
def bench(run: Run) -> Iterator[Bench]:
    """Open it."""
    # the same clock as the tests and drivers: no time daemon slews it
    emulator = Emulator(
        eui=bytes.fromhex(GATEWAY_EUI),
        counter_start_us=WRAP_US - BEFORE_WRAP_US,
        monotonic_ns=partial(time.clock_gettime_ns, time.CLOCK_MONOTONIC_RAW),
    )
    path = VirtualPath()
    door = VirtualDoor(emulator, Trace())
    with Town(run.folder, emulator) as town:
        if "dut" in run.wanted:
            town.begin_soon()
        dut = TownDut(town)
        yield Bench(
            "emulator",
            simulated=True,
            limits=Limits(telling_s=0.02),
            description={"board": f"emulated {door.board.name}", "emulator": metadata.version("civigate")},
            dut=dut,
            spi=door,
            power=TownPower(town, dut, emulator),
            node=VirtualNode(emulator, path, dut.runs),
            rf=path,
            platform=TownPlatform(town),
            air=VirtualAir(emulator, path),
            gnss=VirtualGnss(emulator),
            clock=TownClock(town),
            disk=TownDisk(town) if shutil.which("strace") else None,
        )
