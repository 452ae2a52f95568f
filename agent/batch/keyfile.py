# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Private keys in files: PKCS#8 PEM, readable by their owner alone, complete or not there at all."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from agent import durable
from agent.batch.keys import Algorithm, Ed25519Signer, ES256Signer, Signer
from agent.errors import IdentityError

MAX_FILE_BYTES = 4096
_MODE = 0o600


def load(path: Path) -> Signer:
    """Read a private key.

    Args:
        path: PKCS#8 PEM, Ed25519 or P-256, mode 0600 or stricter.

    Raises:
        IdentityError: CG-IDN-002 missing or unreadable, -003 others may read it, -004 not such a key.
    """
    try:
        # Opening must not wait for the other end of a pipe.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            mode = os.fstat(descriptor).st_mode
            data = os.read(descriptor, MAX_FILE_BYTES + 1) if stat.S_ISREG(mode) else b""
        finally:
            os.close(descriptor)
    except OSError as error:
        raise _unreadable(path, error) from error
    if not stat.S_ISREG(mode):
        raise IdentityError(
            "is not a regular file", where=str(path), hint="name a file with a private key", code="CG-IDN-002"
        )
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise IdentityError(
            f"mode {stat.S_IMODE(mode):04o} lets others read or change the private key",
            where=str(path),
            hint=f"chmod 600 {path}; if others had access to this machine, make a new key",
            code="CG-IDN-003",
        )
    return _signer(data, path)


def create(path: Path, algorithm: Algorithm = Algorithm.EDDSA, owner: tuple[int, int] | None = None) -> Signer:
    """Make a private key and keep it in a new file; a file that is there is never replaced.

    After a power cut there is the complete file or none.

    Args:
        path: the file; its folder must exist.
        algorithm: what the key is for.
        owner: user and group whose key it is, where root makes it.

    Raises:
        IdentityError: CG-IDN-005 the file exists, -006 it cannot be written.
    """
    private: ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey
    if algorithm is Algorithm.EDDSA:
        private = ed25519.Ed25519PrivateKey.generate()
    else:
        private = ec.generate_private_key(ec.SECP256R1())
    data = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        try:
            durable.create(draft, data, _MODE, owner)
            # A link, unlike a rename, fails when the name is taken.
            os.link(draft, path)
        finally:
            draft.unlink(missing_ok=True)
        durable.sync(path.parent)
    except FileExistsError as error:
        raise IdentityError(
            "exists already",
            where=str(path),
            hint="use the key that is there, or move it away if the gateway shall get a new identity",
            code="CG-IDN-005",
        ) from error
    except OSError as error:
        raise IdentityError(
            f"cannot be written: {error.strerror}",
            where=str(path),
            hint="check that the folder exists, has room, and belongs to the user that runs civigate",
            code="CG-IDN-006",
        ) from error
    return load(path)


def load_or_create(path: Path, algorithm: Algorithm = Algorithm.EDDSA, owner: tuple[int, int] | None = None) -> Signer:
    """Read the private key, or make it where there is none; safe when several processes start at once.

    Raises:
        IdentityError: as `load` and `create`.
    """
    if not path.exists():
        try:
            return create(path, algorithm, owner)
        except IdentityError as error:
            if not isinstance(error.__cause__, FileExistsError):
                raise
    return load(path)


def _signer(data: bytes, path: Path) -> Signer:
    try:
        if len(data) > MAX_FILE_BYTES:
            raise _not_a_key(path, f"more than {MAX_FILE_BYTES} bytes")
        private = load_pem_private_key(data, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # The library's message may quote what it read; it stays out of the error and its cause.
        raise _not_a_key(path, "not an unencrypted PKCS#8 private key") from None
    if isinstance(private, ed25519.Ed25519PrivateKey):
        return Ed25519Signer(private)
    if isinstance(private, ec.EllipticCurvePrivateKey) and isinstance(private.curve, ec.SECP256R1):
        return ES256Signer(private)
    raise _not_a_key(path, "neither an Ed25519 nor a P-256 key")


def _unreadable(path: Path, error: OSError) -> IdentityError:
    missing = isinstance(error, FileNotFoundError)
    return IdentityError(
        "there is no such key file" if missing else f"cannot be read: {error.strerror}",
        where=str(path),
        hint="run the command that creates the identity, or correct the path in the configuration"
        if missing
        else "check that the file belongs to the user that runs civigate",
        code="CG-IDN-002",
    )


def _not_a_key(path: Path, what: str) -> IdentityError:
    return IdentityError(
        what,
        where=str(path),
        hint="restore the key from where it was kept, or move the file away and make a new identity",
        code="CG-IDN-004",
    )
