# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The thread "local": serves the socket in runtime_dir, and the page if it is wanted, to a few clients at a time.

It waits in the kernel until a client moves or, while somebody follows, until there is news: without clients it costs
nothing. It shares nothing with the other threads but the feed, so neither a slow client nor a hostile one holds them
up; what goes wrong here is said in the log and ends nothing.
"""

from __future__ import annotations

import logging
import math
import os
import selectors
import socket
import struct
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Final, Protocol

from agent.errors import AgentError
from agent.local import SOCKET_NAME
from agent.local.answers import Answers
from agent.local.dialect import Dialect, Lines
from agent.local.peer import Peer

logger = logging.getLogger(__name__)

SOCKET_MODE: Final = 0o660
AGAIN_S: Final = 30.0
"""Until a way in that could not be opened is tried again."""
PAUSE_S: Final = 1.0
"""After the system refused a connection, for want of file descriptors or memory."""
MOST_PER_S: Final = 40
"""Connections on each way in; what comes faster waits in the kernel, and costs the radio nothing."""
_CREDENTIALS: Final = struct.Struct("3i")
_KNOWN_USERS: Final = 64


class Door(Protocol):
    """A way in."""

    name: str
    most_clients: int
    most_of_one: int
    """Clients of one host."""

    def open(self) -> tuple[socket.socket, Dialect]:
        """Begin to listen.

        Raises:
            OSError: it cannot be done, now.
            AgentError: the same.
        """
        ...

    def greet(self, connection: socket.socket) -> None:
        """Take note of who comes."""
        ...


class SocketDoor:
    """The Unix socket in runtime_dir, for the service's user and group.

    Args:
        folder: runtime_dir.
        answers: what is told.
    """

    most_clients = most_of_one = 8

    def __init__(self, folder: Path, answers: Answers) -> None:
        self.name = str(folder / SOCKET_NAME)
        self._folder = folder
        self._answers = answers
        self._users: set[int] = set()

    def open(self) -> tuple[socket.socket, Dialect]:
        """Bind it anew: the lock of the spool makes sure that no other agent has this folder."""
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            # By way of a descriptor, since the path of a socket has room for 107 bytes only.
            folder = os.open(self._folder, os.O_PATH | os.O_DIRECTORY)
            try:
                short = Path(f"/proc/self/fd/{folder}/{SOCKET_NAME}")
                short.unlink(missing_ok=True)
                os.fchmod(listener.fileno(), 0o600)
                listener.bind(str(short))
                short.chmod(SOCKET_MODE)
            finally:
                os.close(folder)
            listener.listen(self.most_clients)
        except BaseException:
            listener.close()
            raise
        return listener, Lines(self._answers)

    def greet(self, connection: socket.socket) -> None:
        """Log a user's first visit; later ones would fill the journal of whoever is monitored."""
        said = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        pid, uid, gid = _CREDENTIALS.unpack(said)
        level = logging.DEBUG if uid in self._users else logging.INFO
        if len(self._users) < _KNOWN_USERS:
            self._users.add(uid)
        logger.log(level, "event=local_client uid=%d gid=%d pid=%d", uid, gid, pid)


@dataclass(slots=True)
class _Way:
    """A door, and how it stands."""

    door: Door
    listener: socket.socket | None = None
    dialect: Dialect | None = None
    try_at_s: float = -math.inf
    problem: str = ""
    listening: bool = False
    second_s: float = -math.inf
    in_second: int = 0


class Server:
    """Serves until told to stop.

    Args:
        answers: what is told.
        doors: the ways in.
        clock_s: monotonic.
    """

    def __init__(self, answers: Answers, doors: Sequence[Door], clock_s: Callable[[], float] = time.monotonic) -> None:
        self._answers = answers
        self._feed = answers.feed
        self._clock_s = clock_s
        self._ways = tuple(_Way(door) for door in doors)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._feed, selectors.EVENT_READ)
        self._peers: dict[Peer, _Way] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="local", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, limit_s: float) -> None:
        """End the thread, and take the ways in away."""
        self._ended.set()
        self._feed.end()
        if self._thread.ident is not None:
            self._thread.join(limit_s)

    @property
    def clients(self) -> int:
        """How many there are."""
        return len(self._peers)

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                self._turn()
            except Exception:  # a defect here must not cost more than what is shown
                logger.exception("event=local_defect")
                for peer in list(self._peers):
                    self._drop(peer)
                self._ended.wait(AGAIN_S)
        for peer in list(self._peers):
            self._drop(peer)
        for way in self._ways:
            self._shut(way)

    def _turn(self) -> None:
        now_s = self._clock_s()
        for way in self._ways:
            if way.listener is None and now_s >= way.try_at_s:
                self._open(way, now_s)
            elif way.listener is not None and not way.listening and now_s >= way.second_s + 1:
                self._listen(way)
        for key, events in self._selector.select(self._patience_s(now_s)):
            now_s = self._clock_s()
            match key.fileobj:
                case Peer() as peer:
                    self._serve(peer, events, now_s)
                case socket.socket():
                    self._accept(key.data, now_s)
                case _:
                    self._feed.heard_bell()
                    for peer in self._peers:
                        peer.news = True
        if not self._ended.is_set():
            # Before they are filled: what comes after that rings, what came before it is seen.
            self._feed.followed = any(peer.follows for peer in self._peers)
        now_s = self._clock_s()
        for peer in list(self._peers):
            if peer.fill_at_s <= now_s:
                peer.fill(now_s)
            if not peer.open:
                self._drop(peer)
            elif peer.deadline_s <= now_s:
                logger.debug("event=local_client_slow door=%s", self._peers[peer].door.name)
                self._drop(peer)
            else:
                self._watch(peer)
        if not self._peers and not self._ended.is_set():
            self._feed.followed = False

    def _patience_s(self, now_s: float) -> float | None:
        """Return how long nothing is to be done but what comes by itself; None: for ever."""
        moments = [way.try_at_s for way in self._ways if way.listener is None]
        moments += [way.second_s + 1 for way in self._ways if way.listener is not None and not way.listening]
        for peer in self._peers:
            moments += (peer.deadline_s, peer.fill_at_s)
        soonest_s = min(moments, default=math.inf)
        return None if soonest_s == math.inf else max(soonest_s - now_s, 0.0)

    def _open(self, way: _Way, now_s: float) -> None:
        way.try_at_s = now_s + AGAIN_S
        try:
            way.listener, way.dialect = way.door.open()
        except (OSError, AgentError) as error:
            problem = f"{error}; {error.hint} [{error.code}]" if isinstance(error, AgentError) else str(error)
            if problem != way.problem:
                logger.warning("event=local_door_shut door=%s problem=%s", way.door.name, problem)
            way.problem = problem
            return
        way.problem = ""
        self._listen(way)
        logger.info("event=local_door_open door=%s", way.door.name)

    def _listen(self, way: _Way) -> None:
        assert way.listener is not None
        self._selector.register(way.listener, selectors.EVENT_READ, way)
        way.listening = True

    def _shut(self, way: _Way) -> None:
        if way.listener is None:
            return
        if way.listener.family == socket.AF_UNIX:
            with suppress(OSError):
                Path(way.door.name).unlink()
        if way.listening:
            self._selector.unregister(way.listener)
        way.listener.close()
        way.listener = None

    def _accept(self, way: _Way, now_s: float) -> None:
        assert way.listener is not None
        assert way.dialect is not None
        if now_s >= way.second_s + 1:
            way.second_s, way.in_second = now_s, 0
        way.in_second += 1
        if way.in_second > MOST_PER_S:
            self._selector.unregister(way.listener)
            way.listening = False
            return
        try:
            connection, address = way.listener.accept()
        except (BlockingIOError, ConnectionError):
            return
        except OSError as error:
            logger.warning("event=local_not_accepted door=%s problem=%s", way.door.name, error)
            self._ended.wait(PAUSE_S)
            return
        host = address[0] if isinstance(address, tuple) else ""
        peer = Peer(connection, way.dialect, self._answers, now_s, host)
        if not self._has_room(way, host):
            peer.turn_away(way.dialect.busy())
            peer.close()
            return
        with suppress(OSError):
            way.door.greet(connection)
        self._peers[peer] = way
        self._selector.register(peer, selectors.EVENT_READ)

    def _has_room(self, way: _Way, host: str) -> bool:
        """Make room for one more, if need be: who has asked nothing yet goes first, then who takes nothing; the oldest.

        So nobody keeps others out by holding his tongue: whoever asks at once has its answer before so many have come
        that it would be its turn to go. Who follows stays, and no host follows so often that there is no place left.
        """
        assert way.dialect is not None
        crowd = [peer for peer, other in self._peers.items() if other is way]
        same = [peer for peer in crowd if peer.host == host]
        if len(same) >= way.door.most_of_one:
            crowd = same
        elif len(crowd) < way.door.most_clients:
            return True
        asking = (peer for peer in crowd if not peer.asked)
        taking = (peer for peer in crowd if peer.asked and not peer.follows)
        oldest = next(chain(asking, taking), None)
        if oldest is None:
            return False
        if not oldest.asked:
            oldest.turn_away(way.dialect.busy())
        self._drop(oldest)
        return True

    def _serve(self, peer: Peer, events: int, now_s: float) -> None:
        if events & selectors.EVENT_READ:
            peer.read(now_s)
        if events & selectors.EVENT_WRITE and peer.open:
            peer.write(now_s)

    def _watch(self, peer: Peer) -> None:
        events = (selectors.EVENT_READ if peer.reads else 0) | (selectors.EVENT_WRITE if peer.has_out else 0)
        if self._selector.get_key(peer).events != events:
            self._selector.modify(peer, events)

    def _drop(self, peer: Peer) -> None:
        self._selector.unregister(peer)
        del self._peers[peer]
        peer.close()
