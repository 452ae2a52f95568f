# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The doctor on file systems that fail: a program, for a mount namespace. Prints what it found, a line each.

unshare --user --map-root-user --mount python -m tests.agent.doctor.mounted FOLDER
"""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from agent.cli.main import main
from tests.agent.doctor.scene import Scene


def disk(scene: Scene) -> dict[str, Any]:
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        main(["doctor", "--hands-off", "--json", "-c", str(scene.write())])
    (finding,) = [finding for finding in json.loads(said.getvalue())["findings"] if finding["check"] == "disk"]
    return dict(finding)


def run(folder: Path) -> None:
    """Look at each in turn."""
    with Scene(folder) as scene:
        card = folder / "state"
        found = {}
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(card)], check=True)
        found["in memory"] = disk(scene)
        (card / "filler").write_bytes(bytes(60 << 20))
        found["full"] = disk(scene)
        subprocess.run(["mount", "-o", "remount,ro", str(card)], check=True)
        found["read-only"] = disk(scene)
        subprocess.run(["umount", str(card)], check=True)
    print(json.dumps(found))


if __name__ == "__main__":
    run(Path(sys.argv[1]))
