# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""JUnit XML with properties: of the suite, what was tested on what; of each test, what was measured and its limits."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree as ET

from agent.certificate import Outcome, Value
from hil_tests.report.results import Outcomes

_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that no XML may have [XML 1.0, Char]."""


def write(outcomes: Outcomes, path: Path) -> None:
    """Write the file."""
    results = outcomes.results
    count = {kind: sum(one.outcome is kind for one in results) for kind in Outcome}
    suite = ET.Element(
        "testsuite",
        name="hil_tests",
        tests=str(len(results)),
        failures=str(count[Outcome.FAIL]),
        errors=str(count[Outcome.ERROR]),
        skipped=str(count[Outcome.SKIPPED] + count[Outcome.NOT_RUN]),
        time=f"{sum(one.took_s for one in results):.3f}",
        timestamp=outcomes.began.removesuffix("Z"),
    )
    whole = {
        **outcomes.facts,
        "seed": str(outcomes.seed),
        "simulated": str(outcomes.simulated).lower(),
        "verdict": str(outcomes.verdict),
    }
    _properties(suite, whole)
    for one in results:
        case = ET.SubElement(
            suite, "testcase", classname=one.number or "bench", name=one.name, time=f"{one.took_s:.3f}"
        )
        _properties(case, {value.name: _measured(value) for value in one.values})
        match one.outcome:
            case Outcome.FAIL:
                ET.SubElement(case, "failure", message=_plain(one.reason)).text = _plain(one.details)
            case Outcome.ERROR:
                ET.SubElement(case, "error", message=_plain(one.reason)).text = _plain(one.details)
            case Outcome.SKIPPED | Outcome.NOT_RUN:
                ET.SubElement(case, "skipped", message=_plain(one.reason))
        if one.attachments:
            # what several CI systems look for
            ET.SubElement(case, "system-out").text = "\n".join(f"[[ATTACHMENT|{file}]]" for file in one.attachments)
    root = ET.Element("testsuites")
    root.append(suite)
    ET.indent(root)
    ET.ElementTree(root).write(path, encoding="utf-8", xml_declaration=True)


def _properties(element: ET.Element, values: dict[str, str]) -> None:
    if values:
        holder = ET.SubElement(element, "properties")
        for name, value in values.items():
            ET.SubElement(holder, "property", name=_plain(name), value=_plain(value))


def _measured(value: Value) -> str:
    limits = "" if value.low is None else f" >= {value.low:g}"
    limits += "" if value.high is None else f" <= {value.high:g}"
    return f"{value.value:g} {value.unit}".strip() + limits


def _plain(text: str) -> str:
    return _NOT_XML.sub("?", text)
