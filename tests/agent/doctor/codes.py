# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Writes the list of all codes into docs/doctor.md.

python -m tests.agent.doctor.codes
"""

from __future__ import annotations

import re
from pathlib import Path

from agent.doctor import causes

PAGE = Path("docs/doctor.md")
HEADING = "## All codes\n"


def listed() -> str:
    """Return the chapter."""
    lines = [HEADING, "| code | | why | do |", "|---|---|---|---|"]
    for cause in causes.table().values():
        cells = (cause.code, cause.verdict.value, _plain(cause.cause), _plain(cause.next_step))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _plain(text: str) -> str:
    text = text.replace("{hint}", "as the line itself says")
    return re.sub(r"{(\w+)}", lambda word: word[1].upper(), text).replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    kept = PAGE.read_text(encoding="utf-8").partition(HEADING)[0]
    PAGE.write_text(kept + listed(), encoding="utf-8")
