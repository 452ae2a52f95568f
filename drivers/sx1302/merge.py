# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Several receptions of one transmission become one packet.

There are two kinds of copies. With fine time stamps each packet is demodulated twice on its channel, within 24 us of
each other. And a device close to the gateway is also heard on other channels and by the service modem, 40 to 70 dB
weaker, within 10 us [sx1302_hal issue 48]. The vendor's software merges the first kind, if both copies happen to be in
one fetch, and passes the second on, so that network servers answer on the wrong channel.

Copies stand in the FIFO side by side, but a fetch may end between them. So packets are held back until copies would
have come. No device repeats itself within 50 us: its shortest packet lasts longer.
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

WINDOW_S: Final = 0.050
"""How long a packet is held back for copies."""

MEMORY_NS: Final = 1_000_000_000
"""How long a packet that was handed up is remembered, for copies that come even later."""

_CRC_RANK: Final = {CrcStatus.BAD: 0, CrcStatus.NONE: 1, CrcStatus.OK: 2}

_Key = tuple[object, ...]


@dataclass(slots=True, eq=False)
class _Group:
    """Copies of one packet, in the order of the FIFO, and when the first of them came."""

    members: list[RxPacket]
    host_ns: int
    released: bool = False

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
    """Holds packets back for a moment and lets each out once.

    Args:
        window_s: how long; 0 merges what comes together, and holds nothing back.
        twins: packets are demodulated twice, and one of the two may be damaged.
    """

    def __init__(self, window_s: float = WINDOW_S, *, twins: bool = False) -> None:
        self._window_ns = round(window_s * 1e9)
        self._twins = twins
        self._held: deque[_Group] = deque()
        self._released: deque[_Group] = deque()
        self._groups: dict[_Key, list[_Group]] = {}
        self._late = 0

    def clear(self) -> None:
        """Forget all: the counter starts anew."""
        self._held.clear()
        self._released.clear()
        self._groups.clear()
        self._late = 0

    def add(self, packets: Iterable[RxPacket], now_ns: int) -> None:
        """Take packets of one fetch, of one run of the counter, in the order of the FIFO."""
        self._forget(now_ns)
        for packet in packets:
            group = self._group_of(packet)
            if group is None:
                group = _Group([packet], now_ns)
                self._held.append(group)
            elif group.released:
                self._late += 1
                continue
            else:
                group.members.append(packet)
            for key in self._keys(packet):
                known = self._groups.setdefault(key, [])
                if group not in known:
                    known.append(group)

    def release(self, now_ns: int) -> tuple[RxPacket, ...]:
        """Return the packets that were held long enough, each with its copies."""
        return tuple(self._let_out(now_ns - self._window_ns))

    def flush(self) -> tuple[RxPacket, ...]:
        """Return all that is held."""
        return tuple(self._let_out(None))

    def take_late(self) -> int:
        """Return how many copies came after their packet was handed up, since this was last asked."""
        late, self._late = self._late, 0
        return late

    def _let_out(self, since_ns: int | None) -> Iterator[RxPacket]:
        while self._held and (since_ns is None or self._held[0].host_ns <= since_ns):
            group = self._held.popleft()
            self._released.append(group)
            group.released = True
            yield group.best()

    def _group_of(self, packet: RxPacket) -> _Group | None:
        for key in self._keys(packet):
            for group in self._groups.get(key, ()):
                if group.takes(packet):
                    return group
        return None

    def _forget(self, now_ns: int) -> None:
        while self._released and now_ns - self._released[0].host_ns > MEMORY_NS:
            group = self._released.popleft()
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


def merge(packets: Iterable[RxPacket], *, twins: bool) -> tuple[RxPacket, ...]:
    """Return packets of one run of the counter, each once, in the order of their first copies."""
    merger = Merger(twins=twins)
    merger.add(packets, 0)
    return merger.flush()
