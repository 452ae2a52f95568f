# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Enrol a gateway: the certificate into its set, the destination into gateway.toml."""

from __future__ import annotations

import json
import stat
from dataclasses import dataclass, fields
from pathlib import Path

from cryptography.x509.oid import NameOID

from agent import config, durable, identity
from agent.batch.keys import PublicKey
from agent.clock import HostClock
from agent.config import Destination, GatewayConfig
from agent.enrolment import certificate
from agent.enrolment.client import Granted, Platform, Trust
from agent.enrolment.message import Kind, Request
from agent.enrolment.sets import CertificateSet, CertificateSets
from agent.errors import ConfigError, IdentityError
from agent.filter import FilterRules
from agent.ownership import as_owner
from agent.trusted_time import Clock, TrustedTime

FOLDER = "certificates"
DRAWER = ".enrolling"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an enrolment came to.

    Attributes:
        certificates: the set that was made.
        receipt_key: of the platform.
        destination: its name in gateway.toml.
        section: what was added there; empty where the destination was there already.
        present: the destination that was there.
    """

    certificates: CertificateSet
    receipt_key: PublicKey
    destination: str
    section: str
    present: Destination | None


def sets_of(loaded: GatewayConfig, destination: str) -> CertificateSets:
    """Return the certificates of a destination."""
    return CertificateSets(folder_of(loaded, destination))


def folder_of(loaded: GatewayConfig, destination: str) -> Path:
    """Return the folder of what a destination's platform has certified: certificates, and the time."""
    return loaded.gateway.state_dir / FOLDER / destination


def eui_of(loaded: GatewayConfig) -> bytes:
    """Return the gateway's EUI, which a certificate must name.

    Raises:
        IdentityError: CG-ENR-008, it is not known yet.
    """
    eui = identity.known_eui(loaded)
    if eui is None:
        hint = "'civigate probe' reads it from the chip: set it as [gateway] eui; or start the agent once"
        raise IdentityError("is not known yet", where="EUI", hint=hint, code="CG-ENR-008")
    return eui


def enrol(
    path: Path,
    url: str,
    *,
    claim: str,
    trust: Trust,
    name: str | None = None,
    eui: bytes | None = None,
    clock: Clock | None = None,
) -> Outcome:
    """Enrol this gateway at a platform; repeated after an interruption, it goes on where it was.

    Args:
        path: gateway.toml.
        url: where the platform enrols.
        claim: code, canonical; empty for none.
        trust: what the platform's certificate is judged by.
        name: of the destination here; None for what the platform calls itself.
        eui: of the gateway; None where configuration or spool know it.
        clock: of this host.

    Raises:
        AgentError: it did not come about; one line says why, and what to do.
    """
    loaded = config.load(path)
    state_dir = loaded.gateway.state_dir
    signer, eui = identity.signer(loaded), eui or eui_of(loaded)
    # the key is kept here until the platform has said what the destination is called
    drawer = CertificateSets(folder_of(loaded, DRAWER))
    with as_owner(state_dir):
        tls_key = drawer.next_key()
    # asked by whoever runs this: what the platform is judged by may be for root's eyes only
    platform = Platform(url, trust, OwnersTime(state_dir, folder_of(loaded, DRAWER), clock or HostClock()))
    granted = platform.ask(
        lambda nonce: Request(
            Kind.ENROL,
            nonce,
            eui,
            signer.public,
            certificate.request(eui, tls_key),
            claim=claim,
            name=loaded.gateway.name,
        ),
        signer,
        (),
    )
    given = _given(granted, platform.where, name)
    destination = str(given["name"])
    authorities = granted.authorities_pem or _read(trust.authorities)
    if not authorities and trust.fingerprint is not None:
        hint = "the operator must set [enrolment] platform_ca; or give --ca instead of --fingerprint"
        what = "the platform does not say which authorities certify it, and the fingerprint is good for once only"
        raise IdentityError(what, where=platform.where, hint=hint, code="CG-ENR-009")
    present = next((one for one in loaded.destination if one.name == destination), None)
    if present is not None and granted.receipt_key not in present.receipt_keys:
        hint = f"correct receipt_key of destination {destination}, or enrol under another name with --name"
        what = f"the platform signs with {granted.receipt_key.text}, gateway.toml expects another key"
        raise ConfigError(what, where=f"{path}: destination {destination}", hint=hint, code="CG-ENR-011")
    section = "" if present is not None else _section(given, url, granted.receipt_key)
    draft = _draft(path, section) if section else None
    with as_owner(state_dir):
        certificates = _keep(drawer, sets_of(loaded, destination), granted.chain_pem, authorities)
    if draft is not None:
        draft.rename(path)
        durable.sync(path.parent)
    return Outcome(certificates, granted.receipt_key, destination, section, present)


def install(loaded: GatewayConfig, destination: str, chain_pem: bytes, authorities_pem: bytes) -> CertificateSet:
    """Take a certificate that another authority made of the request of this gateway.

    Raises:
        IdentityError: it cannot be read, is for another key or gateway, or cannot be kept.
    """
    leaf = certificate.chain_from_pem(chain_pem, "certificate")[0]
    names = [str(item.value) for item in leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    eui = eui_of(loaded).hex()
    if eui not in names:
        hint = "let the authority keep the common name of the request: platform and broker know the gateway by it"
        what = f"is for {', '.join(names) or 'nobody'}, not for {eui}"
        raise IdentityError(what, where="certificate", hint=hint, code="CG-ENR-012")
    with as_owner(loaded.gateway.state_dir):
        return sets_of(loaded, destination).add(chain_pem, authorities_pem, enrolled=True)


class OwnersTime(TrustedTime):
    """The trusted time, kept as the owner of the state folder.

    Args:
        state_dir: the state folder.
        folder: below it, as for `TrustedTime`.
        clock: of this host.
    """

    def __init__(self, state_dir: Path, folder: Path, clock: Clock) -> None:
        super().__init__(folder, clock)
        self._state_dir = state_dir

    def signed(self, utc_us: int) -> None:
        """Take note of a moment that the platform has signed; verified by the caller."""
        with as_owner(self._state_dir):
            super().signed(utc_us)


def _given(granted: Granted, where: str, name: str | None) -> dict[str, object]:
    """Read what the platform wants configured; what it may not say is an error."""
    try:
        given = json.loads(granted.enrolled.settings)
        known = (
            isinstance(given, dict) and set(given) == {"name", "url", "filter"} and isinstance(given["filter"], dict)
        )
        if not known or not set(given["filter"]) <= {field.name for field in fields(FilterRules)}:
            raise ValueError("other settings than name, url and filter")  # noqa: TRY301 - one way out
    except (ValueError, RecursionError) as error:
        hint = "update the side that is older"
        what = f"its settings for the destination cannot be used: {error}"
        raise IdentityError(what, where=where, hint=hint, code="CG-ENR-010") from error
    return {**given, "name": given["name"] if name is None else name}


def _section(given: dict[str, object], url: str, receipt_key: PublicKey) -> str:
    """Write the destination as TOML; the JSON form of a string, a number, a boolean and an array is a TOML form too."""
    rules = given["filter"]
    assert isinstance(rules, dict)
    lines = [
        "[[destination]]",
        f"name = {json.dumps(given['name'])}",
        f"url = {json.dumps(given['url'])}",
        f"receipt_key = {json.dumps(receipt_key.text)}",
        f"enrolment = {json.dumps(url)}",
        "",
        "[destination.filter]",
        *(f"{key} = {json.dumps(value)}" for key, value in rules.items()),
    ]
    return "\n".join(lines) + "\n"


def _draft(path: Path, section: str) -> Path:
    """Write gateway.toml with a section more beside it, and check it."""
    draft = path.with_name(f".{path.name}.new")
    try:
        text, old = path.read_text(encoding="utf-8"), path.stat()
        draft.unlink(missing_ok=True)
        content = f"{text.rstrip()}\n\n\n{section}".encode()
        durable.create(draft, content, stat.S_IMODE(old.st_mode), (old.st_uid, old.st_gid))
    except OSError as error:
        hint = f"run this as a user that may write it, or add by hand what follows:\n{section}"
        what = f"cannot be written: {error.strerror}"
        raise ConfigError(what, where=str(path), hint=hint, code="CG-ENR-013") from error
    try:
        config.load(draft)
    except ConfigError as error:
        draft.unlink()
        what = f"with the platform's destination it would not be valid: {error.what}"
        raise ConfigError(what, where=str(path), hint=error.hint, code="CG-ENR-014") from error
    return draft


def _keep(drawer: CertificateSets, sets: CertificateSets, chain_pem: bytes, authorities_pem: bytes) -> CertificateSet:
    sets.take_key(drawer)
    return sets.add(chain_pem, authorities_pem, enrolled=True)


def _read(path: Path | None) -> bytes:
    return b"" if path is None else path.read_bytes()
