# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Root's commands beside a service that runs as another user, whom nobody knows by name."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

SERVICE = 12345
LIMIT_S = 120
_BECOME = ("setpriv", f"--reuid={SERVICE}", f"--regid={SERVICE}", "--clear-groups")

only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root works as others")


@contextlib.contextmanager
def open_folder() -> Iterator[Path]:
    """Give a folder of root's that others may enter, which they may not with those of pytest."""
    folder = Path(tempfile.mkdtemp(prefix="civigate-"))
    try:
        folder.chmod(0o755)
        yield folder
    finally:
        shutil.rmtree(folder)


def give(*folders: Path) -> None:
    """Give folders to the service, with all that is in them; they are made where they are missing."""
    for folder in folders:
        folder.mkdir(mode=0o700, exist_ok=True)
        for path in (folder, *folder.rglob("*")):
            os.chown(path, SERVICE, SERVICE, follow_symlinks=False)


def strangers(folder: Path) -> list[str]:
    """Return what in a folder of the service is not the service's."""
    return [str(path) for path in folder.rglob("*") if path.lstat().st_uid != SERVICE]


def as_service(*command: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a module of this program as the service does, in a process of its own."""
    return subprocess.run(service_call(*command), capture_output=True, text=True, timeout=LIMIT_S, check=False)


def service_call(*command: str | Path) -> list[str]:
    """Return how to run a module as the service does; skips where other users may not read the program."""
    if _locked_out():
        pytest.skip("interpreter or project lie where no other user may read them")
    return [*_BECOME, sys.executable, "-m", *map(str, command)]


@functools.cache
def _locked_out() -> bool:
    program = [*_BECOME, sys.executable, "-c", "import agent.cli.main, receiver.cli.main"]
    return subprocess.run(program, capture_output=True, timeout=LIMIT_S, check=False).returncode != 0
