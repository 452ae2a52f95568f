# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Who the gateway is: its EUI, and the key it signs with; and how it gets another key.

A key file is changed in steps that a power cut may come between at any place: the next key is made (`.next`), the
present one gets a second name (`.previous`), then the next takes its place. From the next start on batches announce it
(`agent.spool.signing`), and when every destination has acknowledged one that it signed, the previous file goes.
"""

from __future__ import annotations

import logging
import os
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent import durable
from agent.batch import keyfile, keyplace
from agent.batch.keyplace import FilePlace
from agent.errors import IdentityError, SpoolError
from agent.ownership import as_owner, owner_of
from agent.spool.reader import SpoolReader
from agent.spool.signing import Keys, waiting_for

if TYPE_CHECKING:
    from pathlib import Path

    from agent.batch.keyplace import KeyPlace
    from agent.batch.keys import Signer
    from agent.config import GatewayConfig

log = logging.getLogger(__name__)

_FOLDER_MODE = 0o750
NO_SPOOL = "CG-SPL-001"


@dataclass(frozen=True, slots=True)
class Identity:
    """A gateway.

    Attributes:
        signer: its private key.
        place: where that is.
        eui: EUI-64, 8 bytes; None as long as only the concentrator knows it and was never started.
        previous: the key before it, while not every destination knows the new one.
        waiting: the destinations that do not, by name.
    """

    signer: Signer
    place: KeyPlace
    eui: bytes | None
    previous: Signer | None = None
    waiting: tuple[str, ...] = ()


def load(config: GatewayConfig) -> Identity:
    """Read the identity that is there.

    Raises:
        IdentityError: there is no key, or it cannot be used.
        SpoolError: there is a spool that cannot be read.
    """
    return _identity(config, keyplace.open_signer(config.key_place))


def load_or_create(config: GatewayConfig) -> Identity:
    """Read the identity, or make a key where there is none; one that is there is never replaced.

    Raises:
        IdentityError: the key cannot be used, or not be made.
        SpoolError: there is a spool that cannot be read.
    """
    found = signer(config)
    if not isinstance(config.key_place, FilePlace):
        try:
            _ = found.public
        except IdentityError as error:
            if error.code != "CG-IDN-023":
                raise
            found = keyplace.create(config.key_place)
    return _identity(config, found)


def signer(config: GatewayConfig) -> Signer:
    """Return what signs; a key file is made where there is none. A device is not asked yet: it may be plugged in later.

    Raises:
        IdentityError: the file cannot be used, or not be made.
    """
    if not isinstance(config.key_place, FilePlace):
        return keyplace.open_signer(config.key_place)
    path, home = config.key_path, config.gateway.state_dir
    with as_owner(home, path.parent):
        _make_folder(path)
        return keyfile.load_or_create(path, owner=owner_of(home))


def _make_folder(path: Path) -> None:
    try:
        path.parent.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
    except OSError as error:
        raise IdentityError(
            f"the folder cannot be made: {error.strerror}",
            where=str(path.parent),
            hint="make it and give it to the user that runs civigate, or correct [gateway] state_dir",
            code="CG-IDN-007",
        ) from error


def keys(config: GatewayConfig) -> Keys:
    """Return the keys to seal with, and bring a change of keys to its end where every destination has taken it.

    Raises:
        IdentityError: as `signer`; the previous key is configured and cannot be used.
        SpoolError: there is a spool that cannot be read.
    """
    current, previous = signer(config), _previous(config)
    if previous is None or not _finished(config, current, previous):
        return Keys(current, previous)
    place = config.identity.previous_key
    if place is None:
        _previous_path(config).unlink(missing_ok=True)
    log.info("event=key_changed kid=%s%s", current.kid.hex(), "" if place is None else " hint=previous_key can go")
    return Keys(current)


def rotate(config: GatewayConfig, *, announce: bool = True) -> Identity:
    """Make the next key in a file, and let it take the place of the present one at the next start.

    Args:
        config: of the gateway, whose key is in a file.
        announce: False when the present key must not speak any more, because it was stolen: it is deleted, and somebody
            has to register the new one at the platform.

    Raises:
        IdentityError: CG-IDN-008, an earlier change has not come to its end; -009, the key is in a device; or a file
            cannot be used.
        SpoolError: there is a spool that cannot be read.
    """
    path = config.key_path
    if not isinstance(config.key_place, FilePlace):
        raise IdentityError(
            "is in a device, where the next key needs a place of its own",
            where=str(config.key_place),
            hint="civigate identity rotate --to tpm:0x81000002, or another object of the token",
            code="CG-IDN-009",
        )
    present, previous = keyfile.load(path), _previous(config)
    if announce and previous is not None and not _finished(config, present, previous):
        raise _under_way(config, present)
    home = config.gateway.state_dir
    with as_owner(home, path.parent):
        _change(path, _previous_path(config), announce=announce, owner=owner_of(home))
    return load(config)


def _change(path: Path, before: Path, *, announce: bool, owner: tuple[int, int] | None) -> None:
    after = path.with_name(path.name + ".next")
    if not after.exists():  # else an earlier try came as far as this
        keyfile.create(after, owner=owner)
    try:
        before.unlink(missing_ok=True)
        if announce:
            os.link(path, before)
            durable.sync(path.parent)
        after.replace(path)
        durable.sync(path.parent)
    except OSError as error:
        raise IdentityError(
            f"cannot be changed: {error.strerror}",
            where=str(path),
            hint="run this as the user that runs civigate; what was there is still in use",
            code="CG-IDN-006",
        ) from error


def known_eui(config: GatewayConfig) -> bytes | None:
    """Return the gateway's EUI: as configured, or as the spool learnt it from the concentrator.

    Raises:
        SpoolError: there is a spool that cannot be read.
    """
    if config.gateway.eui is not None:
        return config.gateway.eui
    with closing(_Spool(config)) as spool:
        return spool.reader.state().gateway_eui if spool.reader is not None else None


def _identity(config: GatewayConfig, current: Signer) -> Identity:
    previous = _previous(config)
    if previous is None or _finished(config, current, previous):
        return Identity(current, config.key_place, known_eui(config))
    waiting = _waiting(config, current)
    names = [destination.name for destination in config.destination] if waiting is None else waiting
    return Identity(current, config.key_place, known_eui(config), previous, tuple(names))


def _previous(config: GatewayConfig) -> Signer | None:
    place = config.identity.previous_key
    if place is not None:
        return keyplace.open_signer(place)
    path = _previous_path(config)
    return keyfile.load(path) if isinstance(config.key_place, FilePlace) and path.exists() else None


def _previous_path(config: GatewayConfig) -> Path:
    return config.key_path.with_name(config.key_path.name + ".previous")


def _finished(config: GatewayConfig, current: Signer, previous: Signer) -> bool:
    """Whether the previous key has nothing to do any more, or is the present one: an interrupted `rotate`."""
    try:
        return current.kid == previous.kid or _waiting(config, current) == []
    except IdentityError:
        return False  # a device that is not there: nobody can tell


def _waiting(config: GatewayConfig, current: Signer) -> list[str] | None:
    """Return the destinations that do not know the newest key yet; None: there is no spool that could tell."""
    with closing(_Spool(config)) as spool:
        return waiting_for(spool.reader.state(), current.kid) if spool.reader is not None else None


def _under_way(config: GatewayConfig, current: Signer) -> IdentityError:
    names = ", ".join(_waiting(config, current) or ["any destination"])
    return IdentityError(
        f"a change of keys is under way: not known yet to {names}",
        where=str(config.key_path),
        hint="let the agent run with a link until 'civigate identity show' names no previous key, then try again",
        code="CG-IDN-008",
    )


class _Spool:
    """The spool to look into; `reader` is None where there is none yet."""

    def __init__(self, config: GatewayConfig) -> None:
        self.reader: SpoolReader | None = None
        try:
            self.reader = SpoolReader(config.spool_path)
        except SpoolError as error:
            if error.code != NO_SPOOL:
                raise

    def close(self) -> None:
        if self.reader is not None:
            self.reader.close()
