# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""`civigate` on a host whose clocks tell what a file says. A program.

    python -m tests.e2e.lying_clock FILE run -c gateway.toml

The file is JSON: `boot_id` (hex), `began_us` (this machine's CLOCK_BOOTTIME when that boot began), `wall_error_us`, and
`synchronised` (whether the kernel believes its wall clock). It is read again at each look at the wall clock. Only
`agent.clock.HostClock` is another one; all else is the program as it is.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import agent.service
from agent.batch.model import Anchor
from agent.cli.main import main
from agent.clock import HostClock, KernelState, anchor_from

FILE = Path(sys.argv[1])
HASTE_S = 0.5


class LyingClock(HostClock):
    """The clocks of a boot that only the test knows."""

    def __init__(self) -> None:
        super().__init__()
        said = self._said()
        self.boot_id = bytes.fromhex(said["boot_id"])
        self._began_us = int(said["began_us"])

    def boottime_us(self) -> int:
        return super().boottime_us() - self._began_us

    def anchor(self) -> Anchor | None:
        said = self._said()
        state = KernelState(
            state=0 if said["synchronised"] else 5,
            status=0x2001 if said["synchronised"] else 0x0041,
            offset_us=0,
            max_error_us=2000,
            esterror_us=1,
        )
        before_us = self.boottime_us()
        wall_us = time.time_ns() // 1000 + int(said["wall_error_us"])
        return anchor_from(state, self.boot_id, before_us, wall_us, self.boottime_us())

    @staticmethod
    def _said() -> dict[str, Any]:
        said: dict[str, Any] = json.loads(FILE.read_text())
        return said


if __name__ == "__main__":
    agent.service.HostClock = LyingClock  # type: ignore[attr-defined]  # the seam of this test
    agent.service.ANCHOR_HASTE_S = HASTE_S
    sys.argv = ["civigate", *sys.argv[2:]]
    sys.exit(main())
