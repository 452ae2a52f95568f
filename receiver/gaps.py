# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What is missing, by gateway and hour, and why: from what gateways signed, and from when they said nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby, pairwise

from agent.batch.model import HOUR_US
from receiver.ledger.port import GapHour, Hole, Queries

REPORT_US = 1_800_000_000
"""A gateway that hears anything reports at least this often."""


class Quiet(StrEnum):
    """Why there is no hour of a gateway."""

    OFF = "off"
    """Between two boots: without power, or starting."""
    NOTHING = "nothing reported"
    """It was on, and heard nothing, or its agent did not run."""
    SILENT = "silent"
    """Nothing has come since: off, without a link, or nothing heard."""


@dataclass(frozen=True, slots=True)
class Silence:
    """A time of which a gateway reports nothing.

    Attributes:
        gateway: EUI-64, hex.
        from_us: its last sign before, UTC.
        to_us: its first sign after, UTC.
        cause: as far as it can be told.
    """

    gateway: str
    from_us: int
    to_us: int
    cause: Quiet


@dataclass(frozen=True, slots=True)
class Gaps:
    """The gap ledger of a period."""

    hours: list[GapHour]
    silences: list[Silence]
    holes: list[Hole]


def gaps(ledger: Queries, eui: bytes | None, since_us: int | None, until_us: int | None, now_us: int) -> Gaps:
    """Draw up the gap ledger.

    Args:
        ledger: a snapshot of it.
        eui: of one gateway, None for all.
        since_us: hours that end after it, None for all.
        until_us: hours that begin before it, None for all.
        now_us: UTC.

    Raises:
        LedgerError: the ledger cannot be read.
    """
    hours = ledger.gap_hours(eui, None if since_us is None else since_us - HOUR_US + 1, until_us)
    last_us: dict[str, int] = {}
    for stream in ledger.positions():
        gateway = stream.eui.hex()
        last_us[gateway] = max(stream.last_seen_us, last_us.get(gateway, 0))
    end_us = now_us if until_us is None else min(now_us, until_us)
    silences = list(_silences(hours, ledger.last_signs(eui), last_us, end_us))
    return Gaps(hours, silences, ledger.holes(eui))


def _silences(
    hours: list[GapHour], last_signs: dict[str, int], last_us: dict[str, int], end_us: int
) -> Iterator[Silence]:
    """Find the times between what gateways report."""
    timed = [hour for hour in hours if hour.begin_us is not None and hour.boot is not None]
    for gateway, rows in groupby(timed, key=lambda hour: hour.gateway):
        # several streams of one gateway may tell of the same hour
        told = {(hour.boot, hour.hour): hour for hour in rows}
        ordered = sorted(told.values(), key=lambda hour: hour.begin_us or 0)
        for before, after in pairwise(ordered):
            if before.boot != after.boot:
                sign_us = _booted(before) + last_signs.get(before.boot or "", (before.hour or 0) * HOUR_US)
                if _booted(after) > sign_us:
                    yield Silence(gateway, sign_us, _booted(after), Quiet.OFF)
            elif (after.hour or 0) > (before.hour or 0) + 1:
                yield Silence(gateway, (before.begin_us or 0) + HOUR_US, after.begin_us or 0, Quiet.NOTHING)
        seen_us = last_us.get(gateway, end_us)
        if end_us - seen_us > REPORT_US:
            yield Silence(gateway, seen_us, end_us, Quiet.SILENT)


def _booted(hour: GapHour) -> int:
    """Return the UTC at which the boot of an hour began."""
    return (hour.begin_us or 0) - (hour.hour or 0) * HOUR_US
