# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""`civigate top`: what the running gateway hears, as it hears it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from agent import strictjson
from agent.cli.status import add_place, runtime_dir
from agent.command import is_plain

EPILOG = """\
examples:
  civigate top                          on a gateway; q quits, space pauses, o shows your own sensors only
  civigate top --interval 5             over a slow line
  civigate top --own | tee walk.txt     a line for each frame of your own sensors, for a coverage walk
  civigate top --json | jq -c 'select(.reception.fate == "kept").reception | [.device, .rssi_dbm]'

Of frames that no destination keeps, only channel, data rate and level are shown. It needs the service's group, or sudo.
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "top",
        help="watch the running gateway: frames as they are heard",
        description="Watch the running gateway. On a terminal a screen, elsewhere a line for each frame.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_place(parser)
    parser.add_argument(
        "--interval", type=_interval, default=1.0, metavar="SECONDS", help="between two pictures, 1 to 60 (1)"
    )
    parser.add_argument("--own", action="store_true", help="only frames that a destination keeps")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--json", action="store_true", help="a JSON object for each frame and each report")
    how.add_argument("--lines", action="store_true", help="a line for each frame, also on a terminal")
    parser.add_argument("--once", action="store_true", help="one picture of now, and the end")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Watch until told to stop.

    Raises:
        AgentError: nobody answers, or this user may not ask.
    """
    folder = runtime_dir(args)
    if args.json:
        return _json(folder, once=args.once, own=args.own)
    if args.once:
        return _once(folder, own=args.own)
    if args.lines or is_plain() or not (sys.stdout.isatty() and sys.stdin.isatty()):
        return _lines(folder, own=args.own)
    from agent.cli.watch import Watch

    return Watch(folder, interval_s=args.interval, own=args.own).run()


def _interval(text: str) -> float:
    number = float(text)
    if not 1 <= number <= 60:
        raise argparse.ArgumentTypeError(f"{text} is not from 1 to 60")
    return number


def _json(folder: Path, *, once: bool, own: bool) -> int:
    from agent.local.client import connected

    with connected(folder) as agent:
        agent.send({"follow": ["receptions", "status"], "history": 0})
        agent.be_patient()
        while True:
            for said in agent.news():
                if not (own and "reception" in said and said["reception"]["fate"] != "kept"):
                    print(strictjson.dumps(said), flush=True)
                if once and "status" in said:
                    return 0


def _once(folder: Path, *, own: bool) -> int:
    from rich.console import Console

    from agent.cli.watch import Picture
    from agent.local.client import connected

    picture = Picture(own=own)
    with connected(folder) as agent:
        agent.send({"follow": ["receptions", "status"]})
        while picture.said is None:
            for said in agent.news():
                picture.take(said)
    console = Console(highlight=False)
    console.print(picture.render(console.height or 24))
    return 0


def _lines(folder: Path, *, own: bool) -> int:
    from agent.cli.watch import as_line
    from agent.local.client import connected

    with connected(folder) as agent:
        agent.send({"follow": ["receptions"], "history": 0})
        agent.be_patient()
        while True:
            for said in agent.news():
                if "missed" in said:
                    print(f"{said['missed']} receptions came too fast to be shown", flush=True)
                elif not own or said["reception"]["fate"] == "kept":
                    print(as_line(said["reception"]), flush=True)
