# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The virtual SX1302/SX1303: SPI frames in, SPI frames out, and the parts behind them.

Time is an argument: whoever calls says what nanosecond of the emulator it is, and everything that has become due since
the last call happens first, in order. The chip therefore needs no thread and a test decides how time passes.

Not modelled: register pages other than 0; the RADIO_FE and capture RAM measurements; interrupts (flags
are set, there is no pin); supply and temperature; bus timing. Without clock from a radio the registers still
answer, as the HAL's start sequence needs them to.
"""

from __future__ import annotations

import os
from collections import deque
from dataclasses import dataclass
from enum import StrEnum
from heapq import heappop, heappush
from random import Random
from typing import TYPE_CHECKING, Final

from drivers.emulator.counter import TICKS_PER_US, Counter
from drivers.emulator.faults import Faults
from drivers.emulator.fifo import SIZE as FIFO_SIZE
from drivers.emulator.fifo import RxFifo
from drivers.emulator.frame import OVERHEAD_BYTES, encode, metric_pairs
from drivers.emulator.mcu import Agc, Arb
from drivers.emulator.reception import FSK_CHANNEL, SERVICE_CHANNEL, Missed, ReceptionGate
from drivers.emulator.registers import ADDRESS_SPACE, RegisterFile
from drivers.emulator.sx126x import Sx126x
from drivers.emulator.sx1261 import Sx1261
from drivers.emulator.tx import BUFFER_BYTES, BUFFER_OFFSET, CHAIN_BASES, Emission, TxChain
from drivers.sx1302.packet import CrcStatus, Modulation

if TYPE_CHECKING:
    from collections.abc import Callable

    from drivers.emulator.air import AirPacket
    from drivers.emulator.mcu import Microcontroller
    from drivers.emulator.reception import Demodulator

_AGC_MEMORY: Final = 0x0000
_ARB_MEMORY: Final = 0x2000
_RX_WINDOW: Final = 0x4000
_REGISTERS: Final = 0x5000

_PAGE: Final = 0x5600
_COMMON_CONTROL: Final = 0x5601
_HOST_RADIO_CTRL: Final = 0x08
_SX1261_MODE: Final = (0x01, 0x02)
_VERSION: Final = 0x5606
_RADIO_ENABLES: Final = (0x5783, 0x5784)
_RADIO_EN: Final = 0x04
_RADIO_RST: Final = 0x08
_CLOCK_SELECT: Final = 0x57C0
_CLKDIV_EN: Final = 0x04
_RX_BUFFER: Final = 0x58C0
_DIRECT_RAM_IF: Final = 0x08
_LEGACY_TIMESTAMP: Final = 0x04
_MAX_TS_METRICS: Final = 0x58C1
_TIMESTAMP_CONFIG: Final = 0x58B3
_TIMESTAMP_ENABLE: Final = 0x08
_LAST_READ: Final = 0x58C4
_LAST_WRITTEN: Final = 0x58C6
_NB_BYTES: Final = 0x58C8
_PACKET_COUNTERS: Final = 0x58CA
_GPS_CONTROL: Final = 0x6100
_PPS_COUNTER: Final = 0x6101
_OTP_ADDRESS: Final = 0x6180
_OTP_DATA: Final = 0x6181
_OTP_MODEL: Final = 0xD0
_FLAG_REGISTERS: Final = (0x520B, 0x540B, 0x5651)

_TARGET_RADIO_B: Final = 2
_WRITE: Final = 0x80
_READ_HEADER_BYTES: Final = 4
_MULTI_SF_MODEMS: Final = 16
_SERVICE_MODEM: Final = 16
_FSK_MODEM: Final = 17
_TIMING_MODEM: Final = 8
"""Distance between the modems of the two copies of a packet; seen in no silicon, only in the prototype."""

_TX_INITIATED: Final = 0x01
_TX_BLOCKED: Final = 0x40

_EMISSIONS_KEPT: Final = 1_000
_ON_AIR_KEPT: Final = 64
_COMPLAINTS_KEPT: Final = 200
_NS_PER_US: Final = 1_000
_NS_PER_S: Final = 1_000_000_000


class Model(StrEnum):
    """The chip that is emulated; they differ in OTP, version register and fine timestamps."""

    SX1302 = "sx1302"
    SX1303 = "sx1303"


_MODEL_ID: Final = {Model.SX1302: 0x02, Model.SX1303: 0x03}
_VERSION_OF: Final = {Model.SX1302: 0x10, Model.SX1303: 0x12}


@dataclass(slots=True, eq=False)
class Reception:
    """What became of one packet on the air.

    Attributes:
        packet: the packet, dropped once its fate is known.
        end_ns: when it left the air, in nanoseconds of the emulator.
        outcome: "pending", "fifo", "overflow", "damaged: how" or "not_received: why".
        read: the host has popped the whole frame.
        counter_us: the unwrapped counter at its end, in microseconds; None if it never reached the chip.
    """

    packet: AirPacket | None
    end_ns: int
    outcome: str = "pending"
    read: bool = False
    counter_us: int | None = None

    def mark_read(self) -> None:
        """Note that the host has it."""
        self.read = True


class Chip:
    """A virtual concentrator chip with two SX1250 radios.

    Attributes:
        registers: the register file.
        radios: radio A and B.
        agc, arb: the microcontrollers.
        counter: the 32 MHz counter.
        fifo: the receive FIFO.
        tx: the two transmit chains.
        sx1261: the radio that listens before talk; it answers if sx1261_fitted.
        faults: what is wrong right now.
        emissions: the last transmissions, oldest first.
        complaints: the last things a real chip would not have put up with.
        messages: SPI frames seen; message_bytes: their bytes.
        resets: completed pulses of the reset line.
    """

    def __init__(self, *, model: Model = Model.SX1302, eui: bytes, counter_start_us: int = 0, seed: int = 1302) -> None:
        self.model = model
        self.eui = eui
        self.registers = RegisterFile()
        self.complaints: deque[str] = deque(maxlen=_COMPLAINTS_KEPT)
        self.complained = 0
        self.emissions: deque[Emission] = deque(maxlen=_EMISSIONS_KEPT)
        self._on_air: deque[Emission] = deque(maxlen=_ON_AIR_KEPT)
        self.radios = (Sx126x(), Sx126x())
        self.agc = Agc(self.registers, self._complain)
        self.arb = Arb(self.registers, self._complain)
        self.counter = Counter(counter_start_us)
        self.faults = Faults()
        # RAM holds anything at power-up; a driver must not take it for frames.
        self._noise = Random(seed)  # noqa: S311 - content of unwritten RAM, nothing to protect
        self.fifo = RxFifo(self._noise.randbytes(FIFO_SIZE))
        self.gate = ReceptionGate(self.registers, self.radios, self.agc, self.arb)
        self.tx = tuple(
            TxChain(
                chain,
                self.registers,
                now_ticks=self._now_ticks,
                next_pps_ticks=self._next_pps_ticks,
                may_emit=lambda: self.agc.ready,
                listen=self._listen_before_talk,
                log=self._log_emission,
                complain=self._complain,
            )
            for chain in range(2)
        )
        self.sx1261 = Sx1261(lambda: self._now_ns)
        self.sx1261.drive(supplied=True, running=True)
        self.sx1261_fitted = False
        self.messages = 0
        self.message_bytes = 0
        self.resets = 0
        self._in_reset = False
        self._powered = True
        self._now_ns = 0
        self._pending: list[tuple[int, int, Reception]] = []
        self._pending_bytes = 0
        self._sequence = 0
        self._next_modem = 0
        self._count_snapshot = b""
        self._pointer_low = 0
        self._install()

    def transfer(self, mosi: bytes, now_ns: int) -> bytes:
        """Exchange one SPI frame (one assertion of chip select).

        Raises:
            OSError: the bus fails (a fault).
        """
        self.messages += 1
        self.message_bytes += len(mosi)
        self.advance(now_ns)
        if self.faults.on_bus:
            return self._faulty_exchange(mosi)
        return self._exchange(mosi)

    def transfer_sx1261(self, mosi: bytes, now_ns: int) -> bytes:
        """Exchange one SPI frame with the SX1261, which has a chip select of its own."""
        self.advance(now_ns)
        if not self.sx1261_fitted or not self._powered:
            return bytes(len(mosi))
        return self.sx1261.transfer(mosi)

    def _listen_before_talk(self, chain: int) -> bool:
        """Let the AGC decide about a packet, and say so in its status; True to go on."""
        if not self.agc.lbt:
            return True
        blocked = self.sx1261_fitted and self.sx1261.busy()
        self.agc.decided((_TX_INITIATED | _TX_BLOCKED if blocked else _TX_INITIATED) << chain)
        return not blocked

    def _faulty_exchange(self, mosi: bytes) -> bytes:
        faults = self.faults
        if faults.bus_errors_left:
            faults.bus_errors_left -= 1
            raise OSError(faults.bus_error, os.strerror(faults.bus_error))
        answer = self._exchange(mosi)
        return answer if faults.miso is None else bytes((faults.miso,)) * len(answer)

    def _exchange(self, mosi: bytes) -> bytes:
        length = len(mosi)
        if self._in_reset or not self._powered or length < 2:
            return bytes(length)
        target = mosi[0]
        if target == 0:
            if length < _READ_HEADER_BYTES:
                return bytes(length)
            address = (mosi[1] & ~_WRITE) << 8 | mosi[2]
            if mosi[1] & _WRITE:
                self._write(address, mosi[3:])
                return bytes(length)
            return bytes(_READ_HEADER_BYTES) + self._read(address, length - _READ_HEADER_BYTES)
        if target <= _TARGET_RADIO_B:
            return self._radio(target - 1, mosi)
        return bytes(length)

    def drive_reset(self, now_ns: int, *, active: bool) -> None:
        """Drive the reset line; the chip is reset while it is active."""
        self.advance(now_ns)
        if active:
            self._reset()
        elif self._in_reset:
            self.resets += 1
        self._in_reset = active

    def drive_power(self, now_ns: int, *, on: bool) -> None:
        """Switch the supply; without it the RAM forgets."""
        self.advance(now_ns)
        if on != self._powered:
            self._reset()
            if on:
                self.fifo.ram[:] = self._noise.randbytes(FIFO_SIZE)
        self._powered = on

    def brown_out(self, now_ns: int) -> None:
        """Lose the supply for a moment: the chip comes back reset, and nobody has asked for it."""
        self.advance(now_ns)
        self._reset()

    @property
    def in_reset(self) -> bool:
        """Whether the reset line is active."""
        return self._in_reset

    @property
    def powered(self) -> bool:
        """Whether the supply is on."""
        return self._powered

    @property
    def pending_bytes(self) -> int:
        """Bytes in the FIFO and on their way there."""
        return self.fifo.nb_bytes + self._pending_bytes

    @property
    def pending_count(self) -> int:
        """Packets on their way."""
        return len(self._pending)

    @property
    def now_ticks(self) -> int:
        """The unwrapped counter at the present."""
        return self._now_ticks()

    def receive(self, packet: AirPacket, readable_ns: int, now_ns: int) -> Reception:
        """Let a packet arrive whose decoding completes at `readable_ns`; at once when that is not ahead."""
        self.advance(now_ns)
        reception = Reception(packet, readable_ns - packet.readable_after_us * _NS_PER_US)
        if readable_ns <= now_ns:
            self._deliver(reception, readable_ns)
        else:
            self._sequence += 1
            self._pending_bytes += OVERHEAD_BYTES + len(packet.payload)
            heappush(self._pending, (readable_ns, self._sequence, reception))
        return reception

    def advance(self, now_ns: int) -> None:
        """Let happen what is due by now."""
        self._now_ns = now_ns
        pending = self._pending
        while pending and pending[0][0] <= now_ns:
            readable_ns, _, reception = heappop(pending)
            if reception.packet is not None:
                self._pending_bytes -= OVERHEAD_BYTES + len(reception.packet.payload)
            self._deliver(reception, readable_ns)
        for chain in self.tx:
            if chain.emission is not None:
                chain.advance(self.counter.ticks(now_ns))

    def _deliver(self, reception: Reception, readable_ns: int) -> None:
        packet = reception.packet
        assert packet is not None
        reception.packet = None
        ticks = self.counter.ticks
        if self._in_reset or not self._powered:
            reception.outcome = "not_received: the chip is in reset or without power"
            return
        if self.faults.stalled:
            reception.outcome = "not_received: reception has stalled"
            return
        if packet.lost is not None:
            reception.outcome = f"not_received: {packet.lost}"
            return
        try:
            by = self.gate.demodulator(packet)
            end = ticks(reception.end_ns)
            self._check_half_duplex(end - packet.airtime_us * TICKS_PER_US, end)
        except Missed as missed:
            reception.outcome = f"not_received: {missed}"
            return
        reception.counter_us = end // TICKS_PER_US
        frame = self._frames(packet, by, reception.end_ns, readable_ns)
        reception.outcome = self._push(frame, reception)
        self._count(packet, by)

    def _push(self, frame: bytes, reception: Reception) -> str:
        faults, outcome = self.faults, "fifo"
        if faults.overflows_left:
            faults.overflows_left -= 1
            return "overflow"
        if faults.damage_left and faults.damage is not None:
            faults.damage_left -= 1
            frame, outcome = faults.damage(frame), f"damaged: {faults.damage_name}"
        return outcome if self.fifo.push(frame, reception.mark_read) else "overflow"

    def _check_half_duplex(self, start: int, end: int) -> None:
        for emission in self._on_air:
            if emission.start_ticks is None or emission.start_ticks >= end:
                continue
            emission_end = emission.end_ticks
            if emission_end is None or emission_end > start:
                raise Missed("the gateway was transmitting")

    def _frames(self, packet: AirPacket, by: Demodulator, end_ns: int, readable_ns: int) -> bytes:
        stored = self.registers.stored
        if packet.modulation is Modulation.FSK:
            stamp = self.counter.ticks(end_ns + packet.stored_after_us * _NS_PER_US)
            return encode(packet, by, stamp, modem=_FSK_MODEM)
        if by.channel == SERVICE_CHANNEL:
            modem = _SERVICE_MODEM
        else:
            modem = self._next_modem
            self._next_modem = (modem + 1) % _MULTI_SF_MODEMS
            self.arb.demodulated(by.channel, packet.sf)
        if stored[_RX_BUFFER] & _LEGACY_TIMESTAMP:
            return encode(packet, by, self.counter.ticks(readable_ns), modem=modem)
        stamp = self.counter.ticks(end_ns - packet.header_lead_us * _NS_PER_US)
        first = encode(packet, by, stamp, modem=modem)
        twice = by.channel != SERVICE_CHANNEL and self.arb.double_demodulation >> (packet.sf - 5) & 1
        if not twice:
            return first
        measures = self.model is Model.SX1303 and stored[_TIMESTAMP_CONFIG] & _TIMESTAMP_ENABLE
        pairs = metric_pairs(packet.sf, stored[_MAX_TS_METRICS]) if measures else 0
        second_modem = (modem + _TIMING_MODEM) % _MULTI_SF_MODEMS
        return first + encode(packet, by, stamp, modem=second_modem, fine_pairs=pairs, timing=True)

    def _count(self, packet: AirPacket, by: Demodulator) -> None:
        modem = {SERVICE_CHANNEL: 1, FSK_CHANNEL: 2}.get(by.channel, 0)
        address = _PACKET_COUNTERS + 3 * modem + (1 if packet.crc is CrcStatus.BAD else 2)
        self.registers.stored[address] = (self.registers.stored[address] + 1) & 0xFF

    def _install(self) -> None:
        on_write, on_read = self.registers.on_write, self.registers.on_read
        on_write[_COMMON_CONTROL] = on_write[_CLOCK_SELECT] = self._on_clock
        for address in _RADIO_ENABLES:
            on_write[address] = self._on_radio_enable
        on_write[_GPS_CONTROL] = self._on_gps
        for address in _FLAG_REGISTERS:
            on_write[address] = self._flag_clearer(address)
        on_read[_VERSION] = self._read_version
        on_read[_OTP_DATA] = self._read_otp
        on_read[_NB_BYTES] = self._read_fill_high
        on_read[_NB_BYTES + 1] = lambda: self.fifo.nb_bytes & 0xFF
        on_read[_LAST_READ] = lambda: self._latch_pointer(self.fifo.last_read)
        on_read[_LAST_WRITTEN] = lambda: self._latch_pointer(self.fifo.last_written)
        on_read[_LAST_READ + 1] = on_read[_LAST_WRITTEN + 1] = lambda: self._pointer_low
        for index in range(8):
            on_read[_PPS_COUNTER + index] = self._counter_reader(index)

    def _reset(self) -> None:
        now_ticks = self._now_ticks()
        for chain in self.tx:
            chain.reset(now_ticks)
        # The counter restarts: what was emitted before has no place in its time.
        self._on_air.clear()
        self.registers.reset()
        self.agc.reset()
        self.arb.reset()
        for radio in self.radios:
            radio.drive(supplied=False, running=False)
        self.fifo.reset()
        self.counter.reset(self._now_ns)
        if self.faults.stalled:
            self.end_stall()

    def end_stall(self) -> None:
        """End the fault of a reception that died silently."""
        self.faults.stalled = False
        self.faults.names.discard("stall")
        self.agc.unstick()
        self.agc.on_release = self.arb.on_release = None

    def _read(self, address: int, length: int) -> bytes:
        self._count_snapshot = b""
        if length == 1 and address >= _REGISTERS:
            return bytes((self.registers.read(address),))
        if address < _RX_WINDOW:
            return self._read_program(address, length)
        if address < _REGISTERS:
            if self.registers.stored[_RX_BUFFER] & _DIRECT_RAM_IF:
                at = address - _RX_WINDOW
                ram = self.fifo.ram
                return bytes(ram[(at + index) % FIFO_SIZE] for index in range(length))
            return self.fifo.pop(length)
        read = self.registers.read
        return bytes([read((address + index) % ADDRESS_SPACE) for index in range(length)])

    def _write(self, address: int, data: bytes) -> None:
        if len(data) == 1 and address >= CHAIN_BASES[1] + BUFFER_OFFSET + BUFFER_BYTES:
            self.registers.write(address, data[0])
        elif address < _RX_WINDOW:
            self._write_program(address, data)
        elif address < _REGISTERS:
            self._write_ram(address - _RX_WINDOW, data)
        else:
            for chain, base in zip(self.tx, CHAIN_BASES, strict=True):
                if 0 <= address - base - BUFFER_OFFSET < BUFFER_BYTES:
                    chain.write_buffer(address - base - BUFFER_OFFSET, data)
                    return
            for index, byte in enumerate(data):
                self.registers.write((address + index) % ADDRESS_SPACE, byte)

    def _microcontroller(self, address: int) -> tuple[Microcontroller, int]:
        if address < _ARB_MEMORY:
            return self.agc, address - _AGC_MEMORY
        return self.arb, address - _ARB_MEMORY

    def _read_program(self, address: int, length: int) -> bytes:
        mcu, at = self._microcontroller(address)
        data = bytearray(mcu.memory[at : at + length])
        if self.faults.flipped is not None:
            flipped, mask = self.faults.flipped
            if address <= flipped < address + len(data):
                data[flipped - address] ^= mask
        return bytes(data) + bytes(length - len(data))

    def _write_program(self, address: int, data: bytes) -> None:
        mcu, at = self._microcontroller(address)
        if not mcu.programmable or self.registers.stored[_PAGE]:
            why = "PAGE is not 0" if mcu.programmable else "HOST_PROG is 0"
            self._complain(f"{mcu.kind.upper()} memory written while {why}: ignored")
            return
        mcu.memory[at : at + len(data)] = data[: len(mcu.memory) - at]

    def _write_ram(self, at: int, data: bytes) -> None:
        if not self.registers.stored[_RX_BUFFER] & _DIRECT_RAM_IF:
            self._complain("receive buffer written while DIRECT_RAM_IF is 0: ignored")
            return
        for index, byte in enumerate(data):
            self.fifo.ram[(at + index) % FIFO_SIZE] = byte

    def _radio(self, index: int, mosi: bytes) -> bytes:
        control = self.registers.stored[_COMMON_CONTROL]
        if not control & _HOST_RADIO_CTRL:
            self._complain(f"radio {'AB'[index]} addressed by the host while the AGC owns it")
            return bytes(len(mosi))
        if not control & _SX1261_MODE[index]:
            self._complain(f"radio {'AB'[index]} addressed as SX125x; an SX1250 is there")
            return bytes(len(mosi))
        answer = b"\0" + self.radios[index].transfer(mosi[1:])
        self.update_clock()
        return answer

    def _on_clock(self, _old: int, _new: int, _value: int) -> None:
        self.update_clock()

    def _on_radio_enable(self, _old: int, _new: int, _value: int) -> None:
        for radio, address in zip(self.radios, _RADIO_ENABLES, strict=True):
            bits = self.registers.stored[address]
            radio.drive(supplied=bool(bits & _RADIO_EN), running=bool(bits & _RADIO_RST))
        self.update_clock()

    def update_clock(self) -> None:
        """Run the chip if a selected radio clocks it, and stop it if none does."""
        select = self.registers.stored[_CLOCK_SELECT]
        clocked = bool(select & _CLKDIV_EN) and any(
            select >> index & 1 and radio.clocking for index, radio in enumerate(self.radios)
        )
        if clocked != self.counter.running:
            self.counter.run(self._now_ns, running=clocked)
            self.agc.clock(running=clocked)
            self.arb.clock(running=clocked)

    def _on_gps(self, _old: int, new: int, _value: int) -> None:
        self.counter.enable_pps(self._now_ns, enabled=bool(new & 1))

    def _flag_clearer(self, address: int) -> Callable[[int, int, int], None]:
        # Whether silicon clears flags by ones or by zeros is not documented; ones are assumed.
        return lambda _old, _new, value: self.registers.clear_bits(address, value)

    def _read_version(self) -> int:
        return _VERSION_OF[self.model] if self.faults.version is None else self.faults.version

    def _read_fill_high(self) -> int:
        fill = self.fifo.nb_bytes
        if self.faults.torn_fill_left and fill > 0xFF:
            # As if a frame had arrived between the two bytes: the high one is that of before.
            self.faults.torn_fill_left -= 1
            return (fill >> 8) - 1
        return fill >> 8

    def _read_otp(self) -> int:
        address = self.registers.stored[_OTP_ADDRESS]
        if address < len(self.eui):
            return self.eui[address]
        return _MODEL_ID[self.model] if address == _OTP_MODEL else 0

    def _latch_pointer(self, pointer: int) -> int:
        self._pointer_low = pointer & 0xFF
        return pointer >> 8

    def _counter_reader(self, index: int) -> Callable[[], int]:
        def read() -> int:
            # One burst sees one moment; the torn most significant byte of silicon is a fault of its own.
            if not self._count_snapshot:
                pps = self.counter.pps_ticks(self._now_ns) & 0xFFFFFFFF
                now = self.counter.ticks(self._now_ns) & 0xFFFFFFFF
                if self.faults.torn_counter_left:
                    self.faults.torn_counter_left -= 1
                    now ^= 0x01000000
                self._count_snapshot = (pps << 32 | now).to_bytes(8, "big")
            return self._count_snapshot[index]

        return read

    def _now_ticks(self) -> int:
        return self.counter.ticks(self._now_ns)

    def _next_pps_ticks(self) -> int | None:
        if not self.counter.pps_present:
            return None
        return self.counter.ticks(self._now_ns - self._now_ns % _NS_PER_S + _NS_PER_S)

    def _log_emission(self, emission: Emission) -> None:
        if emission.start_ticks is not None:
            emission.start_ns = self.counter.time_ns(emission.start_ticks)
        self.emissions.append(emission)
        self._on_air.append(emission)

    def _complain(self, what: str) -> None:
        self.complained += 1
        self.complaints.append(what)
