# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The keys of the gateways in the ledger: registration, and how one takes the place of another.

Every function works in the transaction that the caller has begun.
"""

from __future__ import annotations

from dataclasses import replace

from receiver.errors import RegistryError
from receiver.ledger import queries
from receiver.ledger.chain import Standing
from receiver.ledger.port import RegisteredKey
from receiver.ledger.sql import Database

MAX_ACTIVE_KEYS = 8
"""Of one gateway, after which it may announce no more; what people register is not limited."""

_LATER = (
    "WITH RECURSIVE later (kid) AS (SELECT kid FROM gateway_key WHERE follows = ?"
    " UNION SELECT gateway_key.kid FROM gateway_key JOIN later ON follows = later.kid)"
)
_OLDER = (
    "WITH RECURSIVE older (kid) AS (SELECT follows FROM gateway_key WHERE kid = ?"
    " UNION SELECT follows FROM gateway_key JOIN older USING (kid))"
)


def add(db: Database, key: RegisteredKey) -> bool:
    """Register a key, with its gateway where that is new; False if it was registered already, unchanged.

    Raises:
        RegistryError: CG-REG-001, the key belongs to another gateway; CG-REG-002, it was revoked.
    """
    known = queries.key(db, key.kid)
    if known is not None:
        _same_registration(known, key)
        return False
    db.execute(
        "INSERT INTO gateway (eui, name, added_us) VALUES (?, ?, ?) ON CONFLICT (eui)"
        " DO UPDATE SET name = excluded.name WHERE excluded.name != ''",
        (key.eui, key.name, key.added_us),
    )
    db.execute(
        "INSERT INTO gateway_key (kid, gateway, public_key, added_us, follows)"
        " SELECT ?, id, ?, ?, ? FROM gateway WHERE eui = ?",
        (key.kid, key.public_key, key.added_us, key.follows, key.eui),
    )
    return True


def announce(db: Database, key: RegisteredKey) -> None:
    """Register a key that another one of its gateway announces; one that is registered already becomes its successor.

    Raises:
        RegistryError: CG-REG-001, -002; CG-REG-007, it was replaced itself; CG-REG-008, the gateway has too many keys.
    """
    known = queries.key(db, key.kid)
    if known is None and _active(db, key.eui) >= MAX_ACTIVE_KEYS:
        hint = "'civigate-receiver gateways revoke EUI --kid HEX' for those that never signed; a gateway needs one"
        what = f"{MAX_ACTIVE_KEYS} keys are active already"
        raise RegistryError(what, where=_gateway(key), hint=hint, code="CG-REG-008")
    if add(db, key) or known is None:
        return
    if known.replaced_us is not None:
        hint = "a key that was replaced does not come back; let the gateway make a new one"
        raise RegistryError("this key was replaced", where=_gateway(key), hint=hint, code="CG-REG-007")
    if known.follows is None and key.kid not in _older(db, key.follows):
        db.execute("UPDATE gateway_key SET follows = ? WHERE kid = ?", (key.follows, key.kid))


def rotate(db: Database, key: RegisteredKey) -> bytes:
    """Register a key in the place of the one that its gateway has; return the kid of that.

    Raises:
        RegistryError: CG-REG-001, -002; CG-REG-003, the gateway has no active key; CG-REG-007.
    """
    before = queries.newest_key(db, key.eui, key.kid)
    if before is None:
        hint = "'civigate-receiver gateways add' registers a first key; 'gateways list' shows what there is"
        raise RegistryError("has no active key to take the place of", where=_gateway(key), hint=hint, code="CG-REG-003")
    announce(db, replace(key, follows=before))
    return before


def revoke(db: Database, eui: bytes, kid: bytes | None, at_us: int) -> int:
    """Revoke one key of a gateway, or all; return how many were active until now."""
    only = "" if kid is None else " AND kid = ?"
    return db.execute(
        "UPDATE gateway_key SET revoked_us = ? WHERE revoked_us IS NULL"  # noqa: S608 - our own words
        f" AND gateway = (SELECT id FROM gateway WHERE eui = ?){only}",
        (at_us, eui) if kid is None else (at_us, eui, kid),
    ).rowcount


def replace_older(db: Database, kid: bytes, at_us: int) -> None:
    """Note that a key signs: those before it are replaced from now on."""
    db.execute(
        f"{_OLDER} UPDATE gateway_key SET replaced_us = ? WHERE replaced_us IS NULL AND kid IN (SELECT kid FROM older)",  # noqa: S608 - our own words
        (kid, at_us),
    )


def standing(db: Database, kid: bytes, stream: int | None, number: int) -> Standing:
    """Look up what a key may sign in a stream (its row, None for a new one) under a number."""
    key = queries.key(db, kid)
    if key is None or key.revoked_us is not None:
        return Standing(revoked=True)
    if key.replaced_us is None:
        return Standing()
    above, below = (
        stream is not None
        and db.execute(
            f"{_LATER} SELECT 1 FROM batch WHERE stream = ? AND number {side} ? AND kid IN (SELECT kid FROM later)"  # noqa: S608 - as above
            " ORDER BY number DESC LIMIT 1",
            (kid, stream, number),
        ).fetchone()
        is not None
        for side in (">", "<")
    )
    return Standing(replaced_us=key.replaced_us, above=above, below=below)


def _active(db: Database, eui: bytes) -> int:
    (count,) = db.execute(
        "SELECT count(*) FROM gateway_key JOIN gateway ON gateway.id = gateway_key.gateway"
        " WHERE eui = ? AND revoked_us IS NULL AND replaced_us IS NULL",
        (eui,),
    ).fetchone()
    return int(count)


def _older(db: Database, kid: bytes | None) -> set[bytes]:
    return {row[0] for row in db.execute(f"{_OLDER} SELECT kid FROM older", (kid,))}  # noqa: S608 - as above


def _same_registration(known: RegisteredKey, wanted: RegisteredKey) -> None:
    if known.eui != wanted.eui:
        hint = "every gateway has a key of its own: let this one make a new key, or revoke the other registration"
        what = f"the key is registered for gateway {known.eui.hex()} already"
        raise RegistryError(what, where=_gateway(wanted), hint=hint, code="CG-REG-001")
    if known.revoked_us is not None:
        hint = "a revoked key stays revoked; let the gateway make a new one"
        raise RegistryError("this key was revoked", where=_gateway(wanted), hint=hint, code="CG-REG-002")


def _gateway(key: RegisteredKey) -> str:
    return f"gateway {key.eui.hex()}"
