# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Exact time from end to end: an emulated concentrator and GNSS receiver, the agent as a process, the platform."""

from __future__ import annotations

import sqlite3
import time
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

import pytest

from agent.batch.model import TimeSource
from agent.clock import HostClock
from agent.demo.stage import GATEWAY_EUI, Stage
from drivers.emulator import AirPacket, Emulator
from drivers.emulator.gnss import GPS_EPOCH_UNIX_S, GnssPort, GnssSettings
from drivers.emulator.remote import Server
from tests.e2e.conftest import until

if TYPE_CHECKING:
    from pathlib import Path

FRAMES = 6
MOST_FRAMES = 200
GOOD_US = 100_000
READING_US = 250_000
"""How far off the host may be, on a busy machine, when it notes the concentrator's counter: the boot time of a frame
has that error, which is none of the clock's."""
SAMPLE_US = 500
SAMPLES = 1000


class PulsesOnUtc:
    """The emulator's time, shifted so that its seconds are those of the host: the platform's receipts are anchors too,
    and would contradict a receiver whose pulses are somewhere else."""

    def __init__(self) -> None:
        self.ahead_ns = 0

    def __call__(self) -> int:
        return time.monotonic_ns() + self.ahead_ns

    def align(self, emulator: Emulator) -> None:
        self.ahead_ns = (time.time_ns() - emulator.now_us() * 1000) % 1_000_000_000


def emulator_ahead_us(emulator: Emulator) -> int:
    """Return how far the emulator's time is ahead of the host's CLOCK_BOOTTIME."""
    clock = HostClock()
    for _ in range(SAMPLES):
        before_us = clock.boottime_us()
        now_us = emulator.now_us()
        if clock.boottime_us() - before_us < SAMPLE_US:
            break
    return now_us - before_us


def payload(number: int) -> bytes:
    return bytes.fromhex("8007000048800000") + number.to_bytes(2, "big") + bytes(20)


def configure(stage: Stage, spi: Path, device: Path) -> None:
    text = stage.gateway_toml.read_text()
    bus = next(line for line in text.splitlines() if line.startswith("bus"))
    text = text.replace(bus, f'bus = "emulator:{spi}"').replace("[spool]", f'[gnss]\ndevice = "{device}"\n\n[spool]')
    stage.gateway_toml.write_text(text)


@pytest.mark.timeout(300)
def test_frames_have_the_receivers_time_within_the_stated_bound(stage: Stage) -> None:
    folder = stage.gateway_toml.parent
    spi, device = folder / "gnss-spi.sock", folder / "ttyGNSS"
    clock = PulsesOnUtc()
    emulator = Emulator(eui=bytes.fromhex(GATEWAY_EUI), monotonic_ns=clock)
    clock.align(emulator)
    configure(stage, spi, device)
    with ExitStack() as stack:
        stack.enter_context(closing(Server(emulator, spi, folder / "gnss-control.sock")))
        port = stack.enter_context(GnssPort(emulator, device, GnssSettings()))
        ledger = stack.enter_context(closing(sqlite3.connect(f"file:{stage.ledger}?mode=ro", uri=True)))
        stage.start_agent()
        until(lambda: emulator.stats().running, "the concentrator to receive")
        emulator.fault("rate", ppb=15_000)
        emulator.inject(AirPacket(freq_hz=868_100_000, sf=7, payload=payload(0)))
        until(lambda: b"to=fix" in stage.log_of("agent").read_bytes(), "the agent to have a fix")
        sent, next_us = 1, emulator.now_us()

        def exact() -> bool:
            nonlocal sent, next_us
            # Frames all over the time in which the receiver is being understood. On a machine that is busy just then
            # it is less exact, and says so; better anchors travel with later frames.
            if sent < MOST_FRAMES and emulator.now_us() >= next_us:
                emulator.inject(AirPacket(freq_hz=868_100_000, sf=7, payload=payload(sent)))
                sent, next_us = sent + 1, next_us + 900_000
            rows = ledger.execute("SELECT utc_source, utc_error_us FROM frame").fetchall()
            good = [error for source, error in rows if source == TimeSource.GNSS and error <= GOOD_US]
            return len(rows) >= FRAMES and len(good) * 2 >= len(rows)

        until(exact, "the frames to have exact time", 200)
        until(lambda: ledger.execute("SELECT count(*) FROM frame").fetchone()[0] == sent, "all frames to arrive")
        rows = ledger.execute("SELECT phy_payload, boottime_us, utc_us, utc_error_us FROM frame").fetchall()
        anchors = ledger.execute("SELECT count(*) FROM anchor WHERE source = ?", (int(TimeSource.GNSS),)).fetchone()[0]
        ends_us = [entry.end_us for entry in emulator.rxlog()[0]]
        receiver = port._receiver
        begin_us = (receiver._begin_gps - 18 + GPS_EPOCH_UNIX_S - receiver._begin_s) * 1_000_000
        ahead_us = emulator_ahead_us(emulator)
        for phy_payload, boottime_us, utc_us, error_us in rows:
            assert abs(utc_us - begin_us - boottime_us - ahead_us) <= error_us + SAMPLE_US
            truth_us = begin_us + ends_us[int.from_bytes(phy_payload[8:10], "big")]
            assert abs(utc_us - truth_us) <= error_us + READING_US
        assert 1 <= anchors <= 16
    stage.check()
