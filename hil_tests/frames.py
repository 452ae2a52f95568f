# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The frames that a reference node sends: LoRaWAN uplinks that a gateway's filter takes, each one unlike all others."""

from __future__ import annotations

import itertools
import secrets
from typing import Final

UNCONFIRMED_UP: Final = 0x40
"""MHDR [LoRaWAN L2 1.0.4 §4.2]."""
PORT: Final = 7
_RUN: Final = secrets.token_bytes(4)
_NUMBERS: Final = itertools.count(1)


def uplink(dev_addr: int, length: int = 24) -> bytes:
    """Return the next frame of a device: 20 to 255 bytes, with a MIC that no key made."""
    number = next(_NUMBERS)
    head = (
        bytes([UNCONFIRMED_UP]) + dev_addr.to_bytes(4, "little") + bytes([0]) + (number & 0xFFFF).to_bytes(2, "little")
    )
    body = _RUN + number.to_bytes(4, "big")
    filling = bytes(number * 31 + index & 0xFF for index in range(length - len(head) - 1 - len(body)))
    return head + bytes([PORT]) + body + filling
