# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""`civigate status`: the running gateway on one screen, and in the exit code."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from agent import strictjson

DEFAULT_CONFIG = Path("/etc/civigate/gateway.toml")
EXIT_OPERATION = 1

EPILOG = """\
examples:
  civigate status                       on a gateway that was installed from the package
  civigate status -c gateway.toml
  civigate status --json | jq .report.destinations

Exit code: 0 all is well; 1 something does not work, or the agent does not run; 3 the radio does not work; 4 the spool
is damaged, or its sums do not match. Of several, the highest. Notes do not count. It needs the service's group or sudo.
"""


class View(NamedTuple):
    """What is known of the agent.

    Attributes:
        said: its report; None when it does not run.
        problem: why this is not how things are now; empty when it is.
        note: what else there is to say about where it comes from.
        doctor: the doctor's last sheet, if there is one.
    """

    said: dict[str, Any] | None
    problem: str = ""
    note: str = ""
    doctor: Any = None


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "status",
        help="show the running gateway on one screen, with what is wrong",
        description="Show how the running gateway is: radio, what was heard, spool, destinations, time, card.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_place(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a screen")
    parser.set_defaults(func=run)


def add_place(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which agent is meant."""
    place = parser.add_mutually_exclusive_group()
    place.add_argument(
        "-c", "--config", type=Path, metavar="FILE", help=f"gateway.toml ({DEFAULT_CONFIG} where it can be read)"
    )
    place.add_argument("--runtime-dir", type=Path, metavar="FOLDER", help="of the agent, instead (/run/civigate)")


def runtime_dir(args: argparse.Namespace) -> Path:
    """Return the folder in which the agent speaks.

    Raises:
        ConfigError: the file that was named cannot be used.
    """
    from agent import config
    from agent.config import GatewaySection
    from agent.errors import ConfigError

    if args.runtime_dir is not None:
        folder: Path = args.runtime_dir
        return folder
    if args.config is not None:
        return config.load(args.config).gateway.runtime_dir
    try:
        return config.load(DEFAULT_CONFIG).gateway.runtime_dir
    except ConfigError:
        # The status of a running gateway is wanted all the more when its configuration is wrong or not ours to read.
        return GatewaySection().runtime_dir


def run(args: argparse.Namespace) -> int:
    """Show it; the exit code says how it is."""
    from agent.local.remarks import exit_code, remarks

    found = look(runtime_dir(args))
    remarked = remarks(found.said) if found.said is not None else ()
    code = exit_code(remarked)
    if found.problem:
        code = max(code, EXIT_OPERATION)
    if args.json:
        print(
            strictjson.dumps(
                {
                    "running": found.said is not None and not found.problem,
                    "problem": found.problem or None,
                    "exit_code": code,
                    "remarks": [asdict(remark) for remark in remarked],
                    "report": found.said,
                    "doctor": found.doctor,
                }
            )
        )
    else:
        _show(found)
    return code


def look(folder: Path) -> View:
    """Ask the agent; where it does not answer, read what it wrote last.

    Raises:
        AgentError: neither can be read.
    """
    from agent.cli.running import newest, state_of
    from agent.errors import AgentError, ForbiddenError
    from agent.local.client import NobodyThereError, connected

    refusal: AgentError | None = None
    try:
        with connected(folder) as agent:
            said = agent.ask({"get": "status"})["report"]
        with connected(folder) as agent:
            doctor = agent.ask({"get": "doctor"})
        if said is not None:
            return View(said, _hangs(said), doctor=doctor)
    except NobodyThereError:
        pass
    except AgentError as error:
        refusal = error
    try:
        report = newest(folder)
    except AgentError as error:
        raise refusal or error from error
    if report is None:
        if refusal is not None:
            raise refusal
        start = "start it: sudo systemctl start civigate (or civigate run -c FILE)"
        return View(None, f"the agent does not run; {start}; why it ended: journalctl -u civigate -n 50")
    if not report.current:
        return View(dict(report.said), state_of(report) + "; what follows is how it was then")
    match refusal:
        case None:
            why = "the agent does not answer on its socket"
        case ForbiddenError():
            why = "the agent may not be asked by this user"
        case _:
            why = f"the agent does not answer: {refusal.what}"
    return View(dict(report.said), note=f"{why}; this is what it wrote {report.age_s:.0f} s ago")


def _hangs(said: Mapping[str, Any]) -> str:
    """Say so when an agent answers, but does not renew its report."""
    from agent.clock import HostClock
    from agent.report import STALE_S

    age_s = (HostClock().boottime_us() - int(said["boottime_us"])) / 1e6
    return f"the agent answers, but hangs: its report is {age_s:,.0f} s old" if age_s > STALE_S else ""


def _show(found: View) -> None:
    if found.said is None:
        print(found.problem, file=sys.stderr)
        return
    from rich.console import Console

    from agent.cli.screen import Screen, printable
    from agent.local.remarks import remarks

    said = printable(found.said)
    screen = Screen(said, remarks(said), printable(found.doctor))
    Console(highlight=False).print(screen.whole(found.problem, found.note), soft_wrap=False)
