# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""`civigate-receiver config`: check, explain and print configuration files."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from agent import settings
from receiver import config
from receiver.cli.arguments import add_json

_EXAMPLES = """examples:
  civigate-receiver config example > /etc/civigate/receiver.toml
  civigate-receiver config check /etc/civigate/receiver.toml
  civigate-receiver config explain --json /etc/civigate/receiver.toml
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command and its verbs."""
    parser = subparsers.add_parser(
        "config",
        help="check, explain or print a receiver.toml",
        description="Work with configuration files; nothing is started.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    check = verbs.add_parser("check", help="say whether a file is right")
    check.add_argument("file", type=Path, metavar="FILE")
    check.set_defaults(func=_check)
    explain = verbs.add_parser("explain", help="print every value and where it comes from")
    explain.add_argument("file", type=Path, metavar="FILE")
    add_json(explain)
    explain.set_defaults(func=_explain)
    example = verbs.add_parser("example", help="print a documented file with every key")
    example.set_defaults(func=_example)


def _check(args: argparse.Namespace) -> int:
    config.load(args.file)
    print(f"{args.file}: ok")
    return 0


def _explain(args: argparse.Namespace) -> int:
    lines = settings.explain(config.ReceiverConfig, args.file)
    if args.json:
        print(json.dumps([asdict(line) for line in lines], ensure_ascii=False))
        return 0
    for line in lines:
        value = f"{line.value or '-'} {line.unit}".rstrip()
        print(f"{line.key:28}  {value:50}  {line.origin}")
    return 0


def _example(_args: argparse.Namespace) -> int:
    print(settings.example(config.ReceiverConfig), end="")
    return 0
