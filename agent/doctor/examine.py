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
        late: the cause when it does not come to its end.
    """

    name: str
    look: Callable[[Context], Iterable[Finding]]
    limit_s: float = 20.0
    lane: str = "here"
    late: str = "too-slow"


def examine(
    checks: Sequence[Check], context: Context, total_limit_s: float = TOTAL_LIMIT_S
) -> Iterator[tuple[Finding, ...]]:
    """Yield the findings of each check, in the order of the checks, as soon as they are there."""
    looks = [_Look(check, context) for check in checks]

    def run(lane: str) -> None:
        for look in looks:
            if look.check.lane == lane and not context.stop.is_set():
                look.start()
                look.join(look.check.limit_s)
                look.left.set()

    lanes = [
        threading.Thread(target=run, args=(lane,), name=f"doctor-{lane}", daemon=True)
        for lane in dict.fromkeys(check.lane for check in checks)
    ]
    for thread in lanes:
        thread.start()
    deadline = time.monotonic() + total_limit_s
    try:
        for look in looks:
            in_turn = look.left.wait(max(0.0, deadline - time.monotonic()))
            yield look.findings(look.check.limit_s if in_turn else total_limit_s)
    except BaseException:
        # Interrupted: a concentrator that was started is stopped before the program ends.
        context.stop.set()
        deadline = time.monotonic() + STOP_LIMIT_S
        for thread in lanes:
            thread.join(max(0.0, deadline - time.monotonic()))
        raise


class _Look(threading.Thread):
    """One check, in a thread of its own; what it has found so far can be had at any time."""

    def __init__(self, check: Check, context: Context) -> None:
        super().__init__(name=f"doctor-{check.name}", daemon=True)
        self.check = check
        self.left = threading.Event()
        """Set when nobody waits for it any more: it came to its end, or its limit."""
        self._context = context
        self._found: list[Finding] = []
        self._ended = False

    def run(self) -> None:
        try:
            for finding in self.check.look(self._context):
                self._found.append(_plain(finding))
        except PermissionError as error:
            self._note("no-rights", f"{error.filename} may not be read by this user")
        except Exception as error:
            logger.debug("event=doctor_check_crashed check=%s", self.check.name, exc_info=True)
            self._note("crashed", f"the check itself failed: {type(error).__name__}: {error}")
        self._ended = True

    def findings(self, limit_s: float) -> tuple[Finding, ...]:
        """Return what was found; that the limit was too short, too, where it was."""
        if self._ended:
            return tuple(self._found)
        evidence = f"no answer within {limit_s:g} s"
        return (*self._found, causes.found(self.check.late, self.check.name, evidence, config=self._context.path))

    def _note(self, cause: str, evidence: str) -> None:
        self._found.append(_plain(causes.found(cause, self.check.name, evidence)))


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
