# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""`civigate-receiver import`: take batches that came on a stick."""

from __future__ import annotations

import argparse
import json
import os
from collections import Counter
from pathlib import Path

from agent.batch.codec import Glimpse, glimpse
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
  civigate-receiver import -c receiver.toml --receipts /media/stick /media/stick/*.batches

Batches that are there already are stored once; the order of files does not matter. Works while the receiver runs.
With --receipts the stick brings back what frees the gateway's spool: civigate spool acknowledge, there.
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
    parser.add_argument(
        "--receipts", type=Path, metavar="FOLDER", help="write signed receipts there, for the way back to the gateway"
    )
    add_config(parser)
    add_json(parser)
    parser.set_defaults(func=_run)


def _run(args: argparse.Namespace) -> int:
    loaded = config.load(args.config)
    outcomes: Counter[str] = Counter()
    refused: list[dict[str, object]] = []
    taken: dict[bytes, Glimpse] = {}
    receipts: list[Path] = []
    with administration(loaded) as admin:
        for path in args.files:
            number = 0
            try:
                for number, wire in enumerate(read_batches(path), 1):
                    outcome, detail = admin.submit(wire, f"file {path.name}")
                    outcomes[outcome] += 1
                    if outcome in _GOOD:
                        seen = glimpse(wire)
                        taken[seen.stream_id] = seen
                    else:
                        refused.append({"file": str(path), "batch": number, "reason": outcome, "detail": detail})
            except EvidenceError as error:
                # one damaged file must not keep the others on the stick
                detail = f"{error.what}; {error.hint}"
                refused.append({"file": str(path), "batch": number + 1, "reason": "unreadable", "detail": detail})
        if args.receipts is not None:
            receipts = [_write(args.receipts, seen, admin.receipt(stream)) for stream, seen in taken.items()]
    sums = {"accepted": outcomes["accepted"], "repeated": outcomes["repeated"], "refused": len(refused)}
    if args.json:
        print(json.dumps({**sums, "refusals": refused, "receipts": [str(path) for path in receipts]}))
    else:
        print(", ".join(f"{count} {outcome}" for outcome, count in sums.items()))
        for entry in refused[:_SHOWN]:
            print(f"refused {entry['file']}, batch {entry['batch']}: {entry['reason']}: {entry['detail']}")
        for path in receipts:
            print(path)
    return EXIT_INTEGRITY if refused else 0


def _write(folder: Path, seen: Glimpse, receipt: bytes) -> Path:
    """Write a receipt; it gets its name when all of it is on the stick."""
    path = folder / f"{seen.gateway_eui.hex()}-{seen.stream_id.hex()[:8]}.receipt"
    draft = path.with_name(path.name + ".part")
    try:
        with draft.open("wb") as file:
            file.write(receipt)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        hint = "check that the stick is mounted, writable and has room; the batches are taken all the same"
        what = f"the receipt cannot be written: {error.strerror}"
        raise EvidenceError(what, where=str(path), hint=hint, code="CG-EVI-010") from error
    return path
