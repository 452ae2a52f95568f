# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The report of a run: one HTML page that needs nothing else, for somebody who was not there.

The verdict comes first, then what was measured against which limit, then the level's line, then what went wrong with
its evidence, then what was not done.
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from itertools import chain
from pathlib import Path
from typing import Final

from agent.certificate import Outcome, Trial, Value, Verdict
from hil_tests.report.drawing import bar, chart, margin
from hil_tests.report.results import Outcomes, Result
from hil_tests.report.style import OUTCOME_COLOURS, SIMULATED, STYLE, VERDICT_COLOURS

SHOWN_BYTES: Final = 6000
"""Of an attachment that is text: its end; the whole file lies beside the page."""
TEXTS: Final = {".txt", ".json", ".toml"}
FACTS: Final = (
    "board",
    "board serial",
    "EUI",
    "chip version",
    "node",
    "bench",
    "bench digest",
    "operator",
    "civigate",
    "commit",
    "emulator",
    "image",
)


def render(outcomes: Outcomes, folder: Path) -> str:
    """Return the page.

    Args:
        outcomes: what it shows.
        folder: where it will lie; attachments are named from there.
    """
    board = outcomes.facts.get("EUI") or outcomes.facts.get("board", "board")
    return "\n".join(
        chain(
            [
                '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">',
                '<meta name="viewport" content="width=device-width, initial-scale=1">',
                f"<title>{escape(f'{outcomes.verdict}: {board}, {outcomes.began}')}</title>",
                f"<style>{STYLE}</style></head><body>",
            ],
            _head(outcomes, board),
            _failures(outcomes, folder),
            _list(outcomes),
            _lines(outcomes),
            _measured(outcomes),
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
        yield f'<div class="verdict simulated">{SIMULATED}</div>'
    said = ", ".join(f"{number} {kind.lower()}" for kind, number in count.items() if number)
    yield f"<p>{_sentence(outcomes)} Of {len(tests)} tests: {said}.</p></div></header>"
    yield '<table class="facts">'
    for name in FACTS:
        if value := outcomes.facts.get(name):
            yield f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>"
    yield f"<tr><th>time</th><td>{outcomes.began} to {outcomes.ended}, seed {outcomes.seed}</td></tr></table>"


def _sentence(outcomes: Outcomes) -> str:
    tests = outcomes.tests
    match outcomes.verdict:
        case Verdict.PASS:
            return "Every test that is required was done and passed."
        case Verdict.FAIL:
            return f"The board failed {_names(one for one in tests if one.outcome is Outcome.FAIL)}."
    missing = _names(one for one in tests if one.required and one.outcome is not Outcome.PASS)
    return f"Nothing failed, but not all was done: {missing}. So it says neither yes nor no."


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
        note = "; ".join(one.reasons) or ("no test of this run" if one.outcome is Outcome.NOT_RUN else "")
        required = "" if one.required else ' <span class="note">(not required)</span>'
        yield (
            f'<tr><td class="id">{one.id}</td>'
            f'<td class="outcome" style="color:{OUTCOME_COLOURS[one.outcome]}">{one.outcome}</td>'
            f"<td>{escape(one.title)}{required}"
            + (f'<div class="note">{escape(note)}</div>' if note else "")
            + "</td></tr>"
        )
    yield "</table>"


def _lines(outcomes: Outcomes) -> Iterator[str]:
    for one in outcomes.results:
        if one.lines:
            yield f"<h2>{escape(one.number)}: level</h2>{chart(one.lines)}"


def _measured(outcomes: Outcomes) -> Iterator[str]:
    yield "<h2>What was measured</h2>"
    heads = ("<th></th>", "<th>value</th>", "<th></th>", '<th class="n">measured</th>', '<th class="n">allowed</th>')
    yield f"<table><thead><tr>{''.join(heads)}<th>margin</th></tr></thead>"
    for one in outcomes.tests:
        for value in one.values:
            yield (
                f'<tr><td class="id">{one.id}</td><td>{escape(value.name)}</td>'
                f"<td>{escape('' if _within(value) else 'beyond')}</td>"
                f'<td class="n">{_figure(value.value)} {escape(value.unit)}</td><td class="n">{_allowed(value)}</td>'
                f"<td>{bar(value) if value.unit else ''}</td></tr>"
            )
    yield "</table>"


def _within(value: Value) -> bool:
    room = margin(value)
    return room is None or room >= 0


def _allowed(value: Value) -> str:
    low, high = value.low, value.high
    if low is not None and high is not None:
        return _figure(low) if low == high else f"{_figure(low)} to {_figure(high)}"
    if high is not None:
        return f"at most {_figure(high)}"
    return "" if low is None else f"at least {_figure(low)}"


def _figure(value: float) -> str:
    """Write a number with four figures, large ones whole."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _words(result: Result) -> str:
    return result.name.removeprefix(f"test_{result.number.lower()}_").removeprefix("test_").replace("_", " ")


def _footer(outcomes: Outcomes) -> str:
    took_s = sum(one.took_s for one in outcomes.results)
    return (
        f"{len(outcomes.results)} parts in {took_s:.0f} s. A full bar is far from its limit, an empty one is at it; "
        "counts have none. Beside this page: junit.xml, the signed certificate as .json (civigate certificate verify) "
        "and as a form to print, and the public key of the bench, bench.pub."
    )
