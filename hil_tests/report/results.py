# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What became of each test, and of each line of the list."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from agent.certificate import Certificate, Outcome, Trial, Value, Verdict, verdict_of
from hil_tests.catalogue import CATALOGUE, Entry


@dataclass(frozen=True, slots=True)
class Result:
    """One test function, as it went.

    Attributes:
        name: of the function, with its parameters.
        number: in the list; empty for what belongs to none.
        required: whether its line is incomplete when this part is skipped or not run.
        outcome: PASS, FAIL, ERROR (of the bench), SKIPPED or NOT RUN (left out, or broken off).
        took_s: setup and teardown included.
        reason: why it failed, or was skipped or not run, in one line.
        values: what was measured.
        lines: what was drawn: name and points.
        details: of a failure: traceback and what was said.
        attachments: files of a failure, below the report's folder.
    """

    name: str
    number: str
    required: bool
    outcome: Outcome
    took_s: float
    reason: str = ""
    values: tuple[Value, ...] = ()
    lines: tuple[tuple[str, tuple[tuple[float, float], ...]], ...] = ()
    details: str = ""
    attachments: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class Outcomes:
    """A whole run.

    Attributes:
        results: in their order.
        facts: about board, versions and bench; see `plugin`.
        began, ended: UTC, like 2026-08-25T12:00:00Z.
        seed: of the run.
        simulated: no hardware was there.
    """

    results: tuple[Result, ...]
    facts: dict[str, str] = field(default_factory=dict)
    began: str = ""
    ended: str = ""
    seed: int = 0
    simulated: bool = True

    @property
    def tests(self) -> tuple[Trial, ...]:
        """The list, each line with what became of it."""
        return tuple(_line(entry, [one for one in self.results if one.number == entry.number]) for entry in CATALOGUE)

    @property
    def verdict(self) -> Verdict:
        """Of the board."""
        return verdict_of(self.tests)

    def certificate(self) -> Certificate:
        """Return what is certified."""
        facts = self.facts
        return Certificate(
            board={
                "model": facts.get("board", ""),
                "serial": facts.get("board serial", ""),
                "eui": facts.get("EUI", ""),
                "chip_version": facts.get("chip version", ""),
            },
            versions={
                "civigate": facts.get("civigate", ""),
                "commit": facts.get("commit", ""),
                "emulator": facts.get("emulator", ""),
                "image": facts.get("image", ""),
            },
            bench={"name": facts.get("bench", ""), "digest": facts.get("bench digest", "")},
            operator=facts.get("operator", ""),
            began=self.began,
            ended=self.ended,
            seed=self.seed,
            simulated=self.simulated,
            tests=self.tests,
        )


def _line(entry: Entry, parts: Sequence[Result]) -> Trial:
    values = tuple(value for part in parts for value in part.values)
    reasons = tuple(dict.fromkeys(part.reason for part in parts if part.reason and part.outcome is not Outcome.PASS))
    return Trial(entry.number, entry.title, entry.required, _outcome(parts), values, reasons)


def _outcome(parts: Iterable[Result]) -> Outcome:
    """Return the outcome of a line: the worst of its parts; a part that is not required may be missing."""
    done = list(parts)
    kinds = {part.outcome for part in done}
    for worst in (Outcome.FAIL, Outcome.ERROR):
        if worst in kinds:
            return worst
    if Outcome.PASS not in kinds:
        return Outcome.SKIPPED if Outcome.SKIPPED in kinds else Outcome.NOT_RUN
    missing = any(part.required for part in done if part.outcome in {Outcome.SKIPPED, Outcome.NOT_RUN})
    return Outcome.PARTLY if missing else Outcome.PASS
