# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The virtual concentrator in a process of its own: server, and the bus and wires that reach it.

The chip survives whoever uses it: a killed agent leaves it running, receiving, and with its FIFO filling, as hardware
does. Each connection has a thread; the protocol of the bus is in `drivers.emulator.wire`, that of the control socket
in `drivers.emulator.control`.

Not modelled: the kernel's driver; two openers may talk to the chip at the same time, as with spidev.
"""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING, Final

from drivers.emulator import control, wire
from drivers.emulator.wire import Operation, Wire, WireError
from drivers.errors import BusError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from drivers.emulator.emulator import Emulator

CONNECTIONS_LIMIT: Final = 64
CLIENT_TIMEOUT_S: Final = 10.0
"""How long a user of the bus waits for an answer: the emulator answers in microseconds, or is gone."""

_ACCEPT_PAUSE_S: Final = 0.5
_JOIN_S: Final = 5.0


class Server:
    """Serves one emulator on two Unix sockets until it is closed.

    Args:
        emulator: the virtual concentrator.
        spi_socket: path for the bus; a socket left over by a dead server is replaced.
        control_socket: path for the control channel.

    Raises:
        BusError: a socket cannot be made, or another server is using it.
    """

    def __init__(self, emulator: Emulator, spi_socket: Path, control_socket: Path) -> None:
        self._emulator = emulator
        self._closing = Event()
        self._lock = Lock()
        self._connections: dict[socket.socket, Thread] = {}
        self._listeners: list[tuple[Path, socket.socket]] = []
        self._acceptors: list[Thread] = []
        try:
            for path, serve_connection in ((spi_socket, self._serve_bus), (control_socket, self._serve_control)):
                listener = _listen(path)
                self._listeners.append((path, listener))
                acceptor = Thread(
                    target=self._accept, args=(listener, serve_connection), name=f"accept-{path.name}", daemon=True
                )
                self._acceptors.append(acceptor)
        except BusError:
            self.close()
            raise
        for acceptor in self._acceptors:
            acceptor.start()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections, stop all threads, remove the sockets; closing twice is harmless."""
        self._closing.set()
        for path, listener in self._listeners:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
            path.unlink(missing_ok=True)
        self._listeners = []
        with self._lock:
            connections = dict(self._connections)
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in (*self._acceptors, *connections.values()):
            if thread.ident is not None:
                thread.join(_JOIN_S)

    def _accept(self, listener: socket.socket, serve_connection: Callable[[socket.socket], None]) -> None:
        while not self._closing.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                # Closed by us, or out of descriptors: then a pause lets others finish.
                self._closing.wait(_ACCEPT_PAUSE_S)
                continue
            with self._lock:
                if self._closing.is_set() or len(self._connections) >= CONNECTIONS_LIMIT:
                    connection.close()
                    continue
                thread = Thread(target=self._run, args=(connection, serve_connection), daemon=True)
                self._connections[connection] = thread
            thread.start()

    def _run(self, connection: socket.socket, serve_connection: Callable[[socket.socket], None]) -> None:
        try:
            serve_connection(connection)
        except OSError:
            # The peer vanished between its message and our answer: nobody is left to tell.
            pass
        finally:
            with self._lock:
                del self._connections[connection]
            connection.close()

    def _serve_bus(self, connection: socket.socket) -> None:
        while not self._closing.is_set():
            try:
                received = wire.receive(connection)
                if received is None:
                    return
                reply = self._operate(*received)
            except (WireError, ValueError) as error:
                refusal = str(error).encode()
                connection.sendall(wire.message(wire.REFUSED, 0, 0, refusal))
                return
            connection.sendall(reply)

    def _operate(self, operation: int, item: int, count: int, body: bytes) -> bytes:
        if operation == Operation.TRANSFER:
            try:
                if count == 1:
                    frames = [self._emulator.transfer(wire.unpack_frames(body, 1)[0], item)]
                else:
                    frames = self._emulator.transfer_all(wire.unpack_frames(body, count), item)
            except OSError as error:
                return wire.failure(operation, error)
            return wire.message(operation | wire.ANSWER, 0, count, wire.pack_frames(frames))
        if operation == Operation.I2C:
            try:
                read = self._emulator.i2c(item, wire.unpack_i2c(body, count))
            except OSError as error:
                return wire.failure(operation, error)
            return wire.message(operation | wire.ANSWER, 0, len(read), wire.pack_frames(read) if read else b"")
        if operation == Operation.GET_LINE:
            level = bytes((self._emulator.gpio(item),))
            return wire.message(operation | wire.ANSWER, 0, 1, level)
        if operation in {Operation.SET_WIRE, Operation.SET_LINE}:
            if len(body) != 1 or body[0] > 1:
                raise WireError("a level is one byte, 0 or 1")
            if operation == Operation.SET_LINE:
                self._emulator.set_gpio(item, high=bool(body[0]))
            else:
                self._set_wire(item, active=bool(body[0]))
            return wire.message(operation | wire.ANSWER, 0, 0, b"")
        raise WireError(f"unknown operation 0x{operation:02X}")

    def _set_wire(self, item: int, *, active: bool) -> None:
        if item == Wire.RESET:
            self._emulator.drive_reset(active=active)
        elif item == Wire.POWER:
            self._emulator.drive_power(active=active)
        else:
            raise WireError(f"no wire {item}")

    def _serve_control(self, connection: socket.socket) -> None:
        for line in _lines(connection):
            if line is None:
                connection.sendall(b'{"ok":false,"error":"line too long"}\n')
                return
            if line.strip():
                connection.sendall(control.answer(self._emulator, line))


def serve(
    emulator: Emulator,
    spi_socket: Path,
    control_socket: Path,
    *,
    stop: Event,
    ready: Callable[[], None] = lambda: None,
) -> None:
    """Serve an emulator until `stop` is set; `ready` is called once both sockets accept.

    Raises:
        BusError: a socket cannot be made, or another server is using it.
    """
    with Server(emulator, spi_socket, control_socket):
        ready()
        stop.wait()


class SocketBus:
    """The bus of a virtual concentrator in another process; for one thread.

    Args:
        path: the server's SPI socket.
        chip_select: 0 for the concentrator, 1 for the SX1261 beside it.

    Raises:
        BusError: nobody serves there.
    """

    def __init__(self, path: Path, *, chip_select: int = 0) -> None:
        self._where = str(path)
        self._chip_select = chip_select
        self._connection: socket.socket | None = _connect(path)

    def transfer(self, frame: bytes) -> bytes:
        """Exchange one frame.

        Raises:
            BusError: the emulator is gone, or refused.
        """
        body = len(frame).to_bytes(2, "little") + frame
        return self._ask(1, body)[2:]

    def transfer_all(self, frames: Sequence[bytes]) -> list[bytes]:
        """Exchange many frames in one round trip (or a few, beyond 256).

        Raises:
            BusError: the emulator is gone, or refused.
        """
        answers: list[bytes] = []
        for start in range(0, len(frames), _FRAMES_PER_MESSAGE):
            part = frames[start : start + _FRAMES_PER_MESSAGE]
            body = self._ask(len(part), wire.pack_frames(part))
            answers += wire.unpack_frames(body, len(part))
        return answers

    def close(self) -> None:
        """Disconnect; the chip goes on."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _ask(self, count: int, body: bytes) -> bytes:
        if self._connection is None:
            raise _bus_error("the bus is closed", self._where)
        return _ask(self._connection, self._where, wire.message(Operation.TRANSFER, self._chip_select, count, body))


class SocketResetLine:
    """The reset line of a virtual concentrator in another process.

    Args:
        path: the server's SPI socket.

    Raises:
        BusError: nobody serves there.
    """

    _WIRE = Wire.RESET

    def __init__(self, path: Path) -> None:
        self._where = str(path)
        self._connection: socket.socket | None = _connect(path)

    def set(self, *, active: bool) -> None:
        """Drive the line.

        Raises:
            BusError: the emulator is gone.
        """
        if self._connection is None:
            raise _bus_error("the line is closed", self._where)
        level = b"\1" if active else b"\0"
        _ask(self._connection, self._where, wire.message(Operation.SET_WIRE, self._WIRE, 0, level))

    def close(self) -> None:
        """Disconnect; the line keeps its level."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class SocketPowerLine(SocketResetLine):
    """The switch of the supply of a virtual concentrator in another process."""

    _WIRE = Wire.POWER


_FRAMES_PER_MESSAGE: Final = 256


def _ask(connection: socket.socket, where: str, message: bytes) -> bytes:
    try:
        connection.sendall(message)
        received = wire.receive(connection)
    except (OSError, WireError) as error:
        raise _bus_error(str(error) or type(error).__name__, where) from error
    if received is None:
        raise _bus_error("the emulator has closed the connection", where)
    answered, error_number, _, answer = received
    if answered != message[0] | wire.ANSWER:
        raise _bus_error(f"refused: {answer.decode(errors='replace')}", where)
    if error_number:
        raise _bus_error(os.strerror(error_number), where)
    return answer


def _connect(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(CLIENT_TIMEOUT_S)
    try:
        connection.connect(str(path))
    except OSError as error:
        connection.close()
        raise _bus_error(error.strerror or str(error), str(path), op="open") from error
    return connection


def _bus_error(what: str, where: str, *, op: str = "transfer") -> BusError:
    return BusError(
        what,
        op=op,
        where=where,
        hint="is `civigate emulate` running, with this --spi-socket?",
        code="CG-EMU-002",
        retryable=True,
    )


def _listen(path: Path) -> socket.socket:
    try:
        if path.is_socket():
            _remove_stale(path)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.bind(str(path))
            path.chmod(0o600)
            listener.listen(CONNECTIONS_LIMIT)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise BusError(
            error.strerror or str(error),
            op="listen",
            where=str(path),
            hint="the folder must exist and be writable, the path be free and shorter than 108 bytes",
            code="CG-EMU-003",
        ) from error
    return listener


def _remove_stale(path: Path) -> None:
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        probe.connect(str(path))
    except ConnectionRefusedError:
        path.unlink(missing_ok=True)
    else:
        raise BusError(
            "another emulator is serving there",
            op="listen",
            where=str(path),
            hint="stop it, or choose another path",
            code="CG-EMU-004",
        )
    finally:
        probe.close()


def _lines(connection: socket.socket) -> Iterator[bytes | None]:
    """Yield the lines that come in; None, and then nothing more, when one is too long."""
    buffer = bytearray()
    while data := connection.recv(1 << 18):
        searched = len(buffer)
        buffer += data
        while (end := buffer.find(b"\n", searched)) >= 0:
            yield bytes(buffer[:end])
            del buffer[: end + 1]
            searched = 0
        if len(buffer) > control.LINE_LIMIT_BYTES:
            yield None
            return
