# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Starts a concentrator that no agent uses, listens for a moment, measures what can be measured, and stops it again."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from agent.doctor import levels
from agent.doctor.causes import found, of_error
from agent.doctor.finding import Finding, Value, ok, skipped
from agent.errors import AgentError
from drivers.errors import DriverError

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.config import Bus
    from agent.doctor.context import Context
    from drivers.boards import Board
    from drivers.bus import SpiBus
    from drivers.plans import ChannelPlan
    from drivers.sx1261 import Sx1261
    from drivers.sx1302.concentrator import Concentrator
    from drivers.sx1302.pps import Pulse

LOOK_S: Final = 0.02
PULSES: Final = 2
PATIENCE_S: Final = 2.0
SCAN_SAMPLES: Final = 3000
"""A channel takes 25 ms."""
CRYSTAL_LIMIT_PPM: Final = 10.0
"""The TCXO of a concentrator is within 2.5 ppm; twice that, and some for age and temperature."""
BOARD_LIMIT_CELSIUS: Final = 85.0
MICROSECONDS: Final = 1_000_000


@dataclass(slots=True)
class Heard:
    """What a moment of listening brought."""

    packets: int = 0
    pulses: list[Pulse] = field(default_factory=list)
    faults: dict[str, int] = field(default_factory=dict)


def listen(context: Context, board: Board, at: Bus) -> Iterator[Finding]:
    """Start, listen, measure, stop."""
    from agent.hardware import firmware_of, lines_of, open_bus
    from drivers.linux.clock import SystemClock
    from drivers.plans import load_plan
    from drivers.sx1302.concentrator import Concentrator
    from drivers.sx1302.fine import FineTimestamps

    config = context.config
    assert config is not None
    plan, clock = load_plan(config.concentrator.plan), SystemClock()
    try:
        # Where none is there, this asks the chip, and a USB device is opened once at a time.
        firmware = firmware_of(config, at, board)
        opened = open_bus(at, board.spi_clock_hz)
    except DriverError as error:
        yield of_error("reception", error, config=context.path)
        return
    try:
        thermometer, sensor = _thermometer(board, at, opened)
        sx1261, listener = _listener(context, board, at, opened)
        fine = config.concentrator.fine_timestamps
        chip = Concentrator(
            opened,
            *lines_of(at, board, opened),
            board=board,
            plan=plan,
            firmware=firmware,
            clock=clock,
            temperature=thermometer,
            fine_timestamps=None if fine == "off" else FineTimestamps(fine),
            sx1261=sx1261,
        )
    except (DriverError, AgentError) as error:
        opened.close()
        yield of_error("reception", error)
        return
    with closing(chip):
        try:
            begin_s = time.monotonic()
            chip.start()
            took_s = time.monotonic() - begin_s
            heard = _hear(chip, context)
            yield from _reception(chip, heard, took_s, context.listen_s)
            if context.config is not None and context.config.gnss.device is not None:
                yield from _pulses(heard)
            yield _temperature(thermometer, sensor)
            yield from listener
            if sx1261 is not None and not context.stop.is_set():
                yield _noise(sx1261, plan)
        except DriverError as error:
            yield of_error("reception", error)
        with suppress(DriverError):
            chip.stop()


def _thermometer(board: Board, at: Bus, opened: SpiBus) -> tuple[Callable[[], float] | None, Finding | None]:
    """Return what reads the board's temperature, and else why nothing does."""
    from drivers.linux.clock import SystemClock

    if at.kind == "usb":
        from drivers.linux.usb import UsbBridge

        assert isinstance(opened, UsbBridge)
        return opened.temperature, None
    if at.kind == "emulator" or board.temperature is None:
        return None, skipped("temperature", f"the profile of {board.name} names no temperature sensor")
    from drivers.linux.i2c import LinuxI2cDevice
    from drivers.stts751 import Stts751

    try:
        place = board.temperature
        return Stts751(LinuxI2cDevice(place.i2c_device, place.address), SystemClock()).celsius, None
    except DriverError as error:
        return None, of_error("temperature", error)


def _temperature(thermometer: Callable[[], float] | None, absent: Finding | None) -> Finding:
    if thermometer is None:
        return absent or skipped("temperature", "nothing measures it")
    try:
        celsius = thermometer()
    except DriverError as error:
        return of_error("temperature", error, name="sensor-failing")
    values: dict[str, Value] = {"board_celsius": round(celsius, 1)}
    if celsius >= BOARD_LIMIT_CELSIUS:
        return found("board-hot", "temperature", f"{celsius:.1f} °C at the concentrator", values)
    return ok("temperature", f"{celsius:.1f} °C at the concentrator", values)


def _listener(context: Context, board: Board, at: Bus, opened: SpiBus) -> tuple[Sx1261 | None, tuple[Finding, ...]]:
    """Open the SX1261 where the configuration names one; reception does without it."""
    from agent.listener import open_sx1261, read_patch
    from drivers.linux.clock import SystemClock
    from drivers.sx1302.emulated import is_emulated
    from drivers.sx1302.spi import AddressSpace

    config = context.config
    assert config is not None
    place = config.concentrator.sx1261
    if place is None:
        return None, (skipped("noise", "nothing measures it: no SX1261 in [concentrator]; levels come with traffic"),)
    try:
        patch = read_patch(config.firmware_dirs, place, emulated=lambda: is_emulated(AddressSpace(opened)))
        clock_hz = board.spi_clock_hz
        beside = (at, opened)
        radio = open_sx1261(place, patch, SystemClock(), spi_clock_hz=clock_hz, beside=beside, reset=board.sx1261_reset)
    except (DriverError, AgentError) as error:
        return None, (of_error("noise", error, name="listener-failing"),)
    return radio, ()


def _hear(chip: Concentrator, context: Context) -> Heard:
    heard = Heard()
    begin = time.monotonic()
    pulses = 0 if context.config is None or context.config.gnss.device is None else PULSES
    while not context.stop.is_set():
        listened_s = time.monotonic() - begin
        # On a busy machine the chip is asked late, and the second pulse comes later.
        if listened_s >= context.listen_s + (PATIENCE_S if len(heard.pulses) < pulses else 0.0):
            break
        fetch = chip.receive()
        heard.packets += len(fetch.packets)
        for kind, count in fetch.faults.items():
            heard.faults[kind] = heard.faults.get(kind, 0) + count
        if fetch.pulse is not None:
            heard.pulses.append(fetch.pulse)
        time.sleep(LOOK_S)
    return heard


def _reception(chip: Concentrator, heard: Heard, took_s: float, listened_s: float) -> Iterator[Finding]:
    from drivers.sx1302.transmission import TxStatus

    said = f"started in {took_s:.1f} s, heard {heard.packets} frames in {listened_s:.1f} s of listening"
    damaged = {kind: count for kind, count in heard.faults.items() if kind != "temperature"}
    status = chip.transmit_status()
    if damaged:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(damaged.items()))
        yield found("damaged-frames", "reception", f"{said}; damaged: {kinds}")
    elif status is not TxStatus.FREE:
        yield found("transmitter-stuck", "reception", f"{said}; the transmitter is {status.value}")
    else:
        yield ok("reception", said, {"heard_frames": heard.packets, "listened_s": listened_s})


def _pulses(heard: Heard) -> Iterator[Finding]:
    """Judge the pulses of a GNSS receiver: two tell how fast the crystal is."""
    if not heard.pulses:
        yield found("no-pulse-yet", "pulse", "the concentrator latched no pulse")
        return
    from drivers.sx1302.counter import TICKS_PER_US

    count = len(heard.pulses)
    first, last = heard.pulses[0], heard.pulses[-1]
    apart_us = (last.counter_ticks - first.counter_ticks) / TICKS_PER_US
    if count == 1 or apart_us < MICROSECONDS // 2:
        yield ok("pulse", "the concentrator latches pulses")
        return
    seconds = round(apart_us / MICROSECONDS)
    ppm = (apart_us - seconds * MICROSECONDS) / seconds
    yield _crystal("pulse", f"{count} pulses; the crystal is {ppm:+.1f} ppm off", ppm)


def _crystal(check: str, said: str, ppm: float) -> Finding:
    values: dict[str, Value] = {"crystal_ppm": round(ppm, 2)}
    return found("crystal", check, said, values) if abs(ppm) > CRYSTAL_LIMIT_PPM else ok(check, said, values)


def _noise(radio: Sx1261, plan: ChannelPlan) -> Finding:
    """Measure each channel once; the concentrator has started the SX1261."""
    from drivers.sx1302.survey import NOISE_PERCENT, channels

    measured: dict[int, float] = {}
    try:
        radio.start(next(centre_hz for centre_hz in plan.radio_hz if centre_hz is not None))
        for frequency_hz in sorted(set(channels(plan).values())):
            scan = radio.scan(frequency_hz, SCAN_SAMPLES)
            level_dbm = None if scan is None else scan.percentile_dbm(NOISE_PERCENT)
            if level_dbm is not None:
                measured[frequency_hz] = level_dbm
    except DriverError as error:
        return of_error("noise", error, name="listener-failing")
    return levels.judge(measured)
