# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Looking at a running gateway: what it costs the agent in memory, processor and wake-ups, and how long answers take.

The agent runs on an emulated concentrator and has a platform that is not there; what it costs without a page is
measured in the same run. Resident memory has shared libraries in it, and is that of this machine.
"""

from __future__ import annotations

import os
import socket
import tempfile
import time
from pathlib import Path

from agent.demo.stage import free_port
from agent.local.client import connected
from agent.local.desk import Desk
from drivers.sx1302.packet import CrcStatus, Modulation, RxPacket
from tests.agent.local.gateway import OWN, Gateway, until, uplink
from tests.bench import Row

WATCH_S = 10.0
REPEATS = 15
"""Twice that is less than what the page takes in a second."""
PACKETS = 20_000


class _Usage:
    """What a process has used since it was looked at first."""

    def __init__(self, pid: int) -> None:
        self._process = Path(f"/proc/{pid}")
        self._began_s, self._cpu_s, self._switches = self._look()

    def per_second(self) -> tuple[float, float]:
        """Return the share of a processor in percent, and how often a thread has waited, per second."""
        now_s, cpu_s, switches = self._look()
        passed_s = now_s - self._began_s
        return 100 * (cpu_s - self._cpu_s) / passed_s, (switches - self._switches) / passed_s

    def resident_mb(self) -> float:
        """Return what of its memory is in RAM."""
        pages = int((self._process / "statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    def _look(self) -> tuple[float, float, int]:
        fields = (self._process / "stat").read_text().rsplit(")", 1)[1].split()
        ticks = int(fields[11]) + int(fields[12])
        told = [(task / "status").read_text().splitlines() for task in (self._process / "task").iterdir()]
        waits = sum(int(line.split()[1]) for lines in told for line in lines if line.startswith("voluntary_"))
        return time.monotonic(), ticks / os.sysconf("SC_CLK_TCK"), waits


def rows() -> list[Row]:
    """Measure an agent without a page, with one, and with somebody who looks at it."""
    without_mb, without_cpu, without_waits = _agent(page=False)[0]
    (with_mb, with_cpu, with_waits), (seen_mb, seen_cpu, seen_waits), answers = _agent(page=True)
    none = "without the page"
    return [
        Row("local", "memory without the page", without_mb, "MB"),
        Row("local", "memory with the page, nobody looks", with_mb, "MB", none, without_mb),
        Row("local", "memory with the page open and metrics scraped", seen_mb, "MB", none, without_mb),
        Row("local", "processor with the page, nobody looks", with_cpu, "%", none, without_cpu),
        Row("local", "processor with the page open", seen_cpu, "%", none, without_cpu),
        Row("local", "wake-ups with the page, nobody looks", with_waits, "1/s", none, without_waits),
        Row("local", "wake-ups with the page open", seen_waits, "1/s", none, without_waits),
        *answers,
        _shown(),
    ]


_Figures = tuple[float, float, float]


def _agent(*, page: bool) -> tuple[_Figures, _Figures, list[Row]]:
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="cg-") as folder:
        more = f'[web]\nlisten = "127.0.0.1:{port}"' if page else ""
        with Gateway(Path(folder), more) as gateway:
            gateway.hear(OWN)
            time.sleep(3)  # what is done once at the start is over
            idle = _watch(gateway.pid)
            if not page:
                return idle, idle, []
            answers = [
                Row("local", "GET /v1/status", _get(port, "/v1/status"), "ms"),
                Row("local", "GET /metrics", _get(port, "/metrics"), "ms"),
                Row("local", "the status on the socket", _ask(gateway.run), "ms"),
            ]
            with socket.create_connection(("127.0.0.1", port)) as stream:
                stream.sendall(b"GET /v1/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
                until(lambda: b"event: status" in stream.recv(65_536), "the stream")
                return idle, _watch(gateway.pid), answers


def _watch(pid: int) -> _Figures:
    usage = _Usage(pid)
    time.sleep(WATCH_S)
    return usage.resident_mb(), *usage.per_second()


def _get(port: int, path: str) -> float:
    began_s = time.perf_counter()
    for _ in range(REPEATS):
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            while client.recv(65_536):
                pass
    return 1000 * (time.perf_counter() - began_s) / REPEATS


def _ask(folder: Path) -> float:
    began_s = time.perf_counter()
    for _ in range(REPEATS):
        with connected(folder) as agent:
            agent.ask({"get": "status"})
    return 1000 * (time.perf_counter() - began_s) / REPEATS


def _shown() -> Row:
    """Measure what it costs the radio's thread to show a frame of somebody else, the most frequent kind."""
    desk = Desk(lambda: 0)
    packet = RxPacket(
        uplink(OWN), 868_100_000, Modulation.LORA, 125_000, 9, 1, CrcStatus.OK, -97.3, -98.0, 6.25, 0, 2, 0, 3, 1
    )
    began_s = time.perf_counter()
    for _ in range(PACKETS):
        desk.take((packet,), (), 0)
    took_s = time.perf_counter() - began_s
    desk.feed.close()
    return Row("local", "to show a frame, of the radio's thread", 1e6 * took_s / PACKETS, "µs")
