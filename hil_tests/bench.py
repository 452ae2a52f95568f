# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What a bench offers to the tests: a concentrator under test, and what can put packets on its air."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

from agent.clock import HostClock
from agent.config import load
from agent.radio import concentrator_opener
from drivers.boards import load_board
from drivers.bus import SerialPort, SpiBus
from drivers.emulator import AirPacket, Emulator
from drivers.emulator.firmware import synthetic_agc, synthetic_arb
from drivers.emulator.gnss import GnssPort, GnssSettings
from drivers.linux.tty import TtyPort
from drivers.plans import ChannelPlan, load_plan
from drivers.sx1302.concentrator import Concentrator
from drivers.sx1302.firmware import Firmware, recognise

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Limits:
    """What this bench may be off by.

    Attributes:
        rssi_error_db: between the level at the antenna connector and the RSSI.
        snr_error_db: between the SNR on the air and the reported one.
        counter_error_ppm: of the concentrator's counter against the host.
        gnss_error_us: of a GNSS receiver's UTC; an emulated one begins its seconds anywhere.
    """

    rssi_error_db: float
    snr_error_db: float
    counter_error_ppm: float
    gnss_error_us: int


class ReferenceNode(Protocol):
    """A transmitter whose every parameter is known."""

    def send(self, payload: bytes, *, frequency_hz: int, sf: int, rssi_dbm: float, snr_db: float) -> None:
        """Put one LoRa packet of 125 kHz on the air, so that the gateway hears it at this level."""


@dataclass(frozen=True, slots=True)
class Bench:
    """One bench.

    Attributes:
        name: for the report.
        open: opens the concentrator under test.
        bus: opens its bus alone, None where it cannot be had beside the driver.
        plan: what the concentrator listens to.
        node: a reference node, None without.
        limits: of this bench.
        gnss: gives what opens the port of the GNSS receiver whose pulses lead to the concentrator, at a rate; takes a
            folder for temporary files. None without a receiver.
    """

    name: str
    open: Callable[[], Concentrator]
    bus: Callable[[], SpiBus] | None
    plan: ChannelPlan
    node: ReferenceNode | None
    limits: Limits
    gnss: Callable[[Path], AbstractContextManager[Callable[[int], SerialPort]]] | None = None


class EmulatedNode:
    """A transmitter on the emulator's air."""

    def __init__(self, emulator: Emulator) -> None:
        self._emulator = emulator

    def send(self, payload: bytes, *, frequency_hz: int, sf: int, rssi_dbm: float, snr_db: float) -> None:
        """Put a packet on the air whose decoding completes now."""
        self._emulator.inject(AirPacket(frequency_hz, payload, sf=sf, rssi_dbm=rssi_dbm, snr_db=snr_db))


def emulator_bench() -> Bench:
    """Return the bench that needs nothing: register-level emulation in this process."""
    emulator, plan = Emulator(), load_plan("eu868")
    agc, arb = synthetic_agc(), synthetic_arb()
    agc_id, arb_id = recognise(agc), recognise(arb)
    assert agc_id is not None
    assert arb_id is not None
    firmware = Firmware(agc, arb, agc_id, arb_id)

    def open_() -> Concentrator:
        return Concentrator(
            emulator.bus(),
            emulator.reset_line(),
            emulator.power_line(),
            board=load_board("semtech_corecell_eu868"),
            plan=plan,
            firmware=firmware,
            clock=HostClock(),
        )

    @contextmanager
    def gnss(folder: Path) -> Iterator[Callable[[int], SerialPort]]:
        link = folder / "ttyGNSS"
        with GnssPort(emulator, link, GnssSettings()):
            yield partial(TtyPort, str(link))

    return Bench(
        "emulator", open_, emulator.bus, plan, EmulatedNode(emulator), Limits(1.0, 0.5, 100.0, 1_100_000), gnss
    )


def gateway_bench(config: Path) -> Bench:
    """Return the bench that is this machine, with the concentrator of a gateway's configuration."""
    settings = load(config)
    plan = load_plan(settings.concentrator.plan)
    opener = concentrator_opener(settings, HostClock())
    device = settings.gnss.device
    port = None if device is None else partial(TtyPort, str(device))
    gnss = None if port is None else (lambda _: nullcontext(port))
    return Bench(str(config), opener, None, plan, None, Limits(4.0, 3.0, 50.0, 0), gnss)


def wait_for(attempt: Callable[[], T | None], *, within_s: float, what: str) -> T:
    """Return the first result of an attempt that is not None."""
    deadline = time.monotonic() + within_s
    while (result := attempt()) is None:
        assert time.monotonic() < deadline, f"waited {within_s} s for {what}"
        time.sleep(0.005)
    return result
