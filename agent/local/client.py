# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The other end of the agent's socket: ask for one thing, or follow what happens."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from agent import strictjson
from agent.errors import AgentError, ForbiddenError
from agent.local import SOCKET_NAME

PATIENCE_S: Final = 5.0
MAX_LINE: Final = 4 << 20
_CHUNK: Final = 65_536


class NobodyThereError(AgentError):
    """No agent answers on the socket."""


class Connection:
    """A connection to a running agent. Close it.

    Args:
        folder: runtime_dir of the agent.

    Raises:
        NobodyThereError: CG-LOC-001, nobody listens there.
        AgentError: CG-LOC-002, this user may not; -003, it runs, but lets nobody in.
    """

    def __init__(self, folder: Path) -> None:
        self._where = str(folder / SOCKET_NAME)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(PATIENCE_S)
        self._rest = b""
        try:
            at = os.open(folder, os.O_PATH | os.O_DIRECTORY)
            try:
                self._socket.connect(f"/proc/self/fd/{at}/{SOCKET_NAME}")
            finally:
                os.close(at)
        except PermissionError as error:
            self._socket.close()
            raise ForbiddenError(self._where, "CG-LOC-002") from error
        except (BlockingIOError, TimeoutError) as error:
            self._socket.close()
            raise self._failed("it lets nobody in: so many wait already") from error
        except OSError as error:
            self._socket.close()
            raise NobodyThereError(
                f"nobody answers: {error.strerror or error}",
                where=self._where,
                hint="start the agent: sudo systemctl start civigate",
                code="CG-LOC-001",
                retryable=True,
            ) from error

    def fileno(self) -> int:
        """Return the file descriptor, to wait for."""
        return self._socket.fileno()

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def be_patient(self) -> None:
        """Wait for news as long as it takes: a quiet place says nothing for hours."""
        self._socket.settimeout(None)

    def ask(self, request: Mapping[str, object]) -> Any:
        """Send a request and return the first thing that comes back.

        Raises:
            AgentError: CG-LOC-003, there was no answer, or one that says no.
        """
        self.send(request)
        while True:
            for said in self.news():
                return said

    def send(self, request: Mapping[str, object]) -> None:
        """Send a request.

        Raises:
            AgentError: CG-LOC-003, the agent takes nothing.
        """
        try:
            self._socket.sendall(json.dumps(request).encode() + b"\n")
        except ConnectionError:
            pass  # why it hung up is in what it said before: `news` reads that
        except OSError as error:
            raise self._failed(_why(error)) from error

    def news(self) -> Iterator[Any]:
        """Wait for some bytes, and yield the lines that they complete.

        Raises:
            AgentError: CG-LOC-003, the agent says no or nothing, hung up, or says what cannot be understood.
        """
        try:
            data = self._socket.recv(_CHUNK)
        except ConnectionError:
            data = b""
        except OSError as error:
            raise self._failed(_why(error)) from error
        if not data:
            raise self._failed("the agent hung up")
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > MAX_LINE:
            raise self._failed("an answer without end")
        for line in lines:
            try:
                said = strictjson.loads(line)
            except ValueError as error:
                raise self._failed("not JSON") from error
            if isinstance(said, dict) and "error" in said:
                raise self._failed(str(said["error"]))
            yield said

    def _failed(self, what: str) -> AgentError:
        return AgentError(
            what, where=self._where, hint="ask again; see journalctl -u civigate", code="CG-LOC-003", retryable=True
        )


def _why(error: OSError) -> str:
    if isinstance(error, TimeoutError):
        return f"it says nothing for {PATIENCE_S:.0f} s"
    return error.strerror or str(error)


@contextmanager
def connected(folder: Path) -> Iterator[Connection]:
    """Connect, and hang up at the end.

    Raises:
        AgentError: as `Connection`.
    """
    connection = Connection(folder)
    try:
        yield connection
    finally:
        connection.close()
