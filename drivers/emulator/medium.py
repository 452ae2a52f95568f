# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The air between devices and the antenna: path loss, noise, collisions, and a gateway that can follow 16 packets.

Pure: time is an argument, chance comes from whoever calls. Signals are put on the medium before they begin; what has
ended is judged once everything that could have disturbed it is known.

A signal is *lost* when it is too weak, when no demodulator is free, or when something disturbs its preamble or header;
disturbed behind its header it arrives *damaged*, with a bad CRC. Disturbed means: not `CAPTURE_DB` above the sum of
what else is on the channel with the same spreading factor and bandwidth, or not `ISOLATION_DB` above the sum of all
that is not.

Not modelled: fading within a packet; interferers that follow one another count as if they came together; signals
on a neighbouring channel; how much of an interferer's spectrum falls into a channel that it overlaps in part;
FSK; noise that others make; demodulators that are held up by preambles of nobody.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from heapq import heappop, heappush
from math import hypot, log10, pi, sin
from typing import TYPE_CHECKING, Final

from drivers.sx1302.packet import CrcStatus

if TYPE_CHECKING:
    from collections.abc import Iterable

    from drivers.emulator.air import AirPacket

THERMAL_NOISE_DBM_PER_HZ: Final = -174.0
"""kT at 290 K."""

NOISE_FIGURE_DB: Final = 6.0
"""Of a receiver, device or gateway [Semtech AN1200.22, sensitivity]; a good gateway has less."""

SNR_FLOOR_DB: Final = {5: -2.5, 6: -5.0, 7: -7.5, 8: -10.0, 9: -12.5, 10: -15.0, 11: -17.5, 12: -20.0}
"""Least SNR at which a spreading factor is demodulated [DS SX1261/2 r2.1, table of spreading factors]."""

CAPTURE_DB: Final = 6.0
"""By how much a signal must exceed others of its spreading factor to survive them [Goursaud & Gorce 2015,
"Dedicated networks for IoT", table of co-channel rejection]; Croce et al. 2018 measured 1 dB."""

ISOLATION_DB: Final = {5: -3.0, 6: -5.0, 7: -8.0, 8: -11.0, 9: -13.0, 10: -17.0, 11: -20.0, 12: -23.0}
"""Least ratio to the sum of signals of other spreading factors, about as measured by Croce et al. 2018 ("Impact of
LoRa imperfect orthogonality", the worst pair of each row); for SF5 and SF6 assumed, after their SNR floors."""

NEEDED_PREAMBLE_SYMBOLS: Final = 5
"""That many symbols at the end of a preamble suffice to find it [Bor et al. 2016, "Do LoRa low-power wide-area
networks scale?", critical section of a packet]."""

SYNC_SYMBOLS: Final = {5: 6.25, 6: 6.25}
_SYNC_SYMBOLS_SF7_TO_12: Final = 4.25
HEADER_SYMBOLS: Final = 8
"""Behind the preamble: sync word and start of frame; and the block with the header [DS SX1261/2 r2.1, time on air]."""

PREAMBLE_SYMBOLS: Final = 8
"""What LoRaWAN sends."""

DEMODULATORS: Final = 16
"""Packets of 125 kHz that an SX1302 follows at a time [DS SX1302, overview]."""

PATH_LOSS_1KM_DB: Final = 128.95
PATH_LOSS_EXPONENT: Final = 2.32
"""Measured at 868 MHz in and around Oulu, antenna at 24 m, cars on the ground; the shadowing had 7.8 dB
[Petäjäjärvi et al. 2015, "On the coverage of LPWANs"]."""

NEAREST_M: Final = 10.0
"""The law of distance is not asked nearer than that."""

FREQUENCY_REACH: Final = 0.25
"""Part of the bandwidth by which transmitter and receiver may differ [DS SX1276 §4.1.5, frequency error indication]."""

CRYSTAL_PERIOD_S: Final = 86_400.0
"""A crystal outdoors follows the temperature of the day."""

SNR_RANGE_DB: Final = (-32.0, 31.75)
"""What the chip can report."""

_DAMAGE: Final = 0x5A


@dataclass(frozen=True, slots=True)
class PathLoss:
    """Attenuation with distance: a straight line over the logarithm.

    Attributes:
        at_1km_db: loss at 1 km.
        exponent: 2 in free space, more in a city.
    """

    at_1km_db: float = PATH_LOSS_1KM_DB
    exponent: float = PATH_LOSS_EXPONENT

    def db(self, one_m: tuple[float, float], other_m: tuple[float, float]) -> float:
        """Return the loss between two places on a plane."""
        distance_m = max(hypot(one_m[0] - other_m[0], one_m[1] - other_m[1]), NEAREST_M)
        return self.at_1km_db + 10 * self.exponent * log10(distance_m / 1000)


@dataclass(frozen=True, slots=True)
class Crystal:
    """A device's source of frequency and time.

    Attributes:
        offset_ppm: its mean error.
        drift_ppm: by how much the error swings about that in the course of a day.
    """

    offset_ppm: float = 0.0
    drift_ppm: float = 0.0

    def error_ppm(self, now_us: int) -> float:
        """Return how much too fast it is."""
        return self.offset_ppm + self.drift_ppm * sin(2 * pi * now_us / (CRYSTAL_PERIOD_S * 1e6))

    def frequency_hz(self, nominal_hz: int, now_us: int) -> int:
        """Return the true frequency of what is meant to be on another."""
        return nominal_hz + round(nominal_hz * self.error_ppm(now_us) * 1e-6)


def noise_dbm(bw_hz: int, noise_figure_db: float = NOISE_FIGURE_DB) -> float:
    """Return a receiver's noise, referred to its antenna."""
    return THERMAL_NOISE_DBM_PER_HZ + 10 * log10(bw_hz) + noise_figure_db


def power_sum_dbm(levels_dbm: Iterable[float]) -> float:
    """Return the level of several signals together; -inf for none."""
    milliwatts = sum(10 ** (level / 10) for level in levels_dbm)
    return 10 * log10(milliwatts) if milliwatts else float("-inf")


def sync_symbols(sf: int) -> float:
    """Return the symbols between preamble and header."""
    return SYNC_SYMBOLS.get(sf, _SYNC_SYMBOLS_SF7_TO_12)


@dataclass(frozen=True, slots=True)
class Signal:
    """A LoRa transmission of somebody, as it arrives at the antenna.

    Attributes:
        packet: what is sent, on its true frequency; its `rssi_dbm` and `snr_db` are not looked at.
        start_us: when its preamble begins.
        level_dbm: power at the antenna.
    """

    packet: AirPacket
    start_us: int
    level_dbm: float

    @property
    def end_us(self) -> int:
        """When its last symbol has arrived."""
        return self.start_us + self.packet.airtime_us

    @property
    def fragile_us(self) -> int:
        """From when on the receiver needs it undisturbed."""
        spare = max((self.packet.preamble or PREAMBLE_SYMBOLS) - NEEDED_PREAMBLE_SYMBOLS, 0)
        return self.start_us + spare * self.packet.shape.symbol_us

    @property
    def locked_us(self) -> int:
        """When its preamble has been found, and a demodulator takes it."""
        return self.start_us + (self.packet.preamble or PREAMBLE_SYMBOLS) * self.packet.shape.symbol_us

    @property
    def payload_us(self) -> int:
        """When its header has arrived."""
        return self.locked_us + round((sync_symbols(self.packet.sf) + HEADER_SYMBOLS) * self.packet.shape.symbol_us)


@dataclass(frozen=True, slots=True)
class Arrival:
    """What the antenna makes of a signal that has ended.

    Attributes:
        packet: with level and SNR as received; with `lost` saying why it is not; damaged, with a bad CRC.
        end_us: when its last symbol arrived.
    """

    packet: AirPacket
    end_us: int


@dataclass(slots=True, eq=False)
class _Tracked:
    signal: Signal
    lost: str | None = None


_LOCK, _END = 1, 0
"""At the same microsecond a demodulator is released before it is taken."""


class Medium:
    """All signals around one gateway.

    Args:
        noise_figure_db: of the gateway.
        demodulators: packets of 125 kHz that it can follow at a time.
    """

    def __init__(self, *, noise_figure_db: float = NOISE_FIGURE_DB, demodulators: int = DEMODULATORS) -> None:
        self._noise_figure_db = noise_figure_db
        self._demodulators = demodulators
        self._busy = 0
        self._judged_us = -1
        self._sequence = 0
        self._events: list[tuple[int, int, int, _Tracked]] = []
        self._signals: list[_Tracked] = []

    def begin(self, signal: Signal) -> None:
        """Put a signal on the air.

        Raises:
            ValueError: it begins before a moment for which others have been judged already.
        """
        if signal.start_us < self._judged_us:
            raise ValueError(f"signal of {signal.start_us} us: the air has been judged until {self._judged_us} us")
        tracked = _Tracked(signal)
        self._signals.append(tracked)
        self._sequence += 1
        heappush(self._events, (signal.locked_us, _LOCK, self._sequence, tracked))
        heappush(self._events, (signal.end_us, _END, self._sequence, tracked))

    @property
    def next_us(self) -> int | None:
        """When something happens next; None when the air is free."""
        return self._events[0][0] if self._events else None

    def advance(self, until_us: int) -> list[Arrival]:
        """Return what ends by then, in the order of the ends; all that begins by then must be on the air already."""
        arrivals = []
        while self._events and self._events[0][0] <= until_us:
            _, kind, _, tracked = heappop(self._events)
            if kind == _LOCK:
                self._lock(tracked)
            else:
                arrivals.append(self._arrive(tracked))
        self._judged_us = max(self._judged_us, until_us)
        self._forget()
        return arrivals

    def _lock(self, tracked: _Tracked) -> None:
        packet = tracked.signal.packet
        snr_db = self._snr_db(tracked.signal)
        if snr_db < SNR_FLOOR_DB[packet.sf]:
            tracked.lost = f"too weak: SNR {snr_db:.1f} dB, SF{packet.sf} needs {SNR_FLOOR_DB[packet.sf]:g}"
        elif _demodulated(packet):
            if self._busy == self._demodulators:
                tracked.lost = f"all {self._demodulators} demodulators are busy"
            else:
                self._busy += 1

    def _arrive(self, tracked: _Tracked) -> Arrival:
        signal = tracked.signal
        if tracked.lost is None and _demodulated(signal.packet):
            self._busy -= 1
        packet = replace(
            signal.packet,
            rssi_dbm=power_sum_dbm((signal.level_dbm, noise_dbm(signal.packet.bw_hz, self._noise_figure_db))),
            snr_db=min(max(self._snr_db(signal), SNR_RANGE_DB[0]), SNR_RANGE_DB[1]),
        )
        if tracked.lost is None:
            tracked.lost, packet = self._disturb(signal, packet)
        return Arrival(packet if tracked.lost is None else replace(packet, lost=tracked.lost), signal.end_us)

    def _disturb(self, wanted: Signal, packet: AirPacket) -> tuple[str | None, AirPacket]:
        others = [t.signal for t in self._signals if t.signal is not wanted and _meet(wanted, t.signal)]
        for disturbers, margin_db, what in (
            ([o for o in others if _alike(o, wanted)], CAPTURE_DB, "of the same spreading factor"),
            ([o for o in others if not _alike(o, wanted)], ISOLATION_DB[packet.sf], "of other spreading factors"),
        ):
            if wanted.level_dbm - power_sum_dbm(o.level_dbm for o in disturbers) >= margin_db:
                continue
            if packet.crc is not CrcStatus.OK or any(o.start_us < wanted.payload_us for o in disturbers):
                return f"collided with {len(disturbers)} {what}", packet
            packet = _damaged(packet, wanted, min(o.start_us for o in disturbers))
        return None, packet

    def _snr_db(self, signal: Signal) -> float:
        return signal.level_dbm - noise_dbm(signal.packet.bw_hz, self._noise_figure_db)

    def _forget(self) -> None:
        """Keep only what can still disturb something that has not been judged."""
        since_us = min(
            (t.signal.start_us for t in self._signals if t.signal.end_us > self._judged_us), default=self._judged_us
        )
        self._signals = [t for t in self._signals if t.signal.end_us > since_us]


def _demodulated(packet: AirPacket) -> bool:
    """Say whether a packet needs one of the multi-SF demodulators; others have a modem of their own."""
    return packet.bw_hz == 125_000


def _alike(one: Signal, other: Signal) -> bool:
    return (one.packet.sf, one.packet.bw_hz) == (other.packet.sf, other.packet.bw_hz)


def _meet(wanted: Signal, other: Signal) -> bool:
    """Say whether two signals meet: in time where it matters, and by more than half of their bandwidths."""
    if other.end_us <= wanted.fragile_us or other.start_us >= wanted.end_us:
        return False
    apart_hz = abs(wanted.packet.freq_hz - other.packet.freq_hz)
    return apart_hz < (wanted.packet.bw_hz + other.packet.bw_hz) / 4


def _damaged(packet: AirPacket, wanted: Signal, from_us: int) -> AirPacket:
    """Return the packet with its bytes spoiled from a moment on, and a bad CRC."""
    share = (from_us - wanted.payload_us) / max(wanted.end_us - wanted.payload_us, 1)
    whole = int(len(packet.payload) * share)
    spoiled = bytes(byte ^ _DAMAGE for byte in packet.payload[whole:])
    return replace(packet, payload=packet.payload[:whole] + spoiled, crc=CrcStatus.BAD)
