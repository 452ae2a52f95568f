# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Let the doctor look at the gateway once it is set up, for the technician with the card in a laptop."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.doctor.context import gather
from agent.doctor.examine import examine
from agent.doctor.finding import Verdict
from agent.doctor.identity import signer
from agent.doctor.sheet import Sheet, compose
from agent.doctor.table import CHECKS
from agent.errors import AgentError

if TYPE_CHECKING:
    from pathlib import Path

    from agent.batch.keys import Signer
    from agent.clock import HostClock


@dataclass(frozen=True, slots=True)
class Checkup:
    """What the doctor says.

    Attributes:
        verdict: "ok", "warn" or "fail".
        problems: one line for each thing that is not in order: what was seen, and what to do.
        page: the commissioning sheet, signed; None where it cannot be made.
    """

    verdict: str
    problems: tuple[str, ...]
    page: bytes | None


def look(config: Path, clock: HostClock) -> Checkup:
    """Look at the whole gateway; asks the running agent, and leaves the concentrator alone."""
    begin_s = time.monotonic()
    context = gather(config, clock, may_start=False)
    findings = [finding for some in examine(CHECKS, context) for finding in some]
    sheet = compose(context, findings, time.monotonic() - begin_s, time.time_ns() // 1000)
    problems = tuple(
        f"{finding.evidence}; {finding.next_step} [{finding.code}]"
        for finding in findings
        if finding.verdict in {Verdict.FAIL, Verdict.WARN}
    )
    try:
        page = None if context.config is None else _page(sheet, signer(context.config))
    except AgentError:
        page = None
    return Checkup(sheet.verdict.value, problems, page)


def _page(sheet: Sheet, key: Signer) -> bytes | None:
    from agent.doctor.page import render  # noqa: PLC0415
    from agent.doctor.seal import seal  # noqa: PLC0415

    try:
        return seal(render(sheet, signed=True), sheet, key)
    except ImportError:
        return None  # no library for QR codes on this system: the problems are told all the same
