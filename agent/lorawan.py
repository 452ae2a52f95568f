# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What a PHYPayload says without any key: who sent it, what kind of message it is [LoRaWAN 1.0.4 §4, 1.1 §4, §6].

Most of what a gateway hears is not LoRaWAN at all, so `decode` costs one or two microseconds, never raises and says
why when it gives up. MICs need keys and are not looked at: a header is a claim of the sender.
"""

from __future__ import annotations

import re
from enum import Enum
from struct import Struct
from typing import NamedTuple

MIC_BYTES = 4
_SHORTEST = 1 + MIC_BYTES
"""MHDR and MIC."""
_FHDR_BYTES = 7
"""DevAddr, FCtrl, FCnt, without FOpts."""

_EUI = re.compile(r"[0-9a-f]{16}|[0-9a-f]{2}(-[0-9a-f]{2}){7}|[0-9a-f]{2}(:[0-9a-f]{2}){7}", re.ASCII | re.IGNORECASE)

_FHDR = Struct("<xIBH")
_JOIN = Struct("<xQQH")
_REJOIN_EUI = Struct("<xxQQH")


# The headers are named tuples, not dataclasses: making one costs a third, and one is made for every frame on the air.
class Data(NamedTuple):
    """A data message: an uplink, or a downlink of another gateway that was overheard.

    Attributes:
        uplink: whether a device sent it.
        confirmed: whether it asks for an acknowledgement.
        dev_addr: DevAddr.
        f_ctrl: the FCtrl octet.
        f_cnt: the lower 16 bits of the frame counter.
        f_port: FPort, None where there is none.
        payload_bytes: length of the FRMPayload.
    """

    uplink: bool
    confirmed: bool
    dev_addr: int
    f_ctrl: int
    f_cnt: int
    f_port: int | None
    payload_bytes: int

    @property
    def adr(self) -> bool:
        """Whether the network may control the data rate."""
        return bool(self.f_ctrl & 0x80)

    @property
    def adr_ack_req(self) -> bool:
        """Whether the device asks for any downlink (uplinks only)."""
        return self.uplink and bool(self.f_ctrl & 0x40)

    @property
    def ack(self) -> bool:
        """Whether it acknowledges the last confirmed message of the other side."""
        return bool(self.f_ctrl & 0x20)

    @property
    def class_b(self) -> bool:
        """Whether the device listens to ping slots (uplinks only)."""
        return self.uplink and bool(self.f_ctrl & 0x10)

    @property
    def f_pending(self) -> bool:
        """Whether more waits for the device (downlinks only)."""
        return not self.uplink and bool(self.f_ctrl & 0x10)

    @property
    def f_opts_bytes(self) -> int:
        """Length of the FOpts, 0 to 15."""
        return self.f_ctrl & 0x0F


class JoinRequest(NamedTuple):
    """A device asks to join."""

    join_eui: int
    dev_eui: int
    dev_nonce: int


class JoinAccept(NamedTuple):
    """An answer to a device, overheard; encrypted but for its length."""

    payload_bytes: int


class Rejoin(NamedTuple):
    """A device asks to join anew [LoRaWAN 1.1 §6.2.4].

    Attributes:
        kind: 0, 1 or 2.
        net_id: NetID of the home network (kinds 0 and 2).
        join_eui: JoinEUI (kind 1).
        dev_eui: DevEUI.
        rj_count: RJcount0 or RJcount1.
    """

    kind: int
    net_id: int | None
    join_eui: int | None
    dev_eui: int
    rj_count: int


class Proprietary(NamedTuple):
    """MType 7: a format of its own behind the MHDR."""

    payload_bytes: int


class Foreign(Enum):
    """Why something is not LoRaWAN."""

    EMPTY = "empty"
    SHORT = "too short for an MHDR and a MIC"
    MAJOR = "major version other than 0"
    FHDR = "too short for a frame header"
    F_OPTS = "shorter than its FOpts"
    JOIN_LENGTH = "wrong length for a join message"
    REJOIN_TYPE = "unknown rejoin type"
    REJOIN_LENGTH = "wrong length for a rejoin request"


class NotLoRaWAN(NamedTuple):
    """LoRa, but not LoRaWAN R1."""

    reason: Foreign


Header = Data | JoinRequest | JoinAccept | Rejoin | Proprietary | NotLoRaWAN

_FOREIGN = {reason: NotLoRaWAN(reason) for reason in Foreign}


def decode(phy: bytes) -> Header:
    """Read the header of a PHYPayload of 0 to 255 bytes.

    The three RFU bits of the MHDR are ignored, as the specification asks of receivers.
    """
    size = len(phy)
    if size < _SHORTEST:
        return _FOREIGN[Foreign.SHORT if size else Foreign.EMPTY]
    mhdr = phy[0]
    kind = mhdr >> 5
    if kind == 7:
        return Proprietary(size - _SHORTEST)
    if mhdr & 3:
        return _FOREIGN[Foreign.MAJOR]
    if 2 <= kind <= 5:
        body = size - _SHORTEST - _FHDR_BYTES
        if body < 0:
            return _FOREIGN[Foreign.FHDR]
        dev_addr, f_ctrl, f_cnt = _FHDR.unpack_from(phy)
        body -= f_ctrl & 0x0F
        if body < 0:
            return _FOREIGN[Foreign.F_OPTS]
        f_port = phy[8 + (f_ctrl & 0x0F)] if body else None
        return Data(not kind & 1, kind >= 4, dev_addr, f_ctrl, f_cnt, f_port, body - 1 if body else 0)
    if kind == 0:
        return JoinRequest(*_JOIN.unpack_from(phy)) if size == 23 else _FOREIGN[Foreign.JOIN_LENGTH]
    if kind == 1:
        return JoinAccept(size - _SHORTEST) if size in (17, 33) else _FOREIGN[Foreign.JOIN_LENGTH]
    return _rejoin(phy, size)


def _rejoin(phy: bytes, size: int) -> Header:
    kind = phy[1]
    if kind > 2 or size == _SHORTEST:
        return _FOREIGN[Foreign.REJOIN_TYPE]
    if size != (24 if kind == 1 else 19):
        return _FOREIGN[Foreign.REJOIN_LENGTH]
    if kind == 1:
        join_eui, dev_eui, count = _REJOIN_EUI.unpack_from(phy)
        return Rejoin(kind, None, join_eui, dev_eui, count)
    net_id, dev_eui = int.from_bytes(phy[2:5], "little"), int.from_bytes(phy[5:13], "little")
    return Rejoin(kind, net_id, None, dev_eui, int.from_bytes(phy[13:15], "little"))


class AddressBlock(NamedTuple):
    """The DevAddrs of one network, first and last."""

    first: int
    last: int


_NWK_ID_BITS = (6, 6, 9, 11, 12, 13, 15, 17)
"""Width of the NwkID by NetID type [LoRaWAN Back-End Interfaces 1.1, DevAddr assignment]."""


def dev_addr_block(net_id: int) -> AddressBlock:
    """Return the DevAddrs that a NetID (0 to 0xFFFFFF) stands for.

    Type in unary (that many ones and a zero), then as many low bits of the NetID as the type has, then the device. One
    NwkID can be that of several NetIDs.
    """
    kind = net_id >> 21
    bits = _NWK_ID_BITS[kind]
    prefix = ((1 << kind) - 1) << 1
    device_bits = 32 - (kind + 1) - bits
    first = (prefix << bits | net_id & (1 << bits) - 1) << device_bits
    return AddressBlock(first, first + (1 << device_bits) - 1)


class Network(NamedTuple):
    """What a DevAddr says of its network."""

    kind: int
    """NetID type, 0 to 7."""
    nwk_id: int


def network_of(dev_addr: int) -> Network | None:
    """Return NetID type and NwkID of a DevAddr; None for one that begins with eight ones, which is reserved."""
    kind = 32 - (~dev_addr & 0xFFFFFFFF).bit_length()
    if kind > 7:
        return None
    bits = _NWK_ID_BITS[kind]
    return Network(kind, dev_addr >> 31 - kind - bits & (1 << bits) - 1)


def parse_eui(text: str) -> bytes:
    """Read an EUI-64: 16 hex digits, pairs optionally separated by - or :.

    Raises:
        ValueError: it is none.
    """
    if not _EUI.fullmatch(text):
        raise ValueError("not 16 hex digits")
    return bytes.fromhex(text.replace("-", "").replace(":", ""))
