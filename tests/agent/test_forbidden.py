# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Whoever may not look into the service's folders is told how to, and nothing else is blamed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

LIMIT_S = 120
AS_ANYBODY = ("setpriv", "--bounding-set=-dac_override,-dac_read_search") if os.geteuid() == 0 else ()
"""Root without what makes it root, so that modes hold."""
SECTION = """
[gateway]
state_dir = "{folder}/state"
runtime_dir = "{folder}/run"
[concentrator]
board = "semtech_corecell_eu868"
"""


@pytest.fixture
def closed(tmp_path: Path) -> Iterator[Path]:
    """A gateway's configuration, whose folders are somebody else's."""
    (tmp_path / "gateway.toml").write_text(SECTION.format(folder=tmp_path))
    folders = [tmp_path / name for name in ("state", "run")]
    for folder in folders:
        folder.mkdir(mode=0)
    yield tmp_path
    for folder in folders:
        folder.chmod(0o700)


@pytest.mark.parametrize("command", ["status", "top", "gnss", "spool status", "spool verify", "spool export ."])
def test_whoever_may_not_look_is_told_how_to(closed: Path, command: str) -> None:
    call = [*AS_ANYBODY, sys.executable, "-m", "agent.cli.main", *command.split()]
    done = subprocess.run(
        [*call, "-c", str(closed / "gateway.toml")], capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert str(closed) in line
    assert "use sudo" in line
