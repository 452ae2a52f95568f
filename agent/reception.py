# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What becomes of the packets that the radio hands up: each ends in one bucket of every destination's account."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

from agent.batch.model import Account
from agent.frame import CrcStatus, Frame, Modulation, Session
from agent.lorawan import decode
from agent.spool.intake import UNKNOWN_HOUR, Fingerprint, Heard, RoutedFrame, fingerprint, hour_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from agent.filter import Filter
    from drivers.sx1302.packet import RxPacket

_CRC = tuple(CrcStatus)
_MODULATION = tuple(Modulation)


class Reception:
    """Sorts packets: bad CRC, for nobody, or a frame with a route. Copies of a packet come merged into it, and count.

    Args:
        filters: one per destination, in the order of the configuration.
    """

    def __init__(self, filters: Sequence[Filter]) -> None:
        self._filters = tuple(filters)

    def sort(
        self, packets: Sequence[RxPacket], *, session: Session, zero_us: int | None, lost: int = 0, late_copies: int = 0
    ) -> Heard:
        """Say what becomes of the packets of one look at the radio.

        Args:
            packets: oldest first, of one run of the concentrator.
            session: that run.
            zero_us: CLOCK_BOOTTIME when the concentrator's counter was 0; negative when it ran before this boot; None
                when it cannot be told at which boottime the packets came.
            lost: faults that may each have cost a frame.
            late_copies: copies of packets that were sorted before.
        """
        # A chip that outlived the host's last boot may hold packets from before this one. Their time cannot be told
        # by this boot's clock, and a wrong time is worse than a counted loss.
        in_boot = [packet for packet in packets if zero_us is None or zero_us + packet.counter_us >= 0]
        lost += len(packets) - len(in_boot)
        intact = [packet for packet in in_boot if _CRC[packet.crc] is not CrcStatus.BAD]
        frames, spooled = self._route(intact, session, zero_us)
        duplicate = late_copies + sum(len(packet.copies) for packet in in_boot)
        heard, bad_crc = len(in_boot) + duplicate, len(in_boot) - len(intact)
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
        began_us = zero_us + packets[0].counter_us if packets and zero_us is not None else 0
        return Heard(
            tuple(frames),
            tallies,
            tuple(chain.from_iterable(map(fingerprints, packets))),
            hour_of(session.boot_id, max(began_us, 0)) if packets else UNKNOWN_HOUR,
        )

    def _route(
        self, packets: Sequence[RxPacket], session: Session, zero_us: int | None
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


def fingerprints(packet: RxPacket) -> Iterator[Fingerprint]:
    """Yield the fingerprints of a packet and its copies: which of them is kept may differ from look to look."""
    for counter_us in (packet.counter_us, *packet.copies):
        yield fingerprint(counter_us, packet.payload)


def frame_of(packet: RxPacket, session: Session, zero_us: int | None) -> Frame:
    """Make the frame of a packet.

    Args:
        packet: as received.
        session: the run of the concentrator that received it.
        zero_us: CLOCK_BOOTTIME when the concentrator's counter was 0; None when it is not known: then 0 is stated, of a
            session of an unknown boot.
    """
    return Frame(
        session=session,
        boottime_us=0 if zero_us is None else zero_us + packet.counter_us,
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
