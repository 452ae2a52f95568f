# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The bench's own record: how the golden gateway heard its node, run after run, so that a loose connector shows before
boards fail.

One JSON object a line in a file beside the bench file: `utc`, `rssi_dbm` by frequency in MHz, and `note`, which names
bench file and node. A line that cannot be read is passed over.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Final

from hil_tests.report.drawing import Line, chart
from hil_tests.report.results import Outcomes
from hil_tests.report.style import STYLE

GOLDEN_LINE: Final = "RSSI of the golden gateway, by channel (MHz)"
"""Name of the line from which a record is taken."""
MAX_BYTES: Final = 4 << 20
MAX_RECORDS: Final = 5000
DAY_S: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class Record:
    """One run.

    Attributes:
        utc: like 2026-08-25T12:00:00Z.
        rssi_dbm: of the golden gateway, by frequency in MHz.
        note: bench file and node, to see what was changed when.
    """

    utc: str
    rssi_dbm: tuple[tuple[float, float], ...]
    note: str

    @property
    def mean_dbm(self) -> float:
        """Over all channels."""
        return fmean(level for _, level in self.rssi_dbm)


def record_of(outcomes: Outcomes) -> Record | None:
    """Return what a run adds; None when the golden gateway was not asked."""
    lines = [points for one in outcomes.results for name, points in one.lines if name == GOLDEN_LINE]
    if not lines or not lines[0]:
        return None
    note = " ".join(filter(None, (outcomes.facts.get("bench digest", "")[:8], outcomes.facts.get("node", ""))))
    return Record(outcomes.began, lines[0], note)


def append(path: Path, record: Record) -> None:
    """Add a record to the file."""
    said = {"utc": record.utc, "rssi_dbm": record.rssi_dbm, "note": record.note}
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(said) + "\n")


def read(path: Path) -> list[Record]:
    """Return the records, oldest first; the newest 5000."""
    with path.open("rb") as file:
        lines = file.read(MAX_BYTES).decode(errors="replace").splitlines()
    records = []
    for line in lines[-MAX_RECORDS:]:
        try:
            said = json.loads(line)
            points = tuple((float(mhz), float(level)) for mhz, level in said["rssi_dbm"])
            datetime.datetime.fromisoformat(said["utc"])
            records.append(Record(said["utc"], points, str(said["note"])))
        except (ValueError, LookupError, TypeError):
            continue
    return [one for one in records if one.rssi_dbm]


def render(records: Sequence[Record], bench: str) -> str:
    """Return the page: the mean over all channels, and when something was changed."""
    first = datetime.datetime.fromisoformat(records[0].utc)
    days = [(datetime.datetime.fromisoformat(one.utc) - first).total_seconds() / DAY_S for one in records]
    levels = [one.mean_dbm for one in records]
    lines: list[Line] = [("golden gateway, mean of all channels (dBm, by day)", tuple(zip(days, levels, strict=True)))]
    changes = [one for before, one in pairwise(records) if one.note != before.note]
    rows = "".join(
        f"<tr><td>{escape(one.utc)}</td><td class='n'>{one.mean_dbm:.1f}</td><td>{escape(one.note)}</td></tr>"
        for one in (records[0], *changes, records[-1])
    )
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Drift of {escape(bench)}</title><style>{STYLE}</style></head><body>
<h1>Drift of {escape(bench)}</h1>
<p>{len(records)} runs since {escape(records[0].utc)}: now {levels[-1]:.1f} dBm, {levels[-1] - levels[0]:+.1f} dB since
the first, {min(levels):.1f} to {max(levels):.1f} dBm in all. A step without a change of the bench is a connector, a
cable, or the node.</p>
{chart(lines)}
<h2>First, each change of the bench, last</h2>
<table><thead><tr><th>run</th><th class="n">mean, dBm</th><th>bench file, node</th></tr></thead>{rows}</table>
</body></html>
"""
