# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""A P-256 or Ed25519 key in a PKCS#11 token, by `python-pkcs11` (extra `pkcs11`): smart card, USB token, HSM.

The token must hold private and public key under the same label and id. A vendor's library is one for the whole process;
after a failure it is started anew, since some learn of a token that came back only then.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from agent.batch.hardware import device_error, missing_package
from agent.batch.keys import Algorithm, PublicKey, es256_signature
from agent.batch.pin import Pin, PinSource
from agent.errors import IdentityError

if TYPE_CHECKING:
    import pkcs11

# EC_PARAMS: named curve [RFC 5480 §2.1.1]; Edwards curves by object identifier or by name [PKCS#11 3.0 §2.3.10].
_P256 = bytes.fromhex("06082a8648ce3d030107")
_ED25519 = (bytes.fromhex("06032b6570"), bytes.fromhex("130c656477617264733235353139"))
_OCTET_STRING = 0x04

_LOCK = threading.Lock()
"""To start a library anew ends every session in the process."""
_FAILED: set[Path] = set()
"""Libraries whose last use failed, or did not end."""


class TokenKey:
    """`agent.batch.hardware.DeviceKey` in a token; what is None is not looked at.

    Args:
        module: the vendor's library.
        pin: of the token's user, None for a token that needs no login.
        token: label of the token.
        serial: its serial number.
        label: of the key.
        key_id: of the key.
    """

    def __init__(
        self,
        module: Path,
        pin: PinSource | None,
        *,
        token: str | None,
        serial: str | None,
        label: str | None,
        key_id: bytes | None,
    ) -> None:
        self._module = module
        self._pin = Pin(pin)
        self._token = token
        self._serial = serial
        self._label = label
        self._id = key_id
        self._where = f"pkcs11:token={token or serial or '*'};object={label or (key_id or b'').hex()}"

    def read(self) -> PublicKey:
        """Return the public key; errors as in `agent.batch.hardware`."""
        with self._session() as session:
            import pkcs11  # noqa: PLC0415 - it is there: the session came from it

            self._find(session, pkcs11.ObjectClass.PRIVATE_KEY)
            key = self._find(session, pkcs11.ObjectClass.PUBLIC_KEY)
            try:
                parameters, point = key[pkcs11.Attribute.EC_PARAMS], key[pkcs11.Attribute.EC_POINT]
            except pkcs11.exceptions.AttributeTypeInvalid as error:
                raise self._other_kind() from error
            return self._public(parameters, point)

    def sign(self, data: bytes, algorithm: Algorithm) -> bytes:
        """Return the signature of `data`, 64 bytes; errors as in `agent.batch.hardware`."""
        with self._session() as session:
            import pkcs11  # noqa: PLC0415 - as above

            key = self._find(session, pkcs11.ObjectClass.PRIVATE_KEY)
            assert isinstance(key, pkcs11.SignMixin)
            if algorithm is Algorithm.EDDSA:
                return bytes(key.sign(data, mechanism=pkcs11.Mechanism.EDDSA))
            made = bytes(key.sign(hashlib.sha256(data).digest(), mechanism=pkcs11.Mechanism.ECDSA))
            if len(made) != 64:
                raise self._fails(f"ECDSA signature of {len(made)} bytes")
            return es256_signature(int.from_bytes(made[:32], "big"), int.from_bytes(made[32:], "big"))

    def create(self, algorithm: Algorithm) -> None:
        """Make the key in its token.

        Raises:
            IdentityError: CG-IDN-005, there is one of this name; others as in `agent.batch.hardware`.
        """
        with self._session(write=True) as session:
            import pkcs11  # noqa: PLC0415 - as above

            if any(True for _ in session.get_objects(self._named(pkcs11.ObjectClass.PRIVATE_KEY))):
                raise IdentityError(
                    "a key of this name is there already",
                    where=self._where,
                    hint="name another object or id",
                    code="CG-IDN-005",
                )
            kind, parameters, mechanism = pkcs11.KeyType.EC, _P256, pkcs11.Mechanism.EC_KEY_PAIR_GEN
            if algorithm is Algorithm.EDDSA:
                kind, parameters = pkcs11.KeyType.EC_EDWARDS, _ED25519[1]
                mechanism = pkcs11.Mechanism.EC_EDWARDS_KEY_PAIR_GEN
            domain = session.create_domain_parameters(kind, {pkcs11.Attribute.EC_PARAMS: parameters}, local=True)
            domain.generate_keypair(
                store=True,
                label=self._label,
                id=self._id,
                mechanism=mechanism,
                capabilities=pkcs11.MechanismFlag.SIGN | pkcs11.MechanismFlag.VERIFY,
            )

    @contextlib.contextmanager
    def _session(self, *, write: bool = False) -> Iterator[pkcs11.Session]:
        try:
            import pkcs11  # noqa: PLC0415 - optional
        except ImportError as error:
            raise missing_package("python-pkcs11", "pkcs11", self._where) from error
        pin = self._pin.read()
        try:
            with _LOCK:
                library = pkcs11.lib(str(self._module))
                if self._module in _FAILED:
                    library.reinitialize()
                _FAILED.add(self._module)
                token = self._present(library.get_tokens())
                with token.open(rw=write, user_pin=pin) as session:
                    yield session
                _FAILED.discard(self._module)
        except pkcs11.exceptions.PKCS11Error as error:
            raise self._explained(error, pin) from error

    def _present(self, tokens: Iterator[pkcs11.Token]) -> pkcs11.Token:
        for token in tokens:
            serial = token.serial.decode("ascii", "replace").strip()
            if self._token in (None, token.label) and self._serial in (None, serial) and token.label:
                return token
        raise self._absent("the token is not there")

    def _named(self, kind: pkcs11.ObjectClass) -> dict[pkcs11.Attribute, object]:
        import pkcs11  # noqa: PLC0415 - as above

        named: dict[pkcs11.Attribute, object] = {pkcs11.Attribute.CLASS: kind}
        if self._label is not None:
            named[pkcs11.Attribute.LABEL] = self._label
        if self._id is not None:
            named[pkcs11.Attribute.ID] = self._id
        return named

    def _find(self, session: pkcs11.Session, kind: pkcs11.ObjectClass) -> pkcs11.Object:
        found = list(session.get_objects(self._named(kind)))
        if len(found) == 1:
            return found[0]
        what = f"{len(found) or 'no'} {kind.name.replace('_', ' ').lower()}s of this name"
        hint = "name exactly one by object and id; 'civigate identity create' makes it where there is none"
        raise device_error(what, self._where, "CG-IDN-023", hint)

    def _public(self, parameters: bytes, point: bytes) -> PublicKey:
        # EC_POINT is an OCTET STRING; some tokens leave its head away
        if len(point) > 2 and point[0] == _OCTET_STRING and point[1] == len(point) - 2:
            point = point[2:]
        if parameters == _P256 and len(point) == 65:
            return PublicKey(Algorithm.ES256, point[1:33], point[33:])
        if parameters in _ED25519 and len(point) == 32:
            return PublicKey(Algorithm.EDDSA, point)
        raise self._other_kind()

    def _explained(self, error: Exception, pin: str | None) -> IdentityError:
        import pkcs11.exceptions as raised  # noqa: PLC0415 - as above

        name = type(error).__name__
        match error:
            case raised.PinIncorrect() | raised.PinInvalid() | raised.PinLenRange():
                return self._pin.refuse(pin)
            case raised.UserNotLoggedIn():
                return self._pin.wrong()
            case raised.PinLocked() | raised.PinExpired() | raised.UserPinNotInitialized():
                hint = "unlock the token with its security officer's PIN"
                return device_error(f"the token takes no PIN: {name}", self._where, "CG-IDN-022", hint)
            case raised.MechanismInvalid() | raised.KeyTypeInconsistent() | raised.DomainParamsInvalid():
                return self._other_kind()
            case raised.TokenNotPresent() | raised.TokenNotRecognised() | raised.DeviceRemoved():
                return self._absent(f"the token is not there: {name}")
        if "loading" in str(error):
            return self._absent(f"the library {self._module} cannot be loaded")
        return self._fails(name)

    def _absent(self, what: str) -> IdentityError:
        hint = "plug the token in; check module-path and token in the key's URI, and that pcscd runs where it is needed"
        return device_error(what, self._where, "CG-IDN-021", hint)

    def _fails(self, what: str) -> IdentityError:
        hint = "plug it out and in again; batches are sealed as soon as the token signs again"
        return device_error(f"the token fails: {what}", self._where, "CG-IDN-025", hint)

    def _other_kind(self) -> IdentityError:
        return IdentityError(
            "neither a P-256 nor an Ed25519 key, or the token cannot sign with it",
            where=self._where,
            hint="name another key of the token, or let 'civigate identity create' make one",
            code="CG-IDN-024",
        )
