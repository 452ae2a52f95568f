# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""`civigate config`: check, explain and print configuration files."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

_EXAMPLES = """examples:
  civigate config example > /etc/civigate/gateway.toml
  civigate config check /etc/civigate/gateway.toml
  civigate config explain --json /etc/civigate/gateway.toml
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command and its three verbs."""
    parser = subparsers.add_parser(
        "config",
        help="check, explain or print a gateway.toml",
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
    explain.add_argument("--json", action="store_true", help="one JSON array instead of lines")
    explain.set_defaults(func=_explain)
    example = verbs.add_parser("example", help="print a documented file with every key")
    example.set_defaults(func=_example)


def _check(args: argparse.Namespace) -> int:
    from agent import config

    config.load(args.file)
    print(f"{args.file}: ok")
    return 0


def _explain(args: argparse.Namespace) -> int:
    from agent import config, settings

    lines = settings.explain(config.GatewayConfig, args.file)
    if args.json:
        print(json.dumps([asdict(line) for line in lines], ensure_ascii=False))
        return 0
    shown = [(line.key, f"{line.value or '-'} {line.unit}".rstrip(), line.origin) for line in lines]
    widths = [max(len(row[column]) for row in shown) for column in (0, 1)]
    for key, value, origin in shown:
        print(f"{key:{widths[0]}}  {value:{min(widths[1], 60)}}  {origin}")
    return 0


def _example(_args: argparse.Namespace) -> int:
    from agent import config, settings

    print(settings.example(config.GatewayConfig), end="")
    return 0
