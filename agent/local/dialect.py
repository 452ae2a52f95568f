# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What a client may ask, and how it is told: one request on a connection, then an answer, or news until it hangs up."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from agent.local.answers import Answers

HISTORY: Final = 100
"""Receptions from before that a follower gets at first, unless it asks for another number."""


@dataclass(frozen=True, slots=True)
class Follow:
    """News that a client wants.

    Attributes:
        frame: makes a message of its kind ("reception", "status", "missed") and its JSON.
        receptions: whether it wants them.
        status: whether it wants the report, each time that it is renewed.
        history: receptions from before.
        lifetime_s: after which it has to ask anew.
    """

    frame: Callable[[str, bytes], bytes]
    receptions: bool
    status: bool
    history: int = HISTORY
    lifetime_s: float = float("inf")


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back: some bytes; then the end of the connection, or news."""

    body: bytes
    follow: Follow | None = None


class Dialect(Protocol):
    """How one kind of client speaks. Its answers depend on what was asked and nothing else."""

    @property
    def longest_request(self) -> int:
        """Bytes."""
        ...

    def answer(self, request: bytes, *, ended: bool) -> Answer | None:
        """Return the answer; None while the request is not complete.

        Args:
            request: all that has come so far, at most `longest_request`.
            ended: nothing more will come.
        """
        ...

    def busy(self) -> bytes:
        """Return what a client is told that is one too many."""
        ...


class Lines:
    """The dialect of the socket: a JSON object in a line there, JSON objects in lines back.

    `{"get": "status"}`, `{"get": "doctor"}`, or `{"follow": ["receptions", "status"], "history": 20}`.

    Args:
        answers: what is told.
    """

    longest_request = 1024

    def __init__(self, answers: Answers) -> None:
        self._answers = answers

    def answer(self, request: bytes, *, ended: bool) -> Answer | None:
        """Return the answer to a line."""
        line, newline, _ = request.partition(b"\n")
        if not newline and not ended and len(request) < self.longest_request:
            return None
        try:
            asked = json.loads(line.decode("utf-8"))
        except (ValueError, RecursionError):
            return _error("not a line of JSON")
        if not isinstance(asked, dict):
            return _error("not a JSON object")
        match asked:
            case {"get": "status"}:
                return Answer(self._answers.status() + b"\n")
            case {"get": "doctor"}:
                return Answer(self._answers.doctor() + b"\n")
            case {"follow": list(wanted)}:
                return _follow(wanted, asked.get("history", HISTORY))
        return _error('ask {"get": "status"}, {"get": "doctor"} or {"follow": ["receptions", "status"]}')

    def busy(self) -> bytes:
        """Return what one too many is told."""
        return _error("too many clients; close another one").body


def _follow(wanted: list[Any], history: object) -> Answer:
    known = {"receptions", "status"}
    if not wanted or not all(isinstance(item, str) and item in known for item in wanted):
        return _error('follow takes "receptions" and "status"')
    if not isinstance(history, int) or isinstance(history, bool) or history < 0:
        return _error("history is a number from 0")
    return Answer(b"", Follow(_line, "receptions" in wanted, "status" in wanted, history))


def _line(kind: str, said: bytes) -> bytes:
    return b'{"' + kind.encode() + b'":' + said + b"}\n"


def _error(what: str) -> Answer:
    return Answer(json.dumps({"error": what}).encode() + b"\n")
