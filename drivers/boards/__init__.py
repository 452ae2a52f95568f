# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Concentrator boards: which line resets the chip, which radio clocks it, what its RSSI is off by.

A board is a TOML file beside this module; its `source` says where the facts come from. Own boards are files
anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from drivers.profile import Table, open_profile, shipped_names

if TYPE_CHECKING:
    from pathlib import Path

GAINS_LIMIT: Final = 16
"""Power steps a board may have, as in the vendor's software."""

HEADER_LINES: Final = 53
"""Highest GPIO number of the Broadcom SoCs; the 40-pin header has 0 to 27."""


@dataclass(frozen=True, slots=True)
class GpioLine:
    """A digital output that belongs to the board.

    Attributes:
        number: GPIO (BCM) number on the Pi's header.
        active_high: whether a high level is the active one.
    """

    number: int
    active_high: bool


@dataclass(frozen=True, slots=True)
class TxGain:
    """One step of a board's transmit power.

    Attributes:
        power_dbm: at the antenna connector.
        pa: whether the power amplifier is on.
        index: of the SX1250's own power, 0 to 22.
    """

    power_dbm: int
    pa: bool
    index: int

    @property
    def register(self) -> int:
        """The step as the AGC wants it."""
        return self.pa << 6 | self.index


@dataclass(frozen=True, slots=True)
class Board:
    """A concentrator board with SX1250 radios on SPI.

    Attributes:
        name: of the profile.
        title: as the vendor calls it.
        source: where the facts come from.
        spi_device: path of the spidev device the board sits on by default.
        spi_clock_hz: clock the bus is driven at.
        reset: the SX1302's reset line; None when the bus resets the chip itself.
        power: the line that switches the board's supply; None when it is always on.
        clock_radio: the radio that clocks the SX1302, 0 (A) or 1 (B).
        single_input: whether the antenna input of radio A and of B is single-ended.
        rssi_offset_db: what to add to a raw RSSI to have dBm.
        transmit_radio: the radio that may transmit, 0 (A) or 1 (B).
        transmit_gains: its power steps, ascending; empty when the board shall not transmit.
    """

    name: str
    title: str
    source: str
    spi_device: str
    spi_clock_hz: int
    reset: GpioLine | None
    power: GpioLine | None
    clock_radio: int
    single_input: tuple[bool, bool]
    rssi_offset_db: float
    transmit_radio: int
    transmit_gains: tuple[TxGain, ...]


def board_names() -> tuple[str, ...]:
    """Return the names of the shipped boards."""
    return shipped_names(__name__)


def load_board(name_or_path: str | Path) -> Board:
    """Load a board by the name of a shipped profile or by the path of a file.

    Raises:
        ProfileError: no such profile, or it says something that makes no sense.
    """
    table, name = open_profile(__name__, name_or_path)
    transmit_radio, transmit_gains = _transmit(table.table("transmit"))
    board = Board(
        name=name,
        title=table.text("title"),
        source=table.text("source"),
        spi_device=table.text("spi_device"),
        spi_clock_hz=table.integer("spi_clock_hz", 100_000, 20_000_000),
        reset=_line(table.table("reset")),
        power=_line(table.table("power")),
        clock_radio="AB".index(table.choice("clock_radio", ("A", "B"))),
        single_input=(
            table.boolean("single_input_a", default=False),
            table.boolean("single_input_b", default=False),
        ),
        rssi_offset_db=table.number("rssi_offset_db", -300, 0),
        transmit_radio=transmit_radio,
        transmit_gains=transmit_gains,
    )
    table.finish()
    return board


def _transmit(table: Table | None) -> tuple[int, tuple[TxGain, ...]]:
    if table is None:
        return 0, ()
    radio = "AB".index(table.choice("radio", ("A", "B")))
    gains = tuple(_gain(entry) for entry in table.tables("gains", GAINS_LIMIT))
    if not gains or any(low.power_dbm >= high.power_dbm for low, high in pairwise(gains)):
        raise table.error("gains", "not in ascending order of dbm", "name at least one, each higher than the last")
    table.finish()
    return radio, gains


def _gain(table: Table) -> TxGain:
    gain = TxGain(
        power_dbm=table.integer("dbm", -20, 30),
        pa=table.boolean("pa"),
        index=table.integer("index", 0, 22),
    )
    table.finish()
    return gain


def _line(table: Table | None) -> GpioLine | None:
    if table is None:
        return None
    line = GpioLine(
        number=table.integer("gpio", 0, HEADER_LINES),
        active_high=table.choice("active", ("high", "low"), "high") == "high",
    )
    table.finish()
    return line
