# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Challenges: numbers that a request must repeat, signed, to prove that it was made just now."""

from __future__ import annotations

import hmac
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from agent.enrolment.message import NONCE_BYTES

LIFETIME_S = 300.0
MAX_REDEEMED = 100_000
_MOMENT_BYTES = 8
_RANDOM_BYTES = 8
_MAC_BYTES = NONCE_BYTES - _MOMENT_BYTES - _RANDOM_BYTES


class Challenges:
    """Makes challenges and takes each back once. Safe to use from several threads.

    Nothing is kept of a challenge that was only asked for: it carries the moment and a code that only this process can
    make, so that whoever asks for millions occupies nothing. What was used is remembered until it expires.

    Args:
        monotonic_s: clock.
    """

    def __init__(self, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self._secret = secrets.token_bytes(32)
        self._monotonic_s = monotonic_s
        self._redeemed: OrderedDict[bytes, float] = OrderedDict()
        self._lock = threading.Lock()

    def make(self) -> bytes:
        """Return a new challenge."""
        moment_ms = round(self._monotonic_s() * 1000)
        stem = moment_ms.to_bytes(_MOMENT_BYTES, "big") + secrets.token_bytes(_RANDOM_BYTES)
        return stem + self._mac(stem)

    def redeem(self, nonce: bytes) -> bool:
        """Tell whether this is a challenge of ours, recent, and not used before; from now on it is used."""
        stem, mac = nonce[:-_MAC_BYTES], nonce[-_MAC_BYTES:]
        if not hmac.compare_digest(mac, self._mac(stem)):
            return False
        now_s = self._monotonic_s()
        made_s = int.from_bytes(stem[:_MOMENT_BYTES], "big") / 1000
        if now_s - made_s > LIFETIME_S:
            return False
        with self._lock:
            while self._redeemed and next(iter(self._redeemed.values())) < now_s - LIFETIME_S:
                self._redeemed.popitem(last=False)
            if nonce in self._redeemed or len(self._redeemed) >= MAX_REDEEMED:
                return False
            self._redeemed[nonce] = now_s
            return True

    def _mac(self, stem: bytes) -> bytes:
        return hmac.digest(self._secret, stem, "sha256")[:_MAC_BYTES]
