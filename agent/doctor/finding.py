# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What a check returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

Value: TypeAlias = int | float | str | bool | None


class Verdict(StrEnum):
    """How a thing is."""

    OK = "ok"
    WARN = "warn"
    """It works, but not well, or not for long."""
    FAIL = "fail"
    SKIPPED = "skipped"
    """Not checked; the finding says why."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found.

    Attributes:
        check: stable name of what was looked at, such as "power".
        verdict: how it is.
        evidence: what was seen, one line with the values.
        code: stable identifier of the cause, such as "CG-DOC-101"; empty where nothing is to be done.
        cause: why that is most likely so; empty when all is well.
        next_step: what to do about it; empty when there is nothing to do.
        values: what was measured, for programs; the unit is in the name.
    """

    check: str
    verdict: Verdict
    evidence: str
    code: str = ""
    cause: str = ""
    next_step: str = ""
    values: Mapping[str, Value] = field(default_factory=dict)


def ok(check: str, evidence: str, values: Mapping[str, Value] | None = None) -> Finding:
    """Return the finding that a thing is as it should be."""
    return Finding(check, Verdict.OK, evidence, values=values or {})


def skipped(check: str, why: str) -> Finding:
    """Return the finding that a thing was not looked at."""
    return Finding(check, Verdict.SKIPPED, why)
