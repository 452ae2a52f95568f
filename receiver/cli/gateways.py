# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""`civigate-receiver gateways`: who may deliver."""

from __future__ import annotations

import argparse
import contextlib
import json
import time
from datetime import UTC, datetime
from pathlib import Path

from agent.batch.keys import TEXT_PREFIX, PublicKey
from agent.lorawan import parse_eui
from receiver import config
from receiver.administration import administration
from receiver.cli import ca, gateways_enrolment
from receiver.cli.arguments import add_config, add_json
from receiver.enrolment.store import FILE_NAME as ENROLMENT_FILE_NAME
from receiver.enrolment.store import EnrolmentStore
from receiver.errors import ReceiverError, RegistryError
from receiver.ledger.opening import open_reader
from receiver.ledger.port import RegisteredKey

MAX_KEY_FILE_BYTES = 4096
MAX_NAME_CHARACTERS = 100
NOT_REGISTERED = "CG-REG-003"

_EXAMPLES = """examples:
  civigate-receiver gateways add 0016c001ff10a235 --key civigate-key:ed25519:... --name "town hall"
  civigate-receiver gateways add 0016c001ff10a235 --key gateway-key.txt
  civigate-receiver gateways invite 0016c001ff10a235 --name "town hall"
  civigate-receiver gateways invite --count 50 --hours 72 --json
  civigate-receiver gateways withdraw --any
  civigate-receiver gateways approve 0016c001ff10a235
  civigate-receiver gateways list --json
  civigate-receiver gateways rotate 0016c001ff10a235 --key gateway-key.txt --revoke
  civigate-receiver gateways revoke 0016c001ff10a235 --kid 5f0c...

'civigate identity show' on the gateway prints its EUI and key. All this works while the receiver runs.
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command and its verbs."""
    parser = subparsers.add_parser(
        "gateways",
        help="register, list and revoke gateways",
        description="Batches are taken only from registered keys, each for its own gateway.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    add = verbs.add_parser("add", help="register a gateway, or one more key of it")
    add.add_argument("eui", type=_eui, metavar="EUI", help="16 hex digits")
    add.add_argument("--key", required=True, metavar="TEXT|FILE", help=f"{TEXT_PREFIX}:... or a file with that line")
    add.add_argument("--name", default="", help="what people call it")
    add.set_defaults(func=_add)
    listing = verbs.add_parser("list", help="show all gateways and keys")
    listing.set_defaults(func=_list)
    rotate = verbs.add_parser("rotate", help="register the next key of a gateway, where it cannot announce it itself")
    rotate.add_argument("eui", type=_eui, metavar="EUI", help="16 hex digits")
    rotate.add_argument("--key", required=True, metavar="TEXT|FILE", help="the next key, as for add")
    rotate.add_argument("--revoke", action="store_true", help="take nothing of the present keys any more, from now on")
    rotate.set_defaults(func=_rotate)
    revoke = verbs.add_parser("revoke", help="take nothing from a gateway any more")
    revoke.add_argument("eui", type=_eui, metavar="EUI", help="16 hex digits")
    only = revoke.add_mutually_exclusive_group()
    only.add_argument("--kid", type=_kid, metavar="HEX", help="only this key; all of the gateway otherwise")
    only.add_argument("--serial", type=_serial, metavar="HEX", help="only this certificate; its key stays good")
    revoke.set_defaults(func=_revoke)
    gateways_enrolment.add_verbs(verbs)
    for verb in (add, listing, rotate, revoke):
        add_config(verb)
        add_json(verb)


def _eui(text: str) -> bytes:
    try:
        return parse_eui(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not an EUI: {error}") from error


def _kid(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not hex") from error


def _serial(text: str) -> int:
    try:
        return int(text, 16)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not hex") from error


def _add(args: argparse.Namespace) -> int:
    loaded = config.load(args.config)
    key = PublicKey.from_text(_key_text(args.key))
    name = args.name.strip()
    if len(name) > MAX_NAME_CHARACTERS or not name.isprintable():
        hint = f"at most {MAX_NAME_CHARACTERS} printable characters"
        raise RegistryError("the name cannot be used", where="--name", hint=hint, code="CG-REG-004")
    with administration(loaded) as admin:
        added = admin.add_gateway(args.eui, key, name)
    if args.json:
        print(json.dumps({"gateway": args.eui.hex(), "kid": key.kid.hex(), "added": added}))
    else:
        print(f"gateway {args.eui.hex()}: {'registered' if added else 'was registered already'}, key {key.kid.hex()}")
    return 0


def _key_text(given: str) -> str:
    """Take the key itself, or read it from a file."""
    if given.startswith(TEXT_PREFIX):
        return given
    try:
        with Path(given).open(encoding="ascii") as file:
            return file.read(MAX_KEY_FILE_BYTES)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text"
        hint = f"give the line that begins with {TEXT_PREFIX}: or a file that holds it"
        raise RegistryError(f"cannot be read: {reason}", where=given, hint=hint, code="CG-REG-005") from error


def _list(args: argparse.Namespace) -> int:
    loaded = config.load(args.config)
    with contextlib.closing(open_reader(loaded)) as ledger:
        keys = ledger.registry()
    waiting, invitations = [], []
    if (loaded.receiver.data_dir / ENROLMENT_FILE_NAME).exists():
        with contextlib.closing(EnrolmentStore(loaded.receiver.data_dir)) as store:
            waiting = store.applicants("pending")
            invitations = [claim for claim in store.claims() if claim.used_us is None]
    if args.json:
        rows = [
            {
                "gateway": key.eui.hex(),
                "name": key.name,
                "kid": key.kid.hex(),
                "public_key": key.public_key,
                "added_us": key.added_us,
                "revoked_us": key.revoked_us,
                "follows": None if key.follows is None else key.follows.hex(),
                "replaced_us": key.replaced_us,
            }
            for key in keys
        ]
        invited = [
            {
                "id": gateways_enrolment.id_of(claim),
                "gateway": claim.eui and claim.eui.hex(),
                "name": claim.name,
                "expires_us": claim.expires_us,
            }
            for claim in invitations
        ]
        pending = [gateways_enrolment.describe(applicant) for applicant in waiting]
        print(json.dumps({"gateways": rows, "waiting": pending, "invited": invited}, ensure_ascii=False))
        return 0
    for key in keys:
        print(f"{key.eui.hex()}  {key.name or '-':20}  {_state(key):19}  since {_day(key.added_us)}  {key.public_key}")
    if not keys:
        print("no gateway is registered")
    for applicant in waiting:
        print(
            f"{applicant.eui.hex()}  {applicant.name or '-':20}  waits for approval  since {_day(applicant.first_us)}"
            f"  {applicant.public_key}  from {applicant.sender}"
        )
    for claim in invitations:
        who = "any gateway" if claim.eui is None else claim.eui.hex()
        print(
            f"{who:16}  {claim.name or '-':20}  invited  until {_day(claim.expires_us)}"
            f"  id {gateways_enrolment.id_of(claim)}"
        )
    return 0


def _state(key: RegisteredKey) -> str:
    if key.revoked_us is not None:
        return f"revoked {_day(key.revoked_us)}"
    return "active" if key.replaced_us is None else f"replaced {_day(key.replaced_us)}"


def _rotate(args: argparse.Namespace) -> int:
    loaded = config.load(args.config)
    key = PublicKey.from_text(_key_text(args.key))
    with administration(loaded) as admin:
        with contextlib.closing(open_reader(loaded)) as ledger:
            present = [one.kid for one in ledger.registry() if one.eui == args.eui and one.kid != key.kid]
        before = admin.rotate(args.eui, key)
        revoked = sum(admin.revoke(args.eui, kid) for kid in present) if args.revoke else 0
    if args.json:
        said = {"gateway": args.eui.hex(), "kid": key.kid.hex(), "follows": before.hex(), "revoked": revoked}
        print(json.dumps(said))
    else:
        what = f"{revoked} keys revoked" if args.revoke else "both are accepted until the first batch with the new one"
        print(f"gateway {args.eui.hex()}: key {key.kid.hex()} follows {before.hex()}; {what}")
    return 0


def _day(utc_us: int) -> str:
    return datetime.fromtimestamp(utc_us / 1e6, UTC).strftime("%Y-%m-%d")


def _revoke(args: argparse.Namespace) -> int:
    loaded = config.load(args.config)
    # a certificate goes with its gateway, or by itself; when one key of several goes, the others still need it
    certificates, invitations = (0, 0) if args.kid is not None else _revoke_certificates(loaded, args.eui, args.serial)
    revoked = 0
    if args.serial is None:
        try:
            with administration(loaded) as admin:
                revoked = admin.revoke(args.eui, args.kid)
        except ReceiverError as error:
            # who was only invited has no key yet
            if not invitations or error.code != NOT_REGISTERED:
                raise
    counts = {"revoked": revoked, "certificates": certificates, "invitations": invitations}
    if args.json:
        print(json.dumps({"gateway": args.eui.hex(), **counts}))
    else:
        text = f"{revoked} active {'key' if revoked == 1 else 'keys'} revoked"
        if certificates:
            text += f", {certificates} {'certificate' if certificates == 1 else 'certificates'} revoked"
        if invitations:
            text += f", {invitations} {'invitation' if invitations == 1 else 'invitations'} taken back"
        print(f"gateway {args.eui.hex()}: {text}")
    return 0


def _revoke_certificates(loaded: config.ReceiverConfig, eui: bytes, serial: int | None) -> tuple[int, int]:
    """Revoke one certificate, or all and the open invitations; return how many of each."""
    certificates = invitations = 0
    known: set[int] = set()
    if (loaded.receiver.data_dir / ENROLMENT_FILE_NAME).exists():
        with contextlib.closing(EnrolmentStore(loaded.receiver.data_dir)) as store:
            if serial is None:
                invitations = store.withdraw(eui)
            known = {issued.serial for issued in store.certificates_of(eui)}
            certificates = store.revoke(eui, serial, time.time_ns() // 1000)
        if ca.has_authority(loaded):
            ca.write_crl(loaded)
    if serial is not None and serial not in known:
        hint = "'civigate-receiver ca show' shows those that were issued"
        raise RegistryError("no such certificate", where=f"gateway {eui.hex()}", hint=hint, code=NOT_REGISTERED)
    return certificates, invitations
