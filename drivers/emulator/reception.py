# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The gate between antenna and FIFO: whether the chip, as it is configured, would have received a packet.

Everything is read from registers and radios, never from what a driver meant: a forgotten enable bit or a wrong sync
word makes packets vanish here as it would on a mast, but with a reason in the log.

The gate looks at the configuration at the moment the packet has been decoded. Not modelled: changes of configuration
in the middle of a packet; sensitivity, collisions and the sixteen modems being busy (matters of the air, not of the
chip's configuration); a second copy of a packet on a neighbouring channel or in the service modem while a multi-SF
channel has it; implicit headers; node addresses of FSK. How far a packet may be off its channel is assumed: a quarter
of the bandwidth for LoRa, 25 kHz for FSK.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from drivers.sx1302.packet import Modulation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from drivers.emulator.air import AirPacket
    from drivers.emulator.mcu import Agc, Arb
    from drivers.emulator.registers import RegisterFile
    from drivers.emulator.sx126x import Sx126x

MODEM_ENABLES: Final = 0x5605
GLOBAL_EN: Final = 0x08
_FSK_EN: Final = 0x04
_MULTI_SF_EN: Final = 0x02
_SERVICE_EN: Final = 0x01
RECEIVING: Final = 0x0F

_IF_FREQUENCIES: Final = 0x5800
_RADIO_SELECT: Final = 0x5810
_CORRELATOR_CHANNELS: Final = 0x5821
_CORRELATOR_SF: Final = 0x5822
_MULTI_SF_RX_CONFIG: Final = 0x5887
_CHIRP_INVERT: Final = 0x04
_SYNC_PEAKS: Final = {5: 0x588A, 6: 0x588C}
_SYNC_PEAKS_SF7_TO_12: Final = 0x588E
_FULL_MODEMS: Final = 0x6188
_LIMITED_MODEMS: Final = 0x6189

_SERVICE_IF: Final = 0x5B00
_SERVICE_RADIO: Final = 0x5B02
_SERVICE_RATE: Final = 0x5B21
_SERVICE_CONFIG1: Final = 0x5B22
_SERVICE_MODEM_EN: Final = 0x08
_SERVICE_RX_CONFIG: Final = 0x5B2A
_SERVICE_SYNC_PEAKS: Final = 0x5B2E

_FSK_IF: Final = 0x5B50
_FSK_CONFIG1: Final = 0x5B53
_FSK_CONFIG3: Final = 0x5B54
_FSK_BIT_RATE: Final = 0x5B5B
_FSK_SYNC_WORD: Final = 0x5B5D

_MULTI_SF_CHANNELS: Final = 8
SERVICE_CHANNEL: Final = 8
FSK_CHANNEL: Final = 9
_MULTI_SF_BW_HZ: Final = 125_000
_BANDWIDTH_CODES: Final = {125_000: 4, 250_000: 5, 500_000: 6}
_FSK_BW_HZ: Final = 125_000
_FSK_REACH_HZ: Final = 25_000
_RADIO_REACH_HZ: Final = 800_000
_CHIP_CLOCK_HZ: Final = 32_000_000
_IF_STEP_HZ: Final = 15_625 / 32


@dataclass(frozen=True, slots=True)
class Demodulator:
    """What received a packet.

    Attributes:
        channel: IF chain, 0 to 9.
        centre_hz: true centre of the channel, with radio and IF quantised as the registers are.
    """

    channel: int
    centre_hz: float


class Missed(Exception):  # noqa: N818 - no error: the packet was not received, and this is why
    """The packet is not received; the text is the reason."""


class ReceptionGate:
    """Judges packets by the state of the chip."""

    def __init__(self, registers: RegisterFile, radios: Sequence[Sx126x], agc: Agc, arb: Arb) -> None:
        self._registers = registers
        self._radios = radios
        self._agc = agc
        self._arb = arb

    @property
    def receiving(self) -> bool:
        """Whether every kind of modem that is enabled, at least one, would receive."""
        enables = self._registers.stored[MODEM_ENABLES]
        return bool(
            enables & GLOBAL_EN
            and enables & (RECEIVING ^ GLOBAL_EN)
            and self._agc.ready
            and (self._arb.ready or not enables & _MULTI_SF_EN)
            and any(radio.receiving for radio in self._radios)
        )

    def demodulator(self, packet: AirPacket) -> Demodulator:
        """Return what receives the packet.

        Raises:
            Missed: nothing does.
        """
        if not self._registers.stored[MODEM_ENABLES] & GLOBAL_EN:
            raise Missed("the chip is not receiving (GLOBAL_EN = 0)")
        if not self._agc.ready:
            raise Missed("the AGC is not running")
        if packet.modulation is Modulation.FSK:
            return self._fsk(packet)
        if packet.bw_hz == _MULTI_SF_BW_HZ:
            try:
                return self._multi_sf(packet)
            except Missed:
                if not self._service_tuned(packet):
                    raise
        return self._service(packet)

    def _multi_sf(self, packet: AirPacket) -> Demodulator:
        stored = self._registers.stored
        if not stored[MODEM_ENABLES] & _MULTI_SF_EN:
            raise Missed("the multi-SF modems are disabled")
        if not self._arb.ready:
            raise Missed("the ARB is not running")
        if not (stored[_FULL_MODEMS] or stored[_LIMITED_MODEMS]):
            raise Missed("no modem is enabled (0x6188, 0x6189)")
        by = self._nearest_channel(packet, stored[_CORRELATOR_CHANNELS], stored[_RADIO_SELECT])
        if not stored[_CORRELATOR_SF] >> (packet.sf - 5) & 1:
            raise Missed(f"SF{packet.sf} is disabled")
        self._check_sync(packet, _SYNC_PEAKS.get(packet.sf, _SYNC_PEAKS_SF7_TO_12))
        self._check_polarity(packet, _MULTI_SF_RX_CONFIG)
        return by

    def _nearest_channel(self, packet: AirPacket, enabled: int, radio_of: int) -> Demodulator:
        reach = packet.bw_hz / 4
        nearest: Demodulator | None = None
        reason = f"no channel at {packet.freq_hz} Hz"
        for channel in range(_MULTI_SF_CHANNELS):
            try:
                centre = self._centre_hz(_IF_FREQUENCIES + 2 * channel, radio_of >> channel & 1, packet.bw_hz)
            except Missed as missed:
                if enabled >> channel & 1:
                    reason = f"{reason}; channel {channel}: {missed}"
                continue
            if abs(packet.freq_hz - centre) > reach:
                continue
            if not enabled >> channel & 1:
                reason = f"channel {channel} is disabled"
            elif nearest is None or abs(packet.freq_hz - centre) < abs(packet.freq_hz - nearest.centre_hz):
                nearest = Demodulator(channel, centre)
        if nearest is None:
            raise Missed(reason)
        return nearest

    def _service_tuned(self, packet: AirPacket) -> bool:
        rate = self._registers.stored[_SERVICE_RATE]
        return rate == _BANDWIDTH_CODES[packet.bw_hz] << 4 | packet.sf and bool(
            self._registers.stored[_SERVICE_CONFIG1] & _SERVICE_MODEM_EN
        )

    def _service(self, packet: AirPacket) -> Demodulator:
        stored = self._registers.stored
        if not stored[MODEM_ENABLES] & _SERVICE_EN or not stored[_SERVICE_CONFIG1] & _SERVICE_MODEM_EN:
            raise Missed("the LoRa service modem is disabled")
        if not self._service_tuned(packet):
            raise Missed(f"the LoRa service modem is not set to SF{packet.sf} BW{packet.bw_hz // 1000}")
        centre = self._centre_hz(_SERVICE_IF, stored[_SERVICE_RADIO] & 1, packet.bw_hz)
        if abs(packet.freq_hz - centre) > packet.bw_hz / 4:
            raise Missed(f"the LoRa service channel is not at {packet.freq_hz} Hz")
        self._check_sync(packet, _SERVICE_SYNC_PEAKS)
        self._check_polarity(packet, _SERVICE_RX_CONFIG)
        return Demodulator(SERVICE_CHANNEL, centre)

    def _fsk(self, packet: AirPacket) -> Demodulator:
        stored = self._registers.stored
        if not stored[MODEM_ENABLES] & _FSK_EN:
            raise Missed("the FSK modem is disabled")
        divisor = self._registers.word(_FSK_BIT_RATE, 2)
        if divisor == 0 or abs(_CHIP_CLOCK_HZ / divisor - packet.bitrate) > packet.bitrate / 50:
            raise Missed(f"the FSK modem is not set to {packet.bitrate} bit/s")
        size = (stored[_FSK_CONFIG1] >> 3 & 7) + 1
        if bytes(stored[_FSK_SYNC_WORD : _FSK_SYNC_WORD + size]) != packet.fsk_sync:
            raise Missed("another FSK sync word is set")
        centre = self._centre_hz(_FSK_IF, stored[_FSK_CONFIG3] >> 1 & 1, _FSK_BW_HZ)
        if abs(packet.freq_hz - centre) > _FSK_REACH_HZ:
            raise Missed(f"the FSK channel is not at {packet.freq_hz} Hz")
        return Demodulator(FSK_CHANNEL, centre)

    def _centre_hz(self, address: int, radio: int, bw_hz: int) -> float:
        front_end = self._radios[radio]
        if not front_end.receiving:
            raise Missed(f"radio {'AB'[radio]} is not receiving")
        word = self._registers.word(address, 2) & 0x1FFF
        intermediate_hz = (word - 0x2000 if word & 0x1000 else word) * _IF_STEP_HZ
        if abs(intermediate_hz) + bw_hz / 2 > _RADIO_REACH_HZ + _IF_STEP_HZ:
            raise Missed(f"IF {intermediate_hz:.0f} Hz is out of reach of radio {'AB'[radio]}")
        return front_end.frequency_hz + intermediate_hz

    def _check_sync(self, packet: AirPacket, address: int) -> None:
        word = packet.lora_sync_word
        peaks = bytes((2 * (word >> 4), 2 * (word & 0x0F)))
        if bytes(self._registers.stored[address : address + 2]) != peaks:
            raise Missed(f"sync word 0x{word:02X} is not the one set for SF{packet.sf}")

    def _check_polarity(self, packet: AirPacket, address: int) -> None:
        uplinks = bool(self._registers.stored[address] & _CHIRP_INVERT)
        if packet.invert_iq is uplinks:
            raise Missed("sent with the other polarity (inverted IQ)")
