# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Log lines as JSON: names and values as the call has them, whatever they hold."""

from __future__ import annotations

import ast
import json
import logging
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import agent
from agent.logs import MAX_VALUE, JsonFormatter, configure

EVENT = re.compile(r"event=([a-z0-9_]+|(spool|uplink)_%s)( [a-z][a-z0-9_]*=| |$)")


def line(text: str, *values: object, level: int = logging.INFO, trace: bool = False) -> dict[str, Any]:
    info = sys.exc_info() if trace else None
    record = logging.LogRecord("agent.test", level, "x.py", 1, text, values, info)
    said = JsonFormatter().format(record)
    assert "\n" not in said
    found: dict[str, Any] = json.loads(said)
    return found


def test_values_keep_their_type_and_their_spaces() -> None:
    said = line("event=hung thread=%s overdue_s=%.1f tries=%d what=systemd is not fed", "radio a=b", 3.25, 4)
    assert said["event"] == "hung"
    assert said["thread"] == "radio a=b"
    assert said["overdue_s"] == 3.25
    assert said["tries"] == 4
    assert said["what"] == "systemd is not fed"
    assert said["level"] == "info"
    assert said["logger"] == "agent.test"


def test_a_value_may_bring_fields_of_its_own() -> None:
    said = line("event=radio_repair step=%s %s", "reset", "failures=3 of=100 %")
    assert said["step"] == "reset"
    assert said["failures"] == "3"
    assert said["of"] == "100 %"


def test_no_field_hides_what_belongs_to_the_line() -> None:
    said = line("event=odd level=%s time=%s", "x", "y")
    assert said["level"] == "info"
    assert said["level_"] == "x"
    assert said["time_"] == "y"


def test_an_exception_is_one_line_with_its_trace() -> None:
    try:
        int("two\nlines")
    except ValueError:
        said = line("event=radio_defect", level=logging.ERROR, trace=True)
    assert said["event"] == "radio_defect"
    assert "ValueError: invalid literal" in said["trace"]


def test_what_other_libraries_say_is_a_message() -> None:
    assert line("Connected to %s", "x")["message"] == "Connected to x"
    assert line("100 % of it")["message"] == "100 % of it"
    # a call with too few or too many values is a defect of its author, and no reason to lose what it says
    assert "%s" in line("event=odd one=%s two=%s", 1)["message"]
    assert line("%s", "x" * 10_000)["message"] == "x" * MAX_VALUE + "…"


@given(st.text(), st.lists(st.one_of(st.text(), st.integers(), st.none(), st.floats(allow_nan=False)), max_size=4))
def test_any_text_becomes_one_json_object(text: str, values: list[object]) -> None:
    assert line(f"event={text}", *values)
    assert line(text, *values)


@given(st.text(), st.integers(), st.text())
def test_any_value_comes_back(first: str, second: int, third: str) -> None:
    said = line("event=tested first=%s second=%d third=%s", first, second, third)
    assert (said["first"], said["second"], said["third"]) == (first, second, third)


def test_text_stays_on_its_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.root, "handlers", [])
    monkeypatch.setenv("JOURNAL_STREAM", "1:2")
    configure("info")
    logging.getLogger("agent.test").warning("event=odd what=%s", "broker says\n<3>agent event=forged\x1b[2J")
    assert capsys.readouterr().err == "<4>agent.test event=odd what=broker says\\n<3>agent event=forged\\x1b[2J\n"


def calls() -> Iterator[tuple[str, str]]:
    """Yield place and text of every log call of the agent."""
    for path in Path(next(iter(agent.__path__))).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(
                    func=ast.Attribute(
                        value=ast.Name(id="logger" | "log" | "_log"),
                        attr="debug" | "info" | "warning" | "error" | "exception",
                    ),
                    args=[ast.Constant(value=str(text)), *_],
                ):
                    yield f"{path.name}:{node.lineno}", text


def test_every_line_of_the_agent_has_an_event_with_a_name() -> None:
    found = list(calls())
    assert len(found) > 50
    assert [place for place, text in found if not EVENT.match(text)] == []
