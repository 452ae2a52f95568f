# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What was listened to with which success: per channel, and as the chip's own counters say.

The chip counts packets of each kind of modem in bytes that wrap, also those that never reach the FIFO because their
header was lost. What only hardware can show: whether these counters wrap, as is assumed here, or stop at 255; and
whether anything clears them but a reset. They are looked at so often that both come to the same in all but a storm.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from drivers.sx1302.packet import CrcStatus
from drivers.sx1302.registers import field as register_field

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from drivers.sx1302.packet import RxPacket
    from drivers.sx1302.spi import AddressSpace

FIRST_PACKET_COUNTER = register_field("RX_TOP_MULTI_SF_SYNC_ERR_PKT_CNT_MULTI_SF_SYNC_ERR_PKTS")
PACKET_COUNTERS: Final = tuple(
    f"{modem}_{what}" for modem in ("multi_sf", "service", "fsk") for what in ("sync_errors", "payload_errors", "good")
)
"""Nine bytes from there on."""

FIRST_ARBITER_COUNTER = register_field("ARB_MCU_ARB_DEBUG_STS_0_ARB_DEBUG_STS_0")
ARBITER_CHANNELS: Final = 8
ARBITER_COUNTERS: Final = ("detections", "allocations")
"""Eight bytes each from there on, one per channel, for the one spreading factor that the arbiter was told: SF7."""

SUSPICIOUS_LOOKS: Final = "suspicious_looks"
"""How often the chip showed what it also shows when it has stalled, one look every ten seconds."""

SMOOTHING: Final = 1 / 16
"""Weight of the newest value in a level: it follows the last few dozen frames."""


@dataclass(frozen=True, slots=True)
class ChannelStatistics:
    """One IF chain.

    Attributes:
        frames: heard, each transmission once.
        bad_crc: of them.
        rssi_dbm: smoothed level of the channel during frames; None before the first.
        snr_db: smoothed; None before the first, and for FSK.
        noise_dbm: level between transmissions; None where nothing measures it.
    """

    frames: int = 0
    bad_crc: int = 0
    rssi_dbm: float | None = None
    snr_db: float | None = None
    noise_dbm: float | None = None


@dataclass(frozen=True, slots=True)
class Listened:
    """What was listened to since the statistics began.

    Attributes:
        channels: by IF chain, those that anything is known of.
        counters: the chip's own, by name: what a modem met (`PACKET_COUNTERS`), and what the arbiter did about SF7 on
            all channels together (`ARBITER_COUNTERS`); and `SUSPICIOUS_LOOKS`. Those that are not 0.
    """

    channels: Mapping[int, ChannelStatistics] = field(default_factory=dict)
    counters: Mapping[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class _Channel:
    frames: int = 0
    bad_crc: int = 0
    rssi_dbm: float | None = None
    snr_db: float | None = None
    noise_dbm: float | None = None


class Statistics:
    """Counts; outlives restarts of the chip."""

    def __init__(self) -> None:
        self._channels: dict[int, _Channel] = {}
        self._counters: Counter[str] = Counter()
        self._packets = bytes(len(PACKET_COUNTERS))
        self._arbiter = bytes(ARBITER_CHANNELS * len(ARBITER_COUNTERS))

    def chip_started(self) -> None:
        """Know that all counters of the chip begin anew."""
        self._packets = bytes(len(self._packets))
        self.arbiter_started()

    def arbiter_started(self) -> None:
        """Know that the arbiter's counters begin anew."""
        self._arbiter = bytes(len(self._arbiter))

    def heard(self, packets: Iterable[RxPacket]) -> None:
        """Count packets."""
        for packet in packets:
            channel = self._channels.setdefault(packet.if_chain, _Channel())
            channel.frames += 1
            channel.bad_crc += packet.crc is CrcStatus.BAD
            channel.rssi_dbm = _smooth(channel.rssi_dbm, packet.rssi_channel_dbm)
            if packet.snr_db is not None:
                channel.snr_db = _smooth(channel.snr_db, packet.snr_db)

    def measured(self, if_chain: int, noise_dbm: float) -> None:
        """Take what a channel's level is between transmissions."""
        self._channels.setdefault(if_chain, _Channel()).noise_dbm = noise_dbm

    def suspected(self) -> None:
        """Count a look at the chip that found a sign of a stall."""
        self._counters[SUSPICIOUS_LOOKS] += 1

    def look(self, space: AddressSpace) -> bool:
        """Read the chip's counters, two messages, and say whether any has moved.

        Raises:
            BusError: a transfer did not complete.
        """
        packets = space.read(FIRST_PACKET_COUNTER.address, len(self._packets))
        arbiter = space.read(FIRST_ARBITER_COUNTER.address, len(self._arbiter))
        for name, before, now in zip(PACKET_COUNTERS, self._packets, packets, strict=True):
            self._counters[name] += (now - before) & 0xFF
        for at, (before, now) in enumerate(zip(self._arbiter, arbiter, strict=True)):
            self._counters[ARBITER_COUNTERS[at // ARBITER_CHANNELS]] += (now - before) & 0xFF
        moved = (packets, arbiter) != (self._packets, self._arbiter)
        self._packets, self._arbiter = packets, arbiter
        return moved

    def listened(self) -> Listened:
        """Return what is known now."""
        channels = {
            if_chain: ChannelStatistics(one.frames, one.bad_crc, one.rssi_dbm, one.snr_db, one.noise_dbm)
            for if_chain, one in sorted(self._channels.items())
        }
        return Listened(channels, dict(+self._counters))


def _smooth(before: float | None, now: float) -> float:
    return now if before is None else before + (now - before) * SMOOTHING
