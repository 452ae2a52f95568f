# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Who the gateway is: its EUI, and the key it signs with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.batch import keyfile
from agent.errors import IdentityError, SpoolError
from agent.spool.reader import SpoolReader

if TYPE_CHECKING:
    from pathlib import Path

    from agent.batch.keys import Signer
    from agent.config import GatewayConfig

_FOLDER_MODE = 0o750
NO_SPOOL = "CG-SPL-001"


@dataclass(frozen=True, slots=True)
class Identity:
    """A gateway.

    Attributes:
        signer: its private key.
        key_path: the file it is in.
        eui: EUI-64, 8 bytes; None as long as only the concentrator knows it and was never started.
    """

    signer: Signer
    key_path: Path
    eui: bytes | None


def load(config: GatewayConfig) -> Identity:
    """Read the identity that is there.

    Raises:
        IdentityError: there is no key, or it cannot be used.
        SpoolError: the EUI is to be read from a spool that cannot be read.
    """
    return Identity(keyfile.load(config.key_path), config.key_path, known_eui(config))


def load_or_create(config: GatewayConfig) -> Identity:
    """Read the identity, or make a key where there is none.

    Raises:
        IdentityError: the key cannot be used, or not be made.
        SpoolError: the EUI is to be read from a spool that cannot be read.
    """
    return Identity(signer(config), config.key_path, known_eui(config))


def signer(config: GatewayConfig) -> Signer:
    """Read the gateway's key, or make it where there is none; a key that is there is never replaced.

    Raises:
        IdentityError: the key cannot be used, or not be made.
    """
    path = config.key_path
    try:
        path.parent.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
    except OSError as error:
        raise IdentityError(
            f"the folder cannot be made: {error.strerror}",
            where=str(path.parent),
            hint="make it and give it to the user that runs civigate, or correct [gateway] state_dir",
            code="CG-IDN-007",
        ) from error
    return keyfile.load_or_create(path)


def known_eui(config: GatewayConfig) -> bytes | None:
    """Return the gateway's EUI: as configured, or as the spool learnt it from the concentrator.

    Raises:
        SpoolError: there is a spool that cannot be read.
    """
    if config.gateway.eui is not None:
        return config.gateway.eui
    try:
        with SpoolReader(config.spool_path) as reader:
            return reader.state().gateway_eui
    except SpoolError as error:
        if error.code == NO_SPOOL:
            return None
        raise
