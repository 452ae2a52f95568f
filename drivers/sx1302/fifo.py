# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The receive FIFO's byte stream, taken apart into records.

Frames stand back to back, n is the payload's length and T the number of timing metric pairs (0 without
precision time stamps) [HAL 2.1.0 loragw_sx1302_rx.c]:

    0       A5 C0
    2       n
    3       IF chain, 0 to 9
    4       [0] CRC present  [3:1] coding rate  [7:4] spreading factor
    5       modem: 0 to 15 multi-SF, 16 service, 17 FSK
    6       frequency offset, 20 bits two's complement, little-endian
    9       payload
    9+n     [0] payload CRC error  [2] sync error  [3] header error  [4] timing set
    10+n    SNR, signed quarters of a dB
    11+n    RSSI of the channel, RSSI of the signal
    13+n    how far each of the two swung
    15+n    time stamp, 32 MHz, little-endian
    19+n    payload CRC16 as received, little-endian
    21+n    T
    22+n    2T bytes of timing metrics
    22+n+2T sum of all bytes before, modulo 256

Damage is counted, skipped up to the next frame that holds, and never raised: the vendor's software drops
everything it fetched, or exits. While searching, each stretch of damage counts once, under what was found
first.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from struct import Struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

SYNC: Final = b"\xa5\xc0"
HEADER: Final = Struct("<2xBBBBHB")
TRAILER: Final = Struct("<BbBBxxIHB")
OVERHEAD_BYTES: Final = HEADER.size + TRAILER.size + 1
"""Of a frame without payload and metrics: 23."""

LONGEST_LEGACY_FRAME_BYTES: Final = OVERHEAD_BYTES + 255
"""Without timing metrics."""

LONGEST_FRAME_BYTES: Final = LONGEST_LEGACY_FRAME_BYTES + 2 * 255
"""With as many timing metrics as its count can say."""

IF_CHAINS: Final = 10
SERVICE_MODEM: Final = 16
FSK_MODEM: Final = 17
OFFSET_BITS: Final = 20


class Fault(StrEnum):
    """What reception counts instead of raising."""

    RESYNC = "resync"
    """Bytes that are no frame where one should begin."""

    CHECKSUM = "checksum"
    """A frame whose checksum does not match."""

    TRUNCATED = "truncated"
    """A frame whose end never came."""

    RANGE = "range"
    """An intact frame that names a channel, modem or modulation which there is not."""

    CRC16 = "crc16"
    """A frame whose payload does not match the CRC the modem found good."""

    FULL = "full"
    """A visit that found less room in the FIFO than a longest frame needs: the chip may have dropped some."""

    OTHER_PLAN = "other_plan"
    """A frame of an earlier process that listened elsewhere: its frequency is not known."""

    TEMPERATURE = "temperature"
    """A visit at which the temperature could not be read; the last value was taken."""


@dataclass(frozen=True, slots=True)
class FifoRecord:
    """One frame of the FIFO, in the chip's own units.

    Attributes:
        payload: 0 to 255 bytes.
        if_chain: 0 to 9.
        modem: 0 to 17.
        crc_present: the packet carries a payload CRC.
        coding_rate: 1 to 4; meaningless for FSK.
        spreading_factor: 5 to 12; meaningless for FSK.
        frequency_offset: signed, 20 bits.
        crc_error: the payload CRC does not match, or header or sync were wrong.
        timing_set: this is the copy of the demodulation that was optimised for timing.
        snr_quarter_db: signed.
        rssi_channel: 0 to 255.
        rssi_signal: 0 to 255.
        ticks: time stamp, 32 bits at 32 MHz.
        crc16: payload CRC as received.
        metrics: timing metrics, 2T signed bytes.
    """

    payload: bytes
    if_chain: int
    modem: int
    crc_present: bool
    coding_rate: int
    spreading_factor: int
    frequency_offset: int
    crc_error: bool
    timing_set: bool
    snr_quarter_db: int
    rssi_channel: int
    rssi_signal: int
    ticks: int
    crc16: int
    metrics: bytes


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a stretch of FIFO holds.

    Attributes:
        records: intact frames, in order.
        faults: how often each kind of damage was met.
        rest: the beginning of a frame whose end is still to come; put it before the next stretch.
    """

    records: tuple[FifoRecord, ...]
    faults: Mapping[Fault, int]
    rest: bytes


def parse(data: bytes, *, final: bool = False) -> Parsed:
    """Take a stretch of FIFO apart. Never raises, whatever the bytes.

    Args:
        data: from the FIFO, with the last `rest` before it.
        final: nothing will follow; an unfinished frame is then damage, and searched for frames itself.
    """
    records: list[FifoRecord] = []
    faults: Counter[Fault] = Counter()
    position, searching = 0, False
    while position < len(data):
        found = data.find(SYNC, position)
        if found != position and not searching:
            if data[position:] == SYNC[:1] and not final:
                break
            faults[Fault.RESYNC] += 1
            searching = True
        if found < 0:
            # The last byte may be the first half of a sync word.
            position = len(data) - 1 if data[-1:] == SYNC[:1] and not final else len(data)
            break
        position = found
        length = frame_length(data, position)
        if length is None:
            if not final:
                break
            problem: Fault | None = Fault.TRUNCATED
        else:
            problem = _problem(data, position, length)
            if problem is None:
                records.append(_record(data, position, length))
        if problem in (Fault.TRUNCATED, Fault.CHECKSUM):
            faults[problem] += 0 if searching else 1
            searching = True
            position += 1
            continue
        if problem is not None:
            faults[problem] += 1
        searching = False
        position += length or 1
    return Parsed(tuple(records), +faults, data[position:])


def frame_length(data: bytes, start: int) -> int | None:
    """Return the length of the frame at `start`, or None when its end is not in `data`."""
    if len(data) < start + OVERHEAD_BYTES:
        return None
    pairs_at = start + OVERHEAD_BYTES - 2 + data[start + 2]
    if len(data) <= pairs_at:
        return None
    length = OVERHEAD_BYTES + data[start + 2] + 2 * data[pairs_at]
    return length if len(data) >= start + length else None


def _problem(data: bytes, start: int, length: int) -> Fault | None:
    end = start + length - 1
    if sum(data[start:end]) & 0xFF != data[end]:
        return Fault.CHECKSUM
    if_chain, rate, modem = data[start + 3], data[start + 4], data[start + 5]
    lora = modem != FSK_MODEM
    if (
        modem > FSK_MODEM
        or if_chain >= IF_CHAINS
        or (lora and not (5 <= rate >> 4 <= 12 and 1 <= rate >> 1 & 0x7 <= 4))
    ):
        return Fault.RANGE
    return None


def _record(data: bytes, start: int, length: int) -> FifoRecord:
    size, if_chain, rate, modem, offset_low, offset_high = HEADER.unpack_from(data, start)
    body = start + HEADER.size
    status, snr, rssi_channel, rssi_signal, ticks, crc16, _ = TRAILER.unpack_from(data, body + size)
    offset = offset_low | (offset_high & 0x0F) << 16
    return FifoRecord(
        payload=data[body : body + size],
        if_chain=if_chain,
        modem=modem,
        crc_present=bool(rate & 0x01),
        coding_rate=rate >> 1 & 0x7,
        spreading_factor=rate >> 4,
        frequency_offset=offset - (1 << OFFSET_BITS) if offset >> (OFFSET_BITS - 1) else offset,
        crc_error=bool(status & 0x0D),
        timing_set=bool(status & 0x10),
        snr_quarter_db=snr,
        rssi_channel=rssi_channel,
        rssi_signal=rssi_signal,
        ticks=ticks,
        crc16=crc16,
        metrics=data[body + size + TRAILER.size : start + length - 1],
    )
