# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The time of a kernel that the agent may not ask, through the process that may."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import clock as clocks
from agent.batch.model import Anchor, TimeSource
from agent.clock import NOTE_FRESH_S, HostClock, KernelState, read_note, write_note
from agent.clockkeeper import keep
from agent.errors import AgentError

KNOWN = KernelState(state=0, status=0x2001, offset_us=0, max_error_us=4000, esterror_us=12)
UNKNOWN = KernelState(state=5, status=0x0040, offset_us=0, max_error_us=16_000_000, esterror_us=16_000_000)


def refused() -> KernelState:
    raise AgentError("Operation not permitted", where="adjtimex", hint="allow it", code="CG-CLK-002")


def _clock(note: Path) -> HostClock:
    clock = HostClock()
    clock.note = note
    return clock


@pytest.fixture
def clock(tmp_path: Path) -> HostClock:
    return _clock(tmp_path / "anchor.json")


def note(monkeypatch: pytest.MonkeyPatch, clock: HostClock, kernel: KernelState) -> None:
    """Let the keeper write what this kernel says, then take the right to ask away."""
    monkeypatch.setattr(clocks, "_read_kernel", lambda: kernel)
    stop = threading.Event()
    stop.set()
    keep(clock.note.parent, clock, stop)
    monkeypatch.setattr(clocks, "_read_kernel", refused)


def test_an_agent_that_may_not_ask_has_the_time_all_the_same(monkeypatch: pytest.MonkeyPatch, clock: HostClock) -> None:
    before_us, utc_us = clock.boottime_us(), time.time_ns() // 1000
    note(monkeypatch, clock, KNOWN)
    anchor = clock.anchor()
    assert anchor is not None
    assert anchor.boot_id == clock.boot_id
    assert before_us <= anchor.boottime_us <= clock.boottime_us()
    assert abs(anchor.utc_us - utc_us) < 5_000_000
    assert anchor.uncertainty_us >= 4001
    assert anchor.source is TimeSource.KERNEL


def test_a_clock_that_is_not_synchronised_is_none_here_either(
    monkeypatch: pytest.MonkeyPatch, clock: HostClock
) -> None:
    note(monkeypatch, clock, UNKNOWN)
    assert clock.anchor() is None


def test_an_old_note_is_no_answer_and_names_who_should_have_written(
    monkeypatch: pytest.MonkeyPatch, clock: HostClock
) -> None:
    note(monkeypatch, clock, KNOWN)
    later_us = clock.boottime_us() + int((NOTE_FRESH_S + 1) * 1e6)
    monkeypatch.setattr(clock, "boottime_us", lambda: later_us)
    with pytest.raises(AgentError, match="not permitted") as caught:
        clock.anchor()
    assert "civigate-clock.service" in caught.value.hint


def test_the_note_of_another_boot_is_none(monkeypatch: pytest.MonkeyPatch, clock: HostClock) -> None:
    note(monkeypatch, clock, KNOWN)
    said = json.loads(clock.note.read_text())
    clock.note.write_text(json.dumps(said | {"boot_id": "00" * 16}))
    with pytest.raises(AgentError):
        clock.anchor()


def test_without_a_keeper_the_refusal_is_what_it_was(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(clocks, "_read_kernel", refused)
    with pytest.raises(AgentError) as caught:
        _clock(tmp_path / "nowhere" / "anchor.json").anchor()
    assert caught.value.hint == "allow it"


@given(st.binary(max_size=200) | st.dictionaries(st.text(max_size=12), st.integers() | st.text(max_size=5)))
def test_no_note_breaks_the_reader(tmp_path_factory: pytest.TempPathFactory, said: bytes | dict[str, object]) -> None:
    path = tmp_path_factory.getbasetemp() / "odd.json"
    path.write_bytes(said if isinstance(said, bytes) else json.dumps(said).encode())
    with pytest.raises(AgentError):
        read_note(path, bytes(16), 0, AgentError("no", where="adjtimex", hint="allow it", code="CG-CLK-002"))


def test_a_note_is_read_as_it_was_written(clock: HostClock) -> None:
    anchor = Anchor(clock.boot_id, clock.boottime_us(), 1_800_000_000_000_000, 7, TimeSource.KERNEL)
    write_note(clock.note.parent, clock, anchor)
    refusal = AgentError("no", where="adjtimex", hint="allow it", code="CG-CLK-002")
    assert read_note(clock.note, clock.boot_id, clock.boottime_us(), refusal) == anchor


def test_the_process_of_the_unit_writes_and_ends_when_told(tmp_path: Path) -> None:
    environment = {**os.environ, "RUNTIME_DIRECTORY": str(tmp_path)}
    command = [sys.executable, "-s", "-m", "agent.clockkeeper"]
    with subprocess.Popen(command, cwd=Path(__file__).parents[2], env=environment) as process:
        deadline = time.monotonic() + 60
        while not (tmp_path / "anchor.json").exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    assert json.loads((tmp_path / "anchor.json").read_text())["boot_id"] == HostClock().boot_id.hex()
