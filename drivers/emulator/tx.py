# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The two transmit chains of the virtual concentrator: trigger, status, and a log of all that was emitted.

A rising trigger bit freezes modulation, frequency, power and payload as the registers have them at that moment. The
packet leaves at once, when the counter reaches the 32-bit target plus the start delay, or at the next PPS plus the
start delay. With listen before talk the AGC decides 1.5 ms before. A target that has just passed matches only when
the counter comes round, 134 s later. Clearing all trigger bits aborts.

The start delay is applied to LoRa alone: the HAL's arithmetic leaves it out for FSK and CW; what silicon does is
unknown. Not modelled: time-outs, ramping, spectrum, the power amplifier; status values other than free, waiting and
emitting; what silicon does when triggered without a running AGC (here: it waits for ever).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from drivers.emulator.airtime import LoraShape, fsk_airtime_us, lora_airtime_us
from drivers.emulator.counter import TICKS_PER_US

if TYPE_CHECKING:
    from collections.abc import Callable

    from drivers.emulator.registers import RegisterFile

CHAIN_BASES: Final = (0x5200, 0x5400)
BUFFER_OFFSET: Final = 0x100
BUFFER_BYTES: Final = 256

FREE: Final = 0x80
WAITING: Final = 0x91
EMITTING: Final = 0x60

_TRIGGER: Final = 0x00
_IMMEDIATE: Final = 0x01
_DELAYED: Final = 0x02
_GPS: Final = 0x04
_TRIGGERS: Final = _IMMEDIATE | _DELAYED | _GPS
_TARGET: Final = 0x01
_START_DELAY: Final = 0x05
_CONTROL: Final = 0x07
_WRITE_BUFFER: Final = 0x01
_FLAGS: Final = 0x0B
_PACKET_DONE: Final = 0x01
_AGC_BW: Final = 0x0C
_AGC_POWER: Final = 0x0D
_STATUS: Final = 0x11
_IF_CONTROL: Final = 0x20
_IQ_GAIN: Final = 0x22
_FREQUENCY: Final = 0x25
_DEVIATION: Final = 0x28
_TEST_TONE: Final = 0x2A
_FSK_LENGTH: Final = 0x40
_FSK_CONFIG: Final = 0x41
_FSK_PREAMBLE: Final = 0x42
_FSK_BIT_RATE: Final = 0x44
_FSK_PATTERN: Final = 0x46
_FSK_SYNC: Final = 0x47
_LORA_RATE: Final = 0x60
_LORA_CONFIG1: Final = 0x61
_LORA_CONFIG2: Final = 0x62
_LORA_LENGTH: Final = 0x63
_LORA_PREAMBLE_LOW: Final = 0x66
_LORA_PREAMBLE_HIGH: Final = 0x67
_LORA_CHIRP: Final = 0x69
_LORA_SYNC: Final = 0x6D

_HOST_IRQ: Final = 0x5651
_HOST_IRQ_DONE: Final = (0x04, 0x08)

_DECISION_TICKS: Final = 1_500 * TICKS_PER_US

_SOURCE_CW: Final = 0
_SOURCE_LORA: Final = 1
_BANDWIDTHS_HZ: Final = {4: 125_000, 5: 250_000, 6: 500_000}
_CLOCK_HZ: Final = 32_000_000
_FREQUENCY_STEPS: Final = 1 << 18
_COUNTER_WRAP: Final = 1 << 32


@dataclass(slots=True)
class Emission:
    """One transmission, as the registers described it when it was triggered.

    Attributes:
        chain: 0 (A) or 1 (B).
        trigger: "immediate", "timestamped" or "gps".
        modulation: "LORA", "FSK" or "CW".
        freq_hz: carrier, in the chip's steps of 122.07 Hz.
        power: PA stage, level index and digital gain as bytes (AGC_TX_PWR, IQ_GAIN).
        parameters: what else the modulation needs, by name.
        payload: bytes on the air.
        airtime_us: None for a carrier that lasts until it is aborted.
        start_ticks: unwrapped counter when the first symbol leaves; None while it is not known, or when it never left.
        outcome: "waiting", "emitting", "sent", "aborted", or "blocked" (by listen before talk).
        start_ns: the same moment as start_ticks in nanoseconds of the emulator, which survive a reset.
    """

    chain: int
    trigger: str
    modulation: str
    freq_hz: float
    power: tuple[int, int]
    parameters: dict[str, int | bool | str]
    payload: bytes
    airtime_us: int | None
    start_ticks: int | None
    outcome: str = "waiting"
    start_ns: int | None = None

    @property
    def end_ticks(self) -> int | None:
        """Unwrapped counter when the last symbol has left."""
        if self.start_ticks is None or self.airtime_us is None:
            return None
        return self.start_ticks + self.airtime_us * TICKS_PER_US


class TxChain:
    """One transmit chain.

    Attributes:
        buffer: the payload buffer.
        stuck_status: a fault: the status register reads this whatever happens; None when sound.
    """

    def __init__(
        self,
        chain: int,
        registers: RegisterFile,
        *,
        now_ticks: Callable[[], int],
        next_pps_ticks: Callable[[], int | None],
        may_emit: Callable[[], bool],
        listen: Callable[[int], bool],
        log: Callable[[Emission], None],
        complain: Callable[[str], None],
    ) -> None:
        self.buffer = bytearray(BUFFER_BYTES)
        self.stuck_status: int | None = None
        self._chain = chain
        self._base = CHAIN_BASES[chain]
        self._registers = registers
        self._now_ticks = now_ticks
        self._next_pps_ticks = next_pps_ticks
        self._may_emit = may_emit
        self._listen = listen
        self._listened = False
        self._log = log
        self._complain = complain
        self._emission: Emission | None = None
        registers.on_write[self._base + _TRIGGER] = self._on_trigger
        registers.on_read[self._base + _STATUS] = self._read_status

    @property
    def emission(self) -> Emission | None:
        """What waits or emits now."""
        return self._emission

    def reset(self, now_ticks: int) -> None:
        """Stop at once, as a chip reset does."""
        self._abort(now_ticks)

    def write_buffer(self, offset: int, data: bytes) -> None:
        """Take payload bytes from the host; only while WRITE_BUFFER is set."""
        if not self._registers.stored[self._base + _CONTROL] & _WRITE_BUFFER:
            self._complain(f"TX buffer {'AB'[self._chain]} written while WRITE_BUFFER is 0: ignored")
            return
        self.buffer[offset : offset + len(data)] = data[: BUFFER_BYTES - offset]

    def advance(self, now_ticks: int) -> None:
        """Go on to the present: start what is due, finish what is over."""
        emission = self._emission
        if emission is None or emission.start_ticks is None:
            return
        if not self._listened and now_ticks >= emission.start_ticks - _DECISION_TICKS:
            self._listened = True
            if not self._listen(self._chain):
                emission.outcome, emission.start_ticks = "blocked", None
                self._emission = None
                return
        if emission.outcome == "waiting" and now_ticks >= emission.start_ticks:
            emission.outcome = "emitting"
        end = emission.end_ticks
        if end is not None and now_ticks >= end:
            emission.outcome = "sent"
            self._emission = None
            self._registers.set_bits(self._base + _FLAGS, _PACKET_DONE)
            self._registers.set_bits(_HOST_IRQ, _HOST_IRQ_DONE[self._chain])

    def _read_status(self) -> int:
        if self.stuck_status is not None:
            return self.stuck_status
        if self._emission is None:
            return FREE
        return EMITTING if self._emission.outcome == "emitting" else WAITING

    def _on_trigger(self, old: int, new: int, _value: int) -> None:
        rising = new & ~old & _TRIGGERS
        if not new & _TRIGGERS:
            self._abort(self._now_ticks())
        elif rising and self._emission is not None:
            self._complain(f"TX {'AB'[self._chain]} triggered while a packet waits or is on the air: ignored")
        elif rising:
            self._start(rising)

    def _abort(self, now_ticks: int) -> None:
        if self._emission is not None:
            self._emission.outcome = "aborted"
            if self._emission.start_ticks is not None and now_ticks > self._emission.start_ticks:
                # What was on the air until now did block reception.
                self._emission.airtime_us = (now_ticks - self._emission.start_ticks) // TICKS_PER_US
            else:
                self._emission.start_ticks = self._emission.start_ns = None
            self._emission = None

    def _start(self, rising: int) -> None:
        now = self._now_ticks()
        at: int | None = now
        if rising & _IMMEDIATE:
            trigger = "immediate"
        elif rising & _DELAYED:
            target = self._registers.word(self._base + _TARGET, 4)
            trigger, at = "timestamped", now + (target - now) % _COUNTER_WRAP
        else:
            trigger, at = "gps", self._next_pps_ticks()
        emission = self._capture(trigger)
        if not self._may_emit():
            self._complain(f"TX {'AB'[self._chain]} triggered while the AGC is not running: waits for ever")
        elif at is not None:
            delay = self._registers.word(self._base + _START_DELAY, 2)
            emission.start_ticks = at + (delay if emission.modulation == "LORA" else 0)
        self._emission = emission
        self._listened = False
        self._log(emission)
        self.advance(now)

    def _capture(self, trigger: str) -> Emission:
        byte = self._byte
        source = byte(_IF_CONTROL) & 3
        if source == _SOURCE_CW:
            modulation, parameters, payload, airtime = self._carrier()
        elif source == _SOURCE_LORA:
            modulation, parameters, payload, airtime = self._lora()
        else:
            modulation, parameters, payload, airtime = self._fsk()
        return Emission(
            chain=self._chain,
            trigger=trigger,
            modulation=modulation,
            freq_hz=self._word(_FREQUENCY, 3) * _CLOCK_HZ / _FREQUENCY_STEPS,
            power=(byte(_AGC_POWER), byte(_IQ_GAIN) & 3),
            parameters=parameters,
            payload=payload,
            airtime_us=airtime,
            start_ticks=None,
        )

    def _carrier(self) -> tuple[str, dict[str, int | bool | str], bytes, int | None]:
        tone = self._byte(_TEST_TONE)
        signed = tone - 0x100 if tone & 0x80 else tone
        parameters: dict[str, int | bool | str] = {
            "offset_hz": round(signed * self._deviation_hz() / 64),
        }
        return "CW", parameters, b"", None

    def _lora(self) -> tuple[str, dict[str, int | bool | str], bytes, int | None]:
        byte = self._byte
        rate, config = byte(_LORA_RATE), byte(_LORA_CONFIG2)
        crc, implicit = bool(config & 1), bool(config & 2)
        size = byte(_LORA_LENGTH)
        sf = max(5, min(12, rate & 0x0F))
        bw_hz = _BANDWIDTHS_HZ.get(rate >> 4, 125_000)
        preamble = byte(_LORA_PREAMBLE_HIGH) << 8 | byte(_LORA_PREAMBLE_LOW)
        shape = LoraShape(sf, bw_hz, max(1, byte(_LORA_CONFIG1) & 7), size, crc)
        sync = (byte(_LORA_SYNC) & 0x1F) // 2 << 4 | (byte(_LORA_SYNC + 1) & 0x1F) // 2
        parameters: dict[str, int | bool | str] = {
            "sf": sf,
            "bw_hz": bw_hz,
            "cr": f"4/{4 + shape.coding_rate}",
            "preamble": preamble,
            "crc": crc,
            "implicit_header": implicit,
            "invert_iq": bool(byte(_LORA_CHIRP) & 2),
            "sync_word": sync,
            "low_data_rate": bool(byte(_LORA_CONFIG1) >> 4 & 3),
            "agc_bw": byte(_AGC_BW),
        }
        airtime = lora_airtime_us(shape, preamble=preamble, implicit=implicit)
        return "LORA", parameters, bytes(self.buffer[:size]), airtime

    def _fsk(self) -> tuple[str, dict[str, int | bool | str], bytes, int | None]:
        byte = self._byte
        variable, crc = bool(byte(_FSK_CONFIG) & 1), bool(byte(_FSK_CONFIG) & 2)
        divisor = self._word(_FSK_BIT_RATE, 2) or 1
        sync = bytes(byte(_FSK_SYNC + index) for index in range((byte(_FSK_PATTERN) >> 5) + 1))
        preamble = self._word(_FSK_PREAMBLE, 2)
        size = self.buffer[0] if variable else byte(_FSK_LENGTH)
        first = 1 if variable else 0
        bitrate = _CLOCK_HZ // divisor
        parameters: dict[str, int | bool | str] = {
            "datarate": bitrate,
            "deviation_hz": round(self._deviation_hz()),
            "preamble": preamble,
            "crc": crc,
            "sync_word": sync.hex(),
            "whitening": byte(_FSK_CONFIG) >> 2 & 3 == 2,
            "agc_bw": byte(_AGC_BW),
        }
        airtime = fsk_airtime_us(size, bitrate, preamble=preamble, sync=len(sync), crc=crc)
        return "FSK", parameters, bytes(self.buffer[first : first + size]), airtime

    def _deviation_hz(self) -> float:
        return (self._word(_DEVIATION, 2) & 0x0FFF) * _CLOCK_HZ / _FREQUENCY_STEPS

    def _byte(self, offset: int) -> int:
        return self._registers.stored[self._base + offset]

    def _word(self, offset: int, length: int) -> int:
        return self._registers.word(self._base + offset, length)
