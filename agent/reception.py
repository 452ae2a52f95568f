# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What becomes of the packets that the radio hands up: each ends in one bucket of every destination's account."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.batch.model import Account
from agent.frame import CrcStatus, Frame, Modulation, Session
from agent.lorawan import decode
from agent.spool.intake import UNKNOWN_HOUR, Heard, RoutedFrame, fingerprint, hour_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.filter import Filter
    from drivers.sx1302.packet import RxPacket

GHOST_US = 50
"""A strong packet is also demodulated on neighbouring channels, at the same time to within this; no device sends the
same bytes twice so soon."""

_CRC = tuple(CrcStatus)
_MODULATION = tuple(Modulation)


class Reception:
    """Sorts packets: bad CRC, ghost of another one, for nobody, or a frame with a route.

    Args:
        filters: one per destination, in the order of the configuration.
    """

    def __init__(self, filters: Sequence[Filter]) -> None:
        self._filters = tuple(filters)
        self._before: tuple[RxPacket, ...] = ()
        """What was kept of the previous look: the ghost of a packet may come one look later."""

    def sort(self, packets: Sequence[RxPacket], *, session: Session, zero_us: int, lost: int = 0) -> Heard:
        """Say what becomes of the packets of one look at the radio.

        Args:
            packets: oldest first, of one run of the concentrator.
            session: that run.
            zero_us: CLOCK_BOOTTIME when the concentrator's counter was 0; negative when it ran before this boot.
            lost: faults that may each have cost a frame.
        """
        # A chip that outlived the host's last boot may hold packets from before this one. Their time cannot be told
        # by this boot's clock, and a wrong time is worse than a counted loss.
        in_boot = [packet for packet in packets if zero_us + packet.counter_us >= 0]
        lost += len(packets) - len(in_boot)
        intact = [packet for packet in in_boot if _CRC[packet.crc] is not CrcStatus.BAD]
        kept = self._without_ghosts(intact)
        frames, spooled = self._route(kept, session, zero_us)
        heard, bad_crc, duplicate = len(in_boot), len(in_boot) - len(intact), len(intact) - len(kept)
        tallies = tuple(
            Account(
                heard=heard,
                bad_crc=bad_crc,
                duplicate=duplicate,
                filtered=heard - bad_crc - duplicate - own,
                spooled=own,
                overrun=lost,
            )
            for own in spooled
        )
        began_us = zero_us + packets[0].counter_us if packets else -1
        return Heard(
            tuple(frames),
            tallies,
            tuple(fingerprint(packet.counter_us, packet.payload) for packet in packets),
            hour_of(session.boot_id, max(began_us, 0)) if packets else UNKNOWN_HOUR,
        )

    def _route(
        self, packets: Sequence[RxPacket], session: Session, zero_us: int
    ) -> tuple[list[RoutedFrame], list[int]]:
        frames = []
        spooled = [0] * len(self._filters)
        for packet in packets:
            header, crc = decode(packet.payload), _CRC[packet.crc]
            route = 0
            for index, wanted in enumerate(self._filters):
                if wanted.accepts(header, crc):
                    route |= 1 << index
                    spooled[index] += 1
            if route:
                frames.append(RoutedFrame(frame_of(packet, session, zero_us), route))
        return frames, spooled

    def _without_ghosts(self, packets: Sequence[RxPacket]) -> list[RxPacket]:
        """Drop all but the strongest of packets that are copies of each other; all, if one was kept a look ago."""
        strongest: dict[tuple[bytes, int], list[RxPacket]] = {}
        for packet in self._before:
            strongest.setdefault((packet.payload, packet.datarate), []).append(packet)
        kept = []
        for packet in sorted(packets, key=_strength, reverse=True):
            same = strongest.setdefault((packet.payload, packet.datarate), [])
            if not any(abs(packet.counter_us - other.counter_us) < GHOST_US for other in same):
                same.append(packet)
                kept.append(packet)
        if kept:
            self._before = tuple(kept)
        if len(kept) == len(packets):
            return list(packets)
        places = {id(packet): place for place, packet in enumerate(packets)}
        return sorted(kept, key=lambda packet: places[id(packet)])


def _strength(packet: RxPacket) -> float:
    return packet.rssi_channel_dbm


def frame_of(packet: RxPacket, session: Session, zero_us: int) -> Frame:
    """Make the frame of a packet.

    Args:
        packet: as received.
        session: the run of the concentrator that received it.
        zero_us: CLOCK_BOOTTIME when the concentrator's counter was 0.
    """
    return Frame(
        session=session,
        boottime_us=zero_us + packet.counter_us,
        counter_us=packet.counter_us,
        frequency_hz=packet.frequency_hz,
        modulation=_MODULATION[packet.modulation],
        bandwidth_hz=packet.bandwidth_hz,
        datarate=packet.datarate,
        coding_rate=packet.coding_rate,
        crc=_CRC[packet.crc],
        rssi_ddbm=round(packet.rssi_channel_dbm * 10),
        rssis_ddbm=None if packet.rssi_signal_dbm is None else round(packet.rssi_signal_dbm * 10),
        snr_qdb=None if packet.snr_db is None else round(packet.snr_db * 4),
        frequency_offset_hz=packet.frequency_offset_hz,
        if_chain=packet.if_chain,
        rf_chain=packet.rf_chain,
        phy_payload=packet.payload,
        fine_timestamp_ns=packet.fine_timestamp_ns,
    )
