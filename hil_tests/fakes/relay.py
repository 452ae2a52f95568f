# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""A relay board on a serial port, of the kind that takes four bytes and answers nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from hil_tests.fakes.device import FakeDevice


class FakeRelay(FakeDevice):
    """The board.

    Args:
        link: of its port.
        switched: told channel and state of its relay at each order that is whole.
    """

    def __init__(self, link: Path, switched: Callable[[int, bool], None] = lambda channel, energised: None) -> None:
        super().__init__(link)
        self._switched = switched
        self._rest = b""
        self.orders: list[tuple[int, bool]] = []
        """Channel and state, oldest first."""

    def came(self, data: bytes) -> None:
        """Look for orders; what does not add up is passed over."""
        self._rest += data
        while len(self._rest) >= 4:
            start, channel, state, total = self._rest[:4]
            if start == 0xA0 and state in {0, 1} and total == (start + channel + state) & 0xFF:
                self.orders.append((channel, state == 1))
                self._switched(channel, state == 1)
                self._rest = self._rest[4:]
            else:
                self._rest = self._rest[1:]
