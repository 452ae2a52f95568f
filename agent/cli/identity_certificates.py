# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""`civigate identity csr|install|renew`: the certificates that the gateway shows."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent.config import Destination, GatewayConfig
    from agent.enrolment.sets import CertificateSet

MAX_FILE_BYTES = 65536


def add_verbs(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verbs to those of `identity`."""
    csr = verbs.add_parser("csr", help="print a certificate request, for an authority of one's own")
    csr.add_argument("-o", "--out", type=Path, metavar="FILE", help="write it there instead")
    csr.set_defaults(func=_csr)
    install = verbs.add_parser("install", help="take the certificate that an authority made of the request")
    install.add_argument("certificate", type=Path, metavar="CERT", help="PEM, with those between it and the root")
    install.add_argument("--ca", type=Path, metavar="FILE", help="authorities that certify the platform, PEM")
    install.set_defaults(func=_install)
    renew = verbs.add_parser("renew", help="renew the certificate now; a running agent does so in time by itself")
    renew.set_defaults(func=_renew)
    for verb in (csr, install, renew):
        verb.add_argument("-c", "--config", type=Path, required=True, metavar="FILE", help="gateway.toml")
        verb.add_argument("--destination", metavar="NAME", help="for this one; needed where there are several")
        verb.add_argument("--json", action="store_true", help="one JSON object instead of lines")


def _chosen(loaded: GatewayConfig, args: argparse.Namespace) -> Destination:
    from agent.errors import ConfigError

    names = ", ".join(destination.name for destination in loaded.destination) or "none"
    chosen = [one for one in loaded.destination if args.destination in {None, one.name}]
    if len(chosen) != 1:
        what = "no such destination" if not chosen else "several destinations"
        hint = f"choose one with --destination; the file has: {names}"
        raise ConfigError(what, where=str(args.config), hint=hint, code="CG-ENR-016")
    return chosen[0]


def _csr(args: argparse.Namespace) -> int:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    from agent import config
    from agent.enrolment import certificate
    from agent.enrolment.enrolling import eui_of, sets_of
    from agent.ownership import as_owner

    loaded = config.load(args.config)
    sets = sets_of(loaded, _chosen(loaded, args).name)
    eui = eui_of(loaded)
    with as_owner(loaded.gateway.state_dir):
        key = sets.next_key()
    der = certificate.request(eui, key)
    pem = x509.load_der_x509_csr(der).public_bytes(Encoding.PEM).decode()
    if args.out is not None:
        args.out.write_text(pem, encoding="ascii")
    if args.json:
        print(json.dumps({"csr": pem, "file": None if args.out is None else str(args.out)}))
    elif args.out is None:
        print(pem, end="")
    else:
        print(f"{args.out}: let your authority sign it, then: civigate identity install CERT")
    return 0


def _install(args: argparse.Namespace) -> int:
    from agent import config
    from agent.enrolment.enrolling import install

    loaded = config.load(args.config)
    destination = _chosen(loaded, args)
    authorities = b"" if args.ca is None else _read(args.ca)
    made = install(loaded, destination.name, _read(args.certificate), authorities)
    if destination.cert_file is not None:
        print(f"take cert_file and key_file out of {args.config} to use it", file=sys.stderr)
    return _print(args, made)


def _renew(args: argparse.Namespace) -> int:
    from agent import config, identity
    from agent.clock import HostClock
    from agent.enrolment.enrolling import OwnersTime, eui_of, folder_of, sets_of
    from agent.enrolment.renewal import renew
    from agent.ownership import as_owner

    loaded = config.load(args.config)
    destination = _chosen(loaded, args)
    home = loaded.gateway.state_dir
    time = OwnersTime(home, folder_of(loaded, destination.name), HostClock())
    sets = sets_of(loaded, destination.name)
    signer, eui = identity.signer(loaded), eui_of(loaded)
    made = renew(destination, sets, signer, eui, time, own=lambda: as_owner(home))
    return _print(args, made)


def _read(path: Path) -> bytes:
    from agent.errors import IdentityError

    try:
        with path.open("rb") as file:
            return file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        hint = "give the path of a PEM file that this user may read"
        raise IdentityError(
            f"cannot be read: {error.strerror}", where=str(path), hint=hint, code="CG-ENR-017"
        ) from error


def _print(args: argparse.Namespace, made: CertificateSet) -> int:
    if args.json:
        print(json.dumps({"certificate": str(made.certificate), "not_after_us": made.validity.not_after_us}))
    else:
        print(f"certificate  {made.certificate}\nvalid        {made.validity}")
        print("it is used from the next connection on, and kept once it has carried a receipt")
    return 0
