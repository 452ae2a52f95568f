# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Runs the checks: several at a time, each under a limit of its own, all under one; whatever a check does is a finding.

A check runs in a thread. One that does not come back is left to itself: the thread dies with the program, and what it
holds (a device that hangs) is the matter that the finding tells of.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from agent.doctor import causes
from agent.doctor.finding import Finding

if TYPE_CHECKING:
    from agent.doctor.context import Context

logger = logging.getLogger(__name__)

TOTAL_LIMIT_S: Final = 120.0
"""All together. A healthy gateway takes some seconds; limits are for a Pi Zero, whose imports alone take long."""

STOP_LIMIT_S: Final = 4.0
"""How long an interrupted look waits for a concentrator that is just being started."""
MAX_LETTERS: Final = 1000
"""Of one line; what others say may be long."""


@dataclass(frozen=True, slots=True)
class Check:
    """A thing to look at.

    Attributes:
        name: stable; the findings of it have this name, or others of the same subject.
        look: returns what it found; may raise anything.
        limit_s: how long it may take.
        lane: checks of one lane run one after the other, those of different lanes at the same time.
    """

    name: str
    look: Callable[[Context], Iterable[Finding]]
    limit_s: float = 20.0
    lane: str = "here"


def examine(
    checks: Sequence[Check], context: Context, total_limit_s: float = TOTAL_LIMIT_S
) -> Iterator[tuple[Finding, ...]]:
    """Yield the findings of each check, in the order of the checks, as soon as they are there."""
    results: list[tuple[Finding, ...] | None] = [None] * len(checks)
    done = [threading.Event() for _ in checks]

    def run(lane: str) -> None:
        for index, check in enumerate(checks):
            if check.lane == lane and not context.stop.is_set():
                results[index] = _limited(check, context)
                done[index].set()

    lanes = [
        threading.Thread(target=run, args=(lane,), name=f"doctor-{lane}", daemon=True)
        for lane in dict.fromkeys(check.lane for check in checks)
    ]
    for thread in lanes:
        thread.start()
    deadline = time.monotonic() + total_limit_s
    try:
        for index, check in enumerate(checks):
            done[index].wait(max(0.0, deadline - time.monotonic()))
            found = results[index]
            yield _late(check, total_limit_s) if found is None else found
    except BaseException:
        # Interrupted: a concentrator that was started is stopped before the program ends.
        context.stop.set()
        deadline = time.monotonic() + STOP_LIMIT_S
        for thread in lanes:
            thread.join(max(0.0, deadline - time.monotonic()))
        raise


def _limited(check: Check, context: Context) -> tuple[Finding, ...]:
    """Run a check under its limit."""
    box: list[tuple[Finding, ...]] = []

    def run() -> None:
        found: list[Finding] = []
        try:
            found.extend(check.look(context))
        except PermissionError as error:
            found.append(causes.found("no-rights", check.name, f"{error.filename} may not be read by this user"))
        except Exception as error:
            logger.debug("event=doctor_check_crashed check=%s", check.name, exc_info=True)
            evidence = f"the check itself failed: {type(error).__name__}: {error}"
            found.append(causes.found("crashed", check.name, evidence))
        box.append(tuple(map(_plain, found)))

    worker = threading.Thread(target=run, name=f"doctor-{check.name}", daemon=True)
    worker.start()
    worker.join(check.limit_s)
    return box[0] if box else _late(check, check.limit_s)


def _plain(finding: Finding) -> Finding:
    """Return a finding without characters that would do something to a terminal: some come from strangers."""
    return replace(
        finding,
        evidence=_printable(finding.evidence),
        cause=_printable(finding.cause),
        next_step=_printable(finding.next_step),
    )


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)[:MAX_LETTERS]


def _late(check: Check, limit_s: float) -> tuple[Finding, ...]:
    return (causes.found("too-slow", check.name, f"no answer within {limit_s:g} s"),)
