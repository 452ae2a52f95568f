# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Public keys, what can sign, and how a key is named.

A key is named by its thumbprint [RFC 9679]: SHA-256 of its COSE_Key, with only the required members, in deterministic
encoding.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from typing import Protocol, TypeAlias

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from agent.batch import cbor
from agent.batch.errors import MalformedError
from agent.errors import IdentityError

KID_BYTES = 32
SIGNATURE_BYTES = 64
MAX_KEY_BYTES = 128
TEXT_PREFIX = "civigate-key"

_P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


class Algorithm(IntEnum):
    """Signature algorithms, by their COSE numbers [RFC 9053 §2]."""

    EDDSA = -8
    """Ed25519."""
    ES256 = -7
    """ECDSA on P-256 with SHA-256."""


_NAMES = {Algorithm.EDDSA: "ed25519", Algorithm.ES256: "es256"}


@dataclass(frozen=True)
class PublicKey:
    """A public key that batches, receipts or refusals are checked with.

    Attributes:
        algorithm: what it verifies.
        x: Ed25519: the key [RFC 8032]; P-256: x coordinate. 32 bytes.
        y: P-256: y coordinate, 32 bytes; empty for Ed25519.
    """

    algorithm: Algorithm
    x: bytes
    y: bytes = b""

    def __post_init__(self) -> None:
        expected = (32, 0) if self.algorithm is Algorithm.EDDSA else (32, 32)
        if (len(self.x), len(self.y)) != expected:
            raise _bad_key(f"numbers of {len(self.x)} and {len(self.y)} bytes, must have {expected}")
        try:
            if self.algorithm is Algorithm.ES256:
                ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\x04" + self.x + self.y)
        except ValueError:
            raise _bad_key("the numbers are not a point of the curve") from None

    @classmethod
    def from_cose_key(cls, data: bytes) -> PublicKey:
        """Read a COSE_Key that holds exactly the members of `cose_key`.

        Raises:
            IdentityError: CG-IDN-001.
        """
        try:
            item = cbor.decode(data, where="key", max_bytes=MAX_KEY_BYTES)
        except MalformedError as error:
            raise _bad_key(error.what) from error
        match item:
            case {1: 1, -1: 6, -2: bytes(x), **rest} if not rest:
                return cls(Algorithm.EDDSA, x)
            case {1: 2, -1: 1, -2: bytes(x), -3: bytes(y), **rest} if not rest:
                return cls(Algorithm.ES256, x, y)
            case _:
                raise _bad_key("not the COSE_Key of an Ed25519 or P-256 public key")

    @classmethod
    def from_text(cls, text: str) -> PublicKey:
        """Read the one-line form of `text`.

        Raises:
            IdentityError: CG-IDN-001.
        """
        match text.strip().split(":"):
            case [prefix, name, encoded] if prefix == TEXT_PREFIX and name in _NAMES.values():
                pass
            case _ if "PRIVATE KEY" in text:
                raise _bad_key("this is a private key, which belongs nowhere but on its gateway")
            case _:
                # short, because it may be a secret all the same
                raise _bad_key(f"{text.strip()[:16]!r} does not look like {TEXT_PREFIX}:ed25519:...")
        try:
            raw = base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            raw = b""
        if _base64url(raw) != encoded:
            raise _bad_key(f"the part behind {name!r} is not base64url or is cut short")
        if name == _NAMES[Algorithm.EDDSA]:
            if len(raw) != 32:
                raise _bad_key(f"{len(raw)} bytes behind {name!r}, must be 32")
            return cls(Algorithm.EDDSA, raw)
        if len(raw) != 33:
            raise _bad_key(f"{len(raw)} bytes behind {name!r}, must be 33")
        try:
            return cls.from_cryptography(ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), raw))
        except ValueError:
            raise _bad_key("the numbers are not a point of the curve") from None

    @classmethod
    def from_cryptography(cls, key: ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey) -> PublicKey:
        """Take over a key of the `cryptography` package.

        Raises:
            IdentityError: CG-IDN-001, for another curve than P-256.
        """
        if isinstance(key, ed25519.Ed25519PublicKey):
            return cls(Algorithm.EDDSA, key.public_bytes(Encoding.Raw, PublicFormat.Raw))
        if not isinstance(key.curve, ec.SECP256R1):
            raise _bad_key(f"curve {key.curve.name}, must be P-256")
        point = key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        return cls(Algorithm.ES256, point[1:33], point[33:])

    @cached_property
    def cose_key(self) -> bytes:
        """COSE_Key [RFC 9052 §7] with the members that the thumbprint covers, and no others."""
        item: dict[int | str, cbor.Item] = {1: 1, -1: 6, -2: self.x}
        if self.algorithm is Algorithm.ES256:
            item = {1: 2, -1: 1, -2: self.x, -3: self.y}
        return cbor.encode(item, where="key", max_bytes=MAX_KEY_BYTES)

    @cached_property
    def kid(self) -> bytes:
        """SHA-256 thumbprint [RFC 9679], 32 bytes."""
        return hashlib.sha256(self.cose_key).digest()

    @property
    def text(self) -> str:
        """One line for configuration files and labels, e.g. `civigate-key:ed25519:...`."""
        raw = self.x
        if self.algorithm is Algorithm.ES256:
            raw = bytes([2 + (self.y[-1] & 1)]) + self.x
        return f"{TEXT_PREFIX}:{_NAMES[self.algorithm]}:{_base64url(raw)}"

    def verify(self, signature: bytes, data: bytes) -> bool:
        """Tell whether `signature` (64 bytes) over `data` is this key's.

        Anybody can make a second valid ECDSA signature out of one; only that with the smaller s counts, so that
        signed bytes cannot be changed into other valid ones.
        """
        if len(signature) != SIGNATURE_BYTES:
            return False
        try:
            if self.algorithm is Algorithm.EDDSA:
                ed25519.Ed25519PublicKey.from_public_bytes(self.x).verify(signature, data)
                return True
            r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
            if s > _P256_ORDER // 2:
                return False
            key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\x04" + self.x + self.y)
            key.verify(encode_dss_signature(r, s), data, ec.ECDSA(SHA256()))
        except InvalidSignature:
            return False
        return True


Resolve: TypeAlias = Callable[[bytes], PublicKey | None]
"""Finds a public key by its kid; None when nobody is registered with it."""


def ring(*keys: PublicKey) -> Resolve:
    """Return a resolver that knows exactly these keys."""
    return {key.kid: key for key in keys}.get


class Signer(Protocol):
    """What signs: a key in a file, a TPM, a token."""

    @property
    def algorithm(self) -> Algorithm:
        """What it signs with."""
        ...

    @property
    def kid(self) -> bytes:
        """Thumbprint of the public key."""
        ...

    @property
    def public(self) -> PublicKey:
        """The public key."""
        ...

    def sign(self, data: bytes) -> bytes:
        """Return the signature of `data`, 64 bytes."""
        ...


class Ed25519Signer:
    """Sign with an Ed25519 key in memory."""

    algorithm = Algorithm.EDDSA

    def __init__(self, private: ed25519.Ed25519PrivateKey) -> None:
        self._private = private
        self.public = PublicKey.from_cryptography(private.public_key())
        self.kid = self.public.kid

    @classmethod
    def generate(cls) -> Ed25519Signer:
        """Make a new key."""
        return cls(ed25519.Ed25519PrivateKey.generate())

    def sign(self, data: bytes) -> bytes:
        """Return the signature of `data`, 64 bytes."""
        return self._private.sign(data)


class ES256Signer:
    """Sign with a P-256 key in memory."""

    algorithm = Algorithm.ES256

    def __init__(self, private: ec.EllipticCurvePrivateKey) -> None:
        self._private = private
        self.public = PublicKey.from_cryptography(private.public_key())
        self.kid = self.public.kid

    @classmethod
    def generate(cls) -> ES256Signer:
        """Make a new key."""
        return cls(ec.generate_private_key(ec.SECP256R1()))

    def sign(self, data: bytes) -> bytes:
        """Return the signature of `data`, 64 bytes, with the smaller s."""
        r, s = decode_dss_signature(self._private.sign(data, ec.ECDSA(SHA256())))
        return es256_signature(r, s)


def es256_signature(r: int, s: int) -> bytes:
    """Write an ECDSA signature as COSE does [RFC 9053 §2.1], with the smaller of the two possible s."""
    return r.to_bytes(32, "big") + min(s, _P256_ORDER - s).to_bytes(32, "big")


def _base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _bad_key(what: str) -> IdentityError:
    return IdentityError(
        what,
        where="public key",
        hint=f"copy the whole line that begins with {TEXT_PREFIX}: as 'identity show' prints it",
        code="CG-IDN-001",
    )
