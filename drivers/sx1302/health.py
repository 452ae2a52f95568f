# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Is the chip that receives nothing healthy, or has it died without a word?

In the field a concentrator stalls and looks alive: it answers, its counter runs, and not a frame comes, for hours.
What gives it away is that both microcontrollers met a word with wrong parity and that the AGC's state stands at 0x14
[sx1302_hal issue 154]. A supply that dips can also switch the modems off and leave all else. Three short reads every
few seconds tell all that.

Not known: what the AGC's state shows while it transmits. So a state other than running is held against it only when
it stands for longer than any transmission lasts.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from drivers.errors import ChipError
from drivers.sx1302.mcu import AGC, ARB, RUNNING
from drivers.sx1302.startup import GENERAL, KNOWN_VERSIONS, RECEIVING

if TYPE_CHECKING:
    from drivers.bus import Clock
    from drivers.sx1302.mcu import Port
    from drivers.sx1302.spi import AddressSpace

logger = logging.getLogger(__name__)

INTERVAL_NS: Final = 5_000_000_000
"""Between two looks; costs a little over half an SPI message per second."""

STUCK_LOOKS: Final = 3
"""Looks in a row at which the AGC is in the same state that is not "running"; a transmission is over after one."""

MODEMS_OFF: Final = "CG-CHIP-009"
PARITY: Final = "CG-CHIP-010"
STUCK: Final = "CG-CHIP-011"
CURED_BY_RELOAD: Final = frozenset((MODEMS_OFF, PARITY, STUCK))
"""Codes of illnesses for which loading the microcontrollers anew is worth a try."""

_POWER_HINT: Final = (
    "the chip is restarted by itself; if it happens often, the 3.3 V supply dips (SPI wires, power supply, hot board)"
)


class HealthWatch:
    """Looks at a receiving chip from time to time.

    Args:
        space: the chip's addresses.
        clock: host time.
    """

    def __init__(self, space: AddressSpace, clock: Clock) -> None:
        self._space = space
        self._clock = clock
        self._next_ns = 0
        self._state = RUNNING
        self._looks = 0

    def begin(self) -> None:
        """Take the chip for healthy: it was just started."""
        self._next_ns = self._clock.monotonic_ns() + INTERVAL_NS
        self._state, self._looks = RUNNING, 0

    def check(self) -> None:
        """Look, when it is time to.

        Raises:
            BusError: a transfer did not complete.
            ChipError: the chip does not receive any more, or will not for long; says how it shows.
        """
        if self._clock.monotonic_ns() >= self._next_ns:
            self.look()

    def check_now(self) -> None:
        """Look at once, at a chip whose microcontrollers have just been started.

        Raises:
            BusError: a transfer did not complete.
            ChipError: as `check`.
        """
        self.begin()
        self.look()

    def look(self) -> None:
        """Look, whether or not it is time to.

        Raises:
            BusError: a transfer did not complete.
            ChipError: as `check`.
        """
        self._next_ns = self._clock.monotonic_ns() + INTERVAL_NS
        enables, version = self._space.read(GENERAL.address, 2)
        if version not in KNOWN_VERSIONS:
            raise _ill("VERSION", f"reads 0x{version:02X}: the chip answers no more", "CG-CHIP-008")
        if enables != RECEIVING:
            raise _ill("COMMON_GEN", f"reads 0x{enables:02X}: modems are off that were on", MODEMS_OFF)
        state = self._look_at(AGC)
        self._look_at(ARB)
        self._looks = self._looks + 1 if state == self._state else 1
        self._state = state
        if state != RUNNING and self._looks >= STUCK_LOOKS:
            raise _ill("AGC", f"stands in state 0x{state:02X}", STUCK)

    def _look_at(self, port: Port) -> int:
        """Return a microcontroller's state; its control byte and its state are neighbours."""
        control, state = self._space.read(port.parity_error.address, 2)
        if port.parity_error.extract(control):
            what = f"met wrong parity in its program (state 0x{state:02X}): reception has stalled"
            raise _ill(port.name, what, PARITY)
        return state


def _ill(where: str, what: str, code: str) -> ChipError:
    logger.warning("event=concentrator_ill where=%s code=%s", where, code)
    return ChipError(what, op="watch", where=where, hint=_POWER_HINT, code=code, retryable=True)
