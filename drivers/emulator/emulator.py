# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The virtual concentrator as a whole: a chip, its wires, the air, and the truth about what it received.

Thread-safe: the host's bus, the reset line and whoever puts packets on the air may be different threads.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from itertools import islice
from threading import Lock
from typing import TYPE_CHECKING, Final

from drivers.emulator.chip import Chip, Model, Reception
from drivers.emulator.counter import TICKS_PER_US
from drivers.emulator.faults import clear_faults, set_fault
from drivers.emulator.header import GpioHeader, I2cBus, Stts751
from drivers.errors import BusError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from drivers.boards import Board
    from drivers.bus import OutputLine, SpiBus
    from drivers.emulator.air import AirPacket
    from drivers.emulator.play import DeviceStatus
    from drivers.emulator.tx import Emission

DEFAULT_EUI: Final = bytes.fromhex("0016C001FF123456")
COUNTER_START_LIMIT_US: Final = 1 << 27
"""The chip's counter wraps there; a start value beyond it could not be told from a smaller one."""

FRAME_LIMIT_BYTES: Final = 4096 + 4
"""A frame header and the whole FIFO."""

RX_LOG_KEPT: Final = 200_000
"""Packets whose fate is remembered; the oldest are forgotten first."""

PENDING_LIMIT: Final = 50_000
"""Packets that may be on their way at a time."""

_NS_PER_US: Final = 1_000


@dataclass(frozen=True, slots=True)
class Pins:
    """How the board is wired to the host's GPIO.

    Attributes:
        reset: line of the chip's reset; None when it is not wired.
        reset_active_high: whether a high level resets.
        power: line of the supply's switch; None when the supply is always on.
        power_active_high: whether a high level switches it on.
        sx1261_reset: line of the SX1261's reset, low for reset.
    """

    reset: int | None
    reset_active_high: bool
    power: int | None
    power_active_high: bool
    sx1261_reset: int = 22


CORECELL_PINS: Final = Pins(reset=23, reset_active_high=True, power=18, power_active_high=True)
"""Semtech's reference design on a Raspberry Pi, BCM numbers."""


def pins_of(board: Board) -> Pins:
    """Return how a board of that profile is wired."""
    reset, power = board.reset, board.power
    return Pins(
        reset=None if reset is None else reset.number,
        reset_active_high=reset is None or reset.active_high,
        power=None if power is None else power.number,
        power_active_high=power is None or power.active_high,
        sx1261_reset=CORECELL_PINS.sx1261_reset if board.sx1261_reset is None else board.sx1261_reset.number,
    )


@dataclass(frozen=True, slots=True)
class Injected:
    """Receipt for a packet put on the air.

    Attributes:
        number: in the reception log, from 1.
        outcome: so far, as in the reception log.
        pending_bytes: in the FIFO and on their way there.
    """

    number: int
    outcome: str
    pending_bytes: int


@dataclass(frozen=True, slots=True)
class RxLogEntry:
    """What became of a packet on the air.

    Attributes:
        number: from 1, in the order of injection.
        identifier: of the packet.
        outcome: "pending", "fifo" (it entered the FIFO), "overflow", "damaged: how" (it entered the FIFO, but not
            whole), "not_received: why".
        read: the host has popped all of it.
        end_us: when it left the air, in the emulator's time.
        counter_us: the concentrator's unwrapped counter at that moment; None when the chip never had it.
    """

    number: int
    identifier: str | None
    outcome: str
    read: bool
    end_us: int
    counter_us: int | None


@dataclass(frozen=True, slots=True)
class Stats:
    """What the emulator has seen.

    Attributes:
        spi_messages: frames on the bus since the emulator started; spi_bytes: their length in all.
        fifo_bytes: waiting in the receive FIFO now.
        pending_bytes: in the FIFO and on their way there.
        resets: pulses of the reset line.
        running: the chip is set up and would receive.
        injected: packets put on the air.
        complaints: how often the host did what a real chip would not have put up with.
    """

    spi_messages: int
    spi_bytes: int
    fifo_bytes: int
    pending_bytes: int
    resets: int
    running: bool
    injected: int
    complaints: int


class Emulator:
    """A virtual concentrator that runs in the time of the given clock.

    Its own time, in microseconds, starts at `counter_start_us` and never stops; the chip's counter starts there
    too, but again after each reset, and advances only while a radio clocks the chip.

    Args:
        model: SX1302, or SX1303 with fine timestamps.
        eui: 8 bytes, as burnt into the chip.
        counter_start_us: value of the counter after each reset, 0 to 2^27 - 1, to reach a wrap in seconds.
        celsius: temperature of the board; None for a board without a sensor, as most are.
        sx1261: whether the board has one, for listen before talk and spectral scans.
        pins: the host's GPIO lines that lead to the board.
        monotonic_ns: the clock; CLOCK_MONOTONIC unless a test passes its own.

    Attributes:
        on_usb_plug: called when the USB bridge may have been unplugged or plugged in.
        devices: tells how the devices on the air are doing.
    """

    def __init__(
        self,
        *,
        model: Model = Model.SX1302,
        eui: bytes = DEFAULT_EUI,
        counter_start_us: int = 0,
        celsius: float | None = 25.0,
        sx1261: bool = False,
        pins: Pins = CORECELL_PINS,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        if len(eui) != 8:
            raise ValueError(f"EUI of {len(eui)} bytes: expected 8")
        if not 0 <= counter_start_us < COUNTER_START_LIMIT_US:
            raise ValueError(f"counter start {counter_start_us}: outside 0 to {COUNTER_START_LIMIT_US - 1}")
        self._lock = Lock()
        self._monotonic_ns = monotonic_ns
        self._origin_ns = monotonic_ns() - counter_start_us * _NS_PER_US
        self._chip = Chip(model=model, eui=eui, counter_start_us=counter_start_us)
        self._chip.sx1261_fitted = sx1261
        self._chip.advance(counter_start_us * _NS_PER_US)
        self._log: deque[tuple[str | None, Reception]] = deque(maxlen=RX_LOG_KEPT)
        self._injected = 0
        self.on_usb_plug: Callable[[], None] | None = None
        self.devices: Callable[[], list[DeviceStatus]] = list
        self._i2c = I2cBus(None if celsius is None else Stts751(celsius))
        self._header = GpioHeader()
        if pins.power is not None:
            self._header.wire(pins.power, lambda high: self.drive_power(active=high is pins.power_active_high))
        if pins.reset is not None:
            self._header.wire(pins.reset, lambda high: self.drive_reset(active=high is pins.reset_active_high))
        self._header.wire(pins.sx1261_reset, lambda high: self.drive_sx1261_reset(active=not high))

    def bus(self, chip_select: int = 0) -> SpiBus:
        """Open the SPI of the chip, or behind chip select 1 of the SX1261; more than once, like a spidev."""
        return EmulatedBus(self, chip_select)

    def reset_line(self) -> OutputLine:
        """Open the chip's reset line; active means held in reset."""
        return EmulatedLine(self.drive_reset)

    def power_line(self) -> OutputLine:
        """Open the switch of the chip's supply, which is on to begin with."""
        return EmulatedLine(self.drive_power)

    def transfer(self, frame: bytes, chip_select: int = 0) -> bytes:
        """Exchange one SPI frame behind chip select 0, the concentrator, or 1, the SX1261 if there is one.

        Raises:
            ValueError: an empty frame, or one no SPI controller would take.
        """
        if not 0 < len(frame) <= FRAME_LIMIT_BYTES:
            raise ValueError(f"frame of {len(frame)} bytes: outside 1 to {FRAME_LIMIT_BYTES}")
        with self._lock:
            now_ns = self._monotonic_ns() - self._origin_ns
            if chip_select == 0:
                return self._chip.transfer(frame, now_ns)
            return self._chip.transfer_sx1261(frame, now_ns) if chip_select == 1 else bytes(len(frame))

    def transfer_all(self, frames: Sequence[bytes], chip_select: int = 0) -> list[bytes]:
        """Exchange several SPI frames, one chip select after the other."""
        return [self.transfer(frame, chip_select) for frame in frames]

    def i2c(self, address: int, messages: Sequence[bytes | int]) -> list[bytes]:
        """Carry out an I2C transaction: bytes are written, a number of bytes is read.

        Raises:
            OSError: nobody acknowledges.
        """
        with self._lock:
            return self._i2c.transfer(address, messages)

    def set_gpio(self, line: int, *, high: bool) -> None:
        """Drive a GPIO line of the host; some lead to the board."""
        self._header.set(line, high=high)

    def gpio(self, line: int) -> bool:
        """Return the level of a GPIO line of the host."""
        return self._header.get(line)

    def drive_reset(self, *, active: bool) -> None:
        """Drive the reset line."""
        with self._lock:
            self._chip.drive_reset(self._now_ns(), active=active)

    def drive_sx1261_reset(self, *, active: bool) -> None:
        """Drive the reset line of the SX1261."""
        with self._lock:
            self._chip.sx1261.drive(supplied=True, running=not active)

    def drive_power(self, *, active: bool) -> None:
        """Switch the supply on or off."""
        with self._lock:
            self._chip.drive_power(self._now_ns(), on=active)

    def inject(self, packet: AirPacket, *, end_us: int | None = None) -> Injected:
        """Put a packet on the air.

        Args:
            packet: the packet.
            end_us: when its last symbol arrives, in the emulator's time; None makes its decoding complete now,
                so that it can be read at once and ended a little earlier.

        Raises:
            ValueError: the end has passed already.
            BlockingIOError: too many packets are on their way.
        """
        return self.inject_many([(packet, end_us)])[0]

    def inject_many(self, packets: Iterable[tuple[AirPacket, int | None]]) -> list[Injected]:
        """Put several packets on the air at once; all, or in case of an error none."""
        with self._lock:
            now_ns = self._now_ns()
            chip = self._chip
            chip.advance(now_ns)
            plan: list[tuple[AirPacket, int]] = []
            for packet, end_us in packets:
                if end_us is None:
                    plan.append((packet, now_ns))
                    continue
                readable_ns = (end_us + packet.readable_after_us) * _NS_PER_US
                if readable_ns < now_ns:
                    raise ValueError(f"end {end_us} us has passed: now is {now_ns // _NS_PER_US} us")
                plan.append((packet, readable_ns))
            if chip.pending_count + len(plan) > PENDING_LIMIT:
                raise BlockingIOError(f"{chip.pending_count} packets are on their way: limit {PENDING_LIMIT}")
            results = []
            for packet, readable_ns in plan:
                reception = chip.receive(packet, readable_ns, now_ns)
                self._injected += 1
                self._log.append((packet.identifier, reception))
                results.append(Injected(self._injected, reception.outcome, chip.pending_bytes))
            return results

    def set_channel(self, rssi_dbm: float) -> None:
        """Set the level that the SX1261 measures on every frequency.

        Raises:
            ValueError: outside -200 to 20 dBm.
        """
        if not -200 <= rssi_dbm <= 20:
            raise ValueError(f"rssi_dbm {rssi_dbm}: outside -200 to 20")
        with self._lock:
            self._chip.sx1261.channel_dbm = rssi_dbm

    def fault(self, kind: str, **parameters: int | str) -> None:
        """Make something go wrong; what there is, is in `drivers.emulator.faults.KINDS`.

        Raises:
            FaultError: unknown kind or parameter.
        """
        with self._lock:
            now_ns = self._now_ns()
            self._chip.advance(now_ns)
            set_fault(self._chip, self._i2c.sensor, now_ns, kind, parameters)
        self._tell_usb()

    def clear_faults(self) -> None:
        """Make all whole again; what a fault has already done stays done."""
        with self._lock:
            now_ns = self._now_ns()
            self._chip.advance(now_ns)
            clear_faults(self._chip, self._i2c.sensor, now_ns)
        self._tell_usb()

    def faults(self) -> list[str]:
        """Return the kinds of the active faults."""
        with self._lock:
            return sorted(self._chip.faults.names)

    @property
    def usb_unplugged(self) -> bool:
        """Whether a fault has unplugged the USB bridge."""
        return self._chip.faults.unplugged

    def take_usb_fault(self) -> str:
        """Return what shall happen to the next answer of the USB bridge; empty for nothing."""
        with self._lock:
            faults = self._chip.faults
            if not faults.usb_left:
                return ""
            faults.usb_left -= 1
            return faults.usb

    @property
    def celsius(self) -> float | None:
        """Temperature of the board; None when nothing measures it."""
        return None if self._i2c.sensor is None else self._i2c.sensor.celsius

    def _tell_usb(self) -> None:
        if self.on_usb_plug is not None:
            self.on_usb_plug()

    def now_us(self) -> int:
        """Return the emulator's time."""
        return self._now_ns() // _NS_PER_US

    def counter_us(self) -> int:
        """Return the chip's counter, unwrapped, in microseconds since its last reset."""
        with self._lock:
            self._chip.advance(self._now_ns())
            return self._chip.now_ticks // TICKS_PER_US

    def rxlog(self, since: int = 0, limit: int = 10_000) -> tuple[list[RxLogEntry], int]:
        """Return the fate of the packets after number `since`, and the number to go on from."""
        with self._lock:
            self._chip.advance(self._now_ns())
            first = self._injected - len(self._log) + 1
            skip = max(since + 1 - first, 0)
            entries = [
                RxLogEntry(
                    number=first + skip + index,
                    identifier=identifier,
                    outcome=reception.outcome,
                    read=reception.read,
                    end_us=reception.end_ns // _NS_PER_US,
                    counter_us=reception.counter_us,
                )
                for index, (identifier, reception) in enumerate(islice(self._log, skip, skip + limit))
            ]
        return entries, entries[-1].number if entries else max(since, first - 1)

    def txlog(self) -> list[Emission]:
        """Return the last transmissions, oldest first; their times are those of the counter session they ran in."""
        with self._lock:
            self._chip.advance(self._now_ns())
            return list(self._chip.emissions)

    def complaints(self) -> list[str]:
        """Return the latest things the host did that a real chip would not have put up with."""
        with self._lock:
            return list(self._chip.complaints)

    def stats(self) -> Stats:
        """Return what the emulator has seen."""
        with self._lock:
            chip = self._chip
            chip.advance(self._now_ns())
            return Stats(
                spi_messages=chip.messages,
                spi_bytes=chip.message_bytes,
                fifo_bytes=chip.fifo.nb_bytes,
                pending_bytes=chip.pending_bytes,
                resets=chip.resets,
                running=chip.gate.receiving,
                injected=self._injected,
                complaints=chip.complained,
            )

    def lines(self) -> dict[str, bool]:
        """Return the levels of the chip's wires: held in reset, supplied."""
        with self._lock:
            return {"reset": self._chip.in_reset, "power": self._chip.powered}

    def high_lines(self) -> list[int]:
        """Return the numbers of the host's GPIO lines that are driven high."""
        return self._header.high()

    def _now_ns(self) -> int:
        return self._monotonic_ns() - self._origin_ns


class EmulatedBus:
    """The emulator's SPI in the same process."""

    def __init__(self, emulator: Emulator, chip_select: int = 0) -> None:
        self._emulator = emulator
        self._chip_select = chip_select
        self._open = True

    def transfer(self, frame: bytes) -> bytes:
        """Exchange one frame.

        Raises:
            BusError: the bus is closed, or a fault was asked for.
        """
        return self.transfer_all([frame])[0]

    def transfer_all(self, frames: Sequence[bytes]) -> list[bytes]:
        """Exchange several frames.

        Raises:
            BusError: the bus is closed, or a fault was asked for.
        """
        if not self._open:
            raise _bus_error("the bus is closed", hint="open the bus again")
        try:
            return self._emulator.transfer_all(frames, self._chip_select)
        except OSError as error:
            raise _bus_error(error.strerror or str(error), hint="clear the fault", retryable=True) from error

    def close(self) -> None:
        """Release the bus; the chip goes on."""
        self._open = False


def _bus_error(what: str, *, hint: str, retryable: bool = False) -> BusError:
    return BusError(what, op="transfer", where="emulator", hint=hint, code="CG-EMU-001", retryable=retryable)


class EmulatedLine:
    """A wire of the emulator in the same process."""

    def __init__(self, drive: Callable[..., None]) -> None:
        self._drive = drive

    def set(self, *, active: bool) -> None:
        """Drive the wire."""
        self._drive(active=active)

    def close(self) -> None:
        """Release the wire; it keeps its level."""
