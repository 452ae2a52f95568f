# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""A P-256 key in a TPM 2.0, by `tpm2-pytss` (extra `tpm`).

The key is a child of a primary key of the owner hierarchy, made in the TPM (`sensitiveDataOrigin`, `fixedTPM`), and
kept at a persistent handle. It signs SHA-256 digests with ECDSA and does nothing else.
Only hardware can show how long a discrete TPM takes; software gives no idea of it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from types import ModuleType
from typing import TYPE_CHECKING

from agent.batch.hardware import device_error, missing_package
from agent.batch.keys import Algorithm, PublicKey, es256_signature
from agent.batch.pin import Pin, PinSource
from agent.errors import IdentityError

if TYPE_CHECKING:
    import tpm2_pytss

# Response codes [TPM 2.0 Part 2 §6.6.3], without the bits that say which handle, session or parameter.
_FORMAT_ONE = 0x80
_ERROR = 0xBF
_AUTH_FAIL, _BAD_AUTH, _HANDLE = 0x8E, 0xA2, 0x8B
_LOCKOUT, _NV_DEFINED = 0x921, 0x14C
_LAYER_TPM = 0
_ATTRIBUTES = "sign|fixedtpm|fixedparent|sensitivedataorigin|userwithauth"


class TpmKey:
    """`agent.batch.hardware.DeviceKey` in a TPM.

    Args:
        handle: persistent.
        tcti: how the TPM is reached.
        pin: of the key's authorisation value, None for an empty one.
    """

    def __init__(self, handle: int, tcti: str, pin: PinSource | None) -> None:
        self._handle = handle
        self._tcti = tcti
        self._pin = Pin(pin)
        self._where = f"tpm:{handle:#x}"

    def read(self) -> PublicKey:
        """Return the public key; errors as in `agent.batch.hardware`."""
        with self._open() as (tss, context):
            # parts of a structure do not keep it alive: `public` must outlive them
            public = context.read_public(context.tr_from_tpmpublic(self._handle))[0]
            area = public.publicArea
            right = area.type == tss.TPM2_ALG.ECC and area.parameters.eccDetail.curveID == tss.TPM2_ECC.NIST_P256
            if not right or not area.objectAttributes & tss.TPMA_OBJECT.SIGN_ENCRYPT:
                raise self._other_kind()
            if area.objectAttributes & tss.TPMA_OBJECT.RESTRICTED:
                raise self._other_kind()
            point = area.unique.ecc
            return PublicKey(Algorithm.ES256, _number(point.x), _number(point.y))

    def sign(self, data: bytes, algorithm: Algorithm) -> bytes:  # noqa: ARG002 - a TPM has but one
        """Return the signature of `data`, 64 bytes; errors as in `agent.batch.hardware`."""
        with self._open() as (tss, context):
            key = context.tr_from_tpmpublic(self._handle)
            pin = self._pin.read()
            if pin is not None:
                context.tr_set_auth(key, pin.encode())
            scheme = tss.TPMT_SIG_SCHEME(scheme=tss.TPM2_ALG.ECDSA)
            scheme.details.any.hashAlg = tss.TPM2_ALG.SHA256
            ticket = tss.TPMT_TK_HASHCHECK(tag=tss.TPM2_ST.HASHCHECK, hierarchy=tss.TPM2_RH.NULL)
            try:
                made = context.sign(key, hashlib.sha256(data).digest(), scheme, ticket)
            except tss.TSS2_Exception as error:
                if _code(error) in (_AUTH_FAIL, _BAD_AUTH):
                    raise self._pin.refuse(pin) from error
                raise
            r, s = made.signature.ecdsa.signatureR, made.signature.ecdsa.signatureS
            return es256_signature(int.from_bytes(bytes(r), "big"), int.from_bytes(bytes(s), "big"))

    def create(self) -> None:
        """Make the key at its handle.

        Raises:
            IdentityError: CG-IDN-005, an object is there; others as in `agent.batch.hardware`.
        """
        with self._open() as (tss, context):
            pin = self._pin.read()
            try:
                context.tr_from_tpmpublic(self._handle)
            except tss.TSS2_Exception as error:
                if _code(error) != _HANDLE:
                    raise
            else:
                raise self._taken()
            secret = tss.TPM2B_SENSITIVE_CREATE(tss.TPMS_SENSITIVE_CREATE(userAuth=(pin or "").encode()))
            # with a PIN wrong tries must count, or it could be guessed; without one nobody could be locked out anyway
            attributes = _ATTRIBUTES if pin is not None else f"{_ATTRIBUTES}|noda"
            template = tss.TPM2B_PUBLIC.parse("ecc:ecdsa-sha256", objectAttributes=attributes, nameAlg="sha256")
            parent = context.create_primary(tss.TPM2B_SENSITIVE_CREATE(), "ecc")[0]
            try:
                private, public, *_ = context.create(parent, secret, template)
                loaded = context.load(parent, private, public)
                try:
                    context.evict_control(tss.ESYS_TR.OWNER, loaded, self._handle)
                except tss.TSS2_Exception as error:
                    if _code(error) == _NV_DEFINED:
                        raise self._taken() from error
                    raise
                finally:
                    context.flush_context(loaded)
            finally:
                context.flush_context(parent)

    @contextlib.contextmanager
    def _open(self) -> Iterator[tuple[ModuleType, tpm2_pytss.ESAPI]]:
        # its messages go to stderr, for conditions that are told better here
        os.environ.setdefault("TSS2_LOG", "all+NONE")
        try:
            import tpm2_pytss as tss  # noqa: PLC0415 - optional
        except (ImportError, OSError) as error:
            raise missing_package("tpm2-pytss", "tpm", self._where) from error
        try:
            with tss.ESAPI(self._tcti) as context:
                yield tss, context
        except tss.TSS2_Exception as error:
            raise self._explained(error) from error

    def _explained(self, error: Exception) -> IdentityError:
        code = _code(error)
        if getattr(error, "rc", 0) >> 16 != _LAYER_TPM:
            hint = f"check that the TPM is there, that this user may use it (group tss), and that {self._tcti} is it"
            return device_error(f"the TPM cannot be reached: {error}", self._where, "CG-IDN-021", hint)
        if code == _HANDLE:
            hint = "'civigate identity create' makes the key; tpm2_getcap handles-persistent lists what is there"
            return device_error("no key under this handle", self._where, "CG-IDN-023", hint)
        if code == _LOCKOUT:
            hint = "the TPM takes no PIN for a while after wrong ones; it goes on by itself"
            return device_error("the TPM is locked", self._where, "CG-IDN-022", hint)
        hint = "if it goes on, look into the kernel's log; batches are sealed as soon as the TPM signs again"
        return device_error(f"the TPM fails: {error}", self._where, "CG-IDN-025", hint)

    def _taken(self) -> IdentityError:
        return IdentityError(
            "an object is there already",
            where=self._where,
            hint="name another handle; tpm2_getcap handles-persistent lists those in use",
            code="CG-IDN-005",
        )

    def _other_kind(self) -> IdentityError:
        return IdentityError(
            "not a P-256 key that may sign any digest",
            where=self._where,
            hint="name the handle of such a key, or a free one and let 'civigate identity create' make it",
            code="CG-IDN-024",
        )


def _number(value: object) -> bytes:
    return bytes(value).rjust(32, b"\0")  # type: ignore[call-overload,no-any-return]


def _code(error: Exception) -> int:
    """Return a TPM's response code as far as it says what is wrong; other layers' codes are never equal to one."""
    code: int = getattr(error, "rc", 0)
    if code >> 16 == _LAYER_TPM and code & _FORMAT_ONE:
        return code & _ERROR
    return code
