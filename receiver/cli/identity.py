# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""`civigate-receiver identity`: the key that signs the receipts."""

from __future__ import annotations

import argparse
import json

from agent.batch import keyfile
from agent.batch.keys import Signer
from agent.ownership import as_owner, owner_of
from receiver import config
from receiver.cli.arguments import add_config, add_json
from receiver.errors import ReceiverError

_EXAMPLES = """examples:
  civigate-receiver identity create -c receiver.toml
  civigate-receiver identity show -c receiver.toml    # the line for receipt_key in every gateway.toml
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command and its verbs."""
    parser = subparsers.add_parser(
        "identity",
        help="make or show the key that signs receipts",
        description="Gateways free space only for receipts of this key; its public half goes into each gateway.toml.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    for name, text, run in (
        ("show", "print the public key", _show),
        ("create", "make the key; one that is there is never replaced", _create),
    ):
        verb = verbs.add_parser(name, help=text)
        add_config(verb)
        add_json(verb)
        verb.set_defaults(func=run)


def _show(args: argparse.Namespace) -> int:
    return _print(keyfile.load(config.load(args.config).identity.key_file), args)


def _create(args: argparse.Namespace) -> int:
    loaded = config.load(args.config)
    path, home = loaded.identity.key_file, loaded.receiver.data_dir
    with as_owner(home, path.parent):
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            hint = "make the folder, or change [identity] key_file"
            what = f"cannot be made: {error.strerror}"
            raise ReceiverError(what, where=str(path.parent), hint=hint, code="CG-RCV-001") from error
        made = keyfile.create(path, owner=owner_of(home))
    return _print(made, args)


def _print(signer: Signer, args: argparse.Namespace) -> int:
    if args.json:
        print(json.dumps({"public_key": signer.public.text, "kid": signer.kid.hex()}))
    else:
        print(f"public key  {signer.public.text}\nthumbprint  {signer.kid.hex()}")
    return 0
