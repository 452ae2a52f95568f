# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What is wrong, or worth to know, in the report of a running agent: in plain words, the worst first.

It asks nobody and measures nothing; `civigate doctor` does that. A report of another release may lack anything: what is
not there is not judged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, TypeAlias

EXIT_OPERATION: Final = 1
EXIT_HARDWARE: Final = 3
EXIT_INTEGRITY: Final = 4

QUIET_S: Final = 3600.0
"""Nothing heard for so long is worth a word: a city is never so quiet, a new site may be."""
SHORT_CARD_YEARS: Final = 1.0
SHORT_BUFFER_DAYS: Final = 2.0
HOT_CELSIUS: Final = 80.0
"""A Raspberry Pi slows down from here on."""
START_S: Final = 60
"""An agent so young may not have got round to everything."""
WIDE_ERROR_US: Final = 10_000_000

_SPOOL_INTEGRITY: Final = frozenset({"damaged", "unbalanced"})
_SPOOL_WORDS: Final = {
    "full": "spool or disk is full, and nothing may go: frames wait in memory, and are lost when that is full, too",
    "slow": "the card answers slowly: frames wait in memory",
    "failing": "the card cannot be written: frames wait in memory",
    "read-only": "the card is read-only: frames wait in memory",
    "missing": "the spool's file or its card is gone: frames wait in memory",
    "unbalanced": "the spool's sums do not match",
    "locked": "another program holds the spool: frames wait in memory",
    "damaged": "the spool is damaged; what can be read of it is being saved",
    "stopped": "the spool has ended",
}


class Level(StrEnum):
    """How bad it is."""

    FAULT = "fault"
    """Something does not work."""
    NOTE = "note"
    """It works, and somebody should know."""


@dataclass(frozen=True, slots=True)
class Remark:
    """One thing.

    Attributes:
        key: stable name; the page has it in other languages.
        level: how bad it is.
        text: in plain words.
        detail: the error behind it, with what to do; may be empty.
        values: what the text speaks of.
        exit_code: of `civigate status` because of it; 0 for a note.
    """

    key: str
    level: Level
    text: str
    detail: str = ""
    values: Mapping[str, str | int | float] = field(default_factory=dict)
    exit_code: int = 0


Report: TypeAlias = Mapping[str, Any]


def remarks(said: Report) -> tuple[Remark, ...]:
    """Return what there is to say about a report, as `agent.report` writes it, read back from JSON."""
    found = [remark for look in _LOOKS for remark in _tolerant(look, said)]
    return tuple(sorted(found, key=lambda remark: -remark.exit_code))


def exit_code(found: tuple[Remark, ...]) -> int:
    """Return 4 when something does not add up, else 3 for the hardware, else 1 for anything else that is wrong."""
    return max((remark.exit_code for remark in found), default=0)


def _tolerant(look: Callable[[Report], Iterator[Remark]], said: Report) -> Iterator[Remark]:
    try:
        yield from look(said)
    except (LookupError, TypeError, ValueError, AttributeError):
        return  # a report that has this in another form


def _fault(key: str, text: str, detail: str = "", code: int = EXIT_OPERATION, **values: str | float) -> Remark:
    return Remark(key, Level.FAULT, text, detail, values, code)


def _note(key: str, text: str, detail: str = "", **values: str | float) -> Remark:
    return Remark(key, Level.NOTE, text, detail, values)


def _radio(said: Report) -> Iterator[Remark]:
    radio = said["radio"]
    if radio is None:
        return
    if radio["state"] == "fault":
        yield _fault("radio_fault", "the radio does not work; it is tried again and again", radio["detail"], 3)
    elif radio["state"] != "receiving":
        yield _note("radio_starting", "the radio does not receive yet")
    else:
        last_us = radio["last_heard_us"]
        began_us = said["boottime_us"] - said["uptime_s"] * 1_000_000
        quiet_s = (said["boottime_us"] - max(last_us or began_us, began_us)) / 1e6
        if quiet_s >= QUIET_S:
            minutes = round(quiet_s / 60)
            yield _note(
                "quiet", f"nothing heard for {minutes} minutes: check the antenna and its cable", minutes=minutes
            )


def _spool(said: Report) -> Iterator[Remark]:
    spool = said["spool"]
    state = str(spool["state"])
    if state == "slow":
        yield _note("spool_slow", _SPOOL_WORDS[state], spool["detail"])
    elif state != "ok":
        code = EXIT_INTEGRITY if state in _SPOOL_INTEGRITY else EXIT_OPERATION
        yield _fault(f"spool_{state.replace('-', '_')}", _SPOOL_WORDS.get(state, state), spool["detail"], code)
    if spool["sealing"]:
        yield _fault("sealing", "nothing can be signed: frames are kept, and wait", spool["sealing"])
    if spool["shed_frames"]:
        frames = int(spool["shed_frames"])
        yield _note("shed", f"{frames:,} frames were lost while the card refused; they are counted", frames=frames)
    if spool["crowded"]:
        yield _note("crowded", "the disk is nearly full: the spool does not grow any more; make room on it")


def _destinations(said: Report) -> Iterator[Remark]:
    if not said["destinations"] and said["uptime_s"] > START_S:
        yield _note("no_destination", "no destination: what is heard is only counted")
    for one in said["destinations"]:
        name = str(one["destination"])
        detail = str(one["problem"] or "")
        if one["phase"] == "refused":
            yield _fault(
                "refused",
                f"destination {name} refuses this gateway: somebody has to register it there",
                detail,
                destination=name,
            )
        elif one["problem"]:
            yield _fault(
                "unreachable", f"destination {name} cannot be reached; frames are kept", detail, destination=name
            )
        elif one.get("notice"):
            yield _note("odd_link", f"the link to destination {name} works, but oddly", one["notice"], destination=name)
        elif one["held"]:
            yield _note("held", f"destination {name}: what waits may not travel now ({one['held']})", destination=name)


def _outlook(said: Report) -> Iterator[Remark]:
    outlook = said["outlook"]
    years, days = outlook["card_years"], outlook["buffer_days"]
    if years is not None and years < SHORT_CARD_YEARS:
        months = max(round(years * 12), 1)
        yield _note(
            "card", f"the card is soon worn out at this rate (months left: {months}): plan to replace it", months=months
        )
    if days is not None and days < SHORT_BUFFER_DAYS:
        yield _note("buffer", f"there is room for {days:.1f} days without a platform", days=round(days, 1))


def _time(said: Report) -> Iterator[Remark]:
    clock = said["clock"]
    if clock["utc_us"] is None:
        yield _note("no_time", "nobody has told the time yet: frames get theirs when it is known")
    elif clock["error_us"] > WIDE_ERROR_US:
        seconds = round(clock["error_us"] / 1e6)
        yield _note("wide_time", f"the time may be {seconds} s off", seconds=seconds)


def _gnss(said: Report) -> Iterator[Remark]:
    gnss = said["gnss"]
    if gnss is None:
        return
    receiver = gnss["receiver"]
    if receiver["state"] in {"absent", "silent"}:
        yield _note("gnss_silent", "the GNSS receiver does not answer", receiver["detail"])
    elif receiver["state"] == "no_fix":
        yield _note("gnss_no_fix", "the GNSS receiver has no fix: it needs a view of the sky", receiver["detail"])
    elif gnss["pulse_age_s"] is None:
        yield _note("gnss_no_pulse", "no pulse of the GNSS receiver reaches the concentrator")
    if gnss["disputed"]:
        yield _note("gnss_disputed", "GNSS receiver and host disagree about the time: one of the two is wrong")


def _host(said: Report) -> Iterator[Remark]:
    celsius = said["host"]["temperature_celsius"]
    if celsius is not None and celsius >= HOT_CELSIUS:
        yield _note("hot", f"the processor is at {celsius:.0f} °C and slows down", celsius=round(celsius))


_LOOKS: Final = (_radio, _spool, _destinations, _outlook, _time, _gnss, _host)
