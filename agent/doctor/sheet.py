# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""All findings of one look at a gateway, and whose they are: what is shown, kept and signed (docs/doctor.md)."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from agent import durable
from agent.doctor.finding import Finding, Value, Verdict
from agent.ownership import as_owner

if TYPE_CHECKING:
    from agent.doctor.context import Context

FILE_NAME: Final = "doctor.json"
VERSION: Final = 1
MAX_BYTES: Final = 1 << 20
GATEWAY: Final = frozenset({"agent", "chip", "spool", "key", "platform"})
"""Checks of the gateway itself; the others are of the machine."""
_EUI: Final = re.compile("[0-9a-f]{16}")
_ORDER: Final = (Verdict.FAIL, Verdict.WARN, Verdict.OK, Verdict.SKIPPED)


@dataclass(frozen=True, slots=True)
class Sheet:
    """One look.

    Attributes:
        program: name and version of this one.
        boot_id: of the kernel, 32 hexadecimal digits.
        boottime_us: CLOCK_BOOTTIME at the end of the look.
        utc_us: the host's clock then; as good as the finding "clock" says.
        took_s: how long it took.
        name: of the gateway; empty when not known.
        eui: 16 hexadecimal digits; empty when not known.
        kid: thumbprint of the key, 64 hexadecimal digits; empty when not known.
        key: the public key, as `civigate identity show` prints it; empty when not known.
        machine: what the device tree says.
        board: of the configuration.
        plan: of the configuration.
        agent: "running", "stopped" and so on.
        user: who asked.
        simulated: the concentrator is an emulated one, so that this says nothing of a board.
        findings: in the order in which they are read.
    """

    program: str
    boot_id: str
    boottime_us: int
    utc_us: int
    took_s: float
    name: str
    eui: str
    kid: str
    key: str
    machine: str
    board: str
    plan: str
    agent: str
    user: str
    simulated: bool
    findings: tuple[Finding, ...]

    @property
    def verdict(self) -> Verdict:
        """The worst of all findings; "ok" when nothing but skipped checks is beside what is in order."""
        there = {finding.verdict for finding in self.findings}
        return next((verdict for verdict in _ORDER[:2] if verdict in there), Verdict.OK)

    @property
    def counts(self) -> dict[str, int]:
        """How many findings there are of each verdict."""
        return {v.value: sum(finding.verdict is v for finding in self.findings) for v in _ORDER}

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON has it, format `VERSION`."""
        return {
            "version": VERSION,
            "program": self.program,
            "boot_id": self.boot_id,
            "boottime_us": self.boottime_us,
            "utc_us": self.utc_us,
            "took_s": round(self.took_s, 1),
            "gateway": {
                "name": self.name or None,
                "eui": self.eui or None,
                "kid": self.kid or None,
                "key": self.key or None,
                "machine": self.machine or None,
                "board": self.board or None,
                "plan": self.plan or None,
            },
            "agent": self.agent,
            "user": self.user,
            "simulated": self.simulated,
            "verdict": self.verdict.value,
            "counts": self.counts,
            "findings": [_finding(finding) for finding in self.findings],
        }


def unseen(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Return the warning that nothing of the gateway itself was looked at, where no other line says it."""
    from agent.doctor.causes import found

    seen = {finding.check for finding in findings if finding.verdict is not Verdict.SKIPPED}
    usable = any(finding.check == "config" and finding.verdict is Verdict.OK for finding in findings)
    if not usable or seen & GATEWAY:
        return ()
    left = sum(finding.verdict is Verdict.SKIPPED for finding in findings)
    return (found("unseen", "rights", f"{left} checks were skipped, among them all of the gateway itself"),)


def compose(context: Context, findings: Sequence[Finding], took_s: float, utc_us: int) -> Sheet:
    """Put together what was found, and whose it is."""
    from agent.doctor import host
    from agent.doctor.context import user_name

    config = context.config
    kid, key = _key(context)
    return Sheet(
        program=f"civigate {metadata.version('civigate')}",
        boot_id=context.clock.boot_id.hex(),
        boottime_us=context.clock.boottime_us(),
        utc_us=utc_us,
        took_s=took_s,
        name="" if config is None else config.gateway.name or "",
        eui=_eui(context, findings),
        kid=kid,
        key=key,
        machine=host.model(context.root) or "",
        board="" if config is None else config.concentrator.board,
        plan="" if config is None else config.concentrator.plan,
        agent=context.agent.value,
        user=user_name(),
        simulated=any(finding.values.get("emulated") is True for finding in findings),
        findings=tuple(findings),
    )


def keep(folder: Path, sheet: Sheet) -> None:
    """Leave the sheet beside the agent's own report, for whoever shows it.

    Raises:
        AgentError: the owner of the folder does not get there.
        OSError: the folder is not there, or does not take it.
    """
    with as_owner(folder):
        durable.replace(folder / FILE_NAME, (json.dumps(sheet.as_json(), ensure_ascii=False) + "\n").encode(), 0o644)


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "check": finding.check,
        "verdict": finding.verdict.value,
        "evidence": finding.evidence,
        "code": finding.code or None,
        "cause": finding.cause or None,
        "next": finding.next_step or None,
        "values": {name: _storable(value) for name, value in finding.values.items()},
    }


def _storable(value: Value) -> Value:
    """Return a value as JSON and UTF-8 have it: what is no number is null, what is no letter a question mark."""
    match value:
        case float() if not math.isfinite(value):
            return None
        case str():
            return value.encode("utf-8", "replace").decode()
    return value


def _key(context: Context) -> tuple[str, str]:
    """Return thumbprint and public key; empty where this user may not read it, or there is none."""
    from agent.doctor.identity import signer
    from agent.errors import AgentError

    if context.config is None:
        return "", ""
    try:
        public = signer(context.config).public
    except (AgentError, OSError):
        return "", ""
    return public.kid.hex(), public.text


def _eui(context: Context, findings: Sequence[Finding]) -> str:
    """Return the EUI: as configured, as the agent says, or as the chip has it."""
    if context.config is not None and context.config.gateway.eui is not None:
        return context.config.gateway.eui.hex()
    told: Mapping[str, Any] = context.said("gateway") or {}
    seen = (finding.values.get("eui") for finding in findings if finding.check == "chip")
    eui = str(told.get("eui") or next((eui for eui in seen if eui), ""))
    return eui if _EUI.fullmatch(eui) else ""
