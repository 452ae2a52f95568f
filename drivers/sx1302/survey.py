# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The noise on the channels of a plan, measured one after the other by the SX1261 while reception goes on."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from drivers.errors import DriverError
from drivers.sx1302.rx import FSK_IF_CHAIN, SERVICE_IF_CHAIN

if TYPE_CHECKING:
    from drivers.bus import Clock
    from drivers.plans import ChannelPlan
    from drivers.sx1261 import Sx1261
    from drivers.sx1302.statistics import Statistics

logger = logging.getLogger(__name__)

INTERVAL_NS: Final = 30_000_000_000
"""Between two channels: each is measured every few minutes."""

SAMPLES: Final = 1000
"""Takes 8 ms, and with the commands around it about 20: less than the FIFO can wait."""

NOISE_PERCENT: Final = 50
"""The median: bursts of traffic hardly move it."""


def channels(plan: ChannelPlan) -> dict[int, int]:
    """Return the centre frequencies of a plan by IF chain."""
    found = {index: channel.frequency_hz for index, channel in enumerate(plan.multi_sf)}
    if plan.service:
        found[SERVICE_IF_CHAIN] = plan.service.frequency_hz
    if plan.fsk:
        found[FSK_IF_CHAIN] = plan.fsk.frequency_hz
    return found


class Survey:
    """Measures one channel after the other.

    Args:
        plan: whose channels.
        clock: host time.
        statistics: take the result.
    """

    def __init__(self, plan: ChannelPlan, clock: Clock, statistics: Statistics) -> None:
        self._channels = list(channels(plan).items())
        self._clock = clock
        self._statistics = statistics
        self._turn = 0
        self._next_ns = clock.monotonic_ns() + INTERVAL_NS

    def go_on(self, sx1261: Sx1261) -> None:
        """Measure the next channel, when it is time to. A scan that fails is left out: reception matters more."""
        if self._clock.monotonic_ns() < self._next_ns:
            return
        self._next_ns = self._clock.monotonic_ns() + INTERVAL_NS
        if_chain, frequency_hz = self._channels[self._turn % len(self._channels)]
        self._turn += 1
        try:
            scan = sx1261.scan(frequency_hz, SAMPLES)
        except DriverError as error:
            logger.warning("event=scan_failed frequency=%d code=%s detail=%s", frequency_hz, error.code, error)
            return
        noise_dbm = None if scan is None else scan.percentile_dbm(NOISE_PERCENT)
        if noise_dbm is not None:
            self._statistics.measured(if_chain, noise_dbm)
