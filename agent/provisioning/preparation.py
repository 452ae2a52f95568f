# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What is done without a network: find the concentrator, write gateway.toml, bring the firmware, make the key."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from agent import config, finder, firmware, identity, tomledit
from agent.errors import AgentError
from agent.ownership import as_owner
from agent.provisioning.request import FIND

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from agent.config import Bus, GatewayConfig
    from agent.finder import Found
    from agent.provisioning.request import ProvisionSection

log = logging.getLogger(__name__)

_HEAD: Final = "# Made of civigate.toml. 'civigate config example' prints every key with its meaning.\n"


class NoConcentratorError(AgentError):
    """No concentrator answers, or not as the board that was named."""

    exit_code = 3


class ManyBoardsError(AgentError):
    """Several boards look the same from here.

    Args:
        found: of the concentrator.
        bus: where it is.
    """

    exit_code = 3

    def __init__(self, found: Found, bus: Bus) -> None:
        names = ", ".join(found.boards) or "none that is known"
        what = f"an {found.chip} answers; boards that may carry it: {names}"
        hint = 'look what is printed on the board, and write its name as board = "..." into civigate.toml'
        super().__init__(what, where=str(bus), hint=hint, code="CG-PRV-008")
        self.found = found
        self.bus = bus


@dataclass(frozen=True, slots=True)
class Located:
    """The concentrator.

    Attributes:
        bus: where it is.
        board: its profile.
        chip: its name.
        eui: of the chip, 16 hex digits.
    """

    bus: Bus
    board: str
    chip: str
    eui: str


def locate(asked: ProvisionSection) -> Located:
    """Find the concentrator; ends its reception.

    Raises:
        NoConcentratorError: CG-PRV-007, none answers.
        ManyBoardsError: CG-PRV-008, it is not certain which board it is.
    """
    problems: list[str] = []
    board = None if asked.board == FIND else asked.board
    places = [asked.bus] if asked.bus is not None else finder.buses(problems.append)
    found: list[tuple[Bus, Found]] = []
    for bus in places:
        one = finder.find(bus, log.info, board=board, try_boards=True)
        if one.sighting is not None and one.sighting.eui is not None:
            found.append((bus, one))
        elif one.problem:
            problems.append(f"{bus}: {one.problem}")
    if not found:
        raise _nothing(places, problems, board)
    bus, one = found[0]
    if len(found) > 1:
        log.warning("event=several_concentrators used=%s left=%s", bus, ", ".join(str(other) for other, _ in found[1:]))
    assert one.sighting is not None
    assert one.sighting.eui is not None
    if one.chip is None or not one.boards or not finder.alike(one.boards):
        raise ManyBoardsError(one, bus)
    return Located(bus, one.boards[0], one.chip, one.sighting.eui)


def configure(path: Path, asked: ProvisionSection, located: Located) -> GatewayConfig:
    """Write what was asked for and found into gateway.toml, which is made where there is none.

    Raises:
        AgentError: it cannot be written, or would not be valid.
        OSError: its folder cannot be made.
    """
    path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
    tomledit.set_values(path, "gateway", {"name": asked.name}, head=_HEAD)
    radio: dict[str, str | float] = {"bus": str(located.bus), "board": located.board, "plan": asked.region}
    if asked.antenna_gain_dbi is not None:
        radio["antenna_gain_dbi"] = asked.antenna_gain_dbi
    tomledit.set_values(path, "concentrator", radio)
    if asked.gnss is not None:
        tomledit.set_values(path, "gnss", {"device": asked.gnss})
    return config.load(path)


def bring_firmware(loaded: GatewayConfig, source: Path | None) -> Sequence[str]:
    """Bring the firmware into its folder; return the microcontrollers whose image is still missing.

    Raises:
        FirmwareError: the source cannot be read, or the folder not be written.
    """
    folders = loaded.firmware_dirs
    # what the service's user cannot read is missing
    with as_owner(loaded.gateway.state_dir):
        missing = firmware.missing(folders)
    if source is not None and source.exists() and missing:
        found = firmware.look_into(source)
        with as_owner(loaded.gateway.state_dir, folders[0]):
            found.install(folders[0])
        with as_owner(loaded.gateway.state_dir):
            missing = firmware.missing(folders)
    return [mcu.value for mcu in missing]


def make_key(loaded: GatewayConfig) -> bytes:
    """Make the gateway's key where there is none; return its thumbprint.

    Raises:
        IdentityError: it cannot be made or used.
        SpoolError: there is a spool that cannot be read.
    """
    return identity.load_or_create(loaded).signer.public.kid


def _nothing(places: Sequence[Bus], problems: Sequence[str], board: str | None) -> NoConcentratorError:
    said = "; ".join(problems)
    if not places and not said:
        what = "there is no SPI device and no USB bridge"
        hint = "switch SPI on: dtparam=spi=on in config.txt on this partition; or plug the USB concentrator in"
    elif board is not None:
        what = f"nothing answers as {board} does" + (f" ({said})" if said else "")
        hint = 'check that the board sits right on the header, and its name; board = "find" tries all'
    else:
        what = "no concentrator answers" + (f" ({said})" if said else "")
        hint = "switch the gateway off, seat the board on the header or the card in its slot, and start again"
    return NoConcentratorError(what, where="concentrator", hint=hint, code="CG-PRV-007", retryable=True)
