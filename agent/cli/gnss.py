# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""`civigate gnss`: what the GNSS receiver says, in plain words: from the running agent, or by listening itself."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from drivers.gnss.receiver import ReceiverStatus

EXIT_NO_FIX: Final = 3
LISTEN_S: Final = 40.0
"""Long enough to try every rate."""
PULSES_EXPECTED_S: Final = 5.0
"""Pulses come every second."""

_EXAMPLES: Final = """examples:
  civigate gnss -c /etc/civigate/gateway.toml
      asks the running agent; if none runs, listens to the receiver of [gnss]
  civigate gnss --device /dev/serial0
      listens there, at any rate, until there is a fix or 40 s are over
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "gnss",
        help="say how the GNSS receiver is",
        description="Say what the GNSS receiver sees, and whether its time can be used. Exit code 3 without a fix.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("-c", "--config", type=Path, metavar="FILE", help="gateway.toml")
    where.add_argument("--device", metavar="DEVICE", help="serial port of a receiver that no agent uses")
    parser.add_argument("--seconds", type=float, default=LISTEN_S, metavar="N", help="listen so long at most (40)")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    parser.set_defaults(func=run, refuse=parser.error)


def run(args: argparse.Namespace) -> int:
    """Ask the agent or listen; 0 with a fix, 3 without."""
    found = None if args.config is None else _ask(args.config)
    if found is None:
        device, baud = (args.device, None) if args.config is None else _configured(args)
        found = {"receiver": asdict(_listen(device, baud, args.seconds, lambda line: _tell(args, f"{device}: {line}")))}
    if args.json:
        print(json.dumps(found))
    else:
        print("\n".join(lines(found)))
    return 0 if found["receiver"]["state"] == "fix" else EXIT_NO_FIX


def _ask(config: Path) -> Mapping[str, Any] | None:
    """Return what the running agent says of its receiver; None without an agent, or if it has none."""
    from agent.cli.running import newest
    from agent.config import load

    report = newest(load(config).gateway.runtime_dir)
    if report is None or not report.current:
        return None
    said: Mapping[str, Any] | None = report.said.get("gnss")
    return said


def _configured(args: argparse.Namespace) -> tuple[str, int]:
    from agent.config import load

    section = load(args.config).gnss
    if section.device is None:
        args.refuse(f"{args.config} has no receiver: set device in [gnss], or give --device")
    return str(section.device), section.baud


def _tell(args: argparse.Namespace, line: str) -> None:
    if not args.json:
        print(line, flush=True)


def _listen(device: str, baud: int | None, seconds: float, tell: Callable[[str], None]) -> ReceiverStatus:
    """Listen until there is a fix with all that belongs to it, or the time is over."""
    from drivers.gnss.receiver import RATES, Receiver
    from drivers.linux.clock import SystemClock
    from drivers.linux.tty import TtyPort

    receiver = Receiver(lambda rate: TtyPort(device, rate), SystemClock(), baud=baud or RATES[0])
    deadline = time.monotonic() + seconds
    told, marks = "", 0
    try:
        while time.monotonic() < deadline and not (marks and receiver.status.sight.latitude_deg is not None):
            marks += len(receiver.look())
            status = receiver.status
            if not receiver.is_open:
                time.sleep(0.1)
            line = status.detail or f"{status.state.value.replace('_', ' ')}, {status.baud} baud"
            if line != told:
                tell(line)
            told = line
    finally:
        receiver.close()
    return receiver.status


def lines(found: Mapping[str, Any]) -> Iterator[str]:
    """Say it to a person.

    Args:
        found: `agent.gnss.GnssStatus` as plain values; only `receiver`, when it comes from listening.
    """
    receiver = found["receiver"]
    sight = receiver["sight"]
    make = "u-blox" if receiver["tells_gps_time"] else "NMEA"
    dimensions = f" {sight['dimensions']}D" if sight["dimensions"] else ""
    hdop = "" if sight["hdop"] is None else f", HDOP {sight['hdop']:g}"
    yield f"receiver   {receiver['state'].replace('_', ' ')}, {make}, {receiver['baud']} baud"
    if receiver["detail"]:
        yield f"           {receiver['detail']}"
    yield f"sky        {'fix' if sight['fix'] else 'no fix'}{dimensions}, {sight['satellites']} satellites{hdop}"
    if sight["latitude_deg"] is not None:
        height = "" if sight["altitude_m"] is None else f", {sight['altitude_m']:.0f} m"
        yield f"position   {sight['latitude_deg']:.6f}, {sight['longitude_deg']:.6f}{height}"
    yield (
        f"line       {receiver['frames']} messages, {receiver['damaged']} damaged, {receiver['marks']} tell a time"
        " that can be used"
    )
    if "pulse_age_s" in found:
        yield f"pulse      {_pulse(found)}"
        yield f"time       {_time(found)}"
    else:
        yield "pulse      not known: only the running agent sees it (civigate gnss -c gateway.toml)"


def _pulse(found: Mapping[str, Any]) -> str:
    age_s = found["pulse_age_s"]
    if age_s is None:
        return "never seen by the concentrator: it is not wired, or the receiver gives none without a fix"
    if age_s > PULSES_EXPECTED_S:
        return f"none for {age_s:.0f} s"
    drift = (
        ""
        if found["drift_ppb"] is None
        else f", the concentrator's crystal is {found['drift_ppb'] / 1000:+.2f} ppm off"
    )
    return f"every second{drift}"


def _time(found: Mapping[str, Any]) -> str:
    disputed = "; the host's clock contradicts it: one of the two is wrong" if found["disputed"] else ""
    if found["time_age_s"] is None:
        return "not known yet"
    if found["time_age_s"] > PULSES_EXPECTED_S:
        return f"lost {found['time_age_s']:.0f} s ago; what was known then still bounds it{disputed}"
    return f"exact, {found['anchors']} clock anchors made{disputed}"
