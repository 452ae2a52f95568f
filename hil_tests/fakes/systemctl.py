# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""A service manager of one service, for a gateway that is a folder: the verbs of systemctl that a rig uses. A program.

    python hil_tests/fakes/systemctl.py FOLDER start --no-block civigate

FOLDER has `command`, a JSON list; it gets `pid`, and `journal` with what the service says. A service that was killed is
started again at once, as `Restart=always` does. Not modelled: anything else.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

STOP_S: Final = 60.0
NOT_RUNNING: Final = 3
"""Exit code of is-active then [systemctl(1)]."""
UNKNOWN: Final = 64


def main(folder: Path, words: list[str]) -> int:
    """Do what is asked for; return the exit code."""
    verb, options = words[0], [word for word in words[1:] if word.startswith("--")]
    pid = _pid(folder)
    match verb:
        case "start":
            if pid is None:
                _start(folder)
        case "stop":
            if pid is not None:
                _end(pid, signal.SIGTERM)
        case "kill":
            if pid is not None and "--signal=KILL" in options:
                _end(pid, signal.SIGKILL)
                _start(folder)
        case "is-active":
            print("inactive" if pid is None else "active")
            return NOT_RUNNING if pid is None else 0
        case "show" if "--property=MainPID" in options and "--value" in options:
            print(pid or 0)
        case _:
            print(f"no such verb here: {' '.join(words)}", file=sys.stderr)
            return UNKNOWN
    return 0


def _start(folder: Path) -> None:
    with (folder / "journal").open("ab") as journal:
        process = subprocess.Popen(
            json.loads((folder / "command").read_text()),
            stdin=subprocess.DEVNULL,
            stdout=journal,
            stderr=journal,
            start_new_session=True,
        )
    (folder / "pid").write_text(str(process.pid))


def _end(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)
    deadline = time.monotonic() + STOP_S
    while _lives(pid) and time.monotonic() < deadline:
        time.sleep(0.02)


def _pid(folder: Path) -> int | None:
    try:
        pid = int((folder / "pid").read_text())
    except (OSError, ValueError):
        return None
    return pid if _lives(pid) else None


def _lives(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
