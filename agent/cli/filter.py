# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""`civigate filter`: what the filters of a configuration would do, before a service runs with them."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent.config import GatewayConfig
    from agent.filter import Filter
    from agent.lorawan import Header

_EXAMPLES = """examples:
  civigate filter test -c new.toml
  civigate filter test -c new.toml --path /var/lib/civigate/spool.db --json
  civigate filter test -c gateway.toml --frame 40da1d01268000000112345678

What a filter turned away was counted and not kept: of that, only the totals can be shown.
"""
_LONGEST_FRAME_BYTES = 255


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command and its verb."""
    parser = subparsers.add_parser(
        "filter",
        help="try the filters of a configuration on what is stored",
        description="Which frames each destination of a configuration would get. Nothing is changed.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    test = verbs.add_parser(
        "test",
        help="a dry run over the frames in the spool, or one frame",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    test.add_argument("-c", "--config", type=Path, required=True, metavar="FILE", help="the gateway.toml to try")
    test.add_argument("--path", type=Path, metavar="FILE", help="the spool's database file, if not the configured one")
    test.add_argument("--frame", type=_payload, metavar="HEX", help="ask about this PHYPayload instead of the spool")
    test.add_argument("--json", action="store_true", help="JSON instead of text")
    test.set_defaults(func=_test)


@dataclass(frozen=True, slots=True)
class _Trial:
    """What a filter would do with the frames that are stored, and what became of all frames so far.

    Attributes:
        destination: its name.
        known: whether the spool has a stream for it.
        kept: stored for it, and it would get them again.
        lost: stored for it, and it would no longer get them.
        gained: stored for others only, and it would get them too.
        heard: by the gateway since its stream began.
        filtered: of these, how many were not for it.
    """

    destination: str
    known: bool
    kept: int
    lost: int
    gained: int
    heard: int
    filtered: int


def _payload(text: str) -> bytes:
    try:
        payload = bytes.fromhex(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f'"{text[:40]}" is not hex digits') from None
    if not 1 <= len(payload) <= _LONGEST_FRAME_BYTES:
        raise argparse.ArgumentTypeError(f"{len(payload)} bytes, expected 1 to {_LONGEST_FRAME_BYTES}")
    return payload


def _test(args: argparse.Namespace) -> int:
    from agent import config
    from agent.filter import Filter

    configured = config.load(args.config)
    filters = {destination.name: Filter(destination.filter) for destination in configured.destination}
    if args.frame is not None:
        return _one(args.frame, filters, as_json=args.json)
    return _stored(configured, filters, args)


def _one(payload: bytes, filters: dict[str, Filter], *, as_json: bool) -> int:
    from agent.lorawan import decode

    header = decode(payload)
    verdicts = {name: rules.accepts(header) for name, rules in filters.items()}
    if as_json:
        print(json.dumps({"header": _words(header), "accepted": verdicts}))
    else:
        print(_words(header))
        for name, accepted in verdicts.items():
            print(f"  {name}: {'accepted' if accepted else 'filtered: no rule fits'}")
    return 0


def _words(header: Header) -> str:
    from agent.lorawan import Data, JoinRequest, NotLoRaWAN, Rejoin

    match header:
        case Data():
            port = "without a port" if header.f_port is None else f"on port {header.f_port}"
            return f"data {'up' if header.uplink else 'down'} of DevAddr {header.dev_addr:08x} {port}"
        case JoinRequest():
            return f"join request of DevEUI {header.dev_eui:016x} to JoinEUI {header.join_eui:016x}"
        case Rejoin():
            return f"rejoin request {header.kind} of DevEUI {header.dev_eui:016x}"
        case NotLoRaWAN(reason):
            return f"not LoRaWAN: {reason.value}"
    return type(header).__name__


def _stored(configured: GatewayConfig, filters: dict[str, Filter], args: argparse.Namespace) -> int:
    from agent.lorawan import decode
    from agent.spool.reader import SpoolReader
    from agent.spool.row import DamagedRowError

    counts: Counter[tuple[str, bool, bool]] = Counter()
    frames = damaged = 0
    with SpoolReader(args.path or configured.spool_path) as reader:
        accounts = {stream.destination: stream.account for stream in reader.status().streams if stream.open}
        for item in reader.rows():
            if isinstance(item, DamagedRowError):
                damaged += 1
                continue
            frames += 1
            header = decode(item.frame.phy_payload)
            for name, rules in filters.items():
                counts[name, name in item.destinations, rules.accepts(header, item.frame.crc)] += 1
    trials = [
        _Trial(
            name,
            known=name in accounts,
            kept=counts[name, True, True],
            lost=counts[name, True, False],
            gained=counts[name, False, True],
            heard=accounts[name].heard if name in accounts else 0,
            filtered=accounts[name].filtered if name in accounts else 0,
        )
        for name in filters
    ]
    if args.json:
        print(json.dumps({"frames": frames, "damaged": damaged, "destinations": [asdict(trial) for trial in trials]}))
        return 0
    print(f"{frames:,} frames are stored" + (f", {damaged:,} more are damaged" if damaged else ""))
    for trial in trials:
        print(f"\n{trial.destination}")
        if not trial.known:
            print(f"  new: it would have got {trial.gained:,} of them")
            continue
        print(
            f"  of {trial.kept + trial.lost:,} stored for it, it would get {trial.kept:,} again, {trial.lost:,} no more"
        )
        print(f"  of those stored for others only, it would get {trial.gained:,} too")
        share = f" ({trial.filtered / trial.heard:.1%})" if trial.heard else ""
        print(f"  so far {trial.filtered:,} of {trial.heard:,} heard were not for it{share}: counted, not kept")
    return 0
