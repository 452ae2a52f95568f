# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Enrolment in the running receiver: what it needs, put together, and the list of revoked certificates kept fresh."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding
from fastapi import FastAPI

from agent.batch.keys import Signer
from agent.enrolment.certificate import chain_from_pem
from agent.enrolment.message import MAX_REQUEST_BYTES
from agent.filter import Span
from receiver.config import EnrolmentSection
from receiver.enrolment.authority import Authority
from receiver.enrolment.desk import Desk, Policy
from receiver.enrolment.store import EnrolmentStore
from receiver.enrolment.web import enrolment_app
from receiver.errors import ReceiverError, ServiceError
from receiver.http import Door
from receiver.ledger.port import Ledger
from receiver.rate import Buckets

CRL_INTERVAL_S = 12 * 3600.0
"""The list is good for a month; a broker that reads an old one would turn away everybody."""
BODY_GRACE_S = 10.0

_log = logging.getLogger(__name__)


class Office:
    """Enrolment, from the configuration to the application that serves it.

    Args:
        section: of the configuration.
        data_dir: of the receiver.
        ledger: open.
        signer: the receipt key.
        held_back: is told the name of a limit when something is turned away for it.

    Raises:
        ReceiverError: the authority, a file or the store cannot be used.
    """

    def __init__(
        self,
        section: EnrolmentSection,
        data_dir: Path,
        ledger: Ledger,
        signer: Signer,
        held_back: Callable[[str], None] = lambda _limit: None,
    ) -> None:
        self._authority = Authority(section.folder(data_dir))
        policy = Policy(
            certificate_days=section.certificate_days,
            grace_days=section.grace_days,
            ask=section.without_claim == "wait",
            authorities=_authorities(section.platform_ca),
            settings=settings_text(section),
        )
        self.store = EnrolmentStore(data_dir)
        desk = Desk(self.store, ledger, self._authority, signer, policy=policy)
        per_minute = section.strangers_per_minute
        strangers = None if per_minute == 0 else Buckets[str](per_minute / 60, per_minute)
        door = Door(MAX_REQUEST_BYTES, body_grace_s=BODY_GRACE_S, what="a request", held_back=held_back)
        self.app: FastAPI = enrolment_app(desk, door, strangers)
        self._ended = threading.Event()
        self._clerk = threading.Thread(target=self._run, name="crl", daemon=True)

    def start(self) -> None:
        """Keep the list of revoked certificates fresh from now on."""
        self._clerk.start()

    def close(self) -> None:
        """End, and let go of the store."""
        self._ended.set()
        if self._clerk.is_alive():
            self._clerk.join()
        self.store.close()

    def _run(self) -> None:
        while True:
            try:
                self._authority.write_crl((item.serial, item.revoked_us or 0) for item in self.store.revoked())
            except ReceiverError as error:
                _log.error("event=crl_failed error=%r hint=%r code=%s", str(error), error.hint, error.code)
            if self._ended.wait(CRL_INTERVAL_S):
                return


def settings_text(section: EnrolmentSection) -> str:
    """Return what gateways shall configure, as JSON: name, url and filter of the destination."""
    rules = section.filter
    chosen: dict[str, object] = {
        "dev_addr": [_range(span, 8) for span in rules.dev_addr],
        "net_ids": [f"{net_id:06x}" for net_id in rules.net_ids],
        "join_eui": [_range(span, 16) for span in rules.join_eui],
        "dev_eui": [f"{eui:016x}" for eui in rules.dev_eui],
        "f_ports": list(rules.f_ports),
        "proprietary": rules.proprietary,
        "non_lorawan": rules.non_lorawan,
        "no_crc": rules.no_crc,
    }
    given = {name: value for name, value in chosen.items() if value}
    return json.dumps({"name": section.name, "url": section.url, "filter": given})


def _range(span: Span, digits: int) -> str:
    return f"{span.first:0{digits}x}-{span.last:0{digits}x}"


def _authorities(path: Path | None) -> tuple[bytes, ...]:
    if path is None:
        return ()
    try:
        data = path.read_bytes()
    except OSError as error:
        hint = "correct [enrolment] platform_ca, or the file's permissions"
        raise ServiceError(
            f"cannot be read: {error.strerror}", where=str(path), hint=hint, code="CG-SRV-002"
        ) from error
    return tuple(certificate.public_bytes(Encoding.DER) for certificate in chain_from_pem(data, str(path)))
