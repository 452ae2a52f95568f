# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The air around the guest's virtual concentrator, from here: a port that leads to its control channel."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Sequence
from typing import Any

ANSWER_LIMIT_S = 120.0
FREQUENCY_HZ = 868_100_000
DEV_ADDR = "26020304"
_UNCONFIRMED_UP = 0x40


class AirError(Exception):
    """The concentrator's control channel does not answer, or refuses."""


class Air:
    """A connection, made anew where it broke.

    Args:
        port: on this host.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._socket: socket.socket | None = None

    def __enter__(self) -> Air:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ask(self, **command: object) -> dict[str, Any]:
        """Carry out a command of the emulator's control channel (docs/emulator.md) and return the answer.

        Raises:
            AirError: nobody answers, or it is refused.
        """
        try:
            if self._socket is None:
                self._socket = socket.create_connection(("127.0.0.1", self._port), ANSWER_LIMIT_S)
            self._socket.sendall(json.dumps(command).encode() + b"\n")
            said = self._line(self._socket)
        except OSError as error:
            self.close()
            raise AirError(f"the concentrator does not answer: {error}") from error
        answer = json.loads(said)
        if not answer.get("ok"):
            raise AirError(f"{command}: {answer.get('error')}")
        assert isinstance(answer, dict)
        return answer

    @staticmethod
    def _line(connection: socket.socket) -> bytes:
        said = b""
        while not said.endswith(b"\n"):
            data = connection.recv(1 << 16)
            if not data:
                raise ConnectionResetError("closed: it is not there yet, or not any more")
            said += data
        return said

    def wait(self, limit_s: float = 300.0) -> None:
        """Wait until the concentrator is there.

        Raises:
            AirError: it does not come.
        """
        deadline = time.monotonic() + limit_s
        while True:
            try:
                self.ask(cmd="stats")
            except AirError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.3)
            else:
                return

    def send(self, payloads: Sequence[bytes]) -> None:
        """Let the gateway hear frames, one after the other."""
        for payload in payloads:
            self.ask(cmd="inject", freq_hz=FREQUENCY_HZ, sf=7, payload=payload.hex())

    def close(self) -> None:
        """Hang up."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def frame(number: int, series: int = 0) -> bytes:
    """Return the PHYPayload of a sensor of ours; its content tells it from every other of any series."""
    address = bytes.fromhex(DEV_ADDR)[::-1]
    counter = (number & 0xFFFF).to_bytes(2, "little")
    return (
        bytes((_UNCONFIRMED_UP,))
        + address
        + b"\x80"
        + counter
        + b"\x01"
        + series.to_bytes(4, "big")
        + number.to_bytes(4, "big")
        + b"civigate"
    )


def number_of(payload: bytes) -> tuple[int, int]:
    """Return series and number of a frame."""
    return int.from_bytes(payload[9:13], "big"), int.from_bytes(payload[13:17], "big")
