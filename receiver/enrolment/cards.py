# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""A folder per card, with the civigate.toml that goes onto its boot partition: fifty gateways without typing."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

from receiver.errors import RegistryError

FILE_NAME = "civigate.toml"
AUTHORITIES = "platform-ca.pem"
_UNFIT = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True, slots=True)
class Card:
    """What one card is to say.

    Attributes:
        name: of the gateway.
        code: claim code, as people read it.
        url: where gateways enrol.
        fingerprint: SHA-256 of the platform's certificate, hex; None: `authorities` vouch for it.
        authorities: file with them; None: those of the gateway's system.
        region: plan; empty for the default.
        board: profile; empty to have it found.
    """

    name: str
    code: str
    url: str
    fingerprint: str | None
    authorities: Path | None
    region: str = ""
    board: str = ""


def write(folder: Path, cards: list[Card]) -> list[Path]:
    """Write a folder for each card; return the files.

    Raises:
        RegistryError: CG-REG-020, one cannot be written, or is there already.
    """
    written = []
    for card in cards:
        place = folder / (_UNFIT.sub("-", card.name).strip("-.") or "gateway")
        path = place / FILE_NAME
        try:
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(_text(card))
            if card.fingerprint is None and card.authorities is not None:
                (place / AUTHORITIES).write_bytes(card.authorities.read_bytes())
        except OSError as error:
            hint = "name a new folder: a code that was given out once is not written over"
            what = f"cannot be written: {error.strerror}"
            raise RegistryError(what, where=str(error.filename or path), hint=hint, code="CG-REG-020") from error
        written.append(path)
    return written


def _text(card: Card) -> str:
    values = {
        "format": 1,
        "name": card.name,
        "platform": card.url,
        "claim": card.code,
        "fingerprint": card.fingerprint,
        "ca_file": AUTHORITIES if card.fingerprint is None and card.authorities is not None else None,
        "region": card.region or None,
        "board": card.board or None,
    }
    lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in values.items() if value is not None]
    head = "# Copy this folder's files onto the boot partition of the card. It is good for one gateway, once."
    return "\n".join([head, "[provision]", *lines]) + "\n"
