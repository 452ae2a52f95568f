# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Is the concentrator well? A running agent is asked; without one, the chip is reset, started, listened to and stopped.

Nothing is ever transmitted. A chip that some program left receiving is looked at and not reset: it may hold frames that
nobody has kept yet.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from agent.doctor.buses import bus_of
from agent.doctor.causes import found, of_error
from agent.doctor.context import AgentState
from agent.doctor.finding import Finding, Verdict, ok, skipped
from drivers.errors import BusError, DriverError

if TYPE_CHECKING:
    from agent.config import Bus
    from agent.doctor.context import Context
    from drivers.boards import Board
    from drivers.bus import OutputLine, SpiBus
    from drivers.sx1302.probe import Sighting

PARTS: Final = ("chip", "reset", "radios", "reception")
"""What is said of a concentrator, in this order; each rests on the one before."""
_LOW, _HIGH = 0x00, 0xFF


def concentrator(context: Context) -> Iterator[Finding]:
    """Look at chip, reset line, radios and reception."""
    if context.config is None:
        return
    if context.agent is AgentState.RUNNING:
        from agent.doctor import asked

        yield from asked.concentrator(context)
        return
    if context.hands_off:
        yield skipped("chip", f"not touched: {context.hands_off}")
        return
    told: dict[str, Verdict] = {}
    for finding in _examined(context):
        told.setdefault(finding.check, finding.verdict)
        yield finding
    ill = next((part for part in PARTS if told.get(part) not in {None, Verdict.OK}), PARTS[0])
    for part in PARTS:
        if part not in told:
            yield skipped(part, f"not to be told as long as the {ill} is not right")


def _examined(context: Context) -> Iterator[Finding]:
    """Look at a concentrator that no agent uses."""
    from agent.hardware import open_bus
    from drivers.boards import load_board
    from drivers.linux.clock import SystemClock
    from drivers.sx1302.emulated import is_emulated
    from drivers.sx1302.probe import look, radios
    from drivers.sx1302.spi import AddressSpace

    assert context.config is not None
    board, at = load_board(context.config.concentrator.board), bus_of(context)
    try:
        opened = open_bus(at, board.spi_clock_hz)
    except BusError as error:
        rights = error.code in {"CG-SPI-004", "CG-USB-002"}
        yield of_error("chip", error, name="no-rights" if rights else None)
        return
    part = "chip"
    with closing(opened):
        try:
            sighting = look(opened)
            if _at_work(opened, sighting):
                evidence = f"{sighting.chip}, EUI {sighting.eui}, is receiving, and no agent runs"
                yield found("chip-at-work", "chip", evidence, _values(sighting))
                return
            findings = tuple(_after_reset(context, board, at, opened, sighting))
            emulated = is_emulated(AddressSpace(opened))
            yield from (_marked(finding, emulated=emulated) for finding in findings)
            if any(finding.verdict is Verdict.FAIL for finding in findings):
                return
            part = "radios"
            radios_found = _radios(context, radios(opened, SystemClock()))
            yield radios_found
            if radios_found.verdict is Verdict.FAIL:
                return
        except DriverError as error:
            # An emulator that answers with an error of the bus has the same code as one that is gone.
            failing = isinstance(error, BusError) and at.kind == "emulator" and at.path.exists()
            yield of_error(part, error, name="bus-failing" if failing else None)
            return
    from agent.doctor import listening

    yield from listening.listen(context, board, at)


def _marked(finding: Finding, *, emulated: bool) -> Finding:
    """Say in the values where a chip is an emulated one."""
    return replace(finding, values={**finding.values, "emulated": True}) if emulated else finding


def _at_work(opened: SpiBus, sighting: Sighting) -> bool:
    """Say whether somebody left the chip so that it may hold frames."""
    from drivers.sx1302.regmap import RegisterMap
    from drivers.sx1302.spi import AddressSpace
    from drivers.sx1302.startup import GENERAL, PAUSED

    if sighting.chip is None:
        return False
    return sighting.receiving or RegisterMap(AddressSpace(opened)).read_bytes(GENERAL, 1)[0] == PAUSED


def _after_reset(context: Context, board: Board, at: Bus, opened: SpiBus, before: Sighting) -> Iterator[Finding]:
    """Pulse the reset line, and say what that led to."""
    from agent.hardware import lines_of
    from drivers.linux.clock import SystemClock
    from drivers.sx1302.probe import leads_to_chip, look

    reset, power = lines_of(at, board, opened)
    try:
        leads = leads_to_chip(opened, reset, power, SystemClock())
        after = look(opened)
        if after.chip is None:
            yield _silent(board, opened, reset, before, after)
            return
        yield _named(context, board, after)
        name = "by its bus" if board.reset is None else f"GPIO{board.reset.number}"
        if leads:
            yield ok("reset", f"the reset line ({name}) resets the chip")
        elif reset is not None:
            evidence = f"a mark in the chip outlives a pulse on the reset line of {board.name} ({name})"
            yield found("reset-elsewhere", "reset", evidence)
        else:
            yield skipped("reset", f"the profile of {board.name} has no reset line")
    except DriverError as error:
        yield of_error("reset", error)
    finally:
        for line in (reset, power):
            if line is not None:
                line.close()


def _silent(board: Board, opened: SpiBus, reset: OutputLine | None, before: Sighting, after: Sighting) -> Finding:
    """Say why no concentrator answers after a reset."""
    from drivers.linux.clock import SystemClock
    from drivers.sx1302.probe import STEP_S, look

    evidence = f"the version register reads 0x{after.version:02X} after a reset"
    if after.version not in {_LOW, _HIGH}:
        return found("foreign-chip", "chip", f"{evidence}; an SX1302 says 0x10, an SX1303 0x12")
    if reset is not None:
        clock = SystemClock()
        with suppress(DriverError):
            reset.set(active=True)
            clock.sleep(STEP_S)
            held = look(opened)
            reset.set(active=False)
            clock.sleep(STEP_S)
            if held.chip is not None:
                polarity = "low" if board.reset is not None and board.reset.active_high else "high"
                said = f"{held.chip} answers while its reset line is held active, and not else"
                return found("reset-inverted", "reset", said, polarity=polarity)
    lines = [f"GPIO{line.number} ({name})" for name, line in (("reset", board.reset), ("power", board.power)) if line]
    tried = f"; {' and '.join(lines)} of {board.name} were driven" if lines else ""
    if before.chip is not None:
        return found("silent-through-reset", "chip", f"{evidence}, and it answered before{tried}")
    return found("silent-high" if after.version == _HIGH else "silent-low", "chip", f"{evidence}{tried}")


def _named(context: Context, board: Board, sighting: Sighting) -> Finding:
    """Say which chip it is, and whether it is the one this gateway is known by."""
    said = f"{sighting.chip}, EUI {sighting.eui}"
    if sighting.chip != board.chip:
        said += f" (the profile of {board.name} is for an {board.chip})"
    known = known_eui(context)
    if known is not None and known != sighting.eui:
        return found("other-chip", "chip", f"{said}; this gateway is known as {known}", _values(sighting))
    return ok("chip", said, _values(sighting))


def known_eui(context: Context) -> str | None:
    """Return the EUI under which the spool knows this gateway, unless the configuration names one; 16 digits."""
    from agent.errors import AgentError
    from agent.identity import known_eui as known

    assert context.config is not None
    if context.config.gateway.eui is not None:
        return None
    with suppress(AgentError, OSError):
        eui = known(context.config)
        return None if eui is None else eui.hex()
    return None


def _radios(context: Context, kinds: tuple[str | None, ...]) -> Finding:
    from drivers.plans import load_plan

    assert context.config is not None
    plan = load_plan(context.config.concentrator.plan)
    said = ", ".join(f"radio {'AB'[n]}: {kind or 'no answer'}" for n, kind in enumerate(kinds))
    missing = [n for n, kind in enumerate(kinds) if kind is None and plan.radio_hz[n] is not None]
    return found("radio-silent", "radios", said) if missing else ok("radios", said)


def _values(sighting: Sighting) -> dict[str, int | float | str | bool | None]:
    return {"chip": sighting.chip, "eui": sighting.eui, "version": sighting.version}
