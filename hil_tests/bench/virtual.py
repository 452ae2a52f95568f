# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Roles that the virtual concentrator fills: chip, supply of the board, node, path, GNSS receiver.

What a node sends loses the path's attenuation and has the SNR of a receiver with the medium's noise figure: no fading,
no leakage past the pads, no compression of strong signals. It is never too weak to be heard: where that begins is a
number of the air's models, and a test would only read it back.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

from agent.clock import HostClock
from drivers.boards import Board, load_board
from drivers.bus import OutputLine, SerialPort, SpiBus
from drivers.emulator import AirPacket, Emulator
from drivers.emulator.firmware import synthetic_agc, synthetic_arb
from drivers.emulator.gnss import GnssPort, GnssSettings
from drivers.emulator.header import STTS751_ADDRESS
from drivers.emulator.medium import SNR_RANGE_DB, noise_dbm
from drivers.linux.tty import TtyPort
from drivers.plans import ChannelPlan, load_plan
from drivers.stts751 import Stts751
from drivers.sx1302.concentrator import Concentrator
from drivers.sx1302.firmware import Firmware, recognise
from drivers.sx1302.ledger import AirtimeLedger
from drivers.sx1302.packet import CrcStatus
from hil_tests.bench.haste import HastyClock
from hil_tests.bench.roles import BenchError, NodeIdentity, NodeReception, RadioSettings, TxReport
from hil_tests.bench.trace import Trace

BOARD: Final = "semtech_corecell_eu868"
PLAN: Final = "eu868"
CLEANEST_DB: Final = 12.0
"""What a receiver reports of a signal that is much stronger than noise."""
LEAST_PREAMBLE_POWER_DBM, MOST_POWER_DBM = 5, 22
RX_LOG_LIMIT: Final = 2000
ROOM_LIMIT_S: Final = 60.0
FIFO_SHARE_BYTES: Final = 2048


def snr_db(rssi_dbm: float, bandwidth_hz: int = 125_000) -> float:
    """Return the SNR of a signal, in the chip's quarters of a dB."""
    ratio = min(rssi_dbm - noise_dbm(bandwidth_hz), CLEANEST_DB)
    return max(round(ratio * 4) / 4, SNR_RANGE_DB[0])


class VirtualDoor:
    """The way to the emulated chip."""

    def __init__(self, emulator: Emulator, trace: Trace) -> None:
        self._emulator = emulator
        self._trace = trace
        self._board, self._plan = load_board(BOARD), load_plan(PLAN)

    @property
    def board(self) -> Board:
        """Semtech's reference design."""
        return self._board

    @property
    def plan(self) -> ChannelPlan:
        """EU868."""
        return self._plan

    def open_bus(self) -> SpiBus:
        """Open the emulator's SPI."""
        return self._trace.of(self._emulator.bus())

    def open_reset(self) -> OutputLine:
        """Open its reset line."""
        return self._emulator.reset_line()

    def thermometer(self) -> Callable[[], float]:
        """Return what reads the sensor beside the chip."""
        return Stts751(_Sensor(self._emulator), HostClock()).celsius

    def open_concentrator(self, temperature: Callable[[], float] | None = None) -> Concentrator:
        """Open all of it with the driver."""
        clock = HastyClock()
        return Concentrator(
            self.open_bus(),
            self._emulator.reset_line(),
            self._emulator.power_line(),
            board=self._board,
            plan=self._plan,
            firmware=_firmware(),
            clock=clock,
            temperature=temperature or self.thermometer(),
            airtime=AirtimeLedger.unused(self._plan.transmit, clock.monotonic_ns()),
        )

    def release(self) -> None:
        """Hold nothing that would have to be let go."""

    def evidence(self, folder: Path) -> None:
        """Write the SPI trace, and what the emulator knows."""
        self._trace.write(folder / "spi-trace.txt")
        heard = self._emulator.rxlog(max(self._emulator.stats().injected - RX_LOG_LIMIT, 0))[0]
        if said := "".join(f"{one}\n" for one in (*heard, *self._emulator.txlog())):
            (folder / "air.txt").write_text(said)
        complaints = self._emulator.complaints()
        state = {"stats": str(self._emulator.stats()), "lines": self._emulator.lines(), "complaints": complaints}
        (folder / "emulator.json").write_text(json.dumps(state, indent=1) + "\n")


class VirtualPath:
    """Pads and a step attenuator that are numbers."""

    steps_db: Sequence[float] = (70.0, 80.0, 90.0, 100.0, 110.0, 120.0)

    def __init__(self) -> None:
        self.attenuation_db = 90.0

    def attenuate(self, attenuation_db: float) -> None:
        """Set one of the steps."""
        assert attenuation_db in self.steps_db
        self.attenuation_db = attenuation_db


class VirtualNode:
    """A node on the emulator's air; what it sends has left the air when `transmit` returns.

    Args:
        emulator: whose air it is on.
        path: between its connector and the gateway's.
        read: says whether somebody reads the chip by himself, so that waiting for room makes sense.
    """

    powers_dbm = range(LEAST_PREAMBLE_POWER_DBM, MOST_POWER_DBM + 1)

    def __init__(self, emulator: Emulator, path: VirtualPath, read: Callable[[], bool]) -> None:
        self._emulator = emulator
        self._path = path
        self._read = read
        self._settings = RadioSettings(868_100_000, 7)
        self._listening_since = 0
        self._zero_ns = raw_ns() - emulator.now_us() * 1000

    def identify(self) -> NodeIdentity:
        """Say that it is none."""
        return NodeIdentity("emulated node", "", "")

    def configure(self, settings: RadioSettings) -> None:
        """Set all of it."""
        self._settings = settings

    def transmit(self, payload: bytes) -> TxReport:
        """Put a packet on the air whose decoding completes now, once the gateway has room for it.

        A real one takes its time on the air; meanwhile a gateway reads what came before.

        Raises:
            BenchError: nobody reads the chip.
        """
        deadline = time.monotonic() + ROOM_LIMIT_S
        while self._read() and self._emulator.stats().fifo_bytes > FIFO_SHARE_BYTES:
            if time.monotonic() > deadline:
                raise BenchError("the chip is full", role="node", hint="somebody must read it while packets come")
            time.sleep(0.001)
        self._emulator.inject(air_packet(self._settings, payload, self._path.attenuation_db))
        return TxReport(payload, self._settings, raw_ns())

    def listen(self) -> None:
        """Hear what is sent from now on."""
        self._listening_since = len(self._emulator.txlog())

    def heard(self, within_s: float) -> NodeReception | None:
        """Return the next packet that a node with these settings hears."""
        deadline = time.monotonic() + within_s
        while True:
            for emission in self._emulator.txlog()[self._listening_since :]:
                if emission.outcome != "sent":
                    break
                self._listening_since += 1
                level_dbm = 14.0 - self._path.attenuation_db
                if hears(self._settings, emission.freq_hz, emission.parameters):
                    end_ns = self._zero_ns + (emission.start_ns or 0) + (emission.airtime_us or 0) * 1000
                    return NodeReception(emission.payload, level_dbm, snr_db(level_dbm), end_ns)
            if time.monotonic() >= deadline:
                return None
            time.sleep(0.002)


class VirtualAir:
    """The air itself."""

    def __init__(self, emulator: Emulator, path: VirtualPath) -> None:
        self._emulator = emulator
        self._path = path

    def send_damaged(self, payload: bytes, settings: RadioSettings) -> None:
        """Let a packet arrive with a wrong CRC."""
        packet = air_packet(settings, payload, self._path.attenuation_db)
        self._emulator.inject(replace(packet, crc=CrcStatus.BAD))


def raw_ns() -> int:
    """Return CLOCK_MONOTONIC_RAW, the clock of drivers and emulator."""
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW)


def air_packet(settings: RadioSettings, payload: bytes, attenuation_db: float) -> AirPacket:
    """Return what reaches the gateway of a packet that a node sends."""
    rssi_dbm = settings.power_dbm - attenuation_db
    return AirPacket(
        settings.frequency_hz,
        payload,
        sf=settings.sf,
        bw_hz=settings.bandwidth_hz,
        coding_rate=settings.coding_rate,
        rssi_dbm=rssi_dbm,
        snr_db=snr_db(rssi_dbm, settings.bandwidth_hz),
        preamble=settings.preamble_symbols,
        invert_iq=settings.inverted,
        sync_word=None if settings.public else 0x12,
    )


def hears(settings: RadioSettings, frequency_hz: float, parameters: dict[str, int | bool | str]) -> bool:
    """Say whether a node with these settings hears what a gateway sends with those."""
    return (
        abs(frequency_hz - settings.frequency_hz) <= settings.bandwidth_hz / 4
        and parameters.get("sf") == settings.sf
        and parameters.get("bw_hz") == settings.bandwidth_hz
        and parameters.get("invert_iq") is settings.inverted
    )


class VirtualGnss:
    """A GNSS receiver on a pseudo-terminal, whose pulses lead to the emulated chip."""

    def __init__(self, emulator: Emulator) -> None:
        self._emulator = emulator

    @contextmanager
    def _port(self, folder: Path) -> Iterator[Callable[[int], SerialPort]]:
        link = folder / "ttyGNSS"
        with GnssPort(self._emulator, link, GnssSettings()):
            yield partial(TtyPort, str(link))

    def port(self, folder: Path) -> AbstractContextManager[Callable[[int], SerialPort]]:
        """Give what opens it."""
        return self._port(folder)


class _Sensor:
    """The emulated board's temperature sensor."""

    def __init__(self, emulator: Emulator) -> None:
        self._emulator = emulator

    def read(self, register: int) -> int:
        """Return a register."""
        return self._emulator.i2c(STTS751_ADDRESS, [bytes([register]), 1])[0][0]

    def write(self, register: int, value: int) -> None:
        """Set a register."""
        self._emulator.i2c(STTS751_ADDRESS, [bytes([register, value])])


def _firmware() -> Firmware:
    agc, arb = synthetic_agc(), synthetic_arb()
    agc_id, arb_id = recognise(agc), recognise(arb)
    assert agc_id is not None
    assert arb_id is not None
    return Firmware(agc, arb, agc_id, arb_id)
