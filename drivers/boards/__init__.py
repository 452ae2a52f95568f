# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Concentrator boards: which line resets the chip, which radio clocks it, what its RSSI is off by.

A board is a TOML file beside this module; its `source` says where the facts come from. Own boards are files
anywhere. Boards that people have and this driver cannot run are there too, so that it can say so.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from drivers.errors import ProfileError
from drivers.profile import Table, open_profile, shipped_names

if TYPE_CHECKING:
    from pathlib import Path

GAINS_LIMIT: Final = 16
"""Power steps a board may have, as in the vendor's software."""

CONTROLLER_LINES: Final = 511
HEADER_LINES: Final = 53
"""Highest GPIO number of the Broadcom SoCs; the 40-pin header has 0 to 27."""


CHIPS: Final = ("SX1302", "SX1303", "SX1301", "SX1308", "SX1280")
DRIVEN_CHIPS: Final = ("SX1302", "SX1303")
ALIASES_LIMIT: Final = 16
COMMAND_WORDS_LIMIT: Final = 8


@dataclass(frozen=True, slots=True)
class GpioLine:
    """A digital output that belongs to the board.

    Attributes:
        number: GPIO (BCM) number on the Pi's header; the offset of the line where a controller is named.
        active_high: whether a high level is the active one.
        controller: label of the GPIO controller, on other computers than a Raspberry Pi; None for a Pi's header.
    """

    number: int
    active_high: bool
    controller: str | None = None


@dataclass(frozen=True, slots=True)
class CommandLine:
    """A digital output that only a program of the board's vendor can drive.

    Attributes:
        command: program and arguments; the level, 0 or 1, is added as the last.
        active_high: whether a high level is the active one.
    """

    command: tuple[str, ...]
    active_high: bool


@dataclass(frozen=True, slots=True)
class TemperatureSensor:
    """Where a board may carry an STTS751; many are sold without.

    Attributes:
        i2c_device: path of the bus.
        address: on the bus, 7 bits.
    """

    i2c_device: str
    address: int


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
    """A concentrator board with SX1250 radios, on SPI, on USB, or to be had in both ways.

    Attributes:
        name: of the profile.
        title: as the vendor calls it.
        source: where the facts come from.
        chip: "SX1302" or "SX1303".
        spi_device: path of the spidev device the board sits on by default; None for a board on USB.
        spi_clock_hz: clock the bus is driven at.
        usb_device: path of the serial device of its USB variant; None when there is none.
        reset: the SX1302's reset line on the Pi's header; None when the bus resets the chip itself.
        power: the line that switches the board's supply; None when it is always on.
        reset_command: drives the reset line instead, where a vendor's program must; None elsewhere.
        power_command: drives the supply's switch likewise.
        sx1261_reset: the SX1261's reset line, where the board leads it to the header.
        temperature: where its temperature sensor is, if it has one; on USB the bridge measures.
        gnss_device: path of the serial device at which its GNSS receiver usually is; None for a board without.
        clock_radio: the radio that clocks the SX1302, 0 (A) or 1 (B).
        single_input: whether the antenna input of radio A and of B is single-ended.
        rssi_offset_db: what to add to a raw RSSI to have dBm.
        transmit_radio: the radio that may transmit, 0 (A) or 1 (B).
        transmit_gains: its power steps, ascending; empty when the board shall not transmit.
    """

    name: str
    title: str
    source: str
    chip: str
    spi_device: str | None
    spi_clock_hz: int
    usb_device: str | None
    reset: GpioLine | None
    power: GpioLine | None
    reset_command: CommandLine | None
    power_command: CommandLine | None
    sx1261_reset: GpioLine | None
    temperature: TemperatureSensor | None
    gnss_device: str | None
    clock_radio: int
    single_input: tuple[bool, bool]
    rssi_offset_db: float
    transmit_radio: int
    transmit_gains: tuple[TxGain, ...]


@dataclass(frozen=True, slots=True)
class KnownBoard:
    """A board that ships with a profile.

    Attributes:
        name: of the profile.
        title: as the vendor calls it.
        chip: its concentrator chip.
        aliases: other names under which it can be asked for.
        refusal: why this driver cannot run it; None when it can.
    """

    name: str
    title: str
    chip: str
    aliases: tuple[str, ...]
    refusal: str | None


def board_names() -> tuple[str, ...]:
    """Return the names of the shipped profiles of boards that this driver runs."""
    return tuple(board.name for board in known_boards() if board.refusal is None)


@cache
def known_boards() -> tuple[KnownBoard, ...]:
    """Return all shipped boards, also those that this driver cannot run, by name."""
    return tuple(_known(*open_profile(__name__, name)) for name in shipped_names(__name__))


def load_board(name_or_path: str | Path) -> Board:
    """Load a board by the name or alias of a shipped profile or by the path of a file.

    Raises:
        ProfileError: no such profile, or it says something that makes no sense, or the board cannot be run.
    """
    table, name = open_profile(__name__, _shipped_as(name_or_path))
    known = _known(table, name)
    if known.refusal is not None:
        raise ProfileError(
            f"{known.title}: {known.refusal}",
            op="load board",
            where=name,
            hint=f"civigate drives boards with an {' or '.join(DRIVEN_CHIPS)} and SX1250 radios; see: civigate boards",
            code="CG-PROFILE-004",
        )
    transmit_radio, transmit_gains = _transmit(table.table("transmit"))
    reset, reset_command = _line(table.table("reset"))
    power, power_command = _line(table.table("power"))
    board = Board(
        name=name,
        title=known.title,
        source=table.text("source"),
        chip=known.chip,
        spi_device=table.optional_text("spi_device"),
        spi_clock_hz=table.integer("spi_clock_hz", 100_000, 20_000_000, 2_000_000),
        usb_device=table.optional_text("usb_device"),
        reset=reset,
        power=power,
        reset_command=reset_command,
        power_command=power_command,
        sx1261_reset=_line(table.table("sx1261_reset"))[0],
        temperature=_temperature(table.table("temperature")),
        gnss_device=table.optional_text("gnss_device"),
        clock_radio="AB".index(table.choice("clock_radio", ("A", "B"))),
        single_input=(
            table.boolean("single_input_a", default=False),
            table.boolean("single_input_b", default=False),
        ),
        rssi_offset_db=table.number("rssi_offset_db", -300, 0),
        transmit_radio=transmit_radio,
        transmit_gains=transmit_gains,
    )
    if board.spi_device is None and board.usb_device is None:
        raise table.error("spi_device", "neither this nor usb_device is there", "say how the board is attached")
    table.finish()
    return board


def _shipped_as(name_or_path: str | Path) -> str | Path:
    for known in known_boards():
        if name_or_path in known.aliases:
            return known.name
    return name_or_path


def _known(table: Table, name: str) -> KnownBoard:
    chip = table.choice("chip", CHIPS, DRIVEN_CHIPS[0])
    refusal = table.optional_text("refused")
    if refusal is None and chip not in DRIVEN_CHIPS:
        refusal = f"carries an {chip}, which is a different concentrator"
    return KnownBoard(name, table.text("title"), chip, table.texts("aliases", ALIASES_LIMIT), refusal)


def _transmit(table: Table | None) -> tuple[int, tuple[TxGain, ...]]:
    if table is None:
        return 0, ()
    radio = "AB".index(table.choice("radio", ("A", "B")))
    gains = tuple(_gain(entry) for entry in table.tables("gains", GAINS_LIMIT))
    if not gains or any(low.power_dbm >= high.power_dbm for low, high in pairwise(gains)):
        raise table.error("gains", "not in ascending order of dbm", "name at least one, each higher than the last")
    table.finish()
    return radio, gains


def _temperature(table: Table | None) -> TemperatureSensor | None:
    if table is None:
        return None
    sensor = TemperatureSensor(table.text("i2c_device"), table.integer("address", 0x03, 0x77))
    table.finish()
    return sensor


def _gain(table: Table) -> TxGain:
    gain = TxGain(
        power_dbm=table.integer("dbm", -20, 30),
        pa=table.boolean("pa"),
        index=table.integer("index", 0, 22),
    )
    table.finish()
    return gain


def _line(table: Table | None) -> tuple[GpioLine | None, CommandLine | None]:
    if table is None:
        return None, None
    active_high = table.choice("active", ("high", "low"), "high") == "high"
    command = table.texts("command", COMMAND_WORDS_LIMIT)
    if command:
        table.finish()
        return None, CommandLine(command, active_high)
    controller = table.optional_text("controller")
    highest = HEADER_LINES if controller is None else CONTROLLER_LINES
    line = GpioLine(table.integer("gpio", 0, highest), active_high, controller)
    table.finish()
    return line, None
