# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The whole path, as `civigate demo` runs it: emulated FIFO to signed receipt, over real TLS on loopback."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from tests.bench import Row

FRAMES = 6000


def rows() -> list[Row]:
    """Measure throughput, bytes on the wire and the agent's memory."""
    found: list[Row] = []
    for transport, options in (("HTTPS", []), ("MQTT", ["--mqtt"])):
        account = _demo("--frames", str(FRAMES), "--rate", "0", "--outage", "0", "--kills", "0", *options)
        found += [
            Row("path", f"FIFO to receipt, {transport}", account["frames_per_s"], "frames/s", "busiest day known", 1.4),
            Row(
                "path",
                f"on the wire, {transport}",
                account["bytes_per_frame"],
                "bytes/frame",
                "PHYPayload alone",
                account["payload_per_frame"],
            ),
            Row("path", f"agent's memory, peak, {transport}", account["agent_peak_mb"], "MB", "limit", 60),
        ]
    return found


def _demo(*options: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "agent.cli.main", "demo", "--json", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    account: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return account
