# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""`civigate uplink status`: how the running agent fares with its platforms, in plain words."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from agent.command import in_colour

_WELL = frozenset({"online", "draining"})
_EXAMPLES = """examples:
  civigate uplink status -c /etc/civigate/gateway.toml
  civigate uplink status -c gateway.toml --json | jq .destinations[].problem

Nothing is tried: this tells what the running agent meets. Exit code 1 when a platform is out of reach.
"""


def add_parser(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the verb."""
    parser = verbs.add_parser(
        "status",
        help="how the running agent fares with each platform, and what is in its way",
        description="Tell how the running agent fares with its platforms.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("-c", "--config", type=Path, required=True, metavar="FILE", help="gateway.toml")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    parser.set_defaults(func=run)
    text = "let the running agent try its platforms again now, instead of when its pause is over"
    again = verbs.add_parser("retry", help=text, description=text[0].upper() + text[1:] + ".")
    again.add_argument("-c", "--config", type=Path, required=True, metavar="FILE", help="gateway.toml")
    again.set_defaults(func=retry)


def retry(args: argparse.Namespace) -> int:
    """Ask for it; 1 when no agent runs that could."""
    from agent import config
    from agent.cli import running
    from agent.uplink.carried import RETRY, ask

    runtime_dir = config.load(args.config).gateway.runtime_dir
    found = running.newest(runtime_dir)
    if found is None or not found.current:
        print("\n".join(running.lines(found)))
        return 1
    ask(runtime_dir, RETRY)
    print("asked; see civigate uplink status in some seconds")
    return 0


def run(args: argparse.Namespace) -> int:
    """Tell what the report says; 0 when all platforms are reached."""
    from agent import config
    from agent.cli import running

    found = running.newest(config.load(args.config).gateway.runtime_dir)
    current = found is not None and found.current
    destinations: list[Mapping[str, Any]] = list(found.said["destinations"]) if found is not None and current else []
    if args.json:
        print(json.dumps({"running": current, "destinations": destinations}))
    elif found is None or not current:
        print("\n".join(running.lines(found)))
    elif not destinations:
        print("no destination yet: the agent does not know its own EUI, or none is configured")
    else:
        for said in destinations:
            print("\n".join(lines(said, int(found.said["boottime_us"]))))
    return 0 if destinations and all(one["phase"] in _WELL and not one["problem"] for one in destinations) else 1


def lines(said: Mapping[str, Any], now_us: int) -> Iterator[str]:
    """Say of one destination how it is, in a few lines.

    Args:
        said: its part of the report.
        now_us: CLOCK_BOOTTIME of the report.
    """
    well = said["phase"] in _WELL and not said["problem"]
    phase = str(said["phase"])
    since_s = (now_us - int(said["since_us"])) / 1e6
    yield f"{said['destination']}: {_coloured(phase, well)} for {_span(since_s)}"
    if said["problem"]:
        yield f"  {said['problem']}"
    if said["retry_at_us"] is not None:
        yield f"  next try in {_span(max(0.0, (int(said['retry_at_us']) - now_us) / 1e6))}"
    if said.get("notice"):
        yield f"  {said['notice']}"
    if said["held"]:
        yield f"  {said['held']}"
    waiting, flying = int(said["waiting"]), int(said["in_flight"])
    answer = "" if said.get("answer_s") is None else f"; an answer takes {float(said['answer_s']):.2g} s"
    yield (
        f"  acknowledged through batch {said['through']:,} of {said['newest']:,}; "
        f"{waiting:,} wait, {flying:,} on the way{answer}"
    )
    traffic = said["traffic"]
    yield f"  {traffic['up_bytes'] / 1e6:,.2f} MB up, {traffic['down_bytes'] / 1e6:,.2f} MB down since the start"


def _coloured(text: str, well: bool) -> str:
    return f"\033[{32 if well else 31}m{text}\033[0m" if in_colour() else text


def _span(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
