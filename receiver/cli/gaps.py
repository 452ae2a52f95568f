# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""`civigate-receiver gaps`: what is missing, by gateway and hour, and why."""

from __future__ import annotations

import argparse
import contextlib
import json
import time
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime

from receiver import config
from receiver.cli.arguments import add_config, add_json, add_period, eui
from receiver.gaps import Gaps, gaps
from receiver.ledger.opening import open_reader
from receiver.ledger.port import GapHour, Hole

_EXAMPLES = """examples:
  civigate-receiver gaps -c receiver.toml
  civigate-receiver gaps --gateway 0016c001ff10a235 --since 2026-11-01 --until 2026-12-01 --json -c receiver.toml

An hour is one of the gateway's uptime; its frames are those that were heard in it, whenever they came. 'missing' is
what the gateway has kept and neither delivered nor declared lost. 'civigate-receiver status' checks the sums.
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "gaps",
        help="account by gateway and hour: heard, received, late, missing, and why",
        description="Draw up the gap ledger from what gateways signed, and from when they said nothing.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--gateway", type=eui, metavar="EUI", help="only this one")
    parser.add_argument("--quiet", action="store_true", help="only hours of which something is missing, lost or late")
    add_period(parser)
    add_config(parser)
    add_json(parser)
    parser.set_defaults(func=_run)


def _run(args: argparse.Namespace) -> int:
    loaded = config.load(args.config)
    with contextlib.closing(open_reader(loaded)) as ledger, ledger.snapshot() as state:
        found = gaps(state, args.gateway, args.since, args.until, time.time_ns() // 1000)
    if args.quiet:
        found = Gaps([hour for hour in found.hours if _matters(hour)], found.silences, found.holes)
    if args.json:
        print(json.dumps(asdict(found)))
        return 0
    for line in _lines(found):
        print(line)
    return 0


def _matters(hour: GapHour) -> bool:
    lost = hour.evicted + hour.expired + hour.quarantined + hour.overrun
    return bool(lost or hour.missing or hour.late)


def _lines(found: Gaps) -> Iterator[str]:
    named = [hour.gateway for hour in found.hours] + [quiet.gateway for quiet in found.silences]
    gateways = sorted({*named, *(hole.gateway for hole in found.holes)})
    if not gateways:
        yield "nothing was delivered in this time"
    for gateway in gateways:
        yield f"gateway {gateway}"
        yield "  hour from             heard      kept  received      late   missing  causes"
        entries = [(hour.begin_us or 0, _hour(hour)) for hour in found.hours if hour.gateway == gateway]
        entries += [
            (quiet.from_us, f"  {_moment(quiet.from_us)}  {quiet.cause} until {_moment(quiet.to_us)}")
            for quiet in found.silences
            if quiet.gateway == gateway
        ]
        yield from (line for _, line in sorted(entries))
        yield from (_hole(hole) for hole in found.holes if hole.gateway == gateway)


def _hour(hour: GapHour) -> str:
    counts = {
        "evicted": hour.evicted,
        "expired": hour.expired,
        "quarantined": hour.quarantined,
        "overrun": hour.overrun,
        "bad CRC": hour.bad_crc,
        "filtered": hour.filtered,
        "duplicate": hour.duplicate,
    }
    causes = ", ".join(f"{name} {count}" for name, count in counts.items() if count)
    if hour.begin_us is not None:
        when = _moment(hour.begin_us)
    else:
        when = "not told apart" if hour.boot is None else f"hour {hour.hour}, boot {hour.boot[:4]}"
    figures = (hour.heard, hour.kept, hour.received, hour.late, hour.missing)
    return f"  {when:17}" + "".join(f"{figure:>10}" for figure in figures) + f"  {causes or '-'}"


def _hole(hole: Hole) -> str:
    which = str(hole.first) if hole.first == hole.last else f"{hole.first}-{hole.last}"
    many = "" if hole.frames is None else f", at most {hole.frames} frames"
    after = "" if hole.after_us is None else f", heard after {_moment(hole.after_us)}"
    before = "" if hole.before_us is None else f", before {_moment(hole.before_us)}"
    return f"  batches {which} of stream {hole.stream} have not come{many}{after}{before}"


def _moment(utc_us: int) -> str:
    return datetime.fromtimestamp(utc_us / 1e6, UTC).strftime("%Y-%m-%d %H:%MZ")
