# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""`civigate identity`: show, make or change what the platform knows this gateway by."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from agent.cli import identity_certificates

if TYPE_CHECKING:
    from agent.identity import Identity

_EXAMPLES = """examples:
  civigate identity create -c /etc/civigate/gateway.toml
  civigate identity show -c /etc/civigate/gateway.toml --json
  civigate identity rotate -c /etc/civigate/gateway.toml
  civigate identity rotate -c /etc/civigate/gateway.toml --stolen
  civigate identity rotate -c /etc/civigate/gateway.toml --to tpm:0x81000002
  civigate identity csr -o town-hall.csr -c /etc/civigate/gateway.toml
  civigate identity install town-hall.pem --ca platform-ca.pem -c /etc/civigate/gateway.toml

The line "public key" is what the platform registers:
  civigate-receiver gateways add EUI --key PUBLIC_KEY
After 'rotate' restart the agent: its next batch announces the new key, signed by the old one, and nobody has to do
anything at the platform. After 'rotate --stolen' register the new key there by hand:
  civigate-receiver gateways rotate EUI --key PUBLIC_KEY --revoke
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command and its verbs."""
    parser = subparsers.add_parser(
        "identity",
        help="show, make or change the gateway's key",
        description="The gateway's EUI and the key it signs batches with; the private key is never shown.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    show = verbs.add_parser("show", help="print EUI and public key")
    create = verbs.add_parser("create", help="make the key if there is none, then print")
    rotate = verbs.add_parser("rotate", help="make a new key that takes the place of the present one")
    how = rotate.add_mutually_exclusive_group()
    how.add_argument("--stolen", action="store_true", help="delete the present key at once; it announces nothing")
    how.add_argument("--to", metavar="PLACE", help="make the new key in a device, and say what to configure")
    for verb, run in ((show, _show), (create, _create), (rotate, _rotate)):
        verb.add_argument("-c", "--config", type=Path, required=True, metavar="FILE", help="gateway.toml")
        verb.add_argument("--json", action="store_true", help="one JSON object instead of lines")
        verb.set_defaults(func=run)
    identity_certificates.add_verbs(verbs)


def _show(args: argparse.Namespace) -> int:
    from agent import config, identity

    return _print(args, identity.load(config.load(args.config)))


def _create(args: argparse.Namespace) -> int:
    from agent import config, identity

    return _print(args, identity.load_or_create(config.load(args.config)))


def _rotate(args: argparse.Namespace) -> int:
    from agent import config, identity

    loaded = config.load(args.config)
    if args.to is not None:
        return _move(args, loaded.key_place.text)
    gateway = identity.rotate(loaded, announce=not args.stolen)
    if not args.json:
        if args.stolen:
            print("The old key is deleted. Register the new one at the platform, then restart the agent:")
            eui = "EUI" if gateway.eui is None else gateway.eui.hex()
            print(f"  civigate-receiver gateways rotate {eui} --key {gateway.signer.public.text} --revoke")
        else:
            print("Restart the agent: its next batches announce the new key.")
    return _print(args, gateway)


def _move(args: argparse.Namespace, present: str) -> int:
    """Make a key in a device; the configuration says when it is used."""
    from agent.batch import keyplace
    from agent.errors import IdentityError

    try:
        place = keyplace.parse_device(args.to)
    except ValueError as error:
        raise IdentityError(
            f"no place of a key: {error}",
            where="--to",
            hint="tpm:0x81000002, or pkcs11:token=NAME;object=NAME?module-path=/PATH&pin-source=file:/PATH",
            code="CG-IDN-010",
        ) from error
    public = keyplace.create(place).public
    if args.json:
        print(json.dumps({"kid": public.kid.hex(), "public_key": public.text, "key": args.to, "previous_key": present}))
        return 0
    print(f"public key  {public.text}\nthumbprint  {public.kid.hex()}\n")
    print("Put this into the configuration in place of the present key, then restart the agent:")
    print(f"[identity]\nkey = {json.dumps(args.to)}\nprevious_key = {json.dumps(present)}")
    return 0


def _print(args: argparse.Namespace, gateway: Identity) -> int:
    from agent.batch.keyplace import FilePlace

    public = gateway.signer.public
    if args.json:
        said = {
            "eui": None if gateway.eui is None else gateway.eui.hex(),
            "kid": public.kid.hex(),
            "public_key": public.text,
            "key": str(gateway.place),
            "key_file": str(gateway.place.path) if isinstance(gateway.place, FilePlace) else None,
            "previous_kid": None if gateway.previous is None else gateway.previous.kid.hex(),
            "not_known_to": list(gateway.waiting),
        }
        print(json.dumps(said))
        return 0
    unknown = "not known before the first start: civigate probe reads it from the chip"
    eui = unknown if gateway.eui is None else gateway.eui.hex()
    where = "key file    " if isinstance(gateway.place, FilePlace) else "key         "
    print(f"EUI         {eui}\npublic key  {public.text}\nthumbprint  {public.kid.hex()}\n{where}{gateway.place}")
    if gateway.previous is not None:
        print(f"previous    {gateway.previous.public.text}")
        names = ", ".join(gateway.waiting) or "every destination"
        print(f"            still signs for {names}, until the new key is acknowledged there")
    return 0
