# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""A driver on the emulator, in a time that only passes when somebody waits."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from drivers.boards import load_board
from drivers.emulator import AirPacket, Emulator, Model
from drivers.emulator.firmware import synthetic_agc, synthetic_arb
from drivers.plans import load_plan
from drivers.sx1261 import Sx1261
from drivers.sx1261_patch import SYNTHETIC
from drivers.sx1302.concentrator import Concentrator
from drivers.sx1302.firmware import Firmware, recognise
from drivers.sx1302.ledger import AirtimeLedger
from drivers.sx1302.popped import Popped

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from drivers.boards import Board
    from drivers.bus import SpiBus
    from drivers.plans import ChannelPlan
    from drivers.sx1302.fine import FineTimestamps


class TestClock:
    """Host time, moved by hand and by sleeping."""

    __test__ = False

    def __init__(self, start_ns: int = 1_000_000_000) -> None:
        self.now_ns = start_ns

    def monotonic_ns(self) -> int:
        return self.now_ns

    def sleep(self, seconds: float) -> None:
        self.now_ns += round(seconds * 1e9)


@dataclass
class TappedBus:
    """A bus that keeps what was sent, and may change what comes back."""

    bus: SpiBus
    sent: list[bytes] = field(default_factory=list)
    meddle: Callable[[bytes, bytes], bytes] | None = None

    def transfer(self, frame: bytes) -> bytes:
        self.sent.append(frame)
        answer = self.bus.transfer(frame)
        return self.meddle(frame, answer) if self.meddle else answer

    def transfer_all(self, frames: Sequence[bytes]) -> list[bytes]:
        return [self.transfer(frame) for frame in frames]

    def close(self) -> None:
        self.bus.close()


def synthetic_firmware() -> Firmware:
    """Images the emulator runs."""
    images = synthetic_agc(), synthetic_arb()
    agc_id, arb_id = (recognise(image) for image in images)
    assert agc_id is not None
    assert arb_id is not None
    return Firmware(*images, agc_id, arb_id)


class Bench:
    """An emulated concentrator and drivers for it.

    Its drivers hold no packet back for copies, unless a test is about that.
    """

    def __init__(
        self,
        plan: ChannelPlan | str = "eu868",
        *,
        board: Board | str = "semtech_corecell_eu868",
        counter_start_us: int = 0,
        model: Model = Model.SX1302,
        fine_timestamps: FineTimestamps | None = None,
        sx1261: bool = False,
        popped: Path | None = None,
    ) -> None:
        self.popped = popped
        self.clock = TestClock()
        self.emulator = Emulator(
            model=model, counter_start_us=counter_start_us, sx1261=sx1261, monotonic_ns=self.clock.monotonic_ns
        )
        self.bus_1261 = TappedBus(self.emulator.bus(1)) if sx1261 else None
        self.fine_timestamps = fine_timestamps
        self.plan = load_plan(plan) if isinstance(plan, str) else plan
        self.board = load_board(board) if isinstance(board, str) else board
        self.bus = TappedBus(self.emulator.bus())
        self.airtime = AirtimeLedger.unused(self.plan.transmit, self.clock.monotonic_ns())

    def concentrator(self, *, temperature: Callable[[], float] | None = None, wired: bool = True) -> Concentrator:
        """A driver of its own, as a new process would have; `wired` says whether its reset line is."""
        return Concentrator(
            self.bus,
            self.emulator.reset_line() if wired else None,
            self.emulator.power_line(),
            board=self.board,
            plan=self.plan,
            firmware=synthetic_firmware(),
            clock=self.clock,
            temperature=temperature,
            airtime=self.airtime,
            fine_timestamps=self.fine_timestamps,
            sx1261=Sx1261(self.bus_1261, self.clock, SYNTHETIC) if self.bus_1261 else None,
            popped=Popped(self.popped),
        )

    def started(self) -> Concentrator:
        """A driver that receives."""
        concentrator = self.concentrator()
        concentrator.start()
        self.bus.sent.clear()
        return concentrator


def multi_sf_only() -> ChannelPlan:
    """EU868 without LoRa service and FSK channel."""
    return replace(load_plan("eu868"), service=None, fsk=None)


def packet(number: int, *, freq_hz: int = 868_100_000, sf: int = 7, size: int = 20) -> AirPacket:
    """A LoRa packet that carries its number."""
    return AirPacket(freq_hz=freq_hz, sf=sf, payload=number.to_bytes(2, "big") + bytes(size - 2))
