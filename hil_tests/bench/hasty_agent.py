# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""`civigate` for a board that is a program, and for a reader who waits for every report. A program.

    python -m hil_tests.bench.hasty_agent FILE run -c gateway.toml

It does not wait for an emulated supply to settle, and renews its report more often; where FILE is there, its clock is
that of `tests.e2e.lying_clock`. All else is the program as it is.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import agent.report
import agent.service
from agent.cli.main import main
from agent.clock import HostClock
from hil_tests.bench.haste import Hasty, HastyClock

REPORT_S: Final = 0.2

if __name__ == "__main__":
    clock: type[HostClock] = HastyClock
    if Path(sys.argv[1]).exists():
        from tests.e2e.lying_clock import HASTE_S, LyingClock

        clock = type("HastyLyingClock", (Hasty, LyingClock), {})
        agent.service.ANCHOR_HASTE_S = HASTE_S
    agent.service.HostClock = clock  # type: ignore[attr-defined]  # the seams of this bench
    agent.report.INTERVAL_S = REPORT_S
    sys.argv = ["civigate", *sys.argv[2:]]
    sys.exit(main())
