# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""One connection: what has come, what is to go, and until when; all of it bounded."""

from __future__ import annotations

import math
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from agent.local.answers import Answers
    from agent.local.dialect import Dialect, Follow

REQUEST_S: Final = 10.0
"""How long a client may take to ask."""
TAKE_S: Final = 20.0
"""How long it may take to take an answer."""
STALL_S: Final = 10.0
"""How long a follower may take nothing at all of what waits for it."""
SOFT_BYTES: Final = 32_768
"""While so much waits for a follower, it gets nothing new."""
CHUNK_BYTES: Final = 65_536
FILL_EVERY_S: Final = 0.1
"""A follower gets what came together together."""
AT_ONCE: Final = 64


class Peer:
    """A connection of the server.

    Args:
        connection: accepted; from here on it is non-blocking and belongs to the peer.
        dialect: how it speaks.
        answers: what is told.
        now_s: monotonic.
        host: from where it comes; empty for this machine's own socket.
    """

    def __init__(
        self, connection: socket.socket, dialect: Dialect, answers: Answers, now_s: float, host: str = ""
    ) -> None:
        connection.setblocking(False)
        self.host = host
        self._connection = connection
        self._dialect = dialect
        self._answers = answers
        self._request = b""
        self._out = bytearray()
        self._answered = False
        self._follow: Follow | None = None
        self._reception = 0
        self._report = 0
        self._filled_s = -math.inf
        self._life_ends_s = math.inf
        self.deadline_s = now_s + REQUEST_S
        """When it has taken too long; the server closes it then."""
        self.news = False
        """Whether there may be something that it does not know."""
        self.open = True

    def fileno(self) -> int:
        """Return its file descriptor."""
        return self._connection.fileno()

    @property
    def follows(self) -> bool:
        """Whether it wants news."""
        return self._follow is not None

    @property
    def asked(self) -> bool:
        """Whether its question has come, whole."""
        return self._answered

    @property
    def has_out(self) -> bool:
        """Whether it waits to be written to."""
        return bool(self._out)

    @property
    def fill_at_s(self) -> float:
        """When it should be filled; infinite while there is no reason to."""
        if not self.open or self._follow is None or not self.news or len(self._out) >= SOFT_BYTES:
            return math.inf
        return self._filled_s + FILL_EVERY_S

    def turn_away(self, word: bytes) -> None:
        """Say a last word, if it fits, and have the server close it."""
        self.open = False
        with suppress(OSError):
            self._connection.send(word)

    def close(self) -> None:
        """End the connection."""
        self.open = False
        self._connection.close()

    def read(self, now_s: float) -> None:
        """Take what has come.

        A follower that says anything more, and be it that it hangs up, is done with: reading on and on what nobody
        asked for would keep the processor from the radio.
        """
        try:
            data = self._connection.recv(CHUNK_BYTES if self._answered else self._left + 1)
        except BlockingIOError:
            return
        except OSError:
            self.open = False
            return
        if self._answered:
            self.open = False
            return
        if len(data) > self._left:
            data = data[: self._left]
        self._request += data
        answer = self._dialect.answer(self._request, ended=not data or not self._left)
        if answer is None:
            return
        self._answered = True
        self._request = b""
        self._out += answer.body
        self._follow = answer.follow
        self.deadline_s = now_s + TAKE_S
        if answer.follow is not None:
            self._reception = max(self._answers.feed.newest - answer.follow.history, 0)
            self._life_ends_s = now_s + answer.follow.lifetime_s
            self.news = True
        self.write(now_s)

    @property
    def reads(self) -> bool:
        """Whether what it says matters: who has asked may close its sending side, and still gets its answer."""
        return not self._answered or self.follows

    @property
    def _left(self) -> int:
        return self._dialect.longest_request - len(self._request)

    def write(self, now_s: float) -> None:
        """Send what it takes, without waiting."""
        while self._out and self.open:
            try:
                sent = self._connection.send(memoryview(self._out)[:CHUNK_BYTES])
            except BlockingIOError:
                break
            except OSError:
                self.open = False
                return
            del self._out[:sent]
            if self._follow is not None:
                self.deadline_s = now_s + STALL_S
        if self._out or not self._answered:
            return
        if self._follow is None:
            self.open = False
        else:
            self.deadline_s = self._life_ends_s

    def fill(self, now_s: float) -> None:
        """Add news to what is to go, as far as there is room."""
        follow, feed = self._follow, self._answers.feed
        if follow is None:
            return
        idle = not self._out
        self._filled_s = now_s
        self.news = False
        if follow.receptions:
            missed, seen = feed.since(self._reception, AT_ONCE)
            if missed:
                self._out += follow.frame("missed", self._answers.missed(missed))
            for one in seen:
                self._out += follow.frame("reception", self._answers.reception(one))
                self._reception = one.number
            self.news = len(seen) == AT_ONCE
        if follow.status and feed.reports != self._report:
            self._report = feed.reports
            self._out += follow.frame("status", self._answers.status())
        if self._out:
            if idle:
                self.deadline_s = now_s + STALL_S
            self.write(now_s)
