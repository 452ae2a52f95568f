# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Several receptions of one transmission become one packet.

There are two kinds of copies. With fine time stamps each packet is demodulated twice on its channel, within 24 us of
each other. And a device close to the gateway is also heard on other channels and by the service modem, 40 to 70 dB
weaker, within 10 us [sx1302_hal issue 48]. The vendor's software merges the first kind, if both copies happen to be in
one fetch, and passes the second on, so that network servers answer on the wrong channel.

Copies stand in the FIFO side by side. Whoever fetches lingers a moment, so that a fetch does not end between them; a
copy that comes later all the same is dropped and counted. No packet is held back for it: what waits in a process is
lost with it. No device repeats itself within 50 us: its shortest packet lasts longer.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from drivers.sx1302.packet import CrcStatus, RxPacket

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

COPY_US: Final = 50
"""Copies end at the same moment, to within less than this."""

TWIN_US: Final = 24
"""The two demodulations of one packet stamp it within this [HAL 2.1.0 merge_packets]."""

MEMORY_NS: Final = 1_000_000_000
"""How long a packet that was handed up is remembered, for copies that come even later."""

_CRC_RANK: Final = {CrcStatus.BAD: 0, CrcStatus.NONE: 1, CrcStatus.OK: 2}

_Key = tuple[object, ...]


@dataclass(slots=True, eq=False)
class _Group:
    """Copies of one packet, in the order of the FIFO, and when the first of them came."""

    members: list[RxPacket]
    host_ns: int

    def takes(self, packet: RxPacket) -> bool:
        """Whether a packet with one of the group's keys is one of its copies."""
        first = self.members[0]
        apart_us = abs(packet.counter_us - first.counter_us)
        if packet.payload == first.payload:
            return apart_us < COPY_US
        # The same shape on the same channel at the same time is a twin, if one of the two payloads is damaged.
        return apart_us <= TWIN_US and CrcStatus.BAD in (packet.crc, first.crc)

    def best(self) -> RxPacket:
        """The strongest of the copies with the best CRC, or its twin that has a fine time stamp."""
        if len(self.members) == 1:
            return self.members[0]
        best = max(self.members, key=lambda copy: (_CRC_RANK[copy.crc], copy.rssi_channel_dbm))
        if best.fine_timestamp_ns is None:
            for copy in self.members:
                timed = copy.fine_timestamp_ns is not None
                if timed and (copy.if_chain, copy.payload, copy.crc) == (best.if_chain, best.payload, best.crc):
                    best = copy
        others = tuple(copy.counter_us for copy in self.members if copy is not best)
        return replace(best, copies=others)


class Merger:
    """Lets each transmission through once.

    Args:
        twins: packets are demodulated twice, and one of the two may be damaged.
    """

    def __init__(self, *, twins: bool = False) -> None:
        self._twins = twins
        self._known: deque[_Group] = deque()
        self._groups: dict[_Key, list[_Group]] = {}
        self._late = 0

    def clear(self) -> None:
        """Forget all: the counter starts anew."""
        self._known.clear()
        self._groups.clear()
        self._late = 0

    def merge(self, packets: Iterable[RxPacket], now_ns: int) -> tuple[RxPacket, ...]:
        """Return the packets of one fetch, of one run of the counter, each with its copies, in the order of the FIFO.

        Copies of packets of earlier fetches are left out, and counted.
        """
        self._forget(now_ns)
        fresh: dict[int, _Group] = {}
        for packet in packets:
            group = self._group_of(packet)
            if group is None:
                group = _Group([packet], now_ns)
                fresh[id(group)] = group
                self._known.append(group)
            elif id(group) in fresh:
                group.members.append(packet)
            else:
                self._late += 1
                continue
            for key in self._keys(packet):
                known = self._groups.setdefault(key, [])
                if group not in known:
                    known.append(group)
        return tuple(group.best() for group in fresh.values())

    def take_late(self) -> int:
        """Return how many copies came after their packet was handed up, since this was last asked."""
        late, self._late = self._late, 0
        return late

    def _group_of(self, packet: RxPacket) -> _Group | None:
        for key in self._keys(packet):
            for group in self._groups.get(key, ()):
                if group.takes(packet):
                    return group
        return None

    def _forget(self, now_ns: int) -> None:
        while self._known and now_ns - self._known[0].host_ns > MEMORY_NS:
            group = self._known.popleft()
            for member in group.members:
                for key in self._keys(member):
                    known = self._groups.get(key, [])
                    if group in known:
                        known.remove(group)
                    if not known:
                        self._groups.pop(key, None)

    def _keys(self, packet: RxPacket) -> Iterator[_Key]:
        """What copies have in common: the payload, or, of twins, the channel and the shape."""
        rate = packet.modulation, packet.datarate, packet.bandwidth_hz
        yield *rate, packet.payload
        if self._twins:
            yield *rate, packet.if_chain, len(packet.payload)
