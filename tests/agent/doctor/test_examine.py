# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Whatever a check does, there is a finding, in order and in time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.clock import HostClock
from agent.doctor.context import AgentState, Context
from agent.doctor.examine import Check, examine
from agent.doctor.finding import Finding, Verdict, ok


@pytest.fixture
def context() -> Context:
    return Context(Path("/"), Path("/nowhere"), None, None, HostClock(), AgentState.STOPPED, None)


def well(_: Context) -> Iterator[Finding]:
    yield ok("well", "it is")


def crashes(_: Context) -> Iterator[Finding]:
    yield ok("crashes", "so far")
    raise RuntimeError("by and by")


def forbidden(_: Context) -> list[Finding]:
    raise PermissionError(13, "Permission denied", "/secret")


def codes(found: list[tuple[Finding, ...]]) -> list[tuple[str, str]]:
    return [(finding.check, finding.code) for some in found for finding in some]


def test_a_check_that_crashes_is_a_finding_and_the_others_go_on(context: Context) -> None:
    checks = (Check("a", crashes), Check("b", well), Check("c", forbidden))
    found = list(examine(checks, context))
    assert codes(found) == [("crashes", ""), ("a", "CG-DOC-015"), ("well", ""), ("c", "CG-DOC-003")]
    assert "RuntimeError: by and by" in found[0][1].evidence
    assert "/secret" in found[2][0].evidence


def test_a_check_that_hangs_is_left_and_its_lane_goes_on(context: Context) -> None:
    never = threading.Event()

    def hangs(_: Context) -> Iterator[Finding]:
        never.wait(60)
        yield ok("hangs", "no more")

    checks = (Check("slow", hangs, 0.2), Check("next", well))
    assert codes(list(examine(checks, context))) == [("slow", "CG-DOC-016"), ("well", "")]
    never.set()


def test_all_together_have_a_limit(context: Context) -> None:
    never = threading.Event()

    def hangs(_: Context) -> Iterator[Finding]:
        never.wait(60)
        yield ok("hangs", "no more")

    checks = (Check("slow", hangs, 60), Check("never", well), Check("other", well, lane="other"))
    found = list(examine(checks, context, 2.0))
    assert codes(found) == [("slow", "CG-DOC-016"), ("never", "CG-DOC-016"), ("well", "")]
    never.set()


def test_lanes_go_at_the_same_time(context: Context) -> None:
    met = threading.Barrier(2, timeout=30)

    def meets(_: Context) -> Iterator[Finding]:
        met.wait()
        yield ok("met", "both are here")

    found = list(examine((Check("a", meets, 60, "one"), Check("b", meets, 60, "two")), context))
    assert [finding.verdict for some in found for finding in some] == [Verdict.OK, Verdict.OK]


def test_what_strangers_say_does_nothing_to_a_terminal(context: Context) -> None:
    def shows(_: Context) -> Iterator[Finding]:
        yield ok("shows", "a certificate for \x1b[2J\x9b1m\r\n\udcff" + "x" * 5000)

    ((finding,),) = examine((Check("shows", shows),), context)
    assert finding.evidence.isprintable()
    assert len(finding.evidence) <= 1000
    assert finding.evidence.encode()
