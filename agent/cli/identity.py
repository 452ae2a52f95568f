# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""`civigate identity`: show or make what the platform knows this gateway by."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent.identity import Identity

_EXAMPLES = """examples:
  civigate identity create -c /etc/civigate/gateway.toml
  civigate identity show -c /etc/civigate/gateway.toml --json

The line "public key" is what the platform registers:
  civigate-receiver gateways add EUI --key PUBLIC_KEY
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command and its two verbs."""
    parser = subparsers.add_parser(
        "identity",
        help="show or make the gateway's key",
        description="The gateway's EUI and the key it signs batches with; the private key is never shown.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    show = verbs.add_parser("show", help="print EUI and public key")
    create = verbs.add_parser("create", help="make the key if there is none, then print")
    for verb, run in ((show, _show), (create, _create)):
        verb.add_argument("-c", "--config", type=Path, required=True, metavar="FILE", help="gateway.toml")
        verb.add_argument("--json", action="store_true", help="one JSON object instead of lines")
        verb.set_defaults(func=run)


def _show(args: argparse.Namespace) -> int:
    from agent import config, identity

    return _print(args, identity.load(config.load(args.config)))


def _create(args: argparse.Namespace) -> int:
    from agent import config, identity

    return _print(args, identity.load_or_create(config.load(args.config)))


def _print(args: argparse.Namespace, gateway: Identity) -> int:
    public = gateway.signer.public
    if args.json:
        said = {
            "eui": None if gateway.eui is None else gateway.eui.hex(),
            "kid": public.kid.hex(),
            "public_key": public.text,
            "key_file": str(gateway.key_path),
        }
        print(json.dumps(said))
        return 0
    unknown = "not known before the first start: civigate probe reads it from the chip"
    eui = unknown if gateway.eui is None else gateway.eui.hex()
    print(
        f"EUI         {eui}\npublic key  {public.text}\nthumbprint  {public.kid.hex()}\nkey file    {gateway.key_path}"
    )
    return 0
