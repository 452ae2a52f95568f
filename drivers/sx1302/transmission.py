# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What can be transmitted, when, and what a transmit chain says it is doing."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

LONGEST_PAYLOAD_BYTES: Final = 255


@dataclass(frozen=True, slots=True)
class LoraTransmission:
    """A LoRa packet to be sent.

    Attributes:
        frequency_hz: carrier.
        power_dbm: radiated (EIRP).
        bandwidth_hz: 125000, 250000 or 500000.
        spreading_factor: 5 to 12.
        coding_rate: 1 to 4 for 4/5 to 4/8.
        payload: 0 to 255 bytes.
        invert_polarity: True for LoRaWAN downlinks.
        crc: append a payload CRC; LoRaWAN downlinks have none.
        implicit_header: leave the header out, as beacons do.
        preamble_symbols: 6 to 65535.
    """

    frequency_hz: int
    power_dbm: float
    bandwidth_hz: int
    spreading_factor: int
    coding_rate: int
    payload: bytes
    invert_polarity: bool = True
    crc: bool = False
    implicit_header: bool = False
    preamble_symbols: int = 8


@dataclass(frozen=True, slots=True)
class FskTransmission:
    """An FSK packet to be sent, in LoRaWAN's format.

    Attributes:
        frequency_hz: carrier.
        power_dbm: radiated (EIRP).
        bitrate_bps: 500 to 250000.
        deviation_hz: 500 to 200000.
        payload: 0 to 255 bytes.
        crc: append a CRC.
        preamble_bytes: 3 to 65535.
    """

    frequency_hz: int
    power_dbm: float
    bitrate_bps: int
    deviation_hz: int
    payload: bytes
    crc: bool = True
    preamble_bytes: int = 5

    @property
    def bandwidth_hz(self) -> int:
        """What it occupies, by Carson's rule."""
        return self.bitrate_bps + 2 * self.deviation_hz


@dataclass(frozen=True, slots=True)
class CarrierTransmission:
    """An unmodulated carrier for measurements; lasts until it is aborted.

    Attributes:
        frequency_hz: centre of the modulator.
        power_dbm: radiated (EIRP).
        offset_hz: of the tone from the centre, -200000 to 200000, not 0.
    """

    frequency_hz: int
    power_dbm: float
    offset_hz: int = 10_000

    @property
    def bandwidth_hz(self) -> int:
        """Twice the offset: what the tone may reach."""
        return 2 * abs(self.offset_hz)


Transmission = LoraTransmission | FskTransmission | CarrierTransmission


class TxStatus(Enum):
    """What a transmit chain is doing."""

    FREE = "free"
    SCHEDULED = "scheduled"
    EMITTING = "emitting"
    UNKNOWN = "unknown"


class TxFate(Enum):
    """What became of a transmission."""

    SCHEDULED = "scheduled"
    EMITTING = "emitting"
    SENT = "sent"
    REFUSED = "refused"
    """The channel was not quiet when it should have left."""

    ABORTED = "aborted"
    """Taken back; what of it was on the air counts as sent for the duty cycle."""

    LOST = "lost"
    """The chain was free before the moment had come: the chip has lost what it was told."""


STATUS_FREE: Final = 0x80
STATUS: Final = {
    STATUS_FREE: TxStatus.FREE,
    0x91: TxStatus.SCHEDULED,
    0x92: TxStatus.SCHEDULED,
    0x30: TxStatus.EMITTING,
    0x50: TxStatus.EMITTING,
    0x60: TxStatus.EMITTING,
    0x70: TxStatus.EMITTING,
}
"""Values of the state machine's status register [HAL 2.1.0 sx1302_tx_status]."""


class Trigger(Enum):
    """Moments other than a counter value."""

    IMMEDIATE = "immediate"
    PPS = "pps"
