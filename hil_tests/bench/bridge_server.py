# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The gateway's half of `bridge`: opens the concentrator that gateway.toml names, and serves it on stdin and stdout.

Sent to the gateway as text, and run there with the drivers that are installed on it: it imports nothing of the bench.
A message is an operation (one byte), a length (four, big-endian) and so many bytes; the answer the same, with 0 for
"done" or 1 for an error, whose text it has.
"""

from __future__ import annotations

import struct
import sys
from pathlib import Path

from agent.clock import HostClock
from agent.config import load
from agent.hardware import default_bus, lines_of, open_bus
from drivers.boards import load_board
from drivers.stts751 import Stts751

HEAD = struct.Struct(">BI")
LENGTH = struct.Struct(">I")
TRANSFER, RESET, POWER, CELSIUS = 1, 2, 3, 4
MOST_BYTES = 1 << 20


def serve(config: Path) -> None:
    """Serve until stdin ends."""
    section = load(config).concentrator
    board = load_board(section.board)
    where = section.bus or default_bus(board)
    bus = open_bus(where, board.spi_clock_hz)
    reset, power = lines_of(where, board, bus)
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    thermometer = None
    while len(head := source.read(HEAD.size)) == HEAD.size:
        operation, size = HEAD.unpack(head)
        if size > MOST_BYTES:
            break
        body = source.read(size)
        status, answer = 0, b""
        try:
            if operation == TRANSFER:
                answer = pack(bus.transfer_all(unpack(body)))
            elif operation in {RESET, POWER}:
                line = reset if operation == RESET else power
                answer = bytes([line is not None])
                if line is not None and body:
                    line.set(active=body == b"\x01")
            elif operation == CELSIUS and board.temperature is not None and where.kind == "spi":
                from drivers.linux.i2c import LinuxI2cDevice  # noqa: PLC0415 - not on every machine

                if thermometer is None:
                    sensor = LinuxI2cDevice(board.temperature.i2c_device, board.temperature.address)
                    thermometer = Stts751(sensor, HostClock())
                answer = struct.pack(">d", thermometer.celsius())
            elif operation == CELSIUS and hasattr(bus, "temperature"):
                answer = struct.pack(">d", bus.temperature())  # the microcontroller of a board on USB measures it
        except Exception as error:
            status, answer = 1, f"{type(error).__name__}: {error}".encode()
        sink.write(HEAD.pack(status, len(answer)) + answer)
        sink.flush()


def pack(frames: list[bytes]) -> bytes:
    """Write frames, each behind its length."""
    return b"".join(LENGTH.pack(len(frame)) + frame for frame in frames)


def unpack(body: bytes) -> list[bytes]:
    """Read frames."""
    frames = []
    while body:
        (size,) = LENGTH.unpack_from(body)
        frames.append(body[LENGTH.size : LENGTH.size + size])
        body = body[LENGTH.size + size :]
    return frames


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
