# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""A concentrator behind a USB bridge: a microcontroller that takes SPI frames and line levels in requests.

A request is `id, size (2 bytes, big-endian), order, payload`, its answer `id, size, order | 0x40, payload`. The
vendor's software waits for answers without a limit and compares no ids; so a bridge that stalls hangs the process,
and one late answer makes every later one answer the wrong question [HAL 2.1.0 loragw_mcu.c]. Here each wait ends.
After a failure the next request first makes sure, by ping, that both sides speak of the same thing, and opens the
device again if it was unplugged. No request is ever repeated: a read of the FIFO must not happen twice.
"""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import serial  # type: ignore[import-untyped]  # it has no types, and its stubs are no dependency of ours

from drivers.errors import BusError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

logger = logging.getLogger(__name__)

BAUD: Final = 115_200
"""Nominal; USB goes as fast as it goes."""

PAYLOAD_LIMIT_BYTES: Final = 4200
SUB_REQUESTS_LIMIT: Final = 255
FRAME_LIMIT_BYTES: Final = 4100
ANSWER_LIMIT_S: Final = 1.2
"""Longest wait for an answer. A healthy bridge needs milliseconds, and forgets half a request after a second."""

PINGS_LIMIT: Final = 3
"""Attempts to get back in step."""

IDS: Final = 255
KNOWN_VERSION: Final = (1, 0, 0)
TEMPERATURE_AGE_S: Final = 10.0
"""How old a reading of the temperature may become; it changes slowly, and asking costs a round trip."""

_PING: Final = 0x00
_GET_STATUS: Final = 0x01
_WRITE_GPIO: Final = 0x04
_MULTIPLE_SPI: Final = 0x05
_ANSWER: Final = 0x40
_COMMAND_ERROR: Final = 0xFF
_HEADER_BYTES: Final = 4
_UNIQUE_ID_BYTES: Final = 12
_VERSION_BYTES: Final = 9
_SUB_HEADER_BYTES: Final = 5
_TRANSFER: Final = 0x01
_SX1302: Final = 0x00
_SX1261: Final = 0x01
_PORT_A: Final = 0
_POWER_PIN: Final = 1
_RESET_PIN: Final = 2
_SX1261_RESET_PIN: Final = 8
_SUB_STATUS: Final = {1: "failed", 2: "refused as wrong", 3: "timed out"}

_HINT = "unplug the concentrator and plug it in again; if it happens often, use a shorter cable or a powered hub"


class UsbBridge:
    """The bridge at a serial device; also the bus to the concentrator's chip.

    Opening it disturbs nothing: a chip that is still receiving goes on.

    Args:
        device: e.g. /dev/ttyACM0.
        answer_limit_s: longest wait for an answer.

    Raises:
        BusError: there is no such device, it may not be opened, no bridge answers, or its firmware is too old.
    """

    def __init__(self, device: str, *, answer_limit_s: float = ANSWER_LIMIT_S) -> None:
        self._device = device
        self._limit_s = answer_limit_s
        self._port: serial.Serial | None = None
        self._in_step = False
        self._closed = False
        self._next_id = 0
        self._celsius = 0.0
        self._celsius_at_s: float | None = None
        self._reach()

    def transfer(self, frame: bytes) -> bytes:
        """Send one frame and return what came back meanwhile, of the same length.

        Args:
            frame: 1 to 4100 bytes.

        Raises:
            BusError: the transfer did not complete, or the bus is closed.
        """
        return self.transfer_all([frame])[0]

    def transfer_all(self, frames: Sequence[bytes]) -> list[bytes]:
        """Send several frames in order, each under its own chip select, in as few requests as possible.

        Raises:
            BusError: a transfer did not complete; those before it may have.
        """
        return self.exchange(_SX1302, frames)

    def exchange(self, target: int, frames: Sequence[bytes]) -> list[bytes]:
        """Send frames to one of the chips behind the bridge.

        Raises:
            BusError: a transfer did not complete; those before it may have.
        """
        answers: list[bytes] = []
        for group in _groups(frames):
            payload = b"".join(
                bytes((number, _TRANSFER, target)) + len(frame).to_bytes(2, "big") + frame
                for number, frame in enumerate(group)
            )
            answers += self._sub_answers(self._request(_MULTIPLE_SPI, payload), group)
        return answers

    def temperature(self) -> float:
        """Return the board's temperature in degrees Celsius, not older than ten seconds.

        Raises:
            BusError: the bridge does not tell.
        """
        now_s = time.monotonic()
        if self._celsius_at_s is None or now_s - self._celsius_at_s > TEMPERATURE_AGE_S:
            status = self._request(_GET_STATUS, b"")
            if len(status) != 6:
                raise self._out_of_step("read temperature", f"{len(status)} bytes of status instead of 6")
            self._celsius = int.from_bytes(status[4:], "big", signed=True) / 100
            self._celsius_at_s = now_s
        return self._celsius

    def reset_line(self) -> UsbLine:
        """Return the chip's reset line."""
        return UsbLine(self, _RESET_PIN)

    def power_line(self) -> UsbLine:
        """Return the switch of the chip's supply."""
        return UsbLine(self, _POWER_PIN)

    def sx1261(self) -> UsbTarget:
        """Return the bus to the SX1261 behind the same bridge."""
        return UsbTarget(self, _SX1261)

    def sx1261_reset_line(self) -> UsbLine:
        """Return the SX1261's reset line."""
        return UsbLine(self, _SX1261_RESET_PIN, active_high=False)

    def write_pin(self, pin: int, *, high: bool) -> None:
        """Drive a pin of the bridge's port A.

        Raises:
            BusError: the bridge does not do it.
        """
        status = self._request(_WRITE_GPIO, bytes((_PORT_A, pin, high)))
        if status != b"\x00":
            raise self._error("drive", f"PA{pin} was refused with status {status.hex() or 'none'}", _HINT, "CG-USB-006")

    def close(self) -> None:
        """Release the device; closing twice is harmless."""
        self._closed = True
        self._drop()

    def _request(self, order: int, payload: bytes) -> bytes:
        """Send a request and return the payload of its answer.

        Raises:
            BusError: it was not answered, or not with what was asked for.
        """
        if self._closed:
            raise self._error("transfer", "is closed", "open it again", "CG-USB-007")
        self._reach()
        return self._exchange(order, payload)

    def _reach(self) -> None:
        """Make sure that the device is open and the bridge in step with us."""
        if self._port is None:
            self._port = self._open()
        if self._in_step:
            return
        for attempt in range(PINGS_LIMIT):
            try:
                self._discard()
                answer = self._exchange(_PING, b"")
                break
            except BusError:
                if attempt == PINGS_LIMIT - 1 or self._port is None:
                    self._drop()
                    raise
        self._check_version(answer)

    def _open(self) -> serial.Serial:
        try:
            return serial.Serial(self._device, BAUD, timeout=self._limit_s, write_timeout=self._limit_s, exclusive=True)
        except (OSError, ValueError) as error:  # serial.SerialException is an OSError
            others = ", ".join(sorted(str(path) for path in Path("/dev").glob("ttyACM*"))) or "none"
            what, hint, code = str(error), f"check that no other program uses it; there are: {others}", "CG-USB-003"
            if not Path(self._device).exists():
                what, hint, code = "does not exist", f"plug the concentrator in; there are: {others}", "CG-USB-001"
            elif isinstance(error, PermissionError) or getattr(error, "errno", None) == 13:
                hint = "add the user that runs this to the group of the device (ls -l shows it, mostly dialout)"
                what, code = "may not be opened by this user", "CG-USB-002"
            raise self._error("open", what, hint, code, retryable=True) from error

    def _exchange(self, order: int, payload: bytes) -> bytes:
        port = self._port
        assert port is not None
        number, self._next_id = self._next_id, (self._next_id + 1) % IDS
        self._in_step = False
        try:
            port.write(bytes((number,)) + len(payload).to_bytes(2, "big") + bytes((order,)) + payload)
            header = port.read(_HEADER_BYTES)
            size = int.from_bytes(header[1:3], "big")
            body = port.read(size) if size <= PAYLOAD_LIMIT_BYTES else b""
        except (OSError, TypeError) as error:  # TypeError: pyserial on a port that vanished while it read
            self._drop()
            raise self._error("transfer", f"is gone: {error}", _HINT, "CG-USB-004", retryable=True) from error
        if len(header) < _HEADER_BYTES or len(body) < size:
            what = f"{len(header) + len(body)} bytes of answer within {self._limit_s:g} s"
            raise self._out_of_step("transfer", what)
        if (header[0], header[3]) == (number, _COMMAND_ERROR):
            self._in_step = True
            what = f"order 0x{order:02X} is refused by the bridge"
            hint = "its firmware may be too old: update it to the one that comes with sx1302_hal V2.1.0"
            raise self._error("transfer", what, hint, "CG-USB-005", retryable=True)
        if header[0] != number or header[3] != order | _ANSWER:
            raise self._out_of_step("transfer", f"answer {header.hex()} to another question")
        self._in_step = True
        return body

    def _discard(self) -> None:
        """Throw away what is left of earlier answers."""
        assert self._port is not None
        try:
            self._port.reset_input_buffer()
        except OSError as error:
            self._drop()
            raise self._error("transfer", f"is gone: {error}", _HINT, "CG-USB-004", retryable=True) from error

    def _sub_answers(self, body: bytes, frames: Sequence[bytes]) -> Iterator[bytes]:
        at = 0
        for number, frame in enumerate(frames):
            head = body[at : at + _SUB_HEADER_BYTES]
            if len(head) < _SUB_HEADER_BYTES or head[:2] != bytes((number, _TRANSFER)):
                raise self._out_of_step("transfer", f"no answer to frame {number + 1} of {len(frames)}")
            if head[2]:
                what = f"frame {number + 1} of {len(frames)} {_SUB_STATUS.get(head[2], f'status {head[2]}')}"
                raise self._error("transfer", what, _HINT, "CG-USB-009", retryable=True)
            at += _SUB_HEADER_BYTES + len(frame)
            if int.from_bytes(head[3:], "big") != len(frame) or at > len(body):
                raise self._out_of_step(
                    "transfer", f"frame {number + 1} of {len(frames)} came back with another length"
                )
            yield body[at - len(frame) : at]

    def _check_version(self, answer: bytes) -> None:
        text = answer[_UNIQUE_ID_BYTES : _UNIQUE_ID_BYTES + _VERSION_BYTES].decode("ascii", "replace")
        try:
            version = tuple(int(part) for part in text[1:].split("."))
        except ValueError:
            version = ()
        if version < KNOWN_VERSION:
            self._drop()
            raise self._error(
                "open",
                f"firmware {text!r} of the bridge is none that works",
                "update it to the one that comes with sx1302_hal V2.1.0 (mcu_bin/rlz_010000)",
                "CG-USB-008",
            )
        if version != KNOWN_VERSION:
            logger.warning("event=usb_bridge_version version=%s known=01.00.00", text)

    def _drop(self) -> None:
        self._in_step = False
        if self._port is not None:
            with suppress(OSError):
                self._port.close()
            self._port = None

    def _out_of_step(self, op: str, what: str) -> BusError:
        self._in_step = False
        return self._error(op, what, _HINT, "CG-USB-010", retryable=True)

    def _error(self, op: str, what: str, hint: str, code: str, *, retryable: bool = False) -> BusError:
        return BusError(what, op=op, where=self._device, hint=hint, code=code, retryable=retryable)


class UsbTarget:
    """The bus to another chip behind the bridge, which stays open when this is closed.

    Args:
        bridge: the way there.
        target: its number.
    """

    def __init__(self, bridge: UsbBridge, target: int) -> None:
        self._bridge = bridge
        self._target = target

    def transfer(self, frame: bytes) -> bytes:
        """Send one frame and return what came back meanwhile, of the same length.

        Raises:
            BusError: the transfer did not complete, or the bridge is closed.
        """
        return self.transfer_all([frame])[0]

    def transfer_all(self, frames: Sequence[bytes]) -> list[bytes]:
        """Send several frames in order, each under its own chip select.

        Raises:
            BusError: a transfer did not complete; those before it may have.
        """
        return self._bridge.exchange(self._target, frames)

    def close(self) -> None:
        """Do nothing: the bridge is somebody else's."""


class UsbLine:
    """A line of a chip that the bridge drives.

    Args:
        bridge: that drives it.
        pin: of the bridge's port A.
        active_high: whether a high level is the active one.
    """

    def __init__(self, bridge: UsbBridge, pin: int, *, active_high: bool = True) -> None:
        self._bridge = bridge
        self._pin = pin
        self._active_high = active_high

    def set(self, *, active: bool) -> None:
        """Drive the line to its active or inactive level.

        Raises:
            BusError: the bridge does not do it.
        """
        self._bridge.write_pin(self._pin, high=active is self._active_high)

    def close(self) -> None:
        """Do nothing: the line keeps its level."""


def _groups(frames: Sequence[bytes]) -> Iterator[list[bytes]]:
    """Split frames into what fits one request."""
    group: list[bytes] = []
    size = 0
    for frame in frames:
        if not 1 <= len(frame) <= FRAME_LIMIT_BYTES:
            raise ValueError(f"frame of {len(frame)} bytes: outside 1 to {FRAME_LIMIT_BYTES}")
        length = _SUB_HEADER_BYTES + len(frame)
        if group and (size + length > PAYLOAD_LIMIT_BYTES or len(group) == SUB_REQUESTS_LIMIT):
            yield group
            group, size = [], 0
        group.append(frame)
        size += length
    if group:
        yield group
