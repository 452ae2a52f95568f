# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""A backhaul that misbehaves: two network namespaces joined by a wire through this process, packet by packet.

The near end is the namespace of the process, the far end one of its own, in which a gateway runs. Each has a TUN
device; what one sends is read here and given to the other, or not: silence, loss, latency, and packets beyond some
size that vanish, as on a path whose routers do not tell their MTU. Needs the rights over the own network namespace, as
`unshare --net` gives them (`inside`).
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import heapq
import os
import random
import selectors
import shutil
import socket
import struct
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self, TypeVar

NEAR, FAR = "10.77.0.1", "10.77.0.2"
NETMASK: Final = "255.255.255.252"
MTU: Final = 1500

_CLONE_NEWNET: Final = 0x4000_0000
_TUNSETIFF: Final = 0x4004_54CA
_IFF_TUN_NO_PI: Final = 0x1001
_SIOCSIFFLAGS, _SIOCSIFADDR, _SIOCSIFNETMASK = 0x8914, 0x8916, 0x891C
_UP_AND_RUNNING: Final = 0x41
_MOST_IN_FLIGHT: Final = 10_000
"""Packets that latency holds at a time; what comes beyond is dropped, as routers do."""

T = TypeVar("T")


def inside(*command: str) -> list[str] | None:
    """Return the command that runs `command` in namespaces of its own (network, mounts), None where it is forbidden."""
    unshare = shutil.which("unshare")
    if unshare is None or not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        return None
    return [unshare, *([] if os.geteuid() == 0 else ["--map-root-user"]), "--net", "--mount", "--", *command]


@dataclass(frozen=True, slots=True)
class Weather:
    """How the wire treats packets, both ways.

    Attributes:
        silent: nothing gets through, and nobody is told.
        loss: share of packets that vanish, 0 to 1.
        delay_s: how long each one takes.
        hole_bytes: packets of more vanish; 0 for none.
    """

    silent: bool = False
    loss: float = 0.0
    delay_s: float = 0.0
    hole_bytes: int = 0


class Link:
    """The wire. `far` runs something at the far end: what it starts lives in that namespace.

    Args:
        seed: of the loss.
    """

    def __init__(self, seed: int = 1) -> None:
        self.weather = Weather()
        self.passed = self.dropped = 0
        self._chance = random.Random(seed)
        self._far = ThreadPoolExecutor(1, thread_name_prefix="far end")
        self._ends: tuple[int, int] = (-1, -1)
        self._stop_read, self._stop_write = os.pipe()
        self._pump = threading.Thread(target=self._run, name="wire", daemon=True)

    def __enter__(self) -> Self:
        near = _attach(NEAR)
        self._far.submit(_leave_namespace).result()
        self._ends = (near, self.far(lambda: _attach(FAR)))
        self._pump.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.write(self._stop_write, b"\0")
        self._pump.join()
        self._far.shutdown()
        for fd in (*self._ends, self._stop_read, self._stop_write):
            os.close(fd)

    def far(self, run: Callable[[], T]) -> T:
        """Run something in the far namespace and return what it returns."""
        return self._far.submit(run).result()

    def _run(self) -> None:
        waiting: list[tuple[float, int, int, bytes]] = []
        number = 0
        other = {self._ends[0]: self._ends[1], self._ends[1]: self._ends[0]}
        with selectors.DefaultSelector() as selector:
            for fd in (*self._ends, self._stop_read):
                selector.register(fd, selectors.EVENT_READ)
            while True:
                left_s = max(0.0, waiting[0][0] - time.monotonic()) if waiting else None
                for key, _ in selector.select(left_s):
                    if key.fd == self._stop_read:
                        return
                    packet = os.read(key.fd, 65536)
                    weather = self.weather
                    if self._swallows(weather, packet) or len(waiting) >= _MOST_IN_FLIGHT:
                        self.dropped += 1
                        continue
                    number += 1
                    heapq.heappush(waiting, (time.monotonic() + weather.delay_s, number, other[key.fd], packet))
                while waiting and waiting[0][0] <= time.monotonic():
                    _, _, end, packet = heapq.heappop(waiting)
                    with contextlib.suppress(OSError):
                        os.write(end, packet)
                        self.passed += 1

    def _swallows(self, weather: Weather, packet: bytes) -> bool:
        return (
            weather.silent
            or bool(weather.hole_bytes and len(packet) > weather.hole_bytes)
            or self._chance.random() < weather.loss
        )


def _leave_namespace() -> None:
    """Give the calling thread a network namespace of its own."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "unshare(CLONE_NEWNET)")


def _attach(address: str) -> int:
    """Make a TUN device in the namespace of the calling thread, with loopback beside it; return its file."""
    tun = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    fcntl.ioctl(tun, _TUNSETIFF, struct.pack("16sH22x", b"wire0", _IFF_TUN_NO_PI))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        for request, value in ((_SIOCSIFADDR, address), (_SIOCSIFNETMASK, NETMASK)):
            fcntl.ioctl(
                control, request, struct.pack("16sHH4s8x", b"wire0", socket.AF_INET, 0, socket.inet_aton(value))
            )
        for name in (b"wire0", b"lo"):
            fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sH22x", name, _UP_AND_RUNNING))
    return tun
