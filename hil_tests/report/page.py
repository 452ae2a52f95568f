# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The report of a run: one HTML page that needs nothing else, for somebody who was not there.

The verdict comes first, then what went wrong with its evidence, then the list, then each test: what was asked, what was
measured against which limit, and what a failure means.
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from itertools import chain
from pathlib import Path
from typing import Final

from agent.certificate import Outcome, Trial, Verdict
from hil_tests.catalogue import CATALOGUE
from hil_tests.report.drawing import bar, chart
from hil_tests.report.figures import allowed, measured, within
from hil_tests.report.results import Outcomes, Result
from hil_tests.report.style import (
    OUTCOME_COLOURS,
    SIMULATED,
    SIMULATED_CLASS,
    SIMULATED_MEANS,
    STYLE,
    VERDICT_COLOURS,
)

SHOWN_BYTES: Final = 6000
"""Of an attachment that is text: its end; the whole file lies beside the page."""
TEXTS: Final = {".txt", ".json", ".toml"}
FACTS: Final = {
    "board": "board",
    "board serial": "serial number",
    "EUI": "EUI",
    "chip version": "chip version",
    "node": "node",
    "bench": "bench",
    "bench digest": "bench, SHA-256",
    "operator": "tested by",
    "civigate": "software",
    "commit": "commit",
    "emulator": "emulator",
    "image": "image",
}
"""What is shown of the run, and by which name."""
_FAILURES: Final = {entry.number: entry.failure for entry in CATALOGUE}
_NO_VERDICT: Final = "This says nothing about the board: mend the bench, and run it again."


def render(outcomes: Outcomes, folder: Path) -> str:
    """Return the page.

    Args:
        outcomes: what it shows.
        folder: where it will lie; attachments are named from there.
    """
    board = outcomes.facts.get("EUI") or outcomes.facts.get("board", "board")
    stamp = "SIMULATED " if outcomes.simulated else ""
    return "\n".join(
        chain(
            [
                '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">',
                '<meta name="viewport" content="width=device-width, initial-scale=1">',
                f"<title>{escape(f'{stamp}{outcomes.verdict}: {board}, {outcomes.began}')}</title>",
                f"<style>{STYLE}</style></head><body{SIMULATED_CLASS if outcomes.simulated else ''}>",
            ],
            _head(outcomes, board),
            _failures(outcomes, folder),
            _list(outcomes),
            _each(outcomes),
            [f"<footer>{_footer(outcomes)}</footer></body></html>", ""],
        )
    )


def _head(outcomes: Outcomes, board: str) -> Iterator[str]:
    tests = outcomes.tests
    count = {kind: sum(one.outcome is kind for one in tests) for kind in Outcome}
    yield "<header><div>"
    yield f"<h1>Board {escape(board)}</h1>"
    yield f'<div class="verdict" style="background:{VERDICT_COLOURS[outcomes.verdict]}">{outcomes.verdict}</div>'
    if outcomes.simulated:
        yield f'<div class="verdict simulated">{SIMULATED}</div><p>{SIMULATED_MEANS}</p>'
    said = ", ".join(f"{number} {kind.lower()}" for kind, number in count.items() if number)
    yield f"<p>{_sentence(outcomes)} Of {len(tests)} tests: {said}.</p></div></header>"
    yield '<table class="facts">'
    for name, shown in FACTS.items():
        if value := outcomes.facts.get(name):
            yield f"<tr><th>{shown}</th><td>{escape(value)}</td></tr>"
    yield f"<tr><th>time</th><td>{_time(outcomes.began)} to {_time(outcomes.ended)} UTC</td></tr>"
    yield f"<tr><th>chance</th><td>--hil-seed {outcomes.seed} draws the same again</td></tr></table>"


def _sentence(outcomes: Outcomes) -> str:
    tests = outcomes.tests
    match outcomes.verdict:
        case Verdict.PASS:
            return "Every test that is required was done and passed."
        case Verdict.FAIL:
            return f"The board failed {_names(one for one in tests if one.outcome is Outcome.FAIL)}."
    missing = _names(one for one in tests if one.required and one.outcome is not Outcome.PASS)
    return f"Nothing failed, but not all was done: {missing}. This says neither yes nor no."


def _time(stamp: str) -> str:
    return stamp.replace("T", " ").removesuffix("Z")


def _names(tests: Iterator[Trial]) -> str:
    return ", ".join(one.id for one in tests)


def _failures(outcomes: Outcomes, folder: Path) -> Iterator[str]:
    wrong = [one for one in outcomes.results if one.outcome in {Outcome.FAIL, Outcome.ERROR}]
    if not wrong:
        return
    yield "<h2>What went wrong</h2>"
    for one in wrong:
        whose = "the bench, not the board" if one.outcome is Outcome.ERROR else "the board"
        colour = OUTCOME_COLOURS[one.outcome]
        yield f'<article style="border-color:{colour}"><h3>{escape(one.number)} {escape(_words(one))}</h3>'
        yield f'<p><span class="outcome" style="color:{colour}">{one.outcome}</span> ({whose}): '
        yield f"{escape(one.reason)}</p>"
        means = _FAILURES.get(one.number, "") if one.outcome is Outcome.FAIL else _NO_VERDICT
        yield f'<p class="note">{escape(means)}</p>'
        yield f"<details><summary>what was said</summary><pre>{escape(one.details[-SHOWN_BYTES:])}</pre></details>"
        for path in one.attachments:
            yield _attachment(path, folder)
        yield "</article>"


def _attachment(path: Path, folder: Path) -> str:
    try:
        name = path.relative_to(folder)
    except ValueError:
        name = path
    size = path.stat().st_size if path.exists() else 0
    link = f'<a href="{escape(str(name))}">{escape(str(name))}</a> <span class="note">{size} bytes</span>'
    if path.suffix not in TEXTS or not size:
        return f"<p>{link}</p>"
    text = path.read_bytes()[-SHOWN_BYTES:].decode(errors="replace")
    return f"<details><summary>{link}</summary><pre>{escape(text)}</pre></details>"


def _list(outcomes: Outcomes) -> Iterator[str]:
    yield "<h2>The tests</h2><table>"
    for one in outcomes.tests:
        required = "" if one.required else ' <span class="note">(not required)</span>'
        note = _note(one)
        yield (
            f'<tr><td class="id"><a href="#{one.id}">{one.id}</a></td>{_outcome(one.outcome, "td")}'
            f"<td>{escape(one.title)}{required}"
            + (f'<div class="note">{escape(note)}</div>' if note else "")
            + "</td></tr>"
        )
    yield "</table>"


def _note(one: Trial) -> str:
    return "; ".join(one.reasons) or ("no test of this run" if one.outcome is Outcome.NOT_RUN else "")


def _each(outcomes: Outcomes) -> Iterator[str]:
    """Say of each test what was asked, what was measured against which limit, and what a failure means."""
    yield "<h2>Test by test</h2>"
    for entry, one in zip(CATALOGUE, outcomes.tests, strict=True):
        yield f'<section id="{entry.number}"><h3>{entry.number} {escape(entry.title)} {_outcome(one.outcome)}</h3>'
        yield f'<p class="note">If it fails: {escape(entry.failure)}</p>'
        for part in (found for found in outcomes.results if found.number == entry.number):
            reason = "" if part.outcome is Outcome.PASS else f": {part.reason}"
            yield f'<h4>{escape(_words(part))} {_outcome(part.outcome)}<span class="note">{escape(reason)}</span></h4>'
            for value in part.values:
                beyond = "" if within(value) else ' <b style="color:#a8201a">beyond its limit</b>'
                yield (
                    f'<div class="value"><span class="name">{escape(value.name)}{beyond}</span>'
                    f"<span>{escape(measured(value))}</span>"
                    f'<span class="note">allowed: {escape(allowed(value)) or "anything"}</span>'
                    f"<span>{bar(value) if value.unit else ''}</span></div>"
                )
            if part.lines:
                yield chart(part.lines)
        yield "</section>"


def _outcome(outcome: Outcome, element: str = "span") -> str:
    return f'<{element} class="outcome" style="color:{OUTCOME_COLOURS[outcome]}">{outcome}</{element}>'


def _words(result: Result) -> str:
    name, _, parameters = result.name.removesuffix("]").partition("[")
    words = name.removeprefix(f"test_{result.number.lower()}_").removeprefix("test_").replace("_", " ")
    return f"{words}: {parameters}" if parameters else words


def _footer(outcomes: Outcomes) -> str:
    took_s = sum(one.took_s for one in outcomes.results)
    done = sum(one.outcome is not Outcome.NOT_RUN for one in outcomes.results)
    return (
        f"{done} of {len(outcomes.results)} parts in {took_s:.0f} s. "
        "A full bar is far from its limit, an empty one is at it. Beside this page: junit.xml, the signed certificate "
        "as .json (civigate certificate verify) and as a form to print, and the public key of the bench, bench.pub."
    )
