# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What the running agent says of itself, for people: the part of a status that is in no file on the card."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from agent.report import Report

_MB = 1e6


def newest(runtime_dir: Path) -> Report | None:
    """Return the agent's newest report, None when it never ran or ended.

    Raises:
        AgentError: it cannot be read.
    """
    from agent import report
    from agent.clock import HostClock

    clock = HostClock()
    return report.read(runtime_dir, clock.boot_id, clock.boottime_us())


def as_json(found: Report | None) -> dict[str, Any] | None:
    """Return the parts of a report that concern the spool; None unless it tells how things are now."""
    if found is None or not found.current:
        return None
    return {"spool": found.said["spool"], "outlook": found.said["outlook"]}


def state_of(found: Report) -> str:
    """Say how an agent is whose report does not tell how things are now."""
    age = "before this boot" if found.age_s is None else f"{found.age_s:,.0f} s ago"
    what = "hangs, or cannot write its runtime_dir" if found.alive else "has ended without a word"
    return f"the agent {what}: its last report is from {age}"


def lines(found: Report | None) -> Iterator[str]:
    """Say how the agent's spool is, in a few lines."""
    if found is None:
        yield "the agent does not run"
        return
    if not found.current:
        yield state_of(found)
        return
    spool, outlook = found.said["spool"], found.said["outlook"]
    yield from _writer(spool)
    yield from _card(outlook)
    yield from _buffer(outlook, spool)


def _writer(spool: Mapping[str, Any]) -> Iterator[str]:
    state = str(spool["state"])
    if state == "ok":
        yield (
            f"writing: ok, {spool['queued_frames']:,} frames not committed yet, the oldest for "
            f"{spool['oldest_s']:.1f} s; a frame waits {spool['commit_window_s']:.2g} s for others"
        )
    else:
        yield f"WRITING: {state.upper()}: {spool['detail']}"
        yield f"  {spool['queued_frames']:,} frames wait for the disk, the oldest for {spool['oldest_s']:,.0f} s"
    if spool["sealing"]:
        yield f"SEALING WAITS, frames are kept: {spool['sealing']}"
    if spool["crowded"]:
        yield "  the disk is nearly full: the spool does not grow, and evicts sooner; make room on it"
    if spool["shed_frames"]:
        yield f"  {spool['shed_frames']:,} frames were shed while the disk refused; they count as radio overrun"
    if spool["journal_failures"]:
        yield f"  {spool['journal_failures']:,} records found no room in runtime_dir: a crash would lose them"
    if spool["slow_commits"]:
        yield f"  {spool['slow_commits']:,} commits took seconds, the longest {spool['longest_commit_s']:.1f} s"


def _card(outlook: Mapping[str, Any]) -> Iterator[str]:
    daily, device = outlook["daily_bytes"], outlook["device"]
    if device is None:
        yield "card: the spool is on no block device that the kernel names; its wear is not known"
    elif daily is None:
        yield f"card {device}: what is written to it is not known yet"
    else:
        own = outlook["daily_bytes_own"]
        share = "" if own is None else f", {own / _MB:,.0f} MB of it by civigate"
        used = outlook["life_used"]
        told = "" if used is None else f"; it says that up to {used:.0%} of its life is used"
        yield (
            f"card {device}: {daily / _MB:,.0f} MB written a day{share}; "
            f"it lasts {outlook['card_years']:,.1f} years at this rate{told}"
        )


def _buffer(outlook: Mapping[str, Any], spool: Mapping[str, Any]) -> Iterator[str]:
    room = spool["room_bytes"]
    if outlook["buffer_days"] is not None:
        yield f"buffer: lasts {outlook['buffer_days']:,.1f} days at this rate, with {room / _MB:,.0f} MB left"
    elif room is not None:
        yield f"buffer: {room / _MB:,.0f} MB left; the rate of frames is not known yet"
