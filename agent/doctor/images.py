# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Are the chip's two firmware images there, and the right ones? Only files are read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from agent.doctor.causes import found, of_error
from agent.doctor.finding import Finding, ok, skipped
from drivers.errors import DriverError, FirmwareError

if TYPE_CHECKING:
    from agent.doctor.context import Context


def firmware(context: Context) -> Iterator[Finding]:
    """Read the images."""
    from drivers.sx1302 import firmware as images

    if context.config is None:
        return
    folders = context.config.firmware_dirs
    for folder in folders:
        try:
            _ = folder.exists() and next(folder.iterdir(), None)
        except PermissionError:
            yield found("no-rights", "firmware", f"{folder} may not be read by this user")
            return
    try:
        ready = images.load_from(folders)
    except FirmwareError as error:
        missing = error.code in {"CG-FW-001", "CG-FW-006"}
        if missing and (context.said("radio") or {}).get("state") == "receiving":
            yield skipped("firmware", f"{error.where}: {error.what}; the running agent has what it needs")
        elif missing and _emulated(context):
            yield ok("firmware", "stand-ins: the concentrator is an emulated one")
        else:
            yield of_error("firmware", error, config=context.path)
        return
    yield ok("firmware", f"{ready.agc_id}; {ready.arb_id}")


def _emulated(context: Context) -> bool:
    """Say whether an emulated concentrator is there; a real chip is read at one address where it has nothing."""
    from agent.doctor.buses import bus_of
    from agent.hardware import leads_to_emulator
    from drivers.boards import load_board

    assert context.config is not None
    at = bus_of(context)
    if at.kind == "emulator" or context.hands_off:
        return at.kind == "emulator"
    try:
        return leads_to_emulator(at, load_board(context.config.concentrator.board))
    except DriverError:
        return False
