# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""`civigate-receiver export`: receptions into a file for other programs."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from receiver import config
from receiver.cli.arguments import add_config, add_json, add_period, dev_addr, eui
from receiver.errors import ExportError
from receiver.export import FORMATS, export, stream
from receiver.ledger.opening import open_reader
from receiver.ledger.port import Wanted

_EXAMPLES = """examples:
  civigate-receiver export --format csv --since 2026-11-01 --until 2026-12-01 --out november.csv -c receiver.toml
  civigate-receiver export --format parquet --dev-addr 26000000/7 --out city.parquet -c receiver.toml
  civigate-receiver export --format jsonl --after 481516 --out next.jsonl --json -c receiver.toml
  civigate-receiver export --format jsonl --out - -c receiver.toml | head

Rows come in the order of their commit. The last id is told at the end: --after with it gives what has come since,
however late. Interrupted, the same command goes on from where it was (Parquet is begun anew).
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "export",
        help="write receptions into a CSV, JSON lines or Parquet file",
        description="Write receptions as the view 'reception' has them (docs/receiver-schema.md).",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--format", choices=FORMATS, required=True)
    parser.add_argument("--out", required=True, metavar="FILE", help="new file; - for standard output")
    parser.add_argument("--gateway", type=eui, metavar="EUI", help="only what it heard")
    parser.add_argument(
        "--dev-addr", type=dev_addr, metavar="HEX[/BITS]", help="only data frames of it, or of a prefix"
    )
    parser.add_argument("--after", type=int, default=0, metavar="ID", help="only what was committed after it")
    add_period(parser)
    add_config(parser)
    add_json(parser)
    parser.set_defaults(func=_run)


def _run(args: argparse.Namespace) -> int:
    loaded = config.load(args.config)
    first, last = args.dev_addr or (None, None)
    wanted = Wanted(args.gateway, first, last, args.since, args.until)
    with contextlib.closing(open_reader(loaded)) as ledger:
        if args.out == "-":
            if args.format == "parquet":
                hint = "give a file, or take csv or jsonl"
                raise ExportError("cannot be written as a stream", where="parquet", hint=hint, code="CG-EXP-005")
            done = stream(ledger, sys.stdout.buffer, args.format, wanted, after=args.after)
            print(f"{done.rows} receptions, the last id looked at is {done.next}", file=sys.stderr)
            return 0
        with _bar() as progress:
            done = export(ledger, Path(args.out), args.format, wanted, after=args.after, progress=progress)
    if args.json:
        print(json.dumps({"rows": done.rows, "next": done.next, "file": args.out}))
    else:
        print(f"{done.rows} receptions in {args.out}; for what comes later: --after {done.next}")
    return 0


@contextlib.contextmanager
def _bar() -> Iterator[Callable[[int, int], None]]:
    """Show how far it is, where a person looks on."""
    if not sys.stderr.isatty():
        yield lambda _done, _all: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("exporting", total=None)
        yield lambda done, whole: bar.update(task, completed=done, total=whole)
