# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Is there a key, can it sign, and does it belong to the agent's user? None is made here."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from agent.doctor.causes import found, of_error
from agent.doctor.finding import Finding, ok
from agent.errors import IdentityError

if TYPE_CHECKING:
    from agent.batch.keys import Signer
    from agent.config import GatewayConfig
    from agent.doctor.context import Context


def signer(config: GatewayConfig) -> Signer:
    """Return what the gateway signs with.

    Raises:
        IdentityError: there is no key, it may not be read, or its device does not answer.
    """
    from agent.batch import keyplace

    opened = keyplace.open_signer(config.key_place)
    _ = opened.public  # a device is asked only now
    return opened


def key(context: Context) -> Iterator[Finding]:
    """Say whether the key is there and can sign."""
    from agent.batch.keyplace import FilePlace

    if context.config is None:
        return
    place, path = context.config.key_place, context.config.key_path
    if isinstance(place, FilePlace):
        if not os.access(path.parent, os.X_OK) and path.parent.exists():
            yield found("no-rights", "key", f"{path.parent} may not be searched by this user")
            return
        if not path.exists():
            yield found("key-none", "key", f"{path} is not there", config=context.path)
            return
        if not os.access(path, os.R_OK):
            yield found("no-rights", "key", f"{path} may not be read by this user")
            return
    try:
        opened = signer(context.config)
        _ = opened.sign(b"civigate doctor")
    except IdentityError as error:
        yield of_error("key", error)
        return
    if isinstance(place, FilePlace) and context.installed and path.stat().st_uid != _uid(context.who):
        evidence = f"{path} belongs to the user with number {path.stat().st_uid}"
        yield found("key-owner", "key", evidence, user=context.who, where=path)
        return
    kid = opened.kid.hex()
    yield ok("key", f"{kid[:16]}… in {path if isinstance(place, FilePlace) else place} signs", {"kid": kid})


def _uid(name: str) -> int:
    import pwd

    return pwd.getpwnam(name).pw_uid
