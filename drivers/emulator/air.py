# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""A packet on the air, as it reaches the antenna of the virtual concentrator."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final

from drivers.emulator.airtime import (
    LoraShape,
    fsk_airtime_us,
    fsk_decode_delay_us,
    lora_airtime_us,
    lora_decode_delay_us,
    lora_header_lead_us,
)
from drivers.sx1302.packet import CrcStatus, Modulation

PAYLOAD_LIMIT_BYTES: Final = 255
LORAWAN_SYNC_WORD: Final = 0x34
PRIVATE_SYNC_WORD: Final = 0x12
FSK_SYNC_WORD: Final = bytes.fromhex("C194C1")

_BANDWIDTHS_HZ: Final = (125_000, 250_000, 500_000)
_IDENTIFIER_LIMIT: Final = 128


@dataclass(frozen=True)
class AirPacket:
    """One transmission of somebody else.

    Attributes:
        freq_hz: true centre frequency.
        payload: 0 to 255 bytes.
        modulation: LoRa or FSK.
        sf: spreading factor, 5 to 12 (LoRa).
        bw_hz: 125000, 250000 or 500000 (LoRa).
        coding_rate: 1 to 4 for 4/5 to 4/8 (LoRa).
        bitrate: in bit/s, 500 to 250000 (FSK).
        rssi_dbm: at the antenna connector.
        snr_db: -32 to 31.75, in steps of 0.25 (LoRa).
        crc: whether a payload CRC is sent, and whether it arrives intact.
        sync_word: LoRa, one byte; None for what LoRaWAN uses (public; private for SF5 and SF6).
        fsk_sync: FSK, 1 to 8 bytes.
        invert_iq: sent as a gateway sends its downlinks (LoRa).
        preamble: in symbols (LoRa) or bytes (FSK); None for 8 and 5.
        identifier: for the log; the sender's business.
        lost: why the air does not carry it to the antenna; None when it does.

    Raises:
        ValueError: a value outside its range; the message names it.
    """

    freq_hz: int
    payload: bytes
    modulation: Modulation = Modulation.LORA
    sf: int = 7
    bw_hz: int = 125_000
    coding_rate: int = 1
    bitrate: int = 50_000
    rssi_dbm: float = -80.0
    snr_db: float = 9.0
    crc: CrcStatus = CrcStatus.OK
    sync_word: int | None = None
    fsk_sync: bytes = FSK_SYNC_WORD
    invert_iq: bool = False
    preamble: int | None = None
    identifier: str | None = None
    lost: str | None = None

    def __post_init__(self) -> None:
        lora = self.modulation is Modulation.LORA
        _within("freq_hz", self.freq_hz, 100_000_000, 1_000_000_000)
        _within("payload length", len(self.payload), 0, PAYLOAD_LIMIT_BYTES)
        _within("rssi_dbm", self.rssi_dbm, -200, 20)
        if self.identifier is not None:
            _within("id length", len(self.identifier), 0, _IDENTIFIER_LIMIT)
        if lora:
            _within("sf", self.sf, 5, 12)
            _within("cr", self.coding_rate, 1, 4)
            _within("snr_db", self.snr_db, -32, 31.75)
            if self.bw_hz not in _BANDWIDTHS_HZ:
                raise ValueError(f"bw_hz {self.bw_hz}: expected 125000, 250000 or 500000")
            if self.sync_word is not None:
                _within("sync_word", self.sync_word, 0, 0xFF)
        else:
            _within("datarate", self.bitrate, 500, 250_000)
            _within("sync word length", len(self.fsk_sync), 1, 8)
        if self.preamble is not None:
            _within("preamble", self.preamble, 3, 65_535)

    @cached_property
    def shape(self) -> LoraShape:
        """What decides a LoRa packet's durations."""
        return LoraShape(self.sf, self.bw_hz, self.coding_rate, len(self.payload), self.crc is not CrcStatus.NONE)

    @property
    def lora_sync_word(self) -> int:
        """The sync word that is sent."""
        if self.sync_word is not None:
            return self.sync_word
        return LORAWAN_SYNC_WORD if self.sf >= 7 else PRIVATE_SYNC_WORD

    @cached_property
    def airtime_us(self) -> int:
        """Time on air."""
        if self.modulation is Modulation.LORA:
            return lora_airtime_us(self.shape, preamble=self.preamble or 8)
        return fsk_airtime_us(
            len(self.payload),
            self.bitrate,
            preamble=self.preamble or 5,
            sync=len(self.fsk_sync),
            crc=self.crc is not CrcStatus.NONE,
        )

    @cached_property
    def stored_after_us(self) -> int:
        """From the end of the packet to the time the chip stores in end-of-packet mode; negative for slow FSK."""
        if self.modulation is Modulation.LORA:
            return lora_decode_delay_us(self.shape)
        return fsk_decode_delay_us(self.bitrate)

    @cached_property
    def readable_after_us(self) -> int:
        """From the end of the packet to its appearance in the FIFO: never before the stored time."""
        return max(self.stored_after_us, 0)

    @property
    def header_lead_us(self) -> int:
        """From the time the chip stores in precision mode to the end of the packet (LoRa)."""
        return lora_header_lead_us(self.shape)


def _within(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ValueError(f"{name} {value}: outside {low} to {high}")
