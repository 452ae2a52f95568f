# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.doctor import context, platform, times
from drivers.emulator import Emulator
from drivers.linux.clock import SystemClock
from tests.agent.doctor.scene import Scene, synchronised


@pytest.fixture
def folder() -> Iterator[Path]:
    """Return a folder with a short path: those of Unix sockets are limited."""
    with tempfile.TemporaryDirectory(prefix="cg-") as made:
        yield Path(made)


@pytest.fixture(autouse=True)
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a machine that does much else at the same time have its time."""
    monkeypatch.setattr(platform, "CONNECT_LIMIT_S", 30.0)
    monkeypatch.setattr(platform, "ANSWER_LIMIT_S", 30.0)
    monkeypatch.setattr(times, "LISTEN_S", 30.0)
    monkeypatch.setattr(times, "FIRST_PULSE_S", 20.0)


@pytest.fixture
def scene(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    """Return a healthy gateway whose agent does not run."""
    synchronised(monkeypatch)
    # An emulated chip needs none of the pauses in which real ones settle, and the air around it is ours.
    monkeypatch.setattr(SystemClock, "sleep", lambda _, seconds: time.sleep(min(seconds, 0.001)))
    monkeypatch.setattr(context, "LISTEN_S", 0.3)
    with Scene(folder, Emulator(sx1261=True)) as ready:
        yield ready
