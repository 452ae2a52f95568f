# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""`civigate-receiver ca`: the authority that certifies this operator's gateways."""

from __future__ import annotations

import argparse
import contextlib
import json
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from agent.enrolment.certificate import day, fingerprint, validity
from agent.ownership import as_owner
from receiver import config
from receiver.cli.arguments import add_config, add_json
from receiver.enrolment import authority
from receiver.enrolment.authority import CERTIFICATE_FILE, CRL_FILE, Authority
from receiver.enrolment.store import EnrolmentStore, Issued

_EXAMPLES = """examples:
  civigate-receiver ca create --name "Town of Example" -c receiver.toml
  civigate-receiver ca show
  civigate-receiver ca crl        # also after each 'gateways revoke', and twice a day while the receiver runs

A town that has an authority of its own needs none of this: 'civigate identity csr' on the gateway makes a request that
it can sign, 'civigate identity install' takes the certificate.
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command and its verbs."""
    parser = subparsers.add_parser(
        "ca",
        help="make or show the authority that certifies gateways",
        description="A small certificate authority for gateways: good for TLS clients, and for nothing else.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    create = verbs.add_parser("create", help="make the authority; one that is there is never replaced")
    create.add_argument("--name", default="civigate", help="of the operator, as certificates show it")
    create.set_defaults(func=_create)
    show = verbs.add_parser("show", help="print the authority and the certificates that it issued")
    show.set_defaults(func=_show)
    crl = verbs.add_parser("crl", help="write the list of revoked certificates anew")
    crl.set_defaults(func=_crl)
    for verb in (create, show, crl):
        add_config(verb)
        add_json(verb)


def _folder(loaded: config.ReceiverConfig) -> Path:
    if loaded.enrolment is not None:
        return loaded.enrolment.folder(loaded.receiver.data_dir)
    return loaded.receiver.data_dir / "ca"


def _create(args: argparse.Namespace) -> int:
    loaded = config.load(args.config)
    with as_owner(loaded.receiver.data_dir, _folder(loaded)):
        made = authority.create(_folder(loaded), args.name)
        made.write_crl(())
    return _print(args, _folder(loaded), made.certificate, ())


def _show(args: argparse.Namespace) -> int:
    loaded = config.load(args.config)
    found = Authority(_folder(loaded))
    with contextlib.closing(EnrolmentStore(loaded.receiver.data_dir)) as store:
        return _print(args, _folder(loaded), found.certificate, store.certificates())


def _crl(args: argparse.Namespace) -> int:
    loaded = config.load(args.config)
    revoked = write_crl(loaded)
    path = _folder(loaded) / CRL_FILE
    if args.json:
        print(json.dumps({"crl": str(path), "revoked": revoked}))
    else:
        print(f"{path}: {revoked} revoked; let the broker read it again")
    return 0


def write_crl(loaded: config.ReceiverConfig) -> int:
    """Write the list of revoked certificates; return how many there are.

    Raises:
        ReceiverError: the authority or the store cannot be used.
    """
    with contextlib.closing(EnrolmentStore(loaded.receiver.data_dir)) as store:
        revoked = store.revoked()
    with as_owner(loaded.receiver.data_dir, _folder(loaded)):
        Authority(_folder(loaded)).write_crl((item.serial, item.revoked_us or 0) for item in revoked)
    return len(revoked)


def has_authority(loaded: config.ReceiverConfig) -> bool:
    """Tell whether there is one."""
    return (_folder(loaded) / CERTIFICATE_FILE).exists()


def _print(
    args: argparse.Namespace, folder: Path, certificate: x509.Certificate, issued: list[Issued] | tuple[Issued, ...]
) -> int:
    name = certificate.subject.rfc4514_string()
    digest = fingerprint(certificate.public_bytes(Encoding.DER)).hex()
    ends = validity(certificate)
    if args.json:
        rows = [
            {
                "gateway": item.eui.hex(),
                "serial": f"{item.serial:x}",
                "fingerprint": item.fingerprint.hex(),
                "issued_us": item.issued_us,
                "not_after_us": item.not_after_us,
                "revoked_us": item.revoked_us,
            }
            for item in issued
        ]
        authority_entry = {"certificate": str(folder / CERTIFICATE_FILE), "name": name, "fingerprint": digest}
        print(json.dumps({**authority_entry, "not_after_us": ends.not_after_us, "issued": rows}, ensure_ascii=False))
        return 0
    print(f"authority    {name}\ncertificate  {folder / CERTIFICATE_FILE}\nSHA-256      {digest}\nvalid        {ends}")
    for item in issued:
        state = "good" if item.revoked_us is None else "revoked"
        print(f"{item.eui.hex()}  {state:8} until {day(item.not_after_us)}  serial {item.serial:x}")
    return 0
