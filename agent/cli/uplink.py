# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""`civigate uplink`: the way to the platform."""

from __future__ import annotations

import argparse
import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

from agent.batch.codec import EUI_BYTES, STREAM_BYTES
from agent.command import in_colour
from agent.errors import ConfigError, SpoolError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.config import Destination, GatewayConfig
    from agent.uplink.check import Step

EPILOG = """\
examples:
  civigate uplink check -c /etc/civigate/gateway.toml
  civigate uplink check -c gateway.toml --destination city --json

Each step of the way is tried in turn: name, TCP, TLS, login (MQTT), and a signed receipt of the platform.
A running agent is not disturbed. Exit code 1 when a platform cannot be reached.
"""

WIDTH = 8


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    parser = commands.add_parser(
        "uplink", help="try the way to the platform", description="Find out where the way to the platform ends."
    )
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    from agent.cli import uplink_status

    uplink_status.add_parser(verbs)
    check = verbs.add_parser(
        "check",
        help="try each step of the way, and say what to do about the first that fails",
        description="Try each step of the way to each destination.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    check.add_argument("-c", "--config", type=Path, required=True, metavar="FILE", help="gateway.toml")
    check.add_argument("--destination", metavar="NAME", help="only this one")
    check.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    check.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Check the destinations; 0 when all of them answer with a receipt."""
    from agent import config

    settings = config.load(args.config)
    destinations = _chosen(settings, args.config, args.destination)
    report = []
    for destination in destinations:
        for url in destination.urls:
            if not args.json:
                print(f"{destination.name}: {url}")
            steps = []
            for step in _steps(settings, destination, url):
                steps.append(step)
                if not args.json:
                    print(_line(step), flush=True)
            report.append((destination.name, url, steps))
    if args.json:
        print(json.dumps({"destinations": [_entry(name, url, steps) for name, url, steps in report]}))
    return 0 if all(step.error is None for _, _, steps in report for step in steps) else 1


def _chosen(settings: GatewayConfig, path: Path, name: str | None) -> list[Destination]:
    names = ", ".join(destination.name for destination in settings.destination) or "none"
    chosen = [destination for destination in settings.destination if name in {None, destination.name}]
    if not chosen:
        what = "no [[destination]]" if name is None else f'no destination "{name}"'
        hint = f"the file has: {names}"
        raise ConfigError(what, where=str(path), hint=hint, code="CG-UPL-020")
    return chosen


def _steps(settings: GatewayConfig, destination: Destination, url: str) -> Iterator[Step]:
    from agent.batch.keys import ring
    from agent.batch.receipt import open_answer
    from agent.clock import HostClock
    from agent.enrolment.enrolling import folder_of, sets_of
    from agent.trusted_time import TrustedTime
    from agent.uplink.check import walk
    from agent.uplink.endpoint import Endpoint

    keys = ring(*destination.receipt_keys)
    eui, stream_id = _known(settings, destination.name)
    clock = HostClock()
    time = TrustedTime(folder_of(settings, destination.name), clock)
    endpoint = Endpoint.of(destination, url, sets=sets_of(settings, destination.name), time=time)
    return walk(endpoint, eui, stream_id, lambda data: open_answer(data, keys), clock)


def _known(settings: GatewayConfig, destination: str) -> tuple[bytes, bytes]:
    """Return the gateway's EUI and the destination's stream, as far as configuration and spool know them.

    A gateway that has never run has neither; zeros do for finding out whether the platform answers.
    """
    from agent.spool.reader import SpoolReader

    eui, stream_id = settings.gateway.eui or bytes(EUI_BYTES), bytes(STREAM_BYTES)
    with contextlib.suppress(SpoolError), SpoolReader(settings.spool_path) as reader:
        eui = settings.gateway.eui or reader.state().gateway_eui or eui
        stream_id = reader.head(destination).stream_id
    return eui, stream_id


def _line(step: Step) -> str:
    mark = "ok" if step.error is None else "FAIL"
    if in_colour():
        mark = f"\033[{32 if step.error is None else 31}m{mark:4}\033[0m"
    line = f"  {mark:4}  {step.name:{WIDTH}} {step.detail} ({step.took_ms:.0f} ms)"
    return line if step.error is None else f"{line}\n        {step.error.hint} [{step.error.code}]"


def _entry(name: str, url: str, steps: list[Step]) -> dict[str, object]:
    return {
        "name": name,
        "url": url,
        "ok": all(step.error is None for step in steps),
        "steps": [
            {
                "step": step.name,
                "ok": step.error is None,
                "detail": step.detail,
                "took_ms": round(step.took_ms, 1),
                "hint": None if step.error is None else step.error.hint,
                "code": None if step.error is None else step.error.code,
            }
            for step in steps
        ],
    }
