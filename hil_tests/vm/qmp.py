# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""QEMU's control channel: JSON lines on a Unix socket [QEMU Machine Protocol Specification]."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path
from typing import Any


class QmpError(Exception):
    """QEMU refused a command, or is gone."""


class Qmp:
    """A connection.

    Args:
        path: of the socket.
        limit_s: how long an answer may take.

    Raises:
        QmpError: nobody answers.
    """

    def __init__(self, path: Path, limit_s: float = 60.0) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(limit_s)
        self._limit_s = limit_s
        self._events: list[str] = []
        self._socket.connect(str(path))
        self._lines = self._socket.makefile("rb")
        self._read()
        self.call("qmp_capabilities")

    def call(self, command: str, **arguments: object) -> Any:
        """Carry out a command and return what it returns.

        Raises:
            QmpError: it was refused, or QEMU is gone.
        """
        request = {
            "execute": command,
            "arguments": {name.replace("_", "-"): value for name, value in arguments.items()},
        }
        try:
            self._socket.sendall(json.dumps(request).encode() + b"\n")
            while True:
                answer = self._read()
                self._note(answer)
                if "error" in answer:
                    raise QmpError(f"{command}: {answer['error']['desc']}")
                if "return" in answer:
                    return answer["return"]
        except OSError as error:
            raise QmpError(f"{command}: QEMU does not answer: {error}") from error

    def wait_for_event(self, name: str, limit_s: float) -> bool:
        """Wait for an event; False when it does not come in time."""
        deadline = time.monotonic() + limit_s
        while name not in self._events:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                return False
            self._socket.settimeout(left_s)
            try:
                said = self._read()
            except TimeoutError:
                return False
            finally:
                self._socket.settimeout(self._limit_s)
            self._note(said)
        self._events.remove(name)
        return True

    def _note(self, said: dict[str, Any]) -> None:
        if "event" in said:
            self._events.append(str(said["event"]))

    def close(self) -> None:
        """Close the connection; the machine goes on."""
        self._lines.close()
        self._socket.close()

    def _read(self) -> dict[str, Any]:
        line = self._lines.readline()
        if not line:
            raise QmpError("QEMU has closed the connection")
        said = json.loads(line)
        assert isinstance(said, dict)
        return said
