# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Is the chip that receives nothing healthy, or has it died without a word?

In the field a concentrator stalls and looks alive: it answers, its counter runs, and not a frame comes, for hours. Two
signs were seen then: both microcontrollers had met a word with wrong parity, and the AGC stood in state 0x14
[sx1302_hal issue 154]. But the same gateway was seen to receive well for an hour with exactly these signs
[snapshots of hibbes/sx1302-arb-fix, 2026-04-29], and the vendor takes the parity flags for unreliable while a chip is
busy [sx1302_hal issue 14]. So the signs alone say nothing: together with silence, they are reason enough for a repair.

A supply that dips can switch the modems off and leave all else; that is certain. Three short reads every few seconds
tell all that.
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

SUSPECT_SILENCE_NS: Final = 900_000_000_000
"""Silence that turns signs into an illness. On a quiet site that costs a fraction of a second of deafness four times an
hour at most, and only while there are signs."""

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
        self._alive_ns = 0
        self._state = RUNNING
        self._looks = 0
        self._sign = ""

    @property
    def suspicious(self) -> bool:
        """Whether the last look found a sign of a stall."""
        return bool(self._sign)

    def begin(self) -> None:
        """Take the chip for healthy: it was just started."""
        self._next_ns = self._clock.monotonic_ns() + INTERVAL_NS
        self._state, self._looks, self._sign = RUNNING, 0, ""
        self.alive()

    def alive(self) -> None:
        """Know that something was received, or at least met by a modem."""
        self._alive_ns = self._clock.monotonic_ns()

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
        state, agc_parity = self._look_at(AGC)
        _, arb_parity = self._look_at(ARB)
        self._looks = self._looks + 1 if state == self._state else 1
        self._state = state
        where, code, sign = "AGC", PARITY, ""
        if agc_parity or arb_parity:
            where = AGC.name if agc_parity else ARB.name
            sign = f"met wrong parity in its program (AGC in state 0x{state:02X})"
        elif state != RUNNING and self._looks >= STUCK_LOOKS:
            code, sign = STUCK, f"stands in state 0x{state:02X}"
        if sign != self._sign:
            logger.info("event=concentrator_sign where=%s sign=%s", where, sign or "none")
        self._sign = sign
        silent_ns = self._clock.monotonic_ns() - self._alive_ns
        if sign and silent_ns >= SUSPECT_SILENCE_NS:
            raise _ill(where, f"{sign}, and nothing was heard for {silent_ns // 60_000_000_000} min", code)

    def _look_at(self, port: Port) -> tuple[int, bool]:
        """Return a microcontroller's state and parity flag; its control byte and its state are neighbours."""
        control, state = self._space.read(port.parity_error.address, 2)
        return state, bool(port.parity_error.extract(control))


def _ill(where: str, what: str, code: str) -> ChipError:
    logger.warning("event=concentrator_ill where=%s code=%s", where, code)
    return ChipError(what, op="watch", where=where, hint=_POWER_HINT, code=code, retryable=True)
