# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The SX1261 beside the concentrator, as the configuration describes it: a way to it, and its patch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.errors import AgentError
from drivers import sx1261_patch
from drivers.errors import FirmwareError
from drivers.sx1261 import Sx1261

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from agent.config import Bus
    from drivers.boards import GpioLine
    from drivers.bus import Clock, SpiBus


def read_patch(folders: Sequence[Path], at: Bus, *, emulated: Callable[[], bool] = lambda: False) -> bytes:
    """Read the patch from the first folder that has it; without one, take a stand-in where an emulator is.

    Args:
        folders: that may have it.
        at: where the SX1261 is.
        emulated: asks whether the concentrator beside it is an emulated one; only if there is no patch.

    Raises:
        FirmwareError: it is missing, or not the right one.
    """
    paths = [folder / sx1261_patch.FILE_NAME for folder in folders]
    path = next((path for path in paths if path.exists()), paths[0])
    try:
        return sx1261_patch.load(path)
    except FirmwareError:
        if at.kind != "emulator" and not emulated():
            raise
    return sx1261_patch.SYNTHETIC


def open_sx1261(
    at: Bus,
    patch: bytes,
    clock: Clock,
    *,
    spi_clock_hz: int,
    beside: tuple[Bus, SpiBus] | None = None,
    reset: GpioLine | None = None,
) -> Sx1261:
    """Open the way to the SX1261; disturbs nothing.

    Args:
        at: where it is: an SPI device of its own, or the bridge or emulator that the concentrator is behind.
        patch: for its RAM.
        clock: host time.
        spi_clock_hz: clock of its SPI device.
        beside: where the concentrator is, and its open bus; on USB, both share the bridge.
        reset: its reset line, where the board leads it to the header.

    Raises:
        AgentError: it is said to be behind another bridge than the concentrator.
        BusError: it is not there, or may not be opened.
    """
    if at.kind == "emulator":
        from drivers.emulator.remote import SocketBus  # noqa: PLC0415 - a gateway needs no emulator

        return Sx1261(SocketBus(at.path, chip_select=1), clock, patch)
    if at.kind == "usb":
        from drivers.linux.usb import UsbBridge  # noqa: PLC0415

        bridge: SpiBus
        if beside is None:
            bridge = UsbBridge(str(at.path))
        elif beside[0] == at:
            bridge = beside[1]
        else:
            raise AgentError(
                f"is said to be at {at}, the concentrator at {beside[0]}",
                where="[concentrator] sx1261",
                hint="on USB, one bridge serves both: write the same for both",
                code="CG-CFG-010",
            )
        assert isinstance(bridge, UsbBridge)
        return Sx1261(bridge.sx1261(), clock, patch, reset=bridge.sx1261_reset_line())
    from drivers.linux.gpio import HeaderLine  # noqa: PLC0415
    from drivers.linux.spi import SpidevBus  # noqa: PLC0415

    line = None if reset is None else HeaderLine(reset)
    return Sx1261(SpidevBus(str(at.path), spi_clock_hz), clock, patch, reset=line)
