# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""`civigate-receiver gateways invite|approve|reject`: who may come."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import ssl
import time
from pathlib import Path
from urllib.parse import urlsplit

from agent.enrolment import claim
from agent.enrolment.certificate import day
from agent.lorawan import parse_eui
from receiver import config
from receiver.cli.arguments import add_config, add_json
from receiver.enrolment.cards import Card
from receiver.enrolment.cards import write as write_cards
from receiver.enrolment.store import Applicant, Claim, EnrolmentStore
from receiver.errors import RegistryError

MAX_COUNT = 1000
MAX_NAME_CHARACTERS = 100
LABEL = "GW1"
ID_BYTES = 6
_HOUR_US = 3_600_000_000


def add_verbs(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verbs to those of `gateways`."""
    invite = verbs.add_parser("invite", help="make a claim code that lets one gateway in, once; it is shown only now")
    invite.add_argument("eui", type=_eui, nargs="?", metavar="EUI", help="only this gateway; left out: whichever comes")
    invite.add_argument("--name", default="", help="what people call it")
    invite.add_argument("--hours", type=_hours, default=7 * 24.0, metavar="N", help="the code is good for (168)")
    invite.add_argument("--count", type=_count, default=1, metavar="N", help="make so many, for any gateways")
    invite.add_argument(
        "--cards", type=Path, metavar="FOLDER", help="write a folder for each card, with its civigate.toml"
    )
    invite.add_argument("--region", default="", metavar="PLAN", help="for --cards, such as EU868")
    invite.add_argument("--board", default="", metavar="NAME", help="for --cards; left out: the gateway finds it")
    invite.set_defaults(func=_invite)
    approve = verbs.add_parser("approve", help="let a gateway in that waits for approval")
    approve.set_defaults(func=_approve)
    reject = verbs.add_parser("reject", help="say no to a gateway that waits for approval")
    reject.set_defaults(func=_reject)
    for verb in (approve, reject):
        verb.add_argument("eui", type=_eui, metavar="EUI", help="16 hex digits")
        verb.add_argument("--kid", metavar="HEX", help="thumbprint, where several say that they are this gateway")
    withdraw = verbs.add_parser("withdraw", help="take claim codes back that nobody has used")
    chosen = withdraw.add_mutually_exclusive_group(required=True)
    chosen.add_argument("eui", type=_eui, nargs="?", metavar="EUI", help="those for this gateway")
    chosen.add_argument("--any", action="store_true", help="those for whichever gateway comes")
    chosen.add_argument("--id", type=_digest, metavar="HEX", help="this one, as 'gateways list' names it")
    withdraw.set_defaults(func=_withdraw)
    for verb in (invite, approve, reject, withdraw):
        add_config(verb)
        add_json(verb)


def id_of(claim: Claim) -> str:
    """Name an invitation; the code itself cannot be found from it."""
    return claim.digest[:ID_BYTES].hex()


def _digest(text: str) -> bytes:
    try:
        begin = bytes.fromhex(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not hex") from error
    if len(begin) < ID_BYTES:
        raise argparse.ArgumentTypeError(f"{text!r} is too short: {2 * ID_BYTES} digits at least")
    return begin


def _eui(text: str) -> bytes:
    try:
        return parse_eui(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not an EUI: {error}") from error


def _hours(text: str) -> float:
    hours = float(text)
    if not 0 < hours <= 24 * 366:
        raise argparse.ArgumentTypeError("must be more than 0 and at most a year, 8784")
    return hours


def _count(text: str) -> int:
    count = int(text)
    if not 1 <= count <= MAX_COUNT:
        raise argparse.ArgumentTypeError(f"must be 1 to {MAX_COUNT}")
    return count


def _invite(args: argparse.Namespace) -> int:
    loaded = config.load(args.config)
    name = args.name.strip()
    if len(name) > MAX_NAME_CHARACTERS or not name.isprintable():
        hint = f"at most {MAX_NAME_CHARACTERS} printable characters"
        raise RegistryError("the name cannot be used", where="--name", hint=hint, code="CG-REG-004")
    if args.eui is not None and args.count != 1:
        hint = "leave out --count, or the EUI"
        raise RegistryError("one gateway needs one code", where="--count", hint=hint, code="CG-REG-006")
    now_us = time.time_ns() // 1000
    expires_us = now_us + round(args.hours * _HOUR_US)
    codes = [claim.generate() for _ in range(args.count)]
    files = [] if args.cards is None else _cards(args, loaded, name, codes)
    with contextlib.closing(EnrolmentStore(_data_dir(loaded))) as store:
        for code in codes:
            store.invite(Claim(claim.digest(claim.parse(code)), args.eui, name, now_us, expires_us))
    url, pin = _address(loaded), _pin(loaded)
    eui = "-" if args.eui is None else args.eui.hex()
    if args.json:
        labels = [f"{LABEL}:{eui}:{code}" for code in codes]
        said = {"claims": codes, "labels": labels, "expires_us": expires_us, "url": url, "fingerprint": pin}
        if files:
            said["files"] = [str(file) for file in files]
        print(json.dumps({"gateway": None if args.eui is None else eui, "name": name, **said}, ensure_ascii=False))
        return 0
    for code in codes:
        print(code)
    for file in files:
        print(f"for the boot partition of its card: {file}")
    trust = "" if pin is None else f" --fingerprint {pin}"
    print(
        f"good once, until {day(expires_us)}, for {'any gateway' if args.eui is None else f'gateway {eui}'};"
        f" it is not shown again\non the gateway, which asks for it: civigate enrol {url} --claim-file -{trust}"
    )
    return 0


def _cards(args: argparse.Namespace, loaded: config.ReceiverConfig, name: str, codes: list[str]) -> list[Path]:
    """Write a card for each code; before the codes are good, so that none is lost when it fails."""
    names = (
        [name or "gateway"] if len(codes) == 1 else [f"{name or 'gateway'}-{n:02}" for n in range(1, len(codes) + 1)]
    )
    url, pin, authorities = _address(loaded), _pin(loaded), _section(loaded).platform_ca
    made = [
        Card(each, code, url, pin, authorities, args.region, args.board)
        for each, code in zip(names, codes, strict=True)
    ]
    return write_cards(args.cards, made)


def _data_dir(loaded: config.ReceiverConfig) -> Path:
    folder = loaded.receiver.data_dir
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        hint = "create the folder and make it writable for this user, or change [receiver] data_dir"
        raise RegistryError(
            f"cannot be made: {error.strerror}", where=str(folder), hint=hint, code="CG-REG-007"
        ) from error
    return folder


def _section(loaded: config.ReceiverConfig) -> config.EnrolmentSection:
    if loaded.enrolment is None:
        hint = "add it: 'civigate-receiver config example' shows how"
        raise RegistryError("there is no section [enrolment]", where="receiver.toml", hint=hint, code="CG-REG-008")
    return loaded.enrolment


def _address(loaded: config.ReceiverConfig) -> str:
    """Return where gateways enrol: on the host where they deliver, as far as is known here."""
    section = _section(loaded)
    host = urlsplit(section.url).hostname or "HOST"
    return f"https://{f'[{host}]' if ':' in host else host}:{section.port}"


def _pin(loaded: config.ReceiverConfig) -> str | None:
    """Return the SHA-256 of the server's certificate, hex; None where it cannot be read."""
    path = _section(loaded).certificate or (loaded.https.certificate if loaded.https is not None else None)
    try:
        text = "" if path is None else path.read_text(encoding="ascii")
        first = text[text.index("-----BEGIN CERTIFICATE") : text.index("-----END CERTIFICATE-----")]
        der = ssl.PEM_cert_to_DER_cert(f"{first}-----END CERTIFICATE-----\n")
    except (OSError, ValueError):
        return None
    return hashlib.sha256(der).hexdigest()


def _approve(args: argparse.Namespace) -> int:
    return _decide(args, "approved", "it gets its certificate when it asks next")


def _reject(args: argparse.Namespace) -> int:
    return _decide(args, "rejected", "it is told so when it asks next")


def _decide(args: argparse.Namespace, state: str, then: str) -> int:
    loaded = config.load(args.config)
    with contextlib.closing(EnrolmentStore(_data_dir(loaded))) as store:
        chosen = _chosen(args, store.applicants("pending"))
        store.decide(chosen.kid, state)
    if args.json:
        print(json.dumps({"gateway": chosen.eui.hex(), "kid": chosen.kid.hex(), "state": state}))
    else:
        print(f"gateway {chosen.eui.hex()}: {state}, key {chosen.kid.hex()}; {then}")
    return 0


def _chosen(args: argparse.Namespace, waiting: list[Applicant]) -> Applicant:
    mine = [one for one in waiting if one.eui == args.eui and args.kid in {None, one.kid.hex()}]
    where = f"gateway {args.eui.hex()}"
    if not mine:
        hint = "'civigate-receiver gateways list' shows who waits"
        raise RegistryError("does not wait for approval", where=where, hint=hint, code="CG-REG-009")
    if len(mine) > 1:
        hint = "compare the thumbprint with 'civigate identity show' on the gateway, and give it as --kid"
        keys = ", ".join(one.kid.hex() for one in mine)
        raise RegistryError(f"{len(mine)} say that they are it: {keys}", where=where, hint=hint, code="CG-REG-010")
    return mine[0]


def describe(applicant: Applicant) -> dict[str, object]:
    """Return what `gateways list --json` says of a gateway that waits."""
    return {
        "gateway": applicant.eui.hex(),
        "name": applicant.name,
        "kid": applicant.kid.hex(),
        "public_key": applicant.public_key,
        "sender": applicant.sender,
        "first_us": applicant.first_us,
        "last_us": applicant.last_us,
    }


def _withdraw(args: argparse.Namespace) -> int:
    loaded = config.load(args.config)
    with contextlib.closing(EnrolmentStore(loaded.receiver.data_dir)) as store:
        taken = store.withdraw_one(args.id) if args.id is not None else store.withdraw(args.eui)
    if not taken:
        hint = "'civigate-receiver gateways list' shows those that are open"
        raise RegistryError("there is no such invitation", where="invitations", hint=hint, code="CG-REG-011")
    if args.json:
        print(json.dumps({"withdrawn": taken}))
    else:
        print(f"{taken} {'invitation' if taken == 1 else 'invitations'} taken back")
    return 0
