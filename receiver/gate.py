# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Who may hold a connection when there are too many: decided where connections are accepted, before TLS begins.

When one more comes than may be open, another one goes: of those that have proved nothing yet, the oldest of the origin
that has most of them. So whoever opens thousands ends his own, and a gateway that shares his address has as long as he
needs to open them all again: time enough for its batch. A connection has proved itself when its gateway came with a
certificate, or when something that it brought did verify; those go only when there is nothing else, the one that was
quiet longest first.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass

from receiver.rate import origin

RESERVED_FILES = 512
"""Open files that are not connections of a listener: ledger, broker, certificates, and connections that just end."""
LOW_FILES = 1024
"""FD_SETSIZE, which bounds what select() can take."""
ENOUGH_FILES = 16384
"""More than all listeners together need as they are configured by default; a limit that is not used costs nothing."""
BACKLOG = 1024
"""Connections that the kernel holds until they are accepted."""


@dataclass(slots=True)
class _Guest:
    """An open connection: where from, and whether it has proved itself."""

    sock: socket.socket
    origin: str
    proven: bool = False


class Gate:
    """Bounds the connections of one listener. Safe to use from several threads.

    Args:
        most: that are open at a time.
        shown_out: called when one has to go.
    """

    def __init__(self, most: int, shown_out: Callable[[], None] = lambda: None) -> None:
        self._most = most
        self._shown_out = shown_out
        self._guests: dict[int, _Guest] = {}
        # by origin, the one that goes first in front; a dict keeps the order in which it was filled
        self._strangers: dict[str, dict[int, None]] = {}
        self._proven: dict[str, dict[int, None]] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._guests)

    def enter(self, sock: socket.socket, address: str) -> None:
        """Let a connection in, and show another one out if there are too many."""
        with self._lock:
            guest = _Guest(sock, origin(address))
            self._guests[sock.fileno()] = guest
            self._strangers.setdefault(guest.origin, {})[sock.fileno()] = None
            gone = self._forget(self._choose()) if len(self) > self._most else None
            if gone is not None:
                # whoever serves it sees its end, and closes it
                with contextlib.suppress(OSError):
                    gone.sock.shutdown(socket.SHUT_RDWR)
        if gone is not None:
            self._shown_out()

    def prove(self, number: int) -> None:
        """Note that the connection of a file number has proved itself, now again."""
        with self._lock:
            guest = self._forget(number)
            if guest is not None:
                guest.proven = True
                self._guests[number] = guest
                self._proven.setdefault(guest.origin, {})[number] = None

    def doubt(self, number: int) -> None:
        """Take back that the connection of a file number has proved itself."""
        with self._lock:
            guest = self._forget(number)
            if guest is not None:
                guest.proven = False
                self._guests[number] = guest
                self._strangers.setdefault(guest.origin, {})[number] = None

    def is_proven(self, number: int) -> bool:
        """Tell whether the connection of a file number has proved itself."""
        with self._lock:
            guest = self._guests.get(number)
            return guest is not None and guest.proven

    def leave(self, number: int) -> None:
        """Forget a connection; called before its file number can be given to another one."""
        with self._lock:
            self._forget(number)

    def _forget(self, number: int) -> _Guest | None:
        guest = self._guests.pop(number, None)
        if guest is not None:
            lists = self._proven if guest.proven else self._strangers
            del lists[guest.origin][number]
            if not lists[guest.origin]:
                del lists[guest.origin]
        return guest

    def _choose(self) -> int:
        crowds: list[dict[int, None]] = list((self._strangers or self._proven).values())
        largest: dict[int, None] = max(crowds, key=len)
        return next(iter(largest))


@dataclass(frozen=True, slots=True)
class Pass:
    """What a request may say and ask of the connection it came on."""

    gate: Gate
    number: int

    def prove(self) -> None:
        """Note that the connection has proved itself."""
        self.gate.prove(self.number)

    def doubt(self) -> None:
        """Take that back."""
        self.gate.doubt(self.number)

    @property
    def proven(self) -> bool:
        """Whether it has."""
        return self.gate.is_proven(self.number)


class GuardedSocket(socket.socket):
    """A listening TCP socket whose connections enter and leave by a gate, where it has one."""

    gate: Gate | None = None

    def listen(self, _backlog: int = BACKLOG, /) -> None:
        """Listen with a backlog of our own: what asyncio asks for is also how many it accepts in one go."""
        super().listen(BACKLOG)

    def accept(self) -> tuple[socket.socket, object]:
        """Accept as any socket does.

        Raises:
            OSError: as any socket does.
        """
        sock, address = super().accept()
        if self.gate is None:
            return sock, address
        family, kind, protocol = sock.family, sock.type, sock.proto
        connection = _Connection(family, kind, protocol, fileno=_high(sock.detach()))
        connection.gate = self.gate
        self.gate.enter(connection, str(address[0]))
        return connection, address


class _Connection(socket.socket):
    """An accepted connection that says at the gate when it is over."""

    gate: Gate

    def close(self) -> None:
        """Close as any socket does."""
        if self.fileno() >= 0:
            self.gate.leave(self.fileno())
        super().close()


def _high(number: int) -> int:
    """Move an open file to a number that select() cannot take: paho uses select, and must find others free."""
    try:
        moved = fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, LOW_FILES)
    except OSError:
        return number
    os.close(number)
    return moved


def files_for(wanted: int) -> int:
    """Raise the limit of open files as far as it goes; return how many connections fit in, at most those wanted."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = max(wanted + RESERVED_FILES, ENOUGH_FILES)
    if soft != resource.RLIM_INFINITY and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return wanted if soft == resource.RLIM_INFINITY else max(1, min(wanted, soft - RESERVED_FILES))
