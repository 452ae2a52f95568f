# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""A LoRaWAN 1.0.x class A device in EU868: joins, sends, opens its two windows, repeats what was not acknowledged.

Pure: it has no clock, it only says when it wants to be called; chance is seeded by the device's name. Whoever runs it
calls `step` once `wake_us` has come, puts the signal it returns on the medium, and lets it see what the gateway emits.
Being called late changes nothing of what it does when.

Known: frames, delays, windows and data rates [LoRaWAN 1.0.4 L2 §4, §6; RP002-1.0.4 EU868]. Assumed: one crystal makes
frequency and time. Not modelled: answers to MAC commands, adaptive data rate, duty cycle of data (the scenario's
interval is taken as it is), FSK data rates, propagation time.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum
from random import Random
from typing import TYPE_CHECKING, Final, Protocol

from drivers.emulator.air import AirPacket
from drivers.emulator.listening import Window
from drivers.emulator.lorawan import (
    Downlink,
    FrameError,
    Session,
    data_up,
    derive_session,
    join_request,
    open_data_down,
    open_join_accept,
)
from drivers.emulator.medium import NOISE_FIGURE_DB, Crystal, Signal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from drivers.emulator.tx import Emission

LEAD_US: Final = 200_000
"""How long before its start a transmission is made known: the medium judges that far ahead of the present."""

EU868_HZ: Final = (868_100_000, 868_300_000, 868_500_000)
"""Channels that every device has [RP002-1.0.4 §2.4, default channels]."""

RX2_HZ: Final = 869_525_000
RX2_DATA_RATE: Final = 0
JOIN_ACCEPT_DELAY_US: Final = 5_000_000
RX2_AFTER_RX1_US: Final = 1_000_000
RECEIVE_DELAY_US: Final = 1_000_000
"""[RP002-1.0.4, default parameters]"""

TRANSMISSIONS: Final = 8
"""Of one confirmed frame, at most [LoRaWAN 1.0.2 §18.4]."""

ACK_TIMEOUT_US: Final = (1_000_000, 3_000_000)
"""From the second window to a repetition: 2 s, give or take one [RP002-1.0.4, ACK_TIMEOUT]."""

JOIN_DUTY_CYCLE: Final = 0.01
"""Share of time that join requests may take in the first hour [LoRaWAN 1.0.2 §7]."""

_SF_OF_SLOWEST: Final = 12
_FASTEST_LORA: Final = 5
_US_PER_S: Final = 1_000_000
_DECODED_US: Final = 2_000
_PATIENCE_US: Final = 1_000_000
_AFTER_JOIN_US: Final = 1_000_000
_JOIN_REQUEST: Final = b"\0"
_NEAR_US: Final = 500_000
_KEPT: Final = 100
_NS_PER_US: Final = 1_000
_NONCES: Final = 1 << 16
_FCNT_WRAP: Final = 1 << 32


@dataclass(frozen=True, slots=True)
class Otaa:
    """Activation over the air.

    Attributes:
        dev_eui: 8 bytes, most significant first.
        join_eui: likewise.
        app_key: 16 bytes.
        dev_nonce: of the first join request; each one after it counts up.
    """

    dev_eui: bytes
    join_eui: bytes
    app_key: bytes
    dev_nonce: int


@dataclass(frozen=True, slots=True)
class DeviceProfile:
    """A device and its place.

    Attributes:
        name: for logs, and to seed chance with.
        activation: how it comes to a session, or the session.
        path_loss_db: between it and the gateway, both ways.
        interval_us: between frames, in the mean.
        poisson: frames come at random instead of periodically.
        first_us: of its first transmission, after the start.
        sf: spreading factor, 7 to 12.
        confirmed: asks for acknowledgements.
        payload_bytes: of application data, random.
        port: 1 to 223.
        frequencies_hz: channels it uses, besides those that the network adds.
        power_dbm: radiated.
        fading_db: standard deviation of the level, drawn anew for each transmission.
        noise_figure_db: of its receiver.
        crystal: makes its frequencies and its time.
    """

    name: str
    activation: Otaa | Session
    path_loss_db: float
    interval_us: int
    poisson: bool = False
    first_us: int = 0
    sf: int = 7
    confirmed: bool = False
    payload_bytes: int = 12
    port: int = 1
    frequencies_hz: tuple[int, ...] = EU868_HZ
    power_dbm: float = 14.0
    fading_db: float = 0.0
    noise_figure_db: float = NOISE_FIGURE_DB
    crystal: Crystal = field(default_factory=Crystal)


class Gateway(Protocol):
    """What a device perceives of the gateway."""

    def emissions(self) -> Sequence[Emission]:
        """Return its latest transmissions, oldest first."""

    def radiated_dbm(self, emission: Emission) -> float:
        """Return the radiated power of one."""


class State(StrEnum):
    """What a device is doing."""

    SLEEPING = "sleeping"
    LISTENING = "listening"
    RECEIVING = "receiving"


@dataclass(frozen=True, slots=True)
class WindowReport:
    """What came of a receive window.

    Attributes:
        name: RX1 or RX2.
        due_us: when a downlink on time would have begun.
        outcome: "heard", "nothing sent", or why what was sent was not received or not accepted.
    """

    name: str
    due_us: int
    outcome: str


@dataclass(slots=True)
class Counts:
    """What a device has done so far.

    Attributes:
        transmissions: of all kinds, repetitions too.
        joins: join requests.
        frames: data frames, each once.
        acknowledged: confirmed frames that were.
        abandoned: confirmed frames that were not, to the last repetition.
        downlinks: data frames received.
    """

    transmissions: int = 0
    joins: int = 0
    frames: int = 0
    acknowledged: int = 0
    abandoned: int = 0
    downlinks: int = 0


class Device:
    """One device.

    Args:
        profile: what it is.
        seed: of chance, together with the name.
        start_us: when the scenario begins, in the emulator's time.

    Attributes:
        profile: what it is.
        state: what it is doing.
        session: once it has joined.
        counts: what it has done.
        downlinks: the last data frames it received.
        windows: what came of its last receive windows.
        wake_us: when it wants to be called next; `LEAD_US` before a transmission.
    """

    def __init__(self, profile: DeviceProfile, *, seed: int = 0, start_us: int = 0) -> None:
        self.profile = profile
        self.state = State.SLEEPING
        activation = profile.activation
        self.session = activation if isinstance(activation, Session) else None
        self.counts = Counts()
        self.downlinks: deque[Downlink] = deque(maxlen=_KEPT)
        self.windows: deque[WindowReport] = deque(maxlen=_KEPT)
        self._chance = Random(f"{seed}/{profile.name}")  # noqa: S311 - repeatable on purpose
        self._frequencies_hz = list(profile.frequencies_hz)
        self._nonce = activation.dev_nonce if isinstance(activation, Otaa) else 0
        self._fcnt_up = self._fcnt_down = 0
        self._rx1_delay_us, self._rx1_dr_offset, self._rx2_data_rate = RECEIVE_DELAY_US, 0, RX2_DATA_RATE
        self._must_ack = self._pending_ack = False
        self._frame = b""
        self._attempts = 0
        self._open: list[Window] = []
        self._caught: Emission | None = None
        self._slot_us = start_us + profile.first_us
        self.wake_us = self._slot_us - LEAD_US

    def step(self, gateway: Gateway) -> Signal | None:
        """Do what is due at `wake_us`: return a transmission that begins `LEAD_US` later, or look into a window.

        Args:
            gateway: what can be heard, up to `wake_us` at least.
        """
        if self.state is State.SLEEPING:
            return self._transmit()
        emissions = gateway.emissions()
        if self.state is State.LISTENING:
            self._look(gateway, emissions)
        else:
            self._receive()
        return None

    def _transmit(self) -> Signal:
        profile, start_us = self.profile, self.wake_us + LEAD_US
        if not self._attempts:
            self._frame = self._next_frame()
        self._attempts += 1
        self.counts.transmissions += 1
        nominal_hz = self._chance.choice(self._frequencies_hz)
        packet = AirPacket(
            freq_hz=profile.crystal.frequency_hz(nominal_hz, start_us),
            payload=self._frame,
            sf=profile.sf,
            identifier=f"{profile.name} {self._what()}",
        )
        level_dbm = profile.power_dbm - profile.path_loss_db + self._chance.gauss(0.0, profile.fading_db)
        signal = Signal(packet, start_us, level_dbm)
        self._open = self._windows_after(signal.end_us, nominal_hz)
        self.state, self.wake_us = State.LISTENING, self._open[0].closes_us
        return signal

    def _next_frame(self) -> bytes:
        activation = self.profile.activation
        if self.session is None:
            assert isinstance(activation, Otaa)
            self.counts.joins += 1
            return join_request(activation.app_key, activation.join_eui, activation.dev_eui, self._nonce)
        profile = self.profile
        self.counts.frames += 1
        ack, self._must_ack = self._must_ack, False
        self._pending_ack = profile.confirmed
        payload = self._chance.randbytes(profile.payload_bytes)
        return data_up(self.session, self._fcnt_up, payload, profile.port, confirmed=profile.confirmed, ack=ack)

    def _what(self) -> str:
        return f"join {self._nonce}" if self.session is None else f"{self._fcnt_up}.{self._attempts}"

    def _windows_after(self, end_us: int, nominal_hz: int) -> list[Window]:
        rate = _SF_OF_SLOWEST - self.profile.sf
        delay_us, offset = self._rx1_delay_us, self._rx1_dr_offset
        rx2_rate = self._rx2_data_rate
        if self.session is None:
            delay_us, offset, rx2_rate = JOIN_ACCEPT_DELAY_US, 0, RX2_DATA_RATE
        crystal = self.profile.crystal
        plan = (
            ("RX1", delay_us, nominal_hz, max(rate - offset, 0)),
            ("RX2", delay_us + RX2_AFTER_RX1_US, RX2_HZ, rx2_rate),
        )
        return [
            Window(
                name,
                # A clock that is too fast has the time over too soon.
                end_us + round(after_us / (1 + crystal.error_ppm(end_us) * 1e-6)),
                crystal.frequency_hz(freq_hz, end_us),
                _SF_OF_SLOWEST - data_rate,
            )
            for name, after_us, freq_hz, data_rate in plan
        ]

    def _look(self, gateway: Gateway, emissions: Sequence[Emission]) -> None:
        """Close a window, or stay with the downlink whose preamble was found in it."""
        window = self._open[0]
        nearest_us, why = _NEAR_US, "nothing sent"
        for emission in emissions:
            if emission.start_ns is None or emission.outcome == "blocked":
                continue
            away_us = abs(emission.start_ns // _NS_PER_US - window.due_us)
            if away_us > _NEAR_US:
                continue
            level_dbm = gateway.radiated_dbm(emission) - self.profile.path_loss_db
            missed = window.misses(emission, level_dbm, self.profile.noise_figure_db)
            if missed is None:
                self._caught = emission
                self.state, self.wake_us = State.RECEIVING, _end_us(emission) + _DECODED_US
                return
            if away_us < nearest_us:
                nearest_us, why = away_us, missed
        self._close(window.closes_us, why)

    def _receive(self) -> None:
        emission = self._caught
        assert emission is not None
        # One that was taken back before it left, by a clock that is behind ours, has no end.
        end_us = self.wake_us if emission.start_ns is None else _end_us(emission)
        if emission.outcome in {"waiting", "emitting"} and self.wake_us < end_us + _PATIENCE_US:
            # The counter by which the gateway sends is not the clock by which we look.
            self.wake_us += _DECODED_US
            return
        self._caught = None
        if emission.outcome != "sent":
            self._close(end_us, f"broken off ({emission.outcome})")
            return
        try:
            self._accept(emission.payload)
        except FrameError as error:
            self._close(end_us, str(error))
        else:
            self._report("heard")
            self._done()

    def _accept(self, frame: bytes) -> None:
        """Take a frame that is for this device.

        Raises:
            FrameError: it is not, or damaged.
        """
        activation = self.profile.activation
        if self.session is None:
            assert isinstance(activation, Otaa)
            accept = open_join_accept(activation.app_key, frame)
            self.session = derive_session(activation.app_key, accept, self._nonce)
            self._fcnt_up = self._fcnt_down = 0
            self._rx1_delay_us = max(accept.rx_delay_s, 1) * _US_PER_S
            self._rx1_dr_offset = accept.rx1_dr_offset
            if accept.rx2_data_rate <= _FASTEST_LORA:
                self._rx2_data_rate = accept.rx2_data_rate
            self._frequencies_hz += [hz for hz in accept.frequencies_hz if hz and hz not in self._frequencies_hz]
            return
        downlink = open_data_down(self.session, frame, self._fcnt_down)
        self._fcnt_down = (downlink.fcnt + 1) % _FCNT_WRAP
        self._must_ack = downlink.confirmed
        self.counts.downlinks += 1
        self.downlinks.append(downlink)
        if downlink.ack and self._pending_ack:
            self._pending_ack = False
            self.counts.acknowledged += 1

    def _close(self, busy_until_us: int, why: str) -> None:
        """Go on to the next window if the receiver is free by then, or give up waiting."""
        self._report(why)
        if self._open and self._open[0].opens_us < busy_until_us:
            self._report("still receiving")
        if self._open:
            self.state, self.wake_us = State.LISTENING, self._open[0].closes_us
        else:
            self._done()

    def _report(self, outcome: str) -> None:
        window = self._open.pop(0)
        self.windows.append(WindowReport(window.name, window.due_us, outcome))

    def _done(self) -> None:
        """Plan the next transmission after the windows of the last."""
        now_us = self.wake_us
        self._open = []
        self.state = State.SLEEPING
        if self._frame[:1] == _JOIN_REQUEST:
            next_us = self._after_join(now_us)
        elif self._pending_ack and self._attempts < TRANSMISSIONS:
            next_us = now_us + round(self._chance.uniform(*ACK_TIMEOUT_US))
        else:
            self.counts.abandoned += self._pending_ack
            self._pending_ack = False
            self._fcnt_up = (self._fcnt_up + 1) % _FCNT_WRAP
            self._attempts = 0
            next_us = self._next_slot(now_us)
        self.wake_us = max(next_us - LEAD_US, now_us)

    def _after_join(self, now_us: int) -> int:
        """Return the moment of the first data frame, or of the next attempt."""
        self._attempts = 0
        if self.session is not None:
            self._slot_us = now_us + _AFTER_JOIN_US
            return self._slot_us
        self._nonce = (self._nonce + 1) % _NONCES
        airtime_us = AirPacket(self._frequencies_hz[0], self._frame, sf=self.profile.sf).airtime_us
        return now_us + round(airtime_us * (1 / JOIN_DUTY_CYCLE - 1) + self._chance.uniform(0, _US_PER_S))

    def _next_slot(self, now_us: int) -> int:
        """Return the next moment of the traffic model; those that have passed meanwhile are left out."""
        interval_us = self.profile.interval_us
        earliest_us = now_us + LEAD_US
        if self.profile.poisson:
            self._slot_us = max(self._slot_us + round(self._chance.expovariate(1 / interval_us)), earliest_us)
        else:
            self._slot_us += max(-((self._slot_us - earliest_us) // interval_us), 1) * interval_us
        return self._slot_us


def _end_us(emission: Emission) -> int:
    assert emission.start_ns is not None
    return emission.start_ns // _NS_PER_US + (emission.airtime_us or 0)
