# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""`civigate-receiver import`: take batches that came on a stick."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path

from receiver import config
from receiver.administration import administration
from receiver.batchfile import read_batches
from receiver.cli.arguments import add_config, add_json
from receiver.errors import EvidenceError

EXIT_INTEGRITY = 4
_GOOD = ("accepted", "repeated")
_SHOWN = 20

_EXAMPLES = """examples:
  civigate-receiver import -c receiver.toml /media/stick/*.batches

Batches that are there already are stored once; the order of files does not matter. Works while the receiver runs.
The exit code is 4 when a batch was refused, or a file is damaged; the other files are taken all the same.
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "import",
        help="take batches from files",
        description="Take batches that a gateway exported, as if it had sent them.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE")
    add_config(parser)
    add_json(parser)
    parser.set_defaults(func=_run)


def _run(args: argparse.Namespace) -> int:
    loaded = config.load(args.config)
    outcomes: Counter[str] = Counter()
    refused: list[dict[str, object]] = []
    with administration(loaded) as admin:
        for path in args.files:
            number = 0
            try:
                for number, wire in enumerate(read_batches(path), 1):
                    outcome, detail = admin.submit(wire, f"file {path.name}")
                    outcomes[outcome] += 1
                    if outcome not in _GOOD:
                        refused.append({"file": str(path), "batch": number, "reason": outcome, "detail": detail})
            except EvidenceError as error:
                # one damaged file must not keep the others on the stick
                detail = f"{error.what}; {error.hint}"
                refused.append({"file": str(path), "batch": number + 1, "reason": "unreadable", "detail": detail})
    sums = {"accepted": outcomes["accepted"], "repeated": outcomes["repeated"], "refused": len(refused)}
    if args.json:
        print(json.dumps({**sums, "refusals": refused}))
    else:
        print(", ".join(f"{count} {outcome}" for outcome, count in sums.items()))
        for entry in refused[:_SHOWN]:
            print(f"refused {entry['file']}, batch {entry['batch']}: {entry['reason']}: {entry['detail']}")
    return EXIT_INTEGRITY if refused else 0
