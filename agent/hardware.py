# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The concentrator that the configuration describes: its bus, lines, sensors and firmware, opened.

The C extensions exist on Linux only, and a gateway needs no emulator: each is imported where it is used.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from agent.config import Bus
from agent.errors import AgentError
from agent.listener import open_sx1261, read_patch
from drivers.boards import load_board
from drivers.errors import BusError, DriverError, FirmwareError
from drivers.plans import load_plan
from drivers.stts751 import Stts751
from drivers.sx1302 import firmware as images
from drivers.sx1302.concentrator import Concentrator
from drivers.sx1302.emulated import is_emulated
from drivers.sx1302.fine import FineTimestamps
from drivers.sx1302.popped import Popped
from drivers.sx1302.remembrance import AirtimeMemory
from drivers.sx1302.spi import AddressSpace
from drivers.sx1302.statistics import Statistics

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.config import GatewayConfig
    from agent.radio import HostTime
    from drivers.boards import Board, CommandLine, GpioLine
    from drivers.bus import OutputLine, SpiBus

logger = logging.getLogger(__name__)


def concentrator_opener(config: GatewayConfig, clock: HostTime) -> Callable[[], Concentrator]:
    """Read board profile, channel plan and firmware, and return what opens the concentrator they describe.

    Raises:
        ProfileError: board or plan cannot be used.
        FirmwareError: an image is missing or not the right one.
    """
    section = config.concentrator
    board = load_board(section.board)
    plan = load_plan(section.plan)
    fine_timestamps = None if section.fine_timestamps == "off" else FineTimestamps(section.fine_timestamps)
    bus = section.bus or default_bus(board)
    firmware = firmware_of(config, bus, board)
    memory = AirtimeMemory(config.gateway.runtime_dir / "airtime", config.gateway.state_dir / "airtime", clock.boot_id)
    airtime = memory.ledger(plan.transmit, clock.monotonic_ns(), fresh=not config.spool_path.exists())
    statistics = Statistics()
    popped = Popped(config.gateway.runtime_dir / "popped")
    beside = section.sx1261
    patch = None
    if beside is not None:
        patch = read_patch(config.firmware_dirs, beside, emulated=lambda: leads_to_emulator(bus, board))

    def open_() -> Concentrator:
        spi = open_bus(bus, board.spi_clock_hz)
        try:
            sx1261 = None
            if beside is not None and patch is not None:
                try:
                    sx1261 = open_sx1261(
                        beside,
                        patch,
                        clock,
                        spi_clock_hz=board.spi_clock_hz,
                        beside=(bus, spi),
                        reset=board.sx1261_reset,
                    )
                except DriverError as error:
                    # Reception does without it.
                    logger.warning("event=sx1261_fault code=%s detail=%s hint=%s", error.code, error, error.hint)
            return Concentrator(
                spi,
                *lines_of(bus, board, spi),
                board=board,
                plan=plan,
                firmware=firmware,
                clock=clock,
                temperature=_thermometer(bus, board, spi, clock),
                antenna_gain_dbi=section.antenna_gain_dbi,
                airtime=airtime,
                fine_timestamps=fine_timestamps,
                statistics=statistics,
                sx1261=sx1261,
                popped=popped,
            )
        except (DriverError, AgentError):
            spi.close()
            raise

    return open_


def open_bus(bus: Bus, spi_clock_hz: int) -> SpiBus:
    """Open the way to a concentrator; disturbs nothing.

    Raises:
        BusError: it is not there, or may not be opened.
    """
    if bus.kind == "emulator":
        from drivers.emulator.remote import SocketBus  # noqa: PLC0415

        return SocketBus(bus.path)
    if bus.kind == "usb":
        from drivers.linux.usb import UsbBridge  # noqa: PLC0415

        return UsbBridge(str(bus.path))
    from drivers.linux.spi import SpidevBus  # noqa: PLC0415

    return SpidevBus(str(bus.path), spi_clock_hz)


def lines_of(bus: Bus, board: Board, opened: SpiBus) -> tuple[OutputLine | None, OutputLine | None]:
    """Return reset line and power switch, as far as there are any.

    Args:
        bus: how the board is attached.
        board: its profile.
        opened: what `open_bus` gave.
    """
    if bus.kind == "emulator":
        # An emulator has all lines, whatever the board.
        from drivers.emulator.remote import SocketPowerLine, SocketResetLine  # noqa: PLC0415

        return SocketResetLine(bus.path), SocketPowerLine(bus.path)
    if bus.kind == "usb":
        from drivers.linux.usb import UsbBridge  # noqa: PLC0415

        assert isinstance(opened, UsbBridge)
        return opened.reset_line(), opened.power_line()
    return _line(board.reset, board.reset_command), _line(board.power, board.power_command)


def _thermometer(bus: Bus, board: Board, opened: SpiBus, clock: HostTime) -> Callable[[], float] | None:
    """Return what reads the board's temperature, or None when nothing does: it works without."""
    if bus.kind == "usb":
        from drivers.linux.usb import UsbBridge  # noqa: PLC0415

        assert isinstance(opened, UsbBridge)
        return opened.temperature
    if bus.kind == "emulator" or board.temperature is None:
        return None
    from drivers.linux.i2c import LinuxI2cDevice  # noqa: PLC0415

    try:
        return Stts751(LinuxI2cDevice(board.temperature.i2c_device, board.temperature.address), clock).celsius
    except DriverError as error:
        logger.info("event=temperature_sensor_absent code=%s detail=%s", error.code, error)
        return None


def _line(gpio: GpioLine | None, command: CommandLine | None) -> OutputLine | None:
    from drivers.linux.command import ProgramLine  # noqa: PLC0415
    from drivers.linux.gpio import HeaderLine  # noqa: PLC0415

    if command is not None:
        return ProgramLine(command)
    return None if gpio is None else HeaderLine(gpio)


def default_bus(board: Board) -> Bus:
    """Return the bus that the board's profile names."""
    if board.spi_device is not None:
        return Bus("spi", Path(board.spi_device))
    assert board.usb_device is not None, "checked when the profile was read"
    return Bus("usb", Path(board.usb_device))


def firmware_of(config: GatewayConfig, bus: Bus, board: Board) -> images.Firmware:
    """Read the images; without any, take stand-ins where the chip says that it is an emulated one.

    Raises:
        FirmwareError: an image is missing, or not the right one.
    """
    try:
        return images.load_from(config.firmware_dirs)
    except FirmwareError:
        if not leads_to_emulator(bus, board):
            raise
        if config.concentrator.firmware_dir is not None:
            return images.load_from(config.firmware_dirs, allow_synthetic=True)
    return _synthetic()


def leads_to_emulator(bus: Bus, board: Board) -> bool:
    """Say whether an emulated concentrator is there; False when nothing answers."""
    if bus.kind == "emulator":
        return True
    try:
        opened = open_bus(bus, board.spi_clock_hz)
        try:
            return is_emulated(AddressSpace(opened))
        finally:
            opened.close()
    except BusError:
        return False


def _synthetic() -> images.Firmware:
    """Return stand-ins for the firmware, which only an emulator takes."""
    from drivers.emulator.firmware import synthetic_agc, synthetic_arb  # noqa: PLC0415

    agc, arb = synthetic_agc(), synthetic_arb()
    agc_id, arb_id = images.recognise(agc), images.recognise(arb)
    assert agc_id is not None
    assert arb_id is not None
    return images.Firmware(agc, arb, agc_id, arb_id)
