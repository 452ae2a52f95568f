# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What socket and page tell, as bytes: the report with remarks, receptions, the doctor's last sheet, metrics."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from agent import report, strictjson
from agent.local.remarks import remarks

if TYPE_CHECKING:
    from agent.local.feed import Feed
    from agent.local.sighting import Sighting

DOCTOR_FILE: Final = "doctor.json"
MAX_DOCTOR_BYTES: Final = 1 << 19


class Answers:
    """Makes them; each report is written out once, and only if somebody asks.

    Args:
        feed: what there is.
        folder: runtime_dir, where the doctor leaves its sheet.
        boottime_us: CLOCK_BOOTTIME.
    """

    def __init__(self, feed: Feed, folder: Path, boottime_us: Callable[[], int]) -> None:
        self.feed = feed
        self._folder = folder
        self._boottime_us = boottime_us
        self._made_of = 0
        self._said: dict[str, Any] = {}
        self._status = b""

    def status(self) -> bytes:
        """Return `{"report": …, "remarks": […]}`; the report is null in the first seconds of an agent."""
        self._look()
        return self._status

    def metrics(self) -> bytes:
        """Return the newest report as metrics."""
        # Who asks for none keeps the megabyte that their table takes.
        from agent import metrics  # noqa: PLC0415

        self._look()
        return metrics.render(self._said).encode()

    def doctor(self) -> bytes:
        """Return the doctor's last sheet as it was written; null when there is none."""
        try:
            with (self._folder / DOCTOR_FILE).open("rb") as file:
                return _dump(strictjson.loads(file.read(MAX_DOCTOR_BYTES)))
        except (OSError, ValueError):
            return b"null"

    def reception(self, seen: Sighting) -> bytes:
        """Return a reception, with its age in seconds."""
        age_s = max(self._boottime_us() - seen.boottime_us, 0) / 1e6
        return _dump({name: value for name, value in asdict(seen).items() if value is not None} | {"age_s": age_s})

    def missed(self, number: int) -> bytes:
        """Return how many receptions were forgotten before they could be told."""
        return b"%d" % number

    def _look(self) -> None:
        made_of = self.feed.reports
        if made_of == self._made_of and self._status:
            return
        self._made_of = made_of
        text = report.as_text(self.feed.report) if self.feed.report is not None else "null"
        self._said = strictjson.loads(text) or {}
        self._status = _dump({"report": self._said or None, "remarks": [asdict(one) for one in remarks(self._said)]})


def _dump(said: object) -> bytes:
    return strictjson.dumps(said, separators=(",", ":"), ensure_ascii=False).encode()
