# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Named states of the gateway under test, and how a bench gets it there from wherever it is."""

from __future__ import annotations

from enum import StrEnum

from hil_tests.bench.model import Bench
from hil_tests.bench.roles import BenchError


class State(StrEnum):
    """What the gateway under test is doing."""

    OFF = "off"
    """It has no supply."""
    BOOTED = "booted"
    """Its machine takes commands, and no agent runs: the concentrator is free for tests."""
    RUNNING = "running"
    """The agent runs and receives."""
    ENROLLED = "enrolled"
    """The same, and the platform and it speak with each other."""


def bring(bench: Bench, state: State) -> None:
    """Bring the gateway under test to a state; what is there already costs nothing.

    Raises:
        BenchError: the bench has not the role for it.
        AssertionError: the gateway does not get there in the time of its limits.
    """
    if state is State.OFF:
        if bench.power is None:
            raise BenchError("cannot be switched off", role="power", hint="give the bench a relay")
        bench.power.off()
        return
    _boot(bench)
    if state is State.BOOTED:
        if bench.dut is not None and bench.dut.runs():
            bench.dut.stop()
        return
    if bench.spi is not None:
        bench.spi.release()
    if bench.dut is None:
        raise BenchError("nobody can start an agent", role="dut", hint="name the gateway under test in the bench file")
    bench.dut.start()
    bench.wait_for(lambda: receives(bench), "the agent to receive")
    if state is State.ENROLLED:
        if bench.platform is not None:
            bench.platform.lie("")
            bench.platform.restore()
        bench.wait_for(lambda: linked(bench), "gateway and platform to speak with each other")


def receives(bench: Bench) -> bool:
    """Say whether the agent's concentrator receives."""
    said = None if bench.dut is None else bench.dut.status()
    return said is not None and (said["radio"] or {}).get("state") == "receiving"


def linked(bench: Bench) -> bool:
    """Say whether every destination of the agent is linked."""
    said = None if bench.dut is None else bench.dut.status()
    return bool(said) and all(one["phase"] in {"online", "draining"} for one in said["destinations"])  # type: ignore[index]


def _boot(bench: Bench) -> None:
    if bench.power is not None and not bench.power.is_on():
        bench.power.on()
    dut = bench.dut
    if dut is not None:
        bench.wait_for(lambda: _answers(bench), "the gateway to take commands", bench.limits.boot_s)


def _answers(bench: Bench) -> bool:
    assert bench.dut is not None
    try:
        return bench.dut.run("true", limit_s=10).exit_code == 0
    except BenchError:
        return False
