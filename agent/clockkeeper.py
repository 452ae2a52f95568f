# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Ask the kernel how well it knows the time, for an agent that is not allowed to: a small process of its own.

The question is a system call that, with other arguments, sets the clock; the agent, which speaks with the network, is
denied it altogether. This process has no network. It writes what it learns into a file of $RUNTIME_DIRECTORY, renamed
into place, and the agent reads it (`agent.clock`).
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

from agent.clock import NOTE_INTERVAL_S, HostClock, write_note
from agent.errors import AgentError


def keep(folder: Path, clock: HostClock, stop: threading.Event, interval_s: float = NOTE_INTERVAL_S) -> None:
    """Write a note now and after every interval, until told to stop.

    Raises:
        AgentError: the kernel does not answer.
        OSError: the note cannot be written.
    """
    while True:
        write_note(folder, clock, clock.anchor_of_kernel())
        if stop.wait(interval_s):
            return


def main() -> int:
    """Keep the note until SIGTERM."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    folder = os.environ.get("RUNTIME_DIRECTORY", "")
    if not folder:
        print("civigate: clock: RUNTIME_DIRECTORY is not set; this is for civigate-clock.service", file=sys.stderr)
        return 2
    try:
        keep(Path(folder), HostClock(), stop)
    except (AgentError, OSError) as error:
        print(f"civigate: clock: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
