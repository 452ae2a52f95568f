# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Signs a page with the gateway's key, and checks one: a COSE_Sign1 in the last line, over all bytes before it.

The payload begins with a text, where batches and all other signed messages of a gateway begin with a number: so none is
ever taken for the other. It names the gateway, the time and the verdict, and has the SHA-256 of the page.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from agent.batch import cbor, cose
from agent.batch.errors import MalformedError
from agent.batch.kinds import payload_of
from agent.errors import BatchError

if TYPE_CHECKING:
    from agent.batch.keys import PublicKey, Signer
    from agent.doctor.sheet import Sheet

KIND: Final = "civigate-doctor"
VERSION: Final = 1
MAX_PAYLOAD_BYTES: Final = 512
MAX_PAGE_BYTES: Final = 4 << 20
LATEST_US: Final = 253_402_300_799_999_999
"""The end of the year 9999, in microseconds since 1970."""
VERDICTS: Final = frozenset({"ok", "warn", "fail"})
BEGIN: Final = b"<!-- civigate-signature: "
END: Final = b" -->\n"


class NotSealedError(BatchError):
    """A page that carries no signature, or not the one it should."""


@dataclass(frozen=True, slots=True)
class Sealed:
    """What a signature says that verifies.

    Attributes:
        kid: thumbprint of the key, 32 bytes.
        eui: of the gateway, 8 bytes; empty when it did not know it.
        utc_us: the gateway's clock when it signed.
        verdict: "ok", "warn" or "fail".
    """

    kid: bytes
    eui: bytes
    utc_us: int
    verdict: str


def seal(page: bytes, sheet: Sheet, signer: Signer) -> bytes:
    """Return a page with a signature behind it.

    Args:
        page: complete, without a signature.
        sheet: what it shows.
        signer: the gateway's key.

    Raises:
        IdentityError: the key does not sign.
    """
    page = page.rstrip(b"\n") + b"\n"
    payload = cbor.encode(
        [KIND, VERSION, bytes.fromhex(sheet.eui), sheet.utc_us, sheet.verdict.value, hashlib.sha256(page).digest()],
        where="sheet",
        max_bytes=MAX_PAYLOAD_BYTES,
    )
    return page + BEGIN + base64.b64encode(cose.sign(payload, signer)) + END


def unseal(data: bytes, key: PublicKey, *, where: str) -> Sealed:
    """Check a page against a public key.

    Raises:
        NotSealedError: CG-DOC-901, there is no signature; -902, it is of another key; -903, the page was changed.
        BatchError: the signature is damaged or does not verify.
    """
    page, message = _apart(data, where)
    if message.kid != key.kid:
        raise NotSealedError(
            f"signed by key {message.kid.hex()}, not by {key.kid.hex()}",
            where=where,
            hint="compare with the key that is registered for this gateway: civigate-receiver gateways list",
            code="CG-DOC-902",
        )
    cose.verify(message, {key.kid: key}.get, where=where)
    match payload_of(message.payload, where=where):
        case [str(kind), int(version), bytes(eui), int(utc_us), str(verdict), bytes(digest)] if kind == KIND:
            if version != VERSION:
                raise _malformed(f"signature of version {version}, this program knows {VERSION}", where)
            if len(eui) not in {0, 8} or not 0 <= utc_us <= LATEST_US or verdict not in VERDICTS:
                raise _malformed("signed by this key, but no gateway, moment or verdict that there is", where)
        case _:
            raise _malformed("signed by this key, but no sheet of a doctor", where)
    if hashlib.sha256(page).digest() != digest:
        raise NotSealedError(
            "the page is not the one that was signed: something in it was changed",
            where=where,
            hint="take no word of it for true; get the file anew from the gateway",
            code="CG-DOC-903",
        )
    return Sealed(message.kid, eui, utc_us, verdict)


def _apart(data: bytes, where: str) -> tuple[bytes, cose.Sign1]:
    """Take page and signature apart."""
    begin = data.rfind(BEGIN)
    at_line = begin > 0 and data[begin - 1 : begin] == b"\n"
    if not at_line or not data.endswith(END) or b"\n" in data[begin : -len(END)]:
        raise NotSealedError(
            "carries no signature in its last line",
            where=where,
            hint="a sheet is signed when the user who asks may read the key: sudo civigate doctor --report FILE",
            code="CG-DOC-901",
        )
    try:
        signed = base64.b64decode(data[begin + len(BEGIN) : -len(END)], validate=True)
    except (binascii.Error, ValueError) as error:
        raise _malformed("the signature is not base64", where) from error
    return data[:begin], cose.read(signed, where=where)


def _malformed(what: str, where: str) -> MalformedError:
    return MalformedError(what, where=where, code="CG-BAT-006")
