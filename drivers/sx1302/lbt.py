# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Listen before talk: the SX1261 listens, the AGC decides 1.5 ms before departure, and somebody takes note.

Once the AGC was told to ask, it asks before every transmission and says in its status what it has decided; until that
is acknowledged, it stands there [HAL 2.1.0 lgw_send, sx1302_agc_status]. The vendor's software waits for the decision;
here it is looked at in passing, so that reception goes on meanwhile.
"""

from __future__ import annotations

import logging
from enum import Enum
from typing import TYPE_CHECKING, Final

from drivers.errors import ForbiddenTransmissionError, HandshakeTimeoutError
from drivers.sx1261 import BANDWIDTHS, SAMPLES
from drivers.sx1302.mcu import AGC, MAILBOX_PARAMETERS, RUNNING

if TYPE_CHECKING:
    from drivers.bus import Clock
    from drivers.plans import Listening
    from drivers.sx1261 import Sx1261
    from drivers.sx1302.regmap import RegisterMap
    from drivers.sx1302.transmission import Transmission

logger = logging.getLogger(__name__)

INITIATED: Final = 0x01
NOT_ALLOWED: Final = 0x40
"""Bits of the AGC's status for radio A; those of radio B are one higher."""

ACKNOWLEDGE: Final = 0xFF
ACKNOWLEDGE_LIMIT_S: Final = 0.5
DECISION_LIMIT_US: Final = 500_000
"""How long after its moment a transmission may be without a decision."""

POLL_S: Final = 0.001
ALWAYS_FREE_DBM: Final = 0.0
SHORTEST_US: Final = min(SAMPLES)


class Decision(Enum):
    """What the AGC said of the last transmission."""

    PENDING = "pending"
    CLEAR = "clear"
    BUSY = "busy"
    MISSING = "missing"
    """It said nothing in time."""


class ListenBeforeTalk:
    """Has channels listened to, and knows what came of it.

    Args:
        registers: of the SX1302.
        clock: host time.
        sx1261: that listens; started.
        chain: the transmit chain, 0 (A) or 1 (B).
    """

    def __init__(self, registers: RegisterMap, clock: Clock, sx1261: Sx1261, chain: int) -> None:
        self._registers = registers
        self._clock = clock
        self._sx1261 = sx1261
        self._chain = chain
        self._deadline_ns: int | None = None
        self._decision: Decision | None = None

    @property
    def decision(self) -> Decision | None:
        """What is known of the last transmission; None before the first."""
        return self._decision

    def prepare(self, transmission: Transmission, listening: Listening | None) -> None:
        """Have the channel of a transmission listened to, from now until it is decided.

        Args:
            transmission: that will be programmed next.
            listening: what the band asks for; None where it asks for nothing: then every level is quiet enough.

        Raises:
            BusError: the bus fails.
            ForbiddenTransmissionError: the SX1261 cannot listen to that.
        """
        threshold_dbm = ALWAYS_FREE_DBM if listening is None else listening.threshold_dbm
        duration_us = SHORTEST_US if listening is None else listening.duration_us
        bandwidth_hz = min((one for one in BANDWIDTHS if one >= transmission.bandwidth_hz), default=None)
        if listening is None and bandwidth_hz is None:
            bandwidth_hz = max(BANDWIDTHS)
        if bandwidth_hz is None or duration_us not in SAMPLES:
            widest, durations = max(BANDWIDTHS), " or ".join(map(str, SAMPLES))
            raise ForbiddenTransmissionError(
                f"the SX1261 listens in up to {widest} Hz for {durations} us, "
                f"not in {transmission.bandwidth_hz} Hz for {duration_us}",
                op="transmit",
                where="listening",
                hint="use a bandwidth of 125 or 250 kHz, and one of these durations in the channel plan",
                code="CG-TX-006",
            )
        self._decision = None
        self._sx1261.listen(transmission.frequency_hz, bandwidth_hz, duration_us, threshold_dbm)

    def armed(self, lead_us: int) -> None:
        """Expect a decision: the transmission is armed, and due so many microseconds from now."""
        self._decision = Decision.PENDING
        self._deadline_ns = self._clock.monotonic_ns() + (lead_us + DECISION_LIMIT_US) * 1000

    def look(self) -> Decision | None:
        """Look whether the AGC has decided, if a decision is expected, and acknowledge it.

        Raises:
            BusError: the bus fails.
            HandshakeTimeoutError: the AGC does not go on.
        """
        if self._deadline_ns is None:
            return self._decision
        status = self._registers.read(AGC.status)
        if status & INITIATED << self._chain:
            busy = bool(status & NOT_ALLOWED << self._chain)
            self._decision = Decision.BUSY if busy else Decision.CLEAR
        elif self._clock.monotonic_ns() >= self._deadline_ns:
            self._decision = Decision.MISSING
        else:
            return Decision.PENDING
        self._deadline_ns = None
        logger.info("event=listened decision=%s agc=0x%02X", self._decision.value, status)
        if status != RUNNING:
            self._acknowledge()
        self._sx1261.stop()
        return self._decision

    def forget(self) -> None:
        """Expect nothing any more: the transmission was taken back.

        Raises:
            BusError: the bus fails.
        """
        if self._deadline_ns is not None:
            self._deadline_ns = self._decision = None
            self._sx1261.stop()

    def _acknowledge(self) -> None:
        self._registers.write(MAILBOX_PARAMETERS[0], ACKNOWLEDGE)
        deadline_ns = self._clock.monotonic_ns() + round(ACKNOWLEDGE_LIMIT_S * 1e9)
        while (status := self._registers.read(AGC.status)) != RUNNING:
            if self._clock.monotonic_ns() >= deadline_ns:
                raise HandshakeTimeoutError(
                    f"status 0x{status:02X} for {ACKNOWLEDGE_LIMIT_S:g} s after its decision was acknowledged",
                    op="listen before talk",
                    where=f"{AGC.name} ({AGC.status.name})",
                    hint="start the concentrator again",
                    code="CG-MCU-006",
                    retryable=True,
                )
            self._clock.sleep(POLL_S)
        self._registers.write(MAILBOX_PARAMETERS[0], 0)
