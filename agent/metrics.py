# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The report of the running agent as metrics, in the text format of Prometheus, version 0.0.4.

The format is written here in a few lines: the client library would take another megabyte of a gateway's memory, and
count once more what the report counts already. What there is to see is in `agent.families`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from agent import report
from agent.families import FAMILIES, PREFIX, Family, Report

TEXTFILE_INTERVAL_S: Final = 15.0


def render(said: Report) -> str:
    """Return a report as text; what it does not have is left out.

    Args:
        said: as `agent.report` writes it, read back from JSON.
    """
    return "".join(_family(family, said) for family in FAMILIES)


class Textfile:
    """The file of node_exporter's textfile collector: whole at any time, away when nobody runs.

    Args:
        path: of the file.
        failed: told why it cannot be written, once per reason.
    """

    def __init__(self, path: Path, failed: Callable[[str], None]) -> None:
        self._path = path
        self._failed = failed
        self._why = ""
        self._due_s = -math.inf

    def renew(self, said: Mapping[str, object], now_s: float) -> None:
        """Write it, if it is time.

        Args:
            said: as `agent.report` takes it.
            now_s: monotonic.
        """
        if now_s < self._due_s:
            return
        self._due_s = now_s + TEXTFILE_INTERVAL_S
        draft = self._path.with_name(f".{self._path.name}.new")
        try:
            draft.write_text(render(json.loads(report.as_text(said))), encoding="utf-8")
            draft.chmod(0o644)
            draft.replace(self._path)
        except OSError as error:
            why = f"{self._path}: {error.strerror}; let the agent's user write its folder [CG-MET-001]"
            if why != self._why:
                self._failed(why)
            self._why = why
        else:
            self._why = ""

    def end(self) -> None:
        """Take it away: old figures would look like those of now."""
        with suppress(OSError):
            self._path.unlink()


def _family(family: Family, said: Report) -> str:
    lines = []
    with suppress(LookupError, TypeError, AttributeError, ValueError):
        for labels, value in family.samples(said):
            if value is not None:
                told = ",".join(f'{name}="{_escaped(str(text))}"' for name, text in labels.items())
                lines.append(f"{PREFIX}{family.name}{f'{{{told}}}' if told else ''} {_number(value)}\n")
    if not lines:
        return ""
    name = PREFIX + family.name
    return f"# HELP {name} {family.meaning}\n# TYPE {name} {family.kind}\n" + "".join(lines)


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return repr(float(value)) if isinstance(value, float) else str(int(value))
