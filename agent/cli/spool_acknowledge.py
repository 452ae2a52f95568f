# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""`civigate spool acknowledge`: free what the platform has received by stick, with the receipts that came back."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from agent.errors import SpoolError

if TYPE_CHECKING:
    from agent.batch.keys import PublicKey
    from agent.batch.model import Receipt
    from agent.config import GatewayConfig
    from agent.spool.reader import SpoolReader

EXIT_INTEGRITY = 4
AGENT_RUNS = "CG-SPL-005"
LIMIT_S = 30.0
"""How long the running agent may take."""
LOOK_S = 0.1

_EXAMPLES = """examples:
  civigate spool export /media/stick -c /etc/civigate/gateway.toml          on the gateway
  civigate-receiver import --receipts /media/stick /media/stick/*.batches   on the platform
  civigate spool acknowledge /media/stick -c /etc/civigate/gateway.toml     on the gateway again

The agent may run or not. Only receipts that are signed by the platform of the destination free anything. Exit code 4
when one of the files is no such receipt; the others are taken all the same.
"""


def add_parser(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the verb."""
    text = "free what the platform's signed receipts on a stick cover"
    parser = verbs.add_parser(
        "acknowledge",
        help=text,
        description=text[0].upper() + text[1:] + ".",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("receipts", type=Path, nargs="+", metavar="PLACE", help="a folder with receipts, or a file")
    parser.add_argument("-c", "--config", type=Path, required=True, metavar="FILE", help="gateway.toml")
    parser.add_argument("--json", action="store_true", help="JSON instead of text")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Take the receipts; 0 when all of them were fit."""
    from agent import config
    from agent.spool.reader import SpoolReader
    from agent.uplink.carried import receipt_files, verified

    settings = config.load(args.config)
    keys: Mapping[str, Sequence[PublicKey]] = {one.name: one.receipt_keys for one in settings.destination}
    files = list(receipt_files(args.receipts))
    good: dict[Path, Receipt] = {}
    bad: list[str] = []
    with SpoolReader(settings.spool_path) as reader:
        for path in files:
            try:
                good[path] = verified(path, keys, lambda stream_id: reader.head_of(stream_id).destination)
            except SpoolError as error:
                bad.append(f"{error}; {error.hint} [{error.code}]")
        freed = _free(settings, reader, good) if good else 0
    if args.json:
        print(json.dumps({"receipts": len(good), "freed": freed, "refused": bad}))
    else:
        for fault in bad:
            print(fault)
        if not files:
            print("no receipts there: write them on the platform with civigate-receiver import --receipts FOLDER")
        print(f"{len(good):,} receipts taken, {freed:,} frames freed")
    return EXIT_INTEGRITY if bad else 0 if files else 1


def _free(settings: GatewayConfig, reader: SpoolReader, receipts: Mapping[Path, Receipt]) -> int:
    from agent.spool.upkeep import acknowledge

    try:
        return acknowledge(settings.spool_path, list(receipts.values()))
    except SpoolError as error:
        if error.code != AGENT_RUNS:
            raise
    return _hand_over(settings, reader, receipts)


def _hand_over(settings: GatewayConfig, reader: SpoolReader, receipts: Mapping[Path, Receipt]) -> int:
    """Let the running agent take them, and wait until it has."""
    from agent.uplink.carried import hand_over, read

    before = _delivered(reader)
    left = {hand_over(read(path), settings.gateway.runtime_dir): receipt for path, receipt in receipts.items()}
    deadline = time.monotonic() + LIMIT_S
    while any(path.exists() for path in left) or not all(_taken(reader, receipt) for receipt in left.values()):
        if time.monotonic() > deadline:
            for path in left:
                with suppress(OSError):
                    path.unlink()
            raise SpoolError(
                f"the running agent has not taken all receipts within {LIMIT_S:.0f} s",
                where=str(settings.spool_path),
                hint="look at its log, and at: civigate spool status; what is not taken stays in the spool",
                code="CG-SPL-052",
            )
        time.sleep(LOOK_S)
    return _delivered(reader) - before


def _taken(reader: SpoolReader, receipt: Receipt) -> bool:
    return reader.head_of(receipt.stream_id).through >= receipt.through


def _delivered(reader: SpoolReader) -> int:
    return sum(stream.delivered for stream in reader.status().streams)
