# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Run every measurement, print one table, write one file."""

from __future__ import annotations

import argparse
import importlib
import json
import pkgutil
import signal
import sys
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

import tests.bench
from tests.bench import Row


def parts() -> list[str]:
    """Return the names of the measuring modules: every module here with a `rows` function."""
    return sorted(found.name for found in pkgutil.iter_modules(tests.bench.__path__) if not found.name.startswith("_"))


def main() -> int:
    """Measure, print, write."""
    arguments = argparse.ArgumentParser(description="Measure civigate on this machine.")
    arguments.add_argument("--out", type=Path, default=Path("build/bench.json"), help="where the rows go as JSON")
    arguments.add_argument("--part", action="append", choices=parts(), help="only this part (may be repeated)")
    args = arguments.parse_args()
    # by default it would leave behind what was mounted and started to be measured
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    progress = Console(stderr=True)
    rows: list[Row] = []
    for part in args.part or parts():
        progress.print(f"measuring {part} ...", style="dim")
        rows += importlib.import_module(f"tests.bench.{part}").rows()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps([asdict(row) | {"ratio": row.ratio} for row in rows], indent=1) + "\n")
    Console(width=None if sys.stdout.isatty() else 140).print(_table(rows))
    return 0


def _table(rows: list[Row]) -> Table:
    table = Table("part", "name", "value", "unit", "against", "its value", "ratio", title="civigate, measured here")
    for row in rows:
        other = "" if row.against_value is None else f"{row.against_value:,.4g}"
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        table.add_row(row.part, row.name, f"{row.value:,.4g}", row.unit, row.against, other, ratio)
    return table


if __name__ == "__main__":
    sys.exit(main())
