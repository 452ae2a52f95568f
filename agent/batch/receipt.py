# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The platform's signed answers: receipts, which free space on a gateway, and refusals, which say why not."""

from __future__ import annotations

from agent.batch import cbor, cose
from agent.batch.errors import MalformedError, UnwritableError
from agent.batch.keys import Resolve, Signer
from agent.batch.kinds import MAX_PAYLOAD_BYTES, Kind, payload_of
from agent.batch.model import (
    FORMAT_VERSION,
    GENESIS_HASH,
    HASH_BYTES,
    MAX_DETAIL_BYTES,
    MAX_NUMBER,
    MAX_RANGES,
    Reason,
    Receipt,
    Refusal,
)

STREAM_BYTES = 16


def sign_receipt(receipt: Receipt, signer: Signer) -> bytes:
    """Return the signed form of a receipt.

    Of the ranges beyond `through` only the first `MAX_RANGES` are written: to say less is always safe.

    Raises:
        UnwritableError: CG-BAT-020.
    """
    problem = _receipt_problem(receipt)
    if problem is not None:
        raise UnwritableError(problem, where="receipt")
    beyond: list[cbor.Item] = [[first, last] for first, last in receipt.beyond[:MAX_RANGES]]
    return _sign(
        [
            int(Kind.RECEIPT),
            FORMAT_VERSION,
            receipt.stream_id,
            receipt.through,
            receipt.hash,
            receipt.utc_us,
            beyond,
        ],
        signer,
        "receipt",
    )


def sign_refusal(refusal: Refusal, signer: Signer) -> bytes:
    """Return the signed form of a refusal; a detail that is too long is cut.

    Raises:
        UnwritableError: CG-BAT-020.
    """
    problem = _refusal_problem(refusal)
    if problem is not None:
        raise UnwritableError(problem, where="refusal")
    return _sign(
        [
            int(Kind.REFUSAL),
            FORMAT_VERSION,
            refusal.stream_id,
            refusal.number,
            refusal.batch_hash,
            int(refusal.reason),
            refusal.detail.encode()[:MAX_DETAIL_BYTES].decode(errors="ignore"),
            refusal.utc_us,
        ],
        signer,
        "refusal",
    )


def open_answer(data: bytes, resolve: Resolve) -> Receipt | Refusal:
    """Read and verify what the platform answered.

    Args:
        data: COSE_Sign1.
        resolve: finds the platform's public key by its kid.

    Raises:
        MalformedError: CG-BAT-001 encoding, -002 signed message, -006 neither receipt nor refusal, -012 content.
        UnknownKeyError: CG-BAT-004.
        BadSignatureError: CG-BAT-003, -005.
        UnsupportedVersionError: CG-BAT-007.
    """
    message = cose.read(data, where="answer")
    cose.verify(message, resolve, where="answer")
    match payload_of(message.payload, where="answer"):
        case [Kind.RECEIPT, *_]:
            return _receipt(message.payload)
        case [Kind.REFUSAL, *_]:
            return _refusal(message.payload)
        case _:
            raise MalformedError("neither a receipt nor a refusal", where="answer", code="CG-BAT-006")


def open_receipt(data: bytes, resolve: Resolve) -> Receipt:
    """Read and verify a receipt; errors as in `open_answer`."""
    message = cose.read(data, where="receipt")
    cose.verify(message, resolve, where="receipt")
    return _receipt(message.payload)


def open_refusal(data: bytes, resolve: Resolve) -> Refusal:
    """Read and verify a refusal; errors as in `open_answer`."""
    message = cose.read(data, where="refusal")
    cose.verify(message, resolve, where="refusal")
    return _refusal(message.payload)


def _sign(item: cbor.Item, signer: Signer, where: str) -> bytes:
    return cose.sign(cbor.encode(item, where=where, max_bytes=MAX_PAYLOAD_BYTES), signer)


def _receipt(payload: bytes) -> Receipt:
    match payload_of(payload, where="receipt", kind=Kind.RECEIPT):
        case [_, _, bytes(stream_id), int(through), bytes(digest), int(utc_us), list(ranges)]:
            beyond: list[tuple[int, int]] = []
            for item in ranges[: MAX_RANGES + 1]:
                match item:
                    case [int(first), int(last)]:
                        beyond.append((first, last))
                    case _:
                        raise _bad("receipt", "range is not [first, last]")
            receipt = Receipt(stream_id, through, digest, utc_us, tuple(beyond))
        case _:
            raise _bad("receipt", "other members than version 1")
    problem = _receipt_problem(receipt)
    if problem is None and len(receipt.beyond) > MAX_RANGES:
        problem = f"more than {MAX_RANGES} ranges"
    if problem is not None:
        raise _bad("receipt", problem)
    return receipt


def _refusal(payload: bytes) -> Refusal:
    match payload_of(payload, where="refusal", kind=Kind.REFUSAL):
        case [
            _,
            _,
            bytes(stream_id),
            int(number),
            bytes(batch_hash),
            int(reason),
            str(detail),
            int(utc_us),
        ]:
            pass
        case _:
            raise _bad("refusal", "other members than version 1")
    try:
        refusal = Refusal(stream_id, number, batch_hash, Reason(reason), detail, utc_us)
    except ValueError:
        raise _bad("refusal", f"reason {reason} is not known") from None
    problem = _refusal_problem(refusal)
    if problem is None and len(detail.encode()) > MAX_DETAIL_BYTES:
        problem = f"detail longer than {MAX_DETAIL_BYTES} bytes"
    if problem is not None:
        raise _bad("refusal", problem)
    return refusal


def _receipt_problem(receipt: Receipt) -> str | None:
    if len(receipt.stream_id) != STREAM_BYTES or len(receipt.hash) != HASH_BYTES:
        return "stream id or hash has a wrong length"
    if not 0 <= receipt.through <= MAX_NUMBER or not 0 <= receipt.utc_us <= MAX_NUMBER:
        return "batch number or time out of range"
    if (receipt.through == 0) != (receipt.hash == GENESIS_HASH):
        return f"through {receipt.through} with hash {receipt.hash.hex()}"
    before = receipt.through
    for first, last in receipt.beyond:
        if not before < first <= last <= MAX_NUMBER:
            return f"range {first} to {last} behind {before}"
        before = last
    return None


def _refusal_problem(refusal: Refusal) -> str | None:
    if len(refusal.stream_id) != STREAM_BYTES or len(refusal.batch_hash) != HASH_BYTES:
        return "stream id or hash has a wrong length"
    if not 0 <= refusal.number <= MAX_NUMBER or not 0 <= refusal.utc_us <= MAX_NUMBER:
        return "batch number or time out of range"
    return None


def _bad(where: str, what: str) -> MalformedError:
    return MalformedError(what, where=where, code="CG-BAT-012")
