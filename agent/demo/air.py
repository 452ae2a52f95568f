# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The air of the demonstration: it plays traffic into the virtual concentrator and keeps the truth about each frame.

What it writes down comes from the emulator alone, never from the agent: it is one side of the audit.
"""

from __future__ import annotations

import json
import random
import socket
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.demo.traffic import AirFrame
from agent.errors import AgentError

ANSWER_LIMIT_S = 10.0
BURST = 32
"""Frames in one control request, at most."""
FIFO_SHARE_BYTES = 1536
"""Without a given rate, the air waits while the chip holds more unread bytes than this: a full ring would overwrite
what a killed agent had fetched, but not yet kept."""
RECORD_BYTES = 23
"""What a record in the FIFO has beside the payload."""
DEAF_PAUSE_S = 0.02
FULL_PAUSE_S = 0.001


class Control:
    """A client of the emulator's control socket: one JSON line there, one back."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(ANSWER_LIMIT_S)
        self._socket.connect(str(path))
        self._lines = self._socket.makefile("rb")

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Send one request and return its answer.

        Raises:
            AgentError: the emulator is gone, or says no.
        """
        try:
            self._socket.sendall(json.dumps(request).encode() + b"\n")
            line = self._lines.readline()
        except OSError as error:
            raise self._failed(str(error)) from error
        answer: dict[str, Any] = json.loads(line) if line else {"ok": False, "error": "it closed the connection"}
        if not answer.get("ok"):
            raise self._failed(str(answer.get("error", answer)))
        return answer

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def _failed(self, what: str) -> AgentError:
        return AgentError(
            what,
            where=f"virtual concentrator at {self._path}",
            hint="look at emulator.log of the demonstration (--keep keeps it)",
            code="CG-DEMO-001",
        )


@dataclass(frozen=True, slots=True)
class Transmission:
    """One frame on the air, and what became of it in the chip.

    Attributes:
        frame: what was sent.
        outcome: "fifo" if the radio received it; else why not, as the emulator says.
        counter_us: end of packet by the chip's counter, microseconds; meaningful for "fifo".
    """

    frame: AirFrame
    outcome: str
    counter_us: int


class Air(threading.Thread):
    """Play traffic until a number of frames is sent.

    With a rate, frames come at random (Poisson) and what the radio cannot hear is not repeated, as in life. Without
    (0), frames come as fast as the concentrator's FIFO is read, and each is repeated until it was received.

    Args:
        control: the emulator's control socket.
        traffic: what to play.
        frames: how many to send (rate) or to bring to the radio (no rate).
        rate_hz: frames per second, 0 for as fast as the path takes.
        seed: of the arrival times.
    """

    def __init__(self, control: Path, traffic: Iterator[AirFrame], frames: int, rate_hz: float, seed: int) -> None:
        super().__init__(name="air", daemon=True)
        self._control = Control(control)
        self._traffic = traffic
        self._wanted = frames
        self._hold_at = frames
        self._rate_hz = rate_hz
        self._chance = random.Random(seed)  # noqa: S311 - repeatable arrival times, nothing secret
        self._sent: list[AirFrame] = []
        self._stopping = threading.Event()
        self.received = 0
        """Frames that the radio received so far."""
        self.failure: AgentError | None = None
        """What ended the thread early."""

    @property
    def progress(self) -> int:
        """Frames done, of those asked for."""
        return len(self._sent) if self._rate_hz else self.received

    def hold_at(self, frames: int) -> None:
        """Let the unpaced air wait at this progress until told otherwise."""
        self._hold_at = frames

    def at_rate(self, rate_hz: float) -> None:
        """Go on at another rate, above 0; only an air that has one."""
        self._rate_hz = rate_hz

    def stop(self) -> None:
        """End after the present frame."""
        self._stopping.set()

    def log(self) -> list[Transmission]:
        """Return every transmission and its outcome, oldest first; call it after the thread has ended."""
        log: list[Transmission] = []
        while len(log) < len(self._sent):
            rows = self._control.ask({"cmd": "rxlog", "since": len(log)})["rx"]
            log += [
                Transmission(frame, row["outcome"], row["counter_us"] or 0)
                for frame, row in zip(self._sent[len(log) :], rows, strict=False)
            ]
        return log

    def run(self) -> None:
        """Play (called by `start`)."""
        try:
            if self._rate_hz:
                self._play_at_rate()
            else:
                self._play_freely()
        except AgentError as error:
            self.failure = error

    def _play_at_rate(self) -> None:
        due = time.monotonic()
        while self.progress < self._wanted and not self._stopping.is_set():
            due += self._chance.expovariate(self._rate_hz)
            self._stopping.wait(max(0.0, due - time.monotonic()))
            self._send([next(self._traffic)])

    def _play_freely(self) -> None:
        again: deque[AirFrame] = deque()
        while self.progress < self._wanted and not self._stopping.is_set():
            stats = self._control.ask({"cmd": "stats"})
            if not stats["running"]:
                self._stopping.wait(DEAF_PAUSE_S)
                continue
            room = FIFO_SHARE_BYTES - stats["pending_bytes"]
            burst: list[AirFrame] = []
            for _ in range(min(BURST, self._hold_at - self.received)):
                frame = again.popleft() if again else next(self._traffic)
                room -= len(frame.payload) + RECORD_BYTES
                if room < 0:
                    again.appendleft(frame)
                    break
                burst.append(frame)
            unheard = self._send(burst) if burst else []
            again.extendleft(reversed(unheard))
            if unheard or not burst:
                self._stopping.wait(DEAF_PAUSE_S if unheard else FULL_PAUSE_S)

    def _send(self, frames: list[AirFrame]) -> list[AirFrame]:
        """Put frames on the air whose decoding completes at once, and return those that the radio did not receive."""
        answer = self._control.ask({"cmd": "inject_many", "packets": [packet(frame) for frame in frames]})
        self._sent += frames
        unheard = [frame for frame, outcome in zip(frames, answer["outcomes"], strict=True) if outcome != "fifo"]
        self.received += len(frames) - len(unheard)
        return unheard


def packet(frame: AirFrame) -> dict[str, Any]:
    """Return a transmission as the control socket takes it."""
    return {
        "freq_hz": frame.frequency_hz,
        "sf": frame.spreading_factor,
        "bw_hz": 125_000,
        "cr": frame.coding_rate,
        "payload": frame.payload.hex(),
        "rssi_dbm": frame.rssi_dbm,
        "snr_db": frame.snr_db,
        "crc": "ok" if frame.crc_ok else "bad",
    }
