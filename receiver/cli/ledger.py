# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""`civigate-receiver ledger`: move a whole ledger from one database to another."""

from __future__ import annotations

import argparse
import contextlib
import json
from pathlib import Path

from receiver import config
from receiver.cli.arguments import add_config, add_json
from receiver.evidence import report
from receiver.ledger.opening import open_ledger

EXIT_INTEGRITY = 4

_EXAMPLES = """examples:
  systemctl stop civigate-receiver
  civigate-receiver ledger copy old.toml -c receiver.toml     # receiver.toml has the new [ledger] url
  systemctl start civigate-receiver

Nothing of the old ledger is changed. Gateways keep what they have meanwhile. Ids stay the same: who reads on from the
last one goes on in the new ledger.
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command and its verbs."""
    parser = subparsers.add_parser(
        "ledger",
        help="copy the ledger into another database",
        description="Move from a file to a PostgreSQL database, or back.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    copy = verbs.add_parser("copy", help="fill a new ledger with everything of another, and verify it")
    copy.add_argument("source", type=Path, metavar="TOML", help="configuration that leads to the old ledger")
    add_config(copy)
    add_json(copy)
    copy.set_defaults(func=_copy)


def _copy(args: argparse.Namespace) -> int:
    old, new = config.load(args.source), config.load(args.config)
    with contextlib.closing(open_ledger(old)) as source, contextlib.closing(open_ledger(new)) as target:
        counts = target.take_over(source, new.ledger.url or str(new.receiver.data_dir))
        with target.snapshot() as state:
            reports = [report(state, summary) for summary in state.streams()]
    sound = all(stream.chain.ok and stream.sums_match for stream in reports)
    if args.json:
        print(json.dumps({"rows": counts, "streams": len(reports), "ok": sound}))
    else:
        print(", ".join(f"{count:,} {table}" for table, count in counts.items() if count) or "nothing to copy")
        print(f"{len(reports)} streams {'verified' if sound else 'do NOT verify: civigate-receiver status says more'}")
    return 0 if sound else EXIT_INTEGRITY
