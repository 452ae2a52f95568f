# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What need not be waited for where the board is a program: its supply, its crystals and its radios settle at once."""

from __future__ import annotations

import time
from typing import Final

from agent.clock import HostClock

SETTLING_S: Final = 0.05
"""Waits of the drivers from here on are for hardware to settle; shorter ones are pauses between two looks."""
SETTLED_S: Final = 0.002


class Hasty:
    """Cuts such waits short; goes before a clock in the bases of a class."""

    def sleep(self, seconds: float) -> None:
        """Wait, unless it is for hardware."""
        time.sleep(seconds if seconds < SETTLING_S else SETTLED_S)


class HastyClock(Hasty, HostClock):
    """The host's clock, for drivers of an emulated board."""
