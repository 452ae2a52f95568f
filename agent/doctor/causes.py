# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Why something is as it is, and what to do: the table `causes.toml`, which people read and correct.

Words in braces are filled in by the check. A cause may list the codes of errors of drivers, agent or uplink that it
explains; an error that no cause lists is told in its own words.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Final, Protocol

from agent.doctor.finding import Finding, Value, Verdict

FILE_NAME: Final = "causes.toml"
OTHER: Final = "other"
_NO_HINT: Final = "ask again in a minute, and look into the log: journalctl -u civigate"
_PLAIN: Final = {"config": "/etc/civigate/gateway.toml", "user": "this user", "group": "that the device has"}
_CODE: Final = re.compile(r"\[(CG-[A-Z0-9]+-\d{3})\]\s*$")


@dataclass(frozen=True, slots=True)
class Cause:
    """One entry.

    Attributes:
        name: as the checks call it.
        code: stable, never used again for something else.
        verdict: of a finding with this cause.
        cause: why.
        next_step: what to do.
        errors: codes of errors that it explains.
    """

    name: str
    code: str
    verdict: Verdict
    cause: str
    next_step: str
    errors: tuple[str, ...]


class Error(Protocol):
    """What `drivers.errors.DriverError` and `agent.errors.AgentError` have in common."""

    what: str
    where: str
    hint: str
    code: str


@cache
def table() -> Mapping[str, Cause]:
    """Return all causes by name.

    Raises:
        KeyError, ValueError: the table is not right; a test sees to it that it is.
    """
    entries = tomllib.loads((files(__package__) / FILE_NAME).read_text(encoding="utf-8"))
    return {
        name: Cause(
            name,
            entry["code"],
            Verdict(entry["verdict"]),
            entry["cause"],
            entry["next"],
            tuple(entry.get("errors", ())),
        )
        for name, entry in entries.items()
    }


def explaining(code: str) -> Cause | None:
    """Return the cause that explains an error code."""
    return next((cause for cause in table().values() if code in cause.errors), None)


def found(name: str, check: str, evidence: str, values: Mapping[str, Value] | None = None, **words: object) -> Finding:
    """Return a finding with a cause out of the table.

    Args:
        name: of the cause.
        check: what was looked at.
        evidence: what was seen.
        values: what was measured.
        words: for the braces in the entry.
    """
    entry = table()[name]
    return Finding(
        check,
        entry.verdict,
        evidence,
        entry.code,
        entry.cause.format_map(words),
        entry.next_step.format_map(words),
        values or {},
    )


def of_error(check: str, error: Error, *, name: str | None = None, **words: object) -> Finding:
    """Return the finding for an error.

    Args:
        check: what was looked at.
        error: what it ended with.
        name: of the cause, where the check knows better than the error's code.
        words: for the braces in the entry, besides those that the error brings.
    """
    evidence = f"{error.where}: {error.what} [{error.code}]"
    return _told(check, evidence, error.code, name, {"where": error.where, "hint": error.hint, **words})


def of_detail(check: str, detail: str) -> Finding:
    """Return the finding for the line in which the running agent tells of an error: text, hint, code in brackets."""
    match = _CODE.search(detail)
    what, _, hint = _CODE.sub("", detail).strip().rpartition("; ")
    what, hint = (what, hint) if what else (hint, "")
    code = match[1] if match else ""
    return _told(check, f"{what} [{code}]" if code else what, code, None, {"hint": hint})


def code_in(detail: str) -> str:
    """Return the code at the end of such a line; empty when there is none."""
    match = _CODE.search(detail)
    return match[1] if match else ""


def _told(check: str, evidence: str, code: str, name: str | None, words: Mapping[str, object]) -> Finding:
    entry = (explaining(code) if name is None else table()[name]) or table()[OTHER]
    known = _Words({**words, "hint": words.get("hint") or _NO_HINT})
    return Finding(
        check,
        entry.verdict,
        evidence,
        entry.code,
        entry.cause.format_map(known),
        entry.next_step.format_map(known),
    )


class _Words(dict[str, object]):
    """What an error can tell; an entry that wants more gets a plain word."""

    def __missing__(self, key: str) -> str:
        return _PLAIN.get(key, f"the {key}")
