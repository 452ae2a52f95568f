# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The bytes a received packet becomes in the receive FIFO.

Layout as Semtech's parser accepts it [HAL 2.1.0 loragw_sx1302_rx.c]: sync, size, channel, rate, modem, frequency
offset, payload, flags, levels, timestamp, CRC, metrics, checksum.

Not modelled: RSSI deltas (0), errors other than a payload CRC error, and the values of timestamp metrics, which
are those of an ideal signal (0).
"""

from __future__ import annotations

from binascii import crc_hqx
from bisect import bisect_left
from typing import TYPE_CHECKING, Final

from drivers.sx1302.packet import CrcStatus, Modulation

if TYPE_CHECKING:
    from drivers.emulator.air import AirPacket
    from drivers.emulator.reception import Demodulator

_SYNC: Final = b"\xa5\xc0"
_CRC_ERROR: Final = 0x01
TIMING_SET: Final = 0x10

OVERHEAD_BYTES: Final = 23
"""Length of a frame without payload and metrics."""

_OFFSET_LSB_HZ: Final = {bw: bw * 32 / (1 << 25) for bw in (125_000, 250_000, 500_000)}
_METRICS: Final = {10: 16, 11: 8, 12: 4}
_METRICS_DEFAULT: Final = 32


def payload_crc(payload: bytes) -> int:
    """Return the CRC the chip reports: XMODEM over all but the last two bytes, which enter at the low end."""
    tail = int.from_bytes(payload[-2:], "big")
    return crc_hqx(payload[:-2], 0) ^ tail


def metric_pairs(sf: int, limit: int) -> int:
    """Return how many pairs of timestamp metrics the chip appends for a spreading factor."""
    return min(_METRICS.get(sf, _METRICS_DEFAULT), limit)


def encode(
    packet: AirPacket, by: Demodulator, timestamp: int, *, modem: int, fine_pairs: int = 0, timing: bool = False
) -> bytes:
    """Return the FIFO frame of a packet.

    Args:
        packet: what was on the air.
        by: the demodulator that received it.
        timestamp: value of the 32 MHz counter that the chip stores.
        modem: 0 to 17.
        fine_pairs: pairs of timestamp metrics.
        timing: this copy comes from the demodulation that is optimised for time.
    """
    payload = packet.payload
    present = packet.crc is not CrcStatus.NONE
    if packet.modulation is Modulation.LORA:
        rate = packet.sf << 4 | packet.coding_rate << 1 | present
        offset = round((packet.freq_hz - by.centre_hz) / _OFFSET_LSB_HZ[packet.bw_hz])
        snr = max(-128, min(127, round(packet.snr_db * 4)))
        channel_level = signal_level = level_byte(packet.rssi_dbm)
    else:
        rate = int(present)
        offset = snr = signal_level = 0
        channel_level = fsk_level_byte(packet.rssi_dbm)
    crc = payload_crc(payload) if present else 0
    damaged = packet.crc is CrcStatus.BAD
    if damaged:
        crc ^= 0x5AA5
    frame = b"".join(
        (
            _SYNC,
            bytes((len(payload), by.channel, rate, modem)),
            (offset & 0xFFFFF).to_bytes(3, "little"),
            payload,
            bytes(
                (
                    (_CRC_ERROR if damaged else 0) | (TIMING_SET if timing else 0),
                    snr & 0xFF,
                    channel_level,
                    signal_level,
                    0,
                    0,
                )
            ),
            (timestamp & 0xFFFFFFFF).to_bytes(4, "little"),
            crc.to_bytes(2, "little"),
            bytes((fine_pairs,)),
            bytes(2 * fine_pairs),
        )
    )
    return frame + bytes((sum(frame) & 0xFF,))


# The board that is emulated: Semtech's reference design with SX1250 radios at 25 degrees [HAL 2.1.0, sample
# configuration and loragw_sx1250 temperature compensation].
RSSI_OFFSET_DB: Final = -215.4
_TEMPERATURE_TERM_DB: Final = (20.41 * 25.0**2 + 2162.56 * 25.0) / 65536


def level_byte(dbm: float) -> int:
    """Return the raw RSSI for a level at the antenna."""
    return max(0, min(255, round(dbm - RSSI_OFFSET_DB - _TEMPERATURE_TERM_DB)))


def _fsk_linear(raw: int) -> float:
    return 90.636423 + 0.420835 * raw + 0.007129 * raw**2 - 0.000026 * raw**3


_FSK_LEVELS: Final = [_fsk_linear(raw) for raw in range(209)]
"""Rising up to there; beyond, the polynomial of the HAL turns."""


def fsk_level_byte(dbm: float) -> int:
    """Return the raw RSSI of the FSK modem, whose scale is bent, for a level at the antenna."""
    return min(bisect_left(_FSK_LEVELS, dbm - RSSI_OFFSET_DB - _TEMPERATURE_TERM_DB), len(_FSK_LEVELS) - 1)
