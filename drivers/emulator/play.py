# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""A scenario played in the emulator's own time: devices on the air, recorded receptions, and what goes wrong when.

`Air` is pure but for the emulator, whose time it takes: a test with a clock of its own plays a day in a second.
`Player` lets it run in a thread.

What the medium decides is known `LEAD_US` before the present, so that packets are put before the chip in time. A host
that stands still for longer makes packets late: they are received later than they should have been, and counted.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from heapq import heapify, heapreplace
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING, Final

from drivers.emulator.device import LEAD_US, Counts, Device, State
from drivers.emulator.faults import FaultError
from drivers.emulator.medium import Medium
from drivers.emulator.scenario import CLEAR

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from drivers.emulator.air import AirPacket
    from drivers.emulator.device import WindowReport
    from drivers.emulator.emulator import Emulator
    from drivers.emulator.replay import Recorded
    from drivers.emulator.scenario import Scenario, ScriptedFault
    from drivers.emulator.tx import Emission

UNKNOWN_LEVEL_DBM: Final = 14.0
"""Taken for a power setting that the board does not name, when it names none at all."""

_BEGIN_US: Final = 1_000_000
_LONGEST_WAIT_S: Final = 0.5
_WINDOWS_TOLD: Final = 4
_JOIN_S: Final = 5.0
_US_PER_S: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class DeviceStatus:
    """How a device is doing.

    Attributes:
        name: of the device.
        state: what it is doing.
        dev_addr: its address, once it has one.
        counts: what it has done.
        windows: what came of its last receive windows.
    """

    name: str
    state: State
    dev_addr: int | None
    counts: Counts
    windows: tuple[WindowReport, ...]


class GatewaySide:
    """What devices perceive of the gateway.

    Args:
        emulator: the gateway's concentrator.
        levels_dbm: radiated power by the value of AGC_TX_PWR.
    """

    def __init__(self, emulator: Emulator, levels_dbm: Mapping[int, float]) -> None:
        self._emulator = emulator
        self._levels_dbm = levels_dbm

    def emissions(self) -> Sequence[Emission]:
        """Return its latest transmissions, oldest first."""
        return self._emulator.txlog()

    def radiated_dbm(self, emission: Emission) -> float:
        """Return the radiated power of one; of a setting that is not known, that of the nearest below it."""
        setting = emission.power[0]
        below = max((known for known in self._levels_dbm if known <= setting), default=None)
        return UNKNOWN_LEVEL_DBM if below is None else self._levels_dbm[below]


class Air:
    """Devices and records around one emulator, and its faults; not thread-safe but for `devices`.

    Faults of the beginning have happened when it is made.

    Args:
        emulator: what hears them.
        scenario: devices and faults; None for none.
        recording: receptions to be repeated.
        speed: how much faster than they were recorded.
        levels_dbm: radiated power of the gateway by the value of AGC_TX_PWR.

    Attributes:
        late: packets that came to the chip later than they should have.
    """

    def __init__(
        self,
        emulator: Emulator,
        scenario: Scenario | None = None,
        recording: Sequence[Recorded] = (),
        *,
        speed: float = 1.0,
        levels_dbm: Mapping[int, float] | None = None,
    ) -> None:
        self._emulator = emulator
        self._gateway = GatewaySide(emulator, levels_dbm or {})
        self._start_us = emulator.now_us()
        self._lock = Lock()
        self._devices: list[Device] = []
        self._medium = Medium()
        if scenario is not None:
            self._medium = Medium(noise_figure_db=scenario.noise_figure_db, demodulators=scenario.demodulators)
            self._devices = [Device(p, seed=scenario.seed, start_us=self._start_us) for p in scenario.devices]
        self._turns = [(device.wake_us, index) for index, device in enumerate(self._devices)]
        heapify(self._turns)
        self._faults: list[ScriptedFault] = [] if scenario is None else list(reversed(scenario.faults))
        self._recording = recording
        self._speed = speed
        self._played = 0
        self.late = 0
        emulator.devices = self.devices
        self._do_faults(self._start_us)

    def advance(self) -> float:
        """Do what is due, and return in how many seconds there is more to do; at most half a second."""
        now_us = self._emulator.now_us()
        self._do_faults(now_us)
        with self._lock:
            while self._turns and self._turns[0][0] <= now_us:
                _, index = self._turns[0]
                device = self._devices[index]
                signal = device.step(self._gateway)
                if signal is not None:
                    self._medium.begin(signal)
                heapreplace(self._turns, (device.wake_us, index))
        for arrival in self._medium.advance(now_us + LEAD_US):
            self._hear(arrival.packet, arrival.end_us)
        while (due_us := self._recorded_us()) is not None and due_us <= now_us + LEAD_US:
            self._hear(self._recording[self._played].packet, due_us)
            self._played += 1
        return self._wait_s()

    def devices(self) -> list[DeviceStatus]:
        """Return how each device is doing."""
        with self._lock:
            return [
                DeviceStatus(
                    name=device.profile.name,
                    state=device.state,
                    dev_addr=device.session.dev_addr if device.session else None,
                    counts=replace(device.counts),
                    windows=tuple(device.windows)[-_WINDOWS_TOLD:],
                )
                for device in self._devices
            ]

    def device(self, name: str) -> Device:
        """Return a device by its name.

        Raises:
            KeyError: there is none.
        """
        for device in self._devices:
            if device.profile.name == name:
                return device
        raise KeyError(name)

    def _do_faults(self, now_us: int) -> None:
        while self._faults and self._start_us + self._faults[-1].at_us <= now_us:
            fault = self._faults.pop()
            if fault.kind == CLEAR:
                self._emulator.clear_faults()
                continue
            # Checked when it was read; what can still be refused is a fault of a sensor that this board does not have.
            with suppress(FaultError):
                self._emulator.fault(fault.kind, **fault.parameters)

    def _hear(self, packet: AirPacket, end_us: int) -> None:
        try:
            self._emulator.inject(packet, end_us=end_us)
        except ValueError:
            self.late += 1
            self._emulator.inject(packet)

    def _recorded_us(self) -> int | None:
        if self._played == len(self._recording):
            return None
        return self._start_us + _BEGIN_US + round(self._recording[self._played].after_us / self._speed)

    def _wait_s(self) -> float:
        due = [self._turns[0][0]] if self._turns else []
        due += [self._start_us + self._faults[-1].at_us] if self._faults else []
        due += [at_us - LEAD_US for at_us in (self._medium.next_us, self._recorded_us()) if at_us is not None]
        if not due:
            return _LONGEST_WAIT_S
        return min(max((min(due) - self._emulator.now_us()) / _US_PER_S, 0.0), _LONGEST_WAIT_S)


class Player:
    """Plays the air in a thread of its own until it is closed."""

    def __init__(self, air: Air) -> None:
        self._air = air
        self._stop = Event()
        self._thread = Thread(target=self._run, name="air", daemon=True)
        self._thread.start()

    def __enter__(self) -> Player:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(_JOIN_S)

    def _run(self) -> None:
        wait_s = 0.0
        while not self._stop.wait(wait_s):
            wait_s = self._air.advance()
