# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Is the gateway set up, and does its agent run?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from agent.doctor.causes import found, of_error
from agent.doctor.context import AgentState
from agent.doctor.finding import Finding, ok, skipped
from agent.doctor.wording import span

if TYPE_CHECKING:
    from agent.doctor.context import Context


def configuration(context: Context) -> Iterator[Finding]:
    """Say whether the configuration can be used."""
    config, problem = context.config, context.problem
    if config is not None:
        names = ", ".join(destination.name for destination in config.destination) or "none"
        section = config.concentrator
        yield ok("config", f"{context.path}: board {section.board}, plan {section.plan}, destinations: {names}")
        return
    assert problem is not None
    if isinstance(problem.__cause__, PermissionError):
        yield found("config-rights", "config", f"{context.path} may not be read by this user")
    elif not context.path.exists():
        yield found("no-config", "config", f"{context.path} is not there", where=context.path)
    else:
        yield of_error("config", problem, name="bad-config")


def _unread(context: Context) -> Iterator[Finding]:
    """Say whether the agent runs with other settings than those that are in the file now."""
    from agent.config import digest

    told = context.said("config")
    assert context.config is not None
    if told is None or told.get("digest") == digest(context.config):
        return
    section = context.config.concentrator
    if (told.get("board"), told.get("plan")) == (section.board, section.plan):
        evidence = f"runs with other settings than {context.path} has now"
    else:
        evidence = (
            f"runs with board {told.get('board')}, plan {told.get('plan')}; {context.path} has board {section.board}, "
            f"plan {section.plan}"
        )
    yield found("agent-other-config", "agent", evidence)


def agent(context: Context) -> Iterator[Finding]:
    """Say whether the agent runs, and whether another program does its work."""
    if context.forwarder is not None:
        evidence = f"{context.forwarder} runs on this machine"
        yield found("other-forwarder", "agent", evidence, service=context.forwarder)
    if context.config is None:
        yield skipped("agent", "all that follows from the configuration is not looked at")
        return
    report, folder = context.report, context.config.gateway.runtime_dir
    age = "" if report is None or report.age_s is None else f", its last word is {report.age_s:.0f} s old"
    match context.agent:
        case AgentState.RUNNING:
            up = context.uptime_s or 0
            yield ok("agent", f"runs for {span(up)}", {"uptime_s": up})
            yield from _unread(context)
        case AgentState.STOPPED:
            yield found("agent-stopped", "agent", "does not run")
        case AgentState.DIED:
            yield found("agent-died", "agent", f"ended without a clean end{age}")
        case AgentState.HANGS:
            yield found("agent-hangs", "agent", f"is there and says nothing{age}", where=folder)
        case AgentState.MUTE:
            yield found("agent-mute", "agent", f"is there, but there is no new status.json in {folder}")
        case AgentState.UNKNOWN:
            yield found("no-rights", "agent", f"{folder} may not be read by this user")
