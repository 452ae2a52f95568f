# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""FIFO frames built field by field from their description, independently of the parser."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import strategies as st


@dataclass(frozen=True)
class FifoFrame:
    """What goes into one frame; names as in `drivers.sx1302.fifo.FifoRecord`."""

    payload: bytes = b""
    if_chain: int = 0
    modem: int = 0
    crc_present: bool = True
    coding_rate: int = 1
    spreading_factor: int = 7
    frequency_offset: int = 0
    status: int = 0
    snr_quarter_db: int = 0
    rssi_channel: int = 100
    rssi_signal: int = 100
    ticks: int = 0
    crc16: int = 0
    metrics: bytes = b""

    def encode(self) -> bytes:
        offset = self.frequency_offset & 0xFFFFF
        body = bytearray((0xA5, 0xC0, len(self.payload), self.if_chain))
        body.append(self.spreading_factor << 4 | self.coding_rate << 1 | self.crc_present)
        body += bytes((self.modem, offset & 0xFF, offset >> 8 & 0xFF, offset >> 16))
        body += self.payload
        body += bytes((self.status, self.snr_quarter_db & 0xFF, self.rssi_channel, self.rssi_signal, 0, 0))
        body += self.ticks.to_bytes(4, "little") + self.crc16.to_bytes(2, "little")
        body.append(len(self.metrics) // 2)
        body += self.metrics
        body.append(sum(body) % 256)
        return bytes(body)


def fifo_frames(payload: st.SearchStrategy[bytes] | None = None) -> st.SearchStrategy[FifoFrame]:
    """Frames that a chip may well produce."""
    return st.builds(
        FifoFrame,
        payload=st.binary(max_size=255) if payload is None else payload,
        if_chain=st.integers(0, 9),
        modem=st.integers(0, 17),
        crc_present=st.booleans(),
        coding_rate=st.integers(1, 4),
        spreading_factor=st.integers(5, 12),
        frequency_offset=st.integers(-(1 << 19), (1 << 19) - 1),
        status=st.sampled_from((0x00, 0x01, 0x04, 0x08, 0x10)),
        snr_quarter_db=st.integers(-128, 127),
        rssi_channel=st.integers(0, 255),
        rssi_signal=st.integers(0, 255),
        ticks=st.integers(0, (1 << 32) - 1),
        crc16=st.integers(0, 0xFFFF),
        metrics=st.binary(max_size=64).map(lambda data: data[: len(data) // 2 * 2]),
    )
