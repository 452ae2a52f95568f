# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The findings as lines for a person: one for what is in order, three for what is not."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from agent.doctor.context import AgentState
from agent.doctor.finding import Finding, Verdict

if TYPE_CHECKING:
    from agent.doctor.context import Context
    from agent.doctor.sheet import Sheet

NAME_WIDTH: Final = 13
LEAST_WIDTH: Final = 60
_MARKS: Final = {Verdict.OK: "ok", Verdict.WARN: "WARN", Verdict.FAIL: "FAIL", Verdict.SKIPPED: "-"}
_COLOURS: Final = {Verdict.OK: 32, Verdict.WARN: 33, Verdict.FAIL: 31, Verdict.SKIPPED: 2}
_HOW: Final = {
    AgentState.RUNNING: "the agent runs and is asked",
    AgentState.STOPPED: "no agent runs, so the concentrator is started for a moment",
}
_INDENT: Final = " " * (6 + NAME_WIDTH)


def heading(context: Context) -> str:
    """Return the line above all others."""
    name = "" if context.config is None else f" {context.config.gateway.name or ''}".rstrip()
    how = _HOW.get(context.agent, f"the agent: {context.agent.value}")
    if context.config is None:
        how = "without a configuration, whether an agent runs is not known"
    if context.agent is AgentState.STOPPED and context.hands_off:
        how = f"no agent runs; {context.hands_off}"
    return f"civigate doctor{name}: {how}; {context.path}"


def lines(finding: Finding, *, colour: bool, width: int) -> Iterator[str]:
    """Yield the lines of a finding.

    Args:
        finding: what was found.
        colour: for a terminal.
        width: columns.
    """
    mark = f"{_MARKS[finding.verdict]:4}"
    if colour:
        mark = f"\033[{_COLOURS[finding.verdict]}m{mark}\033[0m"
    width = max(width, LEAST_WIDTH)
    first, *rest = _wrapped(finding.evidence, width)
    yield f"{mark}  {finding.check:{NAME_WIDTH}}{first}"
    yield from (f"{_INDENT}{line}" for line in rest)
    if finding.verdict in {Verdict.WARN, Verdict.FAIL}:
        yield from _labelled("why:", finding.cause, width)
        yield from _labelled("do:", f"{finding.next_step} [{finding.code}]", width)
    elif finding.cause:
        yield from (f"{_INDENT}{line}" for line in _wrapped(finding.cause, width))


def closing(sheet: Sheet) -> str:
    """Return the line below all others."""
    counts = sheet.counts
    said = [
        f"{counts['fail']} failed" if counts["fail"] else "",
        f"{counts['warn']} {'warning' if counts['warn'] == 1 else 'warnings'}" if counts["warn"] else "",
        f"{counts['ok']} in order",
        f"{counts['skipped']} not checked" if counts["skipped"] else "",
    ]
    first = next((finding for finding in sheet.findings if finding.verdict is Verdict.FAIL), None)
    begin = "" if first is None or counts["fail"] == 1 else f"; begin with the first ({first.check}): others may follow"
    return f"{', '.join(filter(None, said))}, in {sheet.took_s:.1f} s{begin}"


def _labelled(label: str, text: str, width: int) -> Iterator[str]:
    begin = f"{_INDENT}{label:5}"
    for number, line in enumerate(_wrapped(text, width - 5)):
        yield f"{begin if number == 0 else _INDENT + ' ' * 5}{line}"


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width - len(_INDENT), break_long_words=False, break_on_hyphens=False) or [""]
