# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Whatever a check does, there is a finding, in order and in time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent.batch import hardware, keyplace
from agent.batch.hardware import ANSWER_LIMIT_S
from agent.batch.keys import Algorithm, PublicKey
from agent.clock import HostClock
from agent.config import load
from agent.doctor.context import AgentState, Context
from agent.doctor.examine import TOTAL_LIMIT_S, Check, examine
from agent.doctor.finding import Finding, Verdict, ok
from agent.doctor.table import CHECKS


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


def test_what_was_found_before_it_hung_is_kept(context: Context) -> None:
    never = threading.Event()

    def hangs(_: Context) -> Iterator[Finding]:
        yield ok("first", "so far")
        never.wait(60)
        yield ok("hangs", "no more")

    each = list(examine((Check("slow", hangs, 2.0), Check("next", well)), context))
    assert codes(each) == [("first", ""), ("slow", "CG-DOC-016"), ("well", "")]
    together = list(examine((Check("slow", hangs, 60),), context, 2.0))
    assert codes(together) == [("first", ""), ("slow", "CG-DOC-016")]
    never.set()


def test_a_way_that_hangs_is_not_blamed_on_the_card(context: Context) -> None:
    never = threading.Event()

    def hangs(_: Context) -> Iterator[Finding]:
        never.wait(60)
        yield ok("hangs", "no more")

    (check,) = (check for check in CHECKS if check.name == "platform")
    ((finding,),) = examine((replace(check, look=hangs, limit_s=0.2),), context)
    assert finding.code == "CG-DOC-635"
    assert "card" not in finding.cause
    never.set()


def test_a_key_device_has_its_own_limit_first() -> None:
    (check,) = (check for check in CHECKS if check.name == "key")
    assert check.limit_s >= ANSWER_LIMIT_S + 10, "or what hangs is only a warning that blames the machine"
    assert check.limit_s < TOTAL_LIMIT_S


def test_a_key_device_that_hangs_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    never = threading.Event()

    class Hangs:
        def read(self) -> PublicKey:
            never.wait(60)
            raise AssertionError

        def sign(self, data: bytes, algorithm: Algorithm) -> bytes:
            raise AssertionError

    (check,) = (check for check in CHECKS if check.name == "key")
    scale = 0.2 / ANSWER_LIMIT_S
    monkeypatch.setattr(hardware, "ANSWER_LIMIT_S", ANSWER_LIMIT_S * scale)
    monkeypatch.setattr(keyplace, "open_signer", lambda _: hardware.DeviceSigner(Hangs(), "tpm"))
    path = tmp_path / "gateway.toml"
    path.write_text(
        f'[gateway]\nstate_dir = "{tmp_path}"\n[identity]\nkey = "tpm:0x81010001"\n[concentrator]\nboard = "rak_2287"\n'
    )
    context = Context(Path("/"), path, load(path), None, HostClock(), AgentState.STOPPED, None)
    ((finding,),) = examine((check,), context)
    assert (finding.code, finding.verdict) == ("CG-DOC-543", Verdict.FAIL)
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
