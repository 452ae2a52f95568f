# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""`civigate enrol`: become a gateway of a platform."""

from __future__ import annotations

import argparse
import getpass
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent.enrolment.enrolling import Outcome

_EXAMPLES = """examples:
  civigate enrol https://platform.example.org:8444 --claim-file - -c gateway.toml         # asks for the code
  civigate enrol https://10.1.2.3:8444 --claim-file code.txt --fingerprint 5f2c...a9 -c gateway.toml
  civigate enrol https://platform.example.org:8444 --ca town-ca.pem --wait -c gateway.toml

The operator gets code and fingerprint from 'civigate-receiver gateways invite'. The platform's certificate must verify:
by --fingerprint, by --ca, or by the authorities of this system. Interrupted, it can be run again with the same code.
"""
WAIT_S = 30.0
MAX_LINE = 100


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    parser = commands.add_parser(
        "enrol",
        help="enrol at a platform: get certificate, receipt key and destination",
        description="Prove to a platform who this gateway is, and get its certificate, its key and its configuration.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("url", metavar="URL", help="https://HOST[:PORT] where the platform enrols gateways")
    parser.add_argument("-c", "--config", type=Path, required=True, metavar="FILE", help="gateway.toml")
    code = parser.add_mutually_exclusive_group()
    code.add_argument(
        "--claim-file",
        metavar="FILE",
        help="file whose first line is the claim code, - to be asked for it; without a code somebody must approve",
    )
    code.add_argument(
        "--claim", metavar="CODE", default="", help="the code itself: everybody here can see it meanwhile"
    )
    trust = parser.add_mutually_exclusive_group()
    trust.add_argument("--ca", type=Path, metavar="FILE", help="authorities that certify the platform, PEM")
    trust.add_argument("--fingerprint", type=_fingerprint, metavar="SHA256", help="of the platform's certificate")
    parser.add_argument("--name", metavar="NAME", help="name of the destination here, if not what the platform says")
    parser.add_argument("--wait", action="store_true", help="wait until somebody has approved")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    parser.set_defaults(func=run)


def _fingerprint(text: str) -> str:
    from agent.enrolment.client import parse_fingerprint

    try:
        return parse_fingerprint(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text[:80]!r} is not a SHA-256: {error}") from error


def run(args: argparse.Namespace) -> int:
    """Enrol; 0 when the certificate is here."""
    from agent.enrolment import claim
    from agent.enrolment.client import NotEnrolledError, Trust
    from agent.enrolment.enrolling import enrol
    from agent.uplink.port import LinkError

    if args.claim:
        print("the code stands in the list of processes: --claim-file - asks for it instead", file=sys.stderr)
    text = args.claim if args.claim_file is None else _read_claim(args.claim_file)
    code = claim.parse(text) if text else ""
    trust = Trust(args.ca, args.fingerprint)
    while True:
        try:
            return _print(args, enrol(args.config, args.url, claim=code, trust=trust, name=args.name))
        except (NotEnrolledError, LinkError) as error:
            wait_s = error.wait_s if isinstance(error, LinkError) else 0.0
            worth_it = wait_s > 0 if isinstance(error, LinkError) else error.retryable
            if not args.wait or not worth_it:
                raise
            print(f"{error}; {error.hint}", file=sys.stderr)
        threading.Event().wait(max(WAIT_S, wait_s))


def _read_claim(name: str) -> str:
    """Read a code from a file, from a person, or from whatever stands in for one."""
    if name == "-":
        return getpass.getpass("claim code: ") if sys.stdin.isatty() else sys.stdin.readline(MAX_LINE)
    try:
        with Path(name).open(encoding="ascii") as file:
            return file.readline(MAX_LINE)
    except (OSError, UnicodeDecodeError) as error:
        from agent.errors import IdentityError

        reason = error.strerror if isinstance(error, OSError) else "not a code"
        hint = "give a file whose first line is the code, or - to be asked for it"
        raise IdentityError(f"cannot be read: {reason}", where=name, hint=hint, code="CG-ENR-001") from error


def _print(args: argparse.Namespace, outcome: Outcome) -> int:
    import json

    made = outcome.certificates
    if args.json:
        said = {
            "destination": outcome.destination,
            "certificate": str(made.certificate),
            "not_after_us": made.validity.not_after_us,
            "receipt_key": outcome.receipt_key.text,
            "configured": bool(outcome.section),
        }
        print(json.dumps(said))
        return 0
    print(
        f"enrolled as destination {outcome.destination}\ncertificate  {made.certificate}\nvalid        {made.validity}"
    )
    if outcome.section:
        print(f"added to {args.config}, for an agent that is started from now on:\n\n{outcome.section}")
        return 0
    present = outcome.present
    if present is not None and present.cert_file is not None:
        print(f"{args.config} names another certificate for it: take cert_file and key_file out to use this one")
    elif present is not None and present.enrolment != args.url:
        print(f'to have it renewed, set in {args.config} for this destination: enrolment = "{args.url}"')
    return 0
