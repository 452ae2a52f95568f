# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The SX1261 beside a concentrator: it listens before the concentrator talks, and scans the spectrum.

A radio with a chip select of its own, on which nothing of reception depends. What it does here it learns from a patch
in its RAM, which the host loads after each reset. Its BUSY line is not wired, so each command waits out the longest
processing time instead [HAL 2.1.0 loragw_sx1261.c, sx1261_com.c].

Listening, it drives a pin of the SX1302 by the level that it finds; the concentrator's AGC looks at that pin 1.5 ms
before a packet is due, and lets it go or not.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Final

from drivers.errors import BusError, ChipError, HandshakeTimeoutError
from drivers.sx1250 import IMAGE_CALIBRATION_ERROR, frequency_register, image_calibration

if TYPE_CHECKING:
    from drivers.bus import Clock, OutputLine, SpiBus

COMMAND_GAP_S: Final = 0.001
"""Before each command, in place of polling BUSY."""

SETTLE_S: Final = 0.010
RESET_STEP_S: Final = 0.100


class Command(IntEnum):
    """Opcodes of the SX126x family, and the three that the patch brings."""

    WRITE_REGISTER = 0x0D
    GET_DEVICE_ERRORS = 0x17
    READ_REGISTER = 0x1D
    SET_STANDBY = 0x80
    SET_RX = 0x82
    SET_RF_FREQUENCY = 0x86
    SET_PACKET_TYPE = 0x8A
    SET_MODULATION_PARAMS = 0x8B
    SET_PACKET_PARAMS = 0x8C
    SET_BUFFER_BASE_ADDRESS = 0x8F
    CALIBRATE_IMAGE = 0x98
    LISTEN = 0x9A
    SCAN = 0x9B
    GET_STATUS = 0xC0
    SET_FS = 0xC1
    UPDATE_PATCH = 0xD9


STANDBY_RC_STATUS: Final = 0x22
STATUS_MASK: Final = 0x7E
RX_CONTINUOUS: Final = bytes((0xFF, 0xFF, 0xFF))

REG_VERSION: Final = 0x0320
VERSION_BYTES: Final = 15
VERSION_PATCHED: Final = b"2D06"
REG_PATCH_ENABLE: Final = 0x0610
PATCH_ENABLE: Final = 0x10
PATCH_ADDRESS: Final = 0x8000
PATCH_WORD_BYTES: Final = 4
REG_SENSITIVITY: Final = 0x08AC
SENSITIVITY: Final = 0xCB
REG_RSSI_WINDOW: Final = 0x089B
RSSI_WINDOW: Final = 0x14
RSSI_STOP: Final = 0x00
REG_SCAN_STATUS: Final = 0x07CD
REG_SCAN_RESULTS: Final = 0x0401

PACKET_TYPE_GFSK: Final = 0x00
BANDWIDTHS: Final = {125_000: 0x0A, 250_000: 0x09}
"""Of the receiver, Hz to code: what it can listen in [HAL 2.1.0]."""

PACKET_PARAMS: Final = bytes.fromhex("002005200001ff0000")
BUFFER_BASES: Final = b"\x80\x80"

SAMPLE_INTERVAL: Final = 11
SAMPLE_US: Final = 8.2
SAMPLES: Final = {128: 24, 5000: 715}
"""How often the level is taken in a listening time, microseconds to count: the two that the patch is known with."""

GPIO_RESULT: Final = 1

SCAN_DONE: Final = 0xFF
SCAN_ABORTED: Final = 0xF0
SCAN_BINS: Final = 33
SCAN_BIN_DB: Final = 4
SCAN_SAMPLES_LIMIT: Final = 0xFFFF
SCAN_MARGIN_S: Final = 0.5
"""Longer than it takes by its count, a scan may not take."""


@dataclass(frozen=True, slots=True)
class SpectralScan:
    """How often which level was found on a frequency.

    Attributes:
        frequency_hz: centre; the bandwidth is 125 kHz.
        counts: 33 numbers; the first counts levels about 0 dBm, each next one 4 dB less, the last all below -126 dBm.
        offset_db: what the board adds to a level.
    """

    frequency_hz: int
    counts: tuple[int, ...]
    offset_db: float = 0.0

    @property
    def samples(self) -> int:
        """How often the level was taken."""
        return sum(self.counts)

    def level_dbm(self, bin_: int) -> float:
        """Return the level that a bin stands for."""
        return self.offset_db - SCAN_BIN_DB * bin_

    def percentile_dbm(self, percent: float) -> float | None:
        """Return the level that so many percent of the samples do not exceed; None without samples.

        Args:
            percent: 0 to 100; 50 is the median, which bursts of traffic hardly move.
        """
        needed = self.samples * percent / 100
        seen = 0
        for bin_ in reversed(range(len(self.counts))):
            seen += self.counts[bin_]
            if seen and seen >= needed:
                return self.level_dbm(bin_)
        return None


class Sx1261:
    """One SX1261.

    Args:
        bus: its own chip select.
        clock: for pauses, waits and their limits.
        patch: 1544 bytes, see `drivers.sx1261_patch`.
        reset: its reset line; None when nothing but the supply resets it.
        rssi_offset_db: what the board adds to a level.
    """

    def __init__(
        self,
        bus: SpiBus,
        clock: Clock,
        patch: bytes,
        *,
        reset: OutputLine | None = None,
        rssi_offset_db: float = 0.0,
    ) -> None:
        self._bus = bus
        self._clock = clock
        self._patch = patch
        self._reset = reset
        self._offset_db = rssi_offset_db

    def start(self, frequency_hz: int) -> None:
        """Reset it, load the patch, and calibrate; takes about half a second.

        Args:
            frequency_hz: any of the band it shall work in.

        Raises:
            BusError: the bus fails.
            ChipError: it does not answer, does not take the patch, or reports that its calibration failed.
        """
        if self._reset is not None:
            for active in (True, False):
                self._reset.set(active=active)
                self._clock.sleep(RESET_STEP_S)
        self._standby()
        self._read(REG_VERSION, VERSION_BYTES)
        self._write(REG_PATCH_ENABLE, bytes((PATCH_ENABLE,)))
        for at in range(0, len(self._patch), PATCH_WORD_BYTES):
            self._write(PATCH_ADDRESS + at, self._patch[at : at + PATCH_WORD_BYTES])
        self._write(REG_PATCH_ENABLE, b"\x00")
        self._command(Command.UPDATE_PATCH)
        version = self._read(REG_VERSION, VERSION_BYTES)
        if not version.endswith(VERSION_PATCHED):
            what = (
                f"calls itself {version.decode('ascii', 'replace')!r} with the patch, not ...{VERSION_PATCHED.decode()}"
            )
            hint = "an SX1262 or SX1268 does not take it; or the SPI wires are too long: look at spi_clock_hz"
            raise self._error("start", what, hint, "CG-1261-002")
        self._calibrate(frequency_hz)
        self._standby()
        self._command(Command.SET_BUFFER_BASE_ADDRESS, BUFFER_BASES)
        self._write(REG_SENSITIVITY, bytes((SENSITIVITY,)))

    def listen(self, frequency_hz: int, bandwidth_hz: int, duration_us: int, threshold_dbm: float) -> None:
        """Listen on a channel until `stop`, after the first time of listening is over.

        Args:
            frequency_hz: centre of the channel.
            bandwidth_hz: 125000 or 250000.
            duration_us: of one listening, 128 or 5000.
            threshold_dbm: above it the channel is busy; 0 to -127.

        Raises:
            BusError: the bus fails.
            ValueError: no such bandwidth or duration.
        """
        if bandwidth_hz not in BANDWIDTHS or duration_us not in SAMPLES:
            msg = f"{bandwidth_hz} Hz, {duration_us} us: expected one of {list(BANDWIDTHS)} and {list(SAMPLES)}"
            raise ValueError(msg)
        self._receive(frequency_hz, bandwidth_hz)
        threshold = max(0, min(0xFF, round(-2 * (threshold_dbm + self._offset_db))))
        count = SAMPLES[duration_us].to_bytes(2, "big")
        self._command(Command.LISTEN, bytes((SAMPLE_INTERVAL,)) + count + bytes((threshold, GPIO_RESULT)))
        self._clock.sleep(duration_us / 1e6)

    def scan(self, frequency_hz: int, samples: int) -> SpectralScan | None:
        """Take the level of a channel so many times, 8.2 us apart; reception is not disturbed.

        Args:
            frequency_hz: centre; the bandwidth is 125 kHz.
            samples: 1 to 65535.

        Returns:
            None when a transmission cut in.

        Raises:
            BusError: the bus fails.
            HandshakeTimeoutError: the scan does not end.
        """
        self._receive(frequency_hz, 125_000)
        self._command(Command.SCAN, samples.to_bytes(2, "big") + bytes((SAMPLE_INTERVAL,)))
        self._clock.sleep(samples * SAMPLE_US / 1e6)
        deadline_ns = self._clock.monotonic_ns() + round(SCAN_MARGIN_S * 1e9)
        while (status := self._read(REG_SCAN_STATUS, 1)[0]) != SCAN_DONE:
            if status == SCAN_ABORTED:
                self.stop()
                return None
            if self._clock.monotonic_ns() >= deadline_ns:
                self.stop()
                raise HandshakeTimeoutError(
                    f"status 0x{status:02X} instead of 0x{SCAN_DONE:02X} for {SCAN_MARGIN_S:g} s",
                    op="scan",
                    where="SX1261",
                    hint="start it again; if it stays, switch the board off and on",
                    code="CG-1261-004",
                    retryable=True,
                )
        results = self._read(REG_SCAN_RESULTS, 2 * SCAN_BINS)
        self.stop()
        counts = tuple(int.from_bytes(results[at : at + 2], "big") for at in range(0, len(results), 2))
        return SpectralScan(frequency_hz, counts, self._offset_db)

    def stop(self) -> None:
        """Listen no more; aborts a scan.

        Raises:
            BusError: the bus fails.
        """
        self._write(REG_RSSI_WINDOW, bytes((RSSI_STOP,)))
        self._command(Command.SET_FS)

    def close(self) -> None:
        """Release bus and line; closing twice is harmless."""
        self._bus.close()
        if self._reset is not None:
            self._reset.close()

    def _standby(self) -> None:
        self._command(Command.SET_STANDBY, b"\x00")
        status = self._command(Command.GET_STATUS, b"\x00")[1]
        if status & STATUS_MASK != STANDBY_RC_STATUS:
            what = f"status 0x{status:02X} instead of 0x{STANDBY_RC_STATUS:02X}"
            hint = "not every board has one: leave sx1261 out of the configuration, or check its device and reset line"
            raise self._error("start", what, hint, "CG-1261-001")

    def _calibrate(self, frequency_hz: int) -> None:
        parameters = image_calibration(frequency_hz)
        if parameters is None:
            raise self._error("calibrate", f"no image calibration for {frequency_hz} Hz", "", "CG-1261-003")
        self._command(Command.GET_STATUS, b"\x00")
        self._command(Command.CALIBRATE_IMAGE, parameters)
        self._clock.sleep(SETTLE_S)
        errors = self._command(Command.GET_DEVICE_ERRORS, bytes(3))[3]
        if errors & IMAGE_CALIBRATION_ERROR:
            what = f"image calibration failed, device errors 0x{errors:02X}"
            raise self._error("calibrate", what, "switch the board off and on", "CG-1261-003")

    def _receive(self, frequency_hz: int, bandwidth_hz: int) -> None:
        self.stop()
        self._command(Command.SET_RF_FREQUENCY, frequency_register(frequency_hz).to_bytes(4, "big"))
        self._write(REG_RSSI_WINDOW, bytes((RSSI_WINDOW,)))
        self._command(Command.SET_PACKET_TYPE, bytes((PACKET_TYPE_GFSK,)))
        self._command(
            Command.SET_MODULATION_PARAMS,
            bytes.fromhex("00140000") + bytes((BANDWIDTHS[bandwidth_hz],)) + b"\x02\xe9\x0f",
        )
        self._command(Command.SET_PACKET_PARAMS, PACKET_PARAMS)
        self._command(Command.SET_RX, RX_CONTINUOUS)

    def _write(self, register: int, data: bytes) -> None:
        self._command(Command.WRITE_REGISTER, register.to_bytes(2, "big") + data)

    def _read(self, register: int, length: int) -> bytes:
        return self._command(Command.READ_REGISTER, register.to_bytes(2, "big") + bytes(1 + length))[4:]

    def _command(self, command: Command, parameters: bytes = b"") -> bytes:
        self._clock.sleep(COMMAND_GAP_S)
        frame = bytes((command,)) + parameters
        answer = self._bus.transfer(frame)
        if len(answer) != len(frame):
            raise BusError(
                f"{len(answer)} bytes came back for {len(frame)} sent",
                op="transfer",
                where="SX1261",
                hint="the bus is unreliable: check that no other program uses the device",
                code="CG-SPI-001",
                retryable=True,
            )
        return answer

    @staticmethod
    def _error(op: str, what: str, hint: str, code: str) -> ChipError:
        return ChipError(what, op=op, where="SX1261", hint=hint, code=code)
