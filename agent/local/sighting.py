# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""A reception as people near the gateway may see it: what is ours in full but for its content, of others only a level.

Whoever walks the town with a sensor needs its name, level and counter. Of a frame that no destination keeps, nobody is
to take notice: what is left of it is a channel, a data rate, whole decibels and a whole second; neither an address nor
a length nor a moment by which it could be told from another. A damaged frame may be anybody's, and is shown alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from agent.lorawan import Data, Header, JoinRequest, Proprietary, Rejoin, decode
from drivers.sx1302.packet import CrcStatus, Modulation

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from agent.spool.intake import RoutedFrame
    from drivers.sx1302.packet import RxPacket

_SECOND_US = 1_000_000
_MODULATIONS = {Modulation.LORA: "lora", Modulation.FSK: "fsk"}


class Fate(StrEnum):
    """What became of a reception."""

    KEPT = "kept"
    """At least one destination gets it."""
    FILTERED = "filtered"
    """Of others: counted, not kept."""
    BAD_CRC = "bad_crc"


@dataclass(frozen=True, slots=True)
class Sighting:
    """One reception.

    Attributes:
        number: counts receptions since the agent began, from 1.
        boottime_us: CLOCK_BOOTTIME at the end of the packet; unless it was kept, in whole seconds.
        fate: what became of it.
        if_chain: 0 to 7 multi-SF, 8 LoRa service, 9 FSK.
        frequency_hz: centre of the channel.
        modulation: "lora" or "fsk".
        datarate: LoRa: spreading factor 5 to 12; FSK: bit/s.
        bandwidth_hz: 125000, 250000 or 500000.
        rssi_dbm: of the channel; unless it was kept, in whole decibels.
        snr_db: the same; None for FSK.
        size_bytes: of the PHYPayload; None unless it was kept, like all below.
        kind: "data", "join", "rejoin", "proprietary" or "other".
        device: DevAddr (8 hex digits) of data, DevEUI (16) of a join or rejoin; None where there is none.
        f_cnt: the lower 16 bits of the frame counter; None where there is none.
    """

    number: int
    boottime_us: int
    fate: Fate
    if_chain: int
    frequency_hz: int
    modulation: str
    datarate: int
    bandwidth_hz: int
    rssi_dbm: float
    snr_db: float | None
    size_bytes: int | None = None
    kind: str | None = None
    device: str | None = None
    f_cnt: int | None = None


def sightings(packets: Sequence[RxPacket], kept: Sequence[RoutedFrame], zero_us: int, first: int) -> Iterator[Sighting]:
    """Yield what may be seen of the packets of one look at the radio.

    Args:
        packets: oldest first.
        kept: the frames that were made of some of them, in the same order.
        zero_us: CLOCK_BOOTTIME when the concentrator's counter was 0.
        first: number of the first.
    """
    frames = iter(kept)
    frame = next(frames, None)
    for number, packet in enumerate(packets, first):
        boottime_us = zero_us + packet.counter_us
        own = (
            frame is not None
            and frame.frame.counter_us == packet.counter_us
            and frame.frame.phy_payload is packet.payload
        )
        if own:
            frame = next(frames, None)
            yield _own(number, boottime_us, packet)
        else:
            yield _foreign(number, boottime_us, packet)


def _own(number: int, boottime_us: int, packet: RxPacket) -> Sighting:
    kind, device, f_cnt = _sender(decode(packet.payload))
    return Sighting(
        number,
        boottime_us,
        Fate.KEPT,
        packet.if_chain,
        packet.frequency_hz,
        _MODULATIONS[packet.modulation],
        packet.datarate,
        packet.bandwidth_hz,
        round(packet.rssi_channel_dbm, 1),
        packet.snr_db,
        len(packet.payload),
        kind,
        device,
        f_cnt,
    )


def _foreign(number: int, boottime_us: int, packet: RxPacket) -> Sighting:
    return Sighting(
        number,
        boottime_us // _SECOND_US * _SECOND_US,
        Fate.BAD_CRC if packet.crc is CrcStatus.BAD else Fate.FILTERED,
        packet.if_chain,
        packet.frequency_hz,
        _MODULATIONS[packet.modulation],
        packet.datarate,
        packet.bandwidth_hz,
        round(packet.rssi_channel_dbm),
        None if packet.snr_db is None else round(packet.snr_db),
    )


def _sender(header: Header) -> tuple[str, str | None, int | None]:
    match header:
        case Data(dev_addr=dev_addr, f_cnt=f_cnt):
            return "data", f"{dev_addr:08x}", f_cnt
        case JoinRequest(dev_eui=dev_eui):
            return "join", f"{dev_eui:016x}", None
        case Rejoin(dev_eui=dev_eui):
            return "rejoin", f"{dev_eui:016x}", None
        case Proprietary():
            return "proprietary", None, None
    return "other", None, None
