# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""`civigate demo`: the main job on this machine alone, through an outage and hard kills, with an account at the end."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from agent.errors import AgentError

if TYPE_CHECKING:
    from rich.console import Console

    from agent.demo.story import Result

EXIT_INTEGRITY = 4

EPILOG = """\
examples:
  civigate demo                                   a minute of a city gateway's life
  civigate demo --frames 3000 --rate 0 --kills 2  as fast as the path takes
  civigate demo --mqtt                            over mosquitto instead of HTTPS
  civigate demo --json | tail -n 1 | jq .lost     for machines

Everything runs in a temporary folder and on loopback.
Exit code 4 when a frame was lost or doubled, or a chain does not verify.
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    parser = commands.add_parser(
        "demo",
        help="run the whole path here, without hardware, and audit it",
        description="Play recorded traffic into an emulated concentrator, let agent and receiver run for real, take "
        "the backhaul away, kill the agent, and account for every frame from outside.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--frames", type=_whole(1, 1_000_000), default=1200, metavar="N", help="frames on the air (1200)"
    )
    parser.add_argument(
        "--rate",
        type=_number(0, 1000),
        default=50.0,
        metavar="F",
        help="frames per second, 0: as fast as the path takes (50)",
    )
    parser.add_argument(
        "--outage",
        type=_number(0, 3600),
        default=6.0,
        metavar="SECONDS",
        help="how long the backhaul is away (6)",
    )
    parser.add_argument("--kills", type=_whole(0, 1000), default=1, metavar="N", help="SIGKILLs to the agent (1)")
    parser.add_argument(
        "--seed", type=_whole(0, 2**63), default=1, metavar="N", help="of traffic and arrival times (1)"
    )
    parser.add_argument("--mqtt", action="store_true", help="batches over MQTT (mosquitto) instead of HTTPS")
    parser.add_argument("--json", action="store_true", help="print the account as one JSON object on the last line")
    parser.add_argument(
        "--keep",
        type=Path,
        metavar="FOLDER",
        help="leave spool, ledger and logs in this empty folder",
    )
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Run it; 0 when every frame is accounted for and the chain verifies."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        # by default these would end this process alone, and leave the programs that it has started
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    if args.keep is None:
        with tempfile.TemporaryDirectory(prefix="civigate-demo-") as folder:
            return _run_in(Path(folder), args)
    args.keep.mkdir(parents=True, exist_ok=True)
    if any(args.keep.iterdir()):
        hint = "give a folder that is empty, or that is not there yet"
        raise AgentError("not empty", where=str(args.keep), hint=hint, code="CG-DEMO-006")
    return _run_in(args.keep.resolve(), args)


def _run_in(folder: Path, args: argparse.Namespace) -> int:
    # imported here: the other commands should not pay for it
    from rich.console import Console

    from agent.demo.screen import LiveScreen, PlainScreen, Screen
    from agent.demo.stage import Stage
    from agent.demo.story import Plan, Story

    plan = Plan(frames=args.frames, rate_hz=args.rate, outage_s=args.outage, kills=args.kills, seed=args.seed)
    console = Console(stderr=args.json)
    with Stage(folder, mqtt=args.mqtt) as stage:
        console.print("setting the stage: keys, certificates, emulated concentrator, receiver", style="dim")
        stage.set()
        screen: Screen = (LiveScreen if console.is_terminal else PlainScreen)(console, plan.frames)
        story = Story(plan, stage, screen)
        try:
            result = story.run()
        finally:
            story.close()
            screen.close()
    _report(console, result)
    if args.json:
        print(json.dumps(result.as_json()))
    return 0 if result.good else EXIT_INTEGRITY


def _report(console: Console, result: Result) -> None:
    from rich.table import Table

    verdict = result.verdict
    table = Table(title="the account: what the air sent against the receiver's ledger", show_header=False)
    share, payload = (total / max(1, verdict.delivered) for total in (result.wire_bytes, verdict.payload_bytes))
    for name, value, remark in (
        ("on the air", verdict.sent, f"{verdict.not_heard} while the concentrator could not receive"),
        ("heard", verdict.heard, "received by the radio"),
        ("bad CRC", verdict.bad_crc, "counted, not kept"),
        ("filtered", verdict.filtered, "foreign sensors: counted, not kept"),
        ("spooled", verdict.spooled, "the city's own"),
        ("delivered", verdict.delivered, f"in {verdict.batches} batches"),
        ("lost", verdict.lost, ""),
        ("duplicated", verdict.duplicated, ""),
        (
            "bytes on the wire",
            result.wire_bytes,
            f"{share:.1f} per frame with a payload of {payload:.1f}, TLS included",
        ),
        ("kills", result.kills, "SIGKILL to the agent"),
        ("outage", f"{result.outage_s:.1f} s", "of the backhaul"),
        ("chain", "verifies" if result.chain_ok else "BROKEN", "numbers, hashes, signatures, sums"),
    ):
        table.add_row(name, str(value), remark)
    console.print(table)
    console.print(
        "Every frame that was heard is accounted for."
        if result.good
        else "NOT every frame is accounted for: run again with --keep FOLDER and look at the logs there.",
        style="bold green" if result.good else "bold red",
    )


def _whole(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        value = int(text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{value} is not within {low} to {high}")
        return value

    parse.__name__ = "whole number"
    return parse


def _number(low: float, high: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        value = float(text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{value:g} is not within {low:g} to {high:g}")
        return value

    parse.__name__ = "number"
    return parse
