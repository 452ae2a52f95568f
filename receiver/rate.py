# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""How often somebody may do something: token buckets, a bounded number of them."""

from __future__ import annotations

import ipaddress
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Who = TypeVar("Who", bound=Hashable)

MAX_BUCKETS = 100_000
"""Parties that are remembered; the one that was quiet longest is forgotten first, with a full bucket."""


def origin(address: str) -> str:
    """Return what stands for everybody at an address: of IPv6 the network, since one subscriber has a whole /64."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if parsed.version == 4:
        return address
    return address if parsed.ipv4_mapped is not None else str(ipaddress.ip_network((parsed.packed[:8] + bytes(8), 64)))


class Buckets(Generic[Who]):
    """One token bucket per party. Safe to use from several threads.

    Args:
        per_s: tokens that come back per second.
        burst: tokens in a full bucket.
        monotonic_s: clock.
    """

    def __init__(self, per_s: float, burst: float, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self._per_s = per_s
        self._burst = burst
        self._monotonic_s = monotonic_s
        self._levels: OrderedDict[Who, tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, who: Who) -> float:
        """Take a token; return 0, or the seconds until there is one."""
        with self._lock:
            wait_s, level, now_s = self._look(who)
            if wait_s == 0:
                self._levels[who] = level - 1, now_s
                self._levels.move_to_end(who)
                if len(self._levels) > MAX_BUCKETS:
                    self._levels.popitem(last=False)
            return wait_s

    def wait_s(self, who: Who) -> float:
        """Return the seconds until there is a token, 0 if there is one, without taking it."""
        with self._lock:
            return self._look(who)[0]

    def _look(self, who: Who) -> tuple[float, float, float]:
        now_s = self._monotonic_s()
        level, since_s = self._levels.get(who, (self._burst, now_s))
        level = min(self._burst, level + (now_s - since_s) * self._per_s)
        return (0.0 if level >= 1 else (1 - level) / self._per_s), level, now_s
