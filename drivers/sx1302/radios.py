# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The two radios, from power-on to reception, and the clock they give the SX1302.

Steps 1 and 2 of the start sequence [HAL 2.1.0 sx1302_radio_reset, sx1302_radio_clock_select,
sx1250_calibrate, sx1250_setup]. While they last the host owns the radios' SPI; `hand_over` gives it to the
AGC for good.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from drivers.sx1250 import Sx1250
from drivers.sx1302.registers import field
from drivers.sx1302.spi import Target

if TYPE_CHECKING:
    from drivers.boards import Board
    from drivers.bus import Clock
    from drivers.plans import ChannelPlan
    from drivers.sx1302.regmap import RegisterMap

CLK32_RIF_CTRL = field("COMMON_CTRL0_CLK32_RIF_CTRL")
HOST_RADIO_CTRL = field("COMMON_CTRL0_HOST_RADIO_CTRL")
SX1250_MODE = (
    field("COMMON_CTRL0_SX1261_MODE_RADIO_A"),
    field("COMMON_CTRL0_SX1261_MODE_RADIO_B"),
)
RADIO_EN = (field("AGC_MCU_RF_EN_A_RADIO_EN"), field("AGC_MCU_RF_EN_B_RADIO_EN"))
RADIO_RST = (field("AGC_MCU_RF_EN_A_RADIO_RST"), field("AGC_MCU_RF_EN_B_RADIO_RST"))
PA_EN_A = field("AGC_MCU_RF_EN_A_PA_EN")
LNA_EN_A = field("AGC_MCU_RF_EN_A_LNA_EN")
FORCE_HOST_FE_CTRL = field("AGC_MCU_CTRL_FORCE_HOST_FE_CTRL")
CLK_RADIO_SEL = (field("CLK_CTRL_CLK_SEL_CLK_RADIO_A_SEL"), field("CLK_CTRL_CLK_SEL_CLK_RADIO_B_SEL"))
CLKDIV_EN = field("CLK_CTRL_CLK_SEL_CLKDIV_EN")

TARGETS: Final = (Target.RADIO_A, Target.RADIO_B)

SUPPLY_SETTLE_S: Final = 0.500
"""From switching a radio on until its reset may be pulsed."""

RESET_STEP_S: Final = 0.010
"""Each level of the reset pulse."""


class Radios:
    """Brings up the radios that a channel plan uses.

    Args:
        registers: of the SX1302.
        clock: for the pauses.
        board: says which radio clocks the chip.
        plan: says where each radio listens.
    """

    def __init__(self, registers: RegisterMap, clock: Clock, board: Board, plan: ChannelPlan) -> None:
        self._registers = registers
        self._clock = clock
        self._board = board
        self._used = [
            (rf_chain, centre_hz, Sx1250(registers.space, TARGETS[rf_chain], clock))
            for rf_chain, centre_hz in enumerate(plan.radio_hz)
            if centre_hz is not None
        ]

    def calibrate(self) -> None:
        """Reset the radios and calibrate their image rejection.

        Raises:
            BusError: the transfer did not complete.
            ChipError: a radio reports that its calibration failed.
        """
        self._reset()
        self._select_clock()
        self._registers.write(FORCE_HOST_FE_CTRL, 1)
        self._registers.apply([(PA_EN_A, 0), (LNA_EN_A, 0)])
        for _, centre_hz, radio in self._used:
            radio.calibrate_image(centre_hz)
        self._registers.write(FORCE_HOST_FE_CTRL, 0)

    def receive(self) -> None:
        """Reset the radios again and put them into continuous reception on their centre frequencies.

        Raises:
            BusError: the transfer did not complete.
            ChipError: a radio does not answer.
        """
        self._reset()
        for rf_chain, centre_hz, radio in self._used:
            radio.receive(centre_hz, single_input=self._board.single_input[rf_chain])
        self._select_clock()

    def hand_over(self) -> None:
        """Give the radios' SPI to the AGC; only a chip reset gives it back.

        Raises:
            BusError: the transfer did not complete.
        """
        self._registers.write(HOST_RADIO_CTRL, 0)

    def _reset(self) -> None:
        """Switch all used radios on and pulse their resets together.

        NRESET of the SX1250 is active low and RADIO_RST is its level, so a running radio has RADIO_RST = 1.
        The vendor's software resets one radio after the other; together they take half the time, with the
        same levels for the same durations.
        """
        self._registers.write(CLK32_RIF_CTRL, 0)
        chains = [rf_chain for rf_chain, _, _ in self._used]
        self._registers.in_order([[(RADIO_EN[c], 1) for c in chains], [(RADIO_RST[c], 1) for c in chains]])
        self._clock.sleep(SUPPLY_SETTLE_S)
        for level in (0, 1):
            self._registers.apply([(RADIO_RST[c], level) for c in chains])
            self._clock.sleep(RESET_STEP_S)
        self._registers.apply([(SX1250_MODE[c], 1) for c in chains])

    def _select_clock(self) -> None:
        source = self._board.clock_radio
        self._registers.in_order(
            [
                [(CLK_RADIO_SEL[source], 1), (CLK_RADIO_SEL[1 - source], 0)],
                [(CLKDIV_EN, 1)],
                [(CLK32_RIF_CTRL, 1)],
            ]
        )
