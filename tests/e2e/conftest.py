# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Programs as their users start them, and a stage with a running receiver and an emulated concentrator."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.demo.stage import Stage

LIMIT_S = 30.0


def civigate(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run `civigate` to its end."""
    return _run("agent.cli.main", *arguments)


def receiver(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run `civigate-receiver` to its end."""
    return _run("receiver.cli.main", *arguments)


def until(condition: Callable[[], bool], what: str, limit_s: float = LIMIT_S) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, f"waited {limit_s} s for {what}"
        time.sleep(0.02)


def one_line(done: subprocess.CompletedProcess[str], *words: str) -> str:
    """Return the last word of a program that failed: it must be one line without a traceback that has these words."""
    said = done.stderr.strip().splitlines()
    assert done.returncode not in {0, -6, -11}, done
    assert "Traceback" not in done.stderr
    errors = [line for line in said if line.startswith("civigate")]
    assert len(errors) == 1, done.stderr
    for word in words:
        assert word in errors[0]
    return errors[0]


@pytest.fixture
def stage() -> Iterator[Stage]:
    """Return a stage that is set, with the agent not started. Its folder is short: Unix socket paths are limited."""
    with tempfile.TemporaryDirectory(prefix="cg-") as folder, Stage(Path(folder), mqtt=False) as ready:
        ready.set()
        yield ready


def _run(module: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)], capture_output=True, text=True, timeout=LIMIT_S
    )
