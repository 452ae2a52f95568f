# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Which frames a destination gets: none, unless a rule says so. What is not accepted is counted, never kept."""

import hashlib
from bisect import bisect_right
from collections.abc import Iterable
from typing import NamedTuple

from agent.frame import CrcStatus
from agent.lorawan import Data, Header, JoinRequest, NotLoRaWAN, Proprietary, Rejoin, dev_addr_block, parse_eui
from agent.settings import setting, table

_DEV_ADDR_DIGITS = 8
_EUI_DIGITS = 16
_NET_ID_DIGITS = 6


class Span(NamedTuple):
    """Addresses from `first` to `last`, both included."""

    first: int
    last: int


def _number(text: str, digits: int) -> int:
    if len(text) != digits or not set(text.lower()) <= set("0123456789abcdef"):
        raise ValueError(f"not {digits} hex digits")
    return int(text, 16)


def _span(text: str, digits: int) -> Span:
    """Read one address, a prefix "26000000/7" or a range "26000000-27ffffff"."""
    start, slash, length = text.partition("/")
    if slash:
        bits = 4 * digits
        if not (length.isascii() and length.isdigit() and int(length) <= bits):
            raise ValueError(f"the prefix length is not 0 to {bits}")
        first, rest = _number(start, digits), (1 << bits - int(length)) - 1
        if first & rest:
            raise ValueError(f"bits are set behind the prefix: is {first & ~rest:0{digits}x}/{length} meant?")
        return Span(first, first | rest)
    start, dash, end = text.partition("-")
    first = _number(start, digits)
    last = _number(end, digits) if dash else first
    if last < first:
        raise ValueError("the range ends before it begins")
    return Span(first, last)


def parse_dev_addrs(text: str) -> Span:
    """Read DevAddrs: one, a prefix or a range; ValueError if it is none."""
    return _span(text, _DEV_ADDR_DIGITS)


def parse_euis(text: str) -> Span:
    """Read EUIs: one, a prefix or a range; ValueError if it is none."""
    return _span(text, _EUI_DIGITS)


def parse_net_id(text: str) -> int:
    """Read a NetID, 6 hex digits; ValueError if it is none."""
    return _number(text, _NET_ID_DIGITS)


def _parse_eui_number(text: str) -> int:
    return int.from_bytes(parse_eui(text), "big")


@table
class FilterRules:
    """What this destination gets.

    Without a rule it gets nothing: frames of others are counted, not kept and not sent. A frame is for it when one of
    the rules fits.
    """

    dev_addr: tuple[Span, ...] = setting(
        "Data of devices with these addresses: a DevAddr, a prefix with its length in bits, or a range.",
        default=(),
        parse=parse_dev_addrs,
        expected='like "26011bda", "26000000/7" or "26000000-27ffffff"',
        example=["26000000/7"],
    )
    net_ids: tuple[int, ...] = setting(
        "Data and rejoin requests of the devices of these networks.",
        default=(),
        parse=parse_net_id,
        expected="a NetID of 6 hex digits",
        example=["000013"],
    )
    join_eui: tuple[Span, ...] = setting(
        "Join requests to these join servers: a JoinEUI, a prefix with its length in bits, or a range.",
        default=(),
        parse=parse_euis,
        expected='like "70b3d57ed0000001", "70b3d57ed0000000/40" or two with - between',
        example=["70b3d57ed0000000/40"],
    )
    dev_eui: tuple[int, ...] = setting(
        "Join and rejoin requests of these devices, whatever their join server.",
        default=(),
        parse=_parse_eui_number,
        expected="an EUI of 16 hex digits",
        example=["70b3d57ed0051234"],
    )
    f_ports: tuple[int, ...] = setting(
        "Only data on these ports; empty for all. Data without a port counts as port 0.",
        default=(),
        minimum=0,
        maximum=255,
        example=[1, 2, 10],
    )
    proprietary: bool = setting("Frames with the LoRaWAN message type Proprietary, of whomever.", default=False)
    non_lorawan: bool = setting("Frames that are not LoRaWAN, of whomever.", default=False)
    no_crc: bool = setting(
        "Also frames that were sent without a CRC, if another rule fits; they may be damaged.", default=False
    )


class _Spans:
    """A set of addresses: ascending, disjoint spans."""

    def __init__(self, spans: Iterable[Span]) -> None:
        merged: list[Span] = []
        for span in sorted(spans):
            if merged and span.first <= merged[-1].last + 1:
                merged[-1] = Span(merged[-1].first, max(merged[-1].last, span.last))
            else:
                merged.append(span)
        self.spans = tuple(merged)
        self._first = [span.first for span in merged]

    def __contains__(self, address: int) -> bool:
        index = bisect_right(self._first, address) - 1
        return index >= 0 and address <= self.spans[index].last


class Filter:
    """The rules of one destination, made ready for use."""

    def __init__(self, rules: FilterRules) -> None:
        blocks = (Span(*dev_addr_block(net_id)) for net_id in rules.net_ids)
        self._dev_addrs = _Spans((*rules.dev_addr, *blocks))
        self._net_ids = frozenset(rules.net_ids)
        self._join_euis = _Spans(rules.join_eui)
        self._dev_euis = frozenset(rules.dev_eui)
        self._f_ports = frozenset(rules.f_ports)
        self._proprietary = rules.proprietary
        self._non_lorawan = rules.non_lorawan
        self._no_crc = rules.no_crc
        self.digest = self._digest()
        """SHA-256 over what the rules mean: equal for rules that accept the same frames in other words. Stable over
        restarts and releases; where it changes, the filter version in the batches counts on."""

    def accepts(self, header: Header, crc: CrcStatus = CrcStatus.OK) -> bool:
        """Tell whether a frame is for this destination; one with a bad CRC never is."""
        if crc is not CrcStatus.OK and not (crc is CrcStatus.NONE and self._no_crc):
            return False
        if isinstance(header, Data):
            # Downlinks of other gateways carry the same addresses, but nothing that a device sent.
            mine = header.uplink and header.dev_addr in self._dev_addrs
            return mine and (not self._f_ports or (header.f_port or 0) in self._f_ports)
        if isinstance(header, NotLoRaWAN):
            return self._non_lorawan
        if isinstance(header, JoinRequest):
            return header.join_eui in self._join_euis or header.dev_eui in self._dev_euis
        if isinstance(header, Rejoin):
            known = header.net_id in self._net_ids if header.join_eui is None else header.join_eui in self._join_euis
            return known or header.dev_eui in self._dev_euis
        return isinstance(header, Proprietary) and self._proprietary

    def _digest(self) -> bytes:
        meaning = (
            "civigate filter 1",
            self._dev_addrs.spans,
            sorted(self._net_ids),
            self._join_euis.spans,
            sorted(self._dev_euis),
            sorted(self._f_ports),
            (self._proprietary, self._non_lorawan, self._no_crc),
        )
        plain = ";".join(",".join(map(_plain, part)) if not isinstance(part, str) else part for part in meaning)
        return hashlib.sha256(plain.encode("ascii")).digest()


def _plain(item: Span | int) -> str:
    return f"{item.first:x}-{item.last:x}" if isinstance(item, Span) else f"{item:x}"
