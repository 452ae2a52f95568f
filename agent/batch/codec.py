# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Seal a batch, write it for the way, and open it again.

Sealed: a small header, signed. It names gateway, stream, number and the sequence of frames, and binds the body and the
batch before by their SHA-256. Written for the way, it is [signed header, codec, body, check]: compression is outside
the signature, so that other versions of a library do no harm.
"""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import dataclass

import zstandard

from agent.batch import body as bodies
from agent.batch import cbor, cose
from agent.batch.errors import BodyMismatchError, MalformedError, UnsupportedVersionError, UnwritableError
from agent.batch.keys import Resolve, Signer
from agent.batch.kinds import Kind, payload_of
from agent.batch.model import (
    HASH_BYTES,
    MAX_BODY_BYTES,
    MAX_FRAMES,
    MAX_NUMBER,
    MAX_WIRE_BYTES,
    Body,
    Header,
)

CODEC_NONE = 0
CODEC_ZSTD = 1

MAX_SIGNED_HEADER_BYTES = 1024
"""The longest signed header that is looked at; version 1 stays below 260 bytes."""

EUI_BYTES = 8
STREAM_BYTES = 16
CHECK_BYTES = 4

ZSTD_LEVEL = 9

_WHERE = "batch"


@dataclass(frozen=True, slots=True)
class Sealed:
    """A batch that is signed and never changes any more.

    Attributes:
        header: what is signed.
        signed_header: COSE_Sign1, the bytes to keep.
        body: uncompressed; `agent.batch.body.encode` makes it again from the same values.
        hash: SHA-256 of `signed_header`, what the next batch and the receipt name.
    """

    header: Header
    signed_header: bytes
    body: bytes
    hash: bytes


@dataclass(frozen=True, slots=True)
class Opened:
    """A batch that was read and verified.

    Attributes:
        header: what was signed.
        body: what the batch carries.
        signed_header: COSE_Sign1, the evidence.
        kid: thumbprint of the key that signed.
        hash: SHA-256 of `signed_header`.
    """

    header: Header
    body: Body
    signed_header: bytes
    kid: bytes
    hash: bytes


@dataclass(frozen=True, slots=True)
class Glimpse:
    """What bytes that were not accepted claim to be. Nothing of it is verified.

    Attributes:
        stream_id: 16 zero bytes where it could not be read.
        number: 0 where it could not be read.
        gateway_eui: 8 zero bytes where it could not be read.
        kid: empty where it could not be read.
        batch_hash: SHA-256 of the signed header, of all bytes where that could not be read.
    """

    stream_id: bytes
    number: int
    gateway_eui: bytes
    kid: bytes
    batch_hash: bytes


def seal(
    body: Body,
    signer: Signer,
    *,
    gateway_eui: bytes,
    stream_id: bytes,
    number: int,
    first_seq: int,
    previous_hash: bytes,
    filter_version: int = 0,
) -> Sealed:
    """Sign a batch. Keep the result before it is sent: a number stands for one content for ever.

    Args:
        body: what it carries.
        signer: key of the gateway.
        gateway_eui: EUI-64, 8 bytes.
        stream_id: 16 bytes.
        number: from 1, one more than the batch before.
        first_seq: sequence number of the first frame, from 1; without frames that of the next frame to come.
        previous_hash: SHA-256 of the signed header of batch `number` - 1, 32 zero bytes for batch 1.
        filter_version: of the destination's filter.

    Raises:
        UnwritableError: CG-BAT-020.
    """
    encoded = bodies.encode(body)
    header = Header(
        gateway_eui=gateway_eui,
        stream_id=stream_id,
        number=number,
        first_seq=first_seq,
        frame_count=len(body.frames),
        previous_hash=previous_hash,
        body_sha256=hashlib.sha256(encoded).digest(),
        body_length=len(encoded),
        filter_version=filter_version,
    )
    problem = _problem(header)
    if problem is not None:
        raise UnwritableError(problem, where="batch header")
    payload = cbor.encode(
        [
            int(Kind.BATCH),
            header.version,
            header.gateway_eui,
            header.stream_id,
            header.number,
            header.first_seq,
            header.frame_count,
            header.previous_hash,
            header.body_sha256,
            header.body_length,
            header.filter_version,
        ],
        where="batch header",
        max_bytes=MAX_SIGNED_HEADER_BYTES,
    )
    signed_header = cose.sign(payload, signer)
    return Sealed(header, signed_header, encoded, header_hash(signed_header))


def header_hash(signed_header: bytes) -> bytes:
    """Return what names a batch: SHA-256 of its signed header."""
    return hashlib.sha256(signed_header).digest()


def read_header(signed_header: bytes) -> Header:
    """Read one's own signed header without verifying it.

    Raises:
        MalformedError: CG-BAT-001, -002, -006, -008.
        UnsupportedVersionError: CG-BAT-007.
    """
    return _header(cose.read(signed_header, where="batch header", max_bytes=MAX_SIGNED_HEADER_BYTES).payload)


def pack(signed_header: bytes, body: bytes) -> bytes:
    """Write a batch for the way.

    Args:
        signed_header: as sealed.
        body: uncompressed, as signed.

    Raises:
        UnwritableError: CG-BAT-020, longer than `MAX_WIRE_BYTES`.
    """
    compressor = zstandard.ZstdCompressor(level=ZSTD_LEVEL, write_checksum=False, write_content_size=True)
    compressed = compressor.compress(body)
    codec, carried = (CODEC_ZSTD, compressed) if len(compressed) < len(body) else (CODEC_NONE, body)
    return cbor.encode(
        [signed_header, codec, carried, _check(signed_header, codec, carried)],
        where=_WHERE,
        max_bytes=MAX_WIRE_BYTES,
    )


def open_wire(wire: bytes, resolve: Resolve) -> Opened:
    """Read and verify a batch. Nothing is decompressed before the header's signature is verified.

    Args:
        wire: as received.
        resolve: finds a public key by its kid; may raise `RevokedKeyError`.

    Raises:
        MalformedError: CG-BAT-001 encoding, -002 signed message, -006 another kind of message, -008 header,
            -009 envelope or compression, -011 body.
        UnknownKeyError: CG-BAT-004.
        BadSignatureError: CG-BAT-003, -005.
        UnsupportedVersionError: CG-BAT-007, of a gateway whose signature is good.
        BodyMismatchError: CG-BAT-010.
    """
    signed_header, codec, carried = _envelope(wire)
    message = cose.read(signed_header, where=_WHERE, max_bytes=MAX_SIGNED_HEADER_BYTES)
    cose.verify(message, resolve, where=_WHERE)
    header = _header(message.payload)
    encoded = _decompress(carried, header.body_length) if codec == CODEC_ZSTD else carried
    if len(encoded) != header.body_length:
        raise BodyMismatchError(
            f"body of {len(encoded)} bytes, signed {header.body_length}", where=_name(header), code="CG-BAT-010"
        )
    if hashlib.sha256(encoded).digest() != header.body_sha256:
        raise BodyMismatchError("body does not hash to what was signed", where=_name(header), code="CG-BAT-010")
    body = bodies.decode(encoded)
    if len(body.frames) != header.frame_count:
        raise BodyMismatchError(
            f"body has {len(body.frames)} frames, signed {header.frame_count}",
            where=_name(header),
            code="CG-BAT-010",
        )
    return Opened(header, body, signed_header, message.kid, header_hash(signed_header))


def glimpse(wire: bytes) -> Glimpse:
    """Say what bytes claim to be, for a refusal or a quarantine; never raises for bad bytes."""
    whole = Glimpse(bytes(STREAM_BYTES), 0, bytes(EUI_BYTES), b"", hashlib.sha256(wire).digest())
    try:
        signed_header, _, _ = _envelope(wire)
        message = cose.read(signed_header, where=_WHERE, max_bytes=MAX_SIGNED_HEADER_BYTES)
        # These five stand first in every version.
        match payload_of(message.payload, where=_WHERE):
            case [Kind.BATCH, int(), bytes(eui), bytes(stream_id), int(number), *_] if (
                len(eui) == EUI_BYTES and len(stream_id) == STREAM_BYTES and 0 < number <= MAX_NUMBER
            ):
                return Glimpse(stream_id, number, eui, message.kid, header_hash(signed_header))
            case _:
                return whole
    except MalformedError:
        return whole


def _envelope(wire: bytes) -> tuple[bytes, int, bytes]:
    match cbor.decode(wire, where=_WHERE, max_bytes=MAX_WIRE_BYTES):
        case [bytes(signed_header), int(codec), bytes(carried), bytes(check)]:
            pass
        case _:
            raise MalformedError("not [signed header, codec, body, check]", where=_WHERE, code="CG-BAT-009")
    if check != _check(signed_header, codec, carried):
        raise MalformedError("CRC-32 of header and body is wrong", where=_WHERE, code="CG-BAT-009")
    if codec not in (CODEC_NONE, CODEC_ZSTD):
        raise UnsupportedVersionError(f"codec {codec} is not known", where=_WHERE, code="CG-BAT-007")
    return signed_header, codec, carried


def _check(signed_header: bytes, codec: int, carried: bytes) -> bytes:
    """Return the CRC-32 that tells bytes damaged on the way from a wrong body.

    Several compressed forms decompress to the same bytes; with the check, changed bytes are refused all the same.
    """
    crc = zlib.crc32(carried, zlib.crc32(bytes([codec & 0xFF]), zlib.crc32(signed_header)))
    return crc.to_bytes(CHECK_BYTES, "big")


def _decompress(carried: bytes, length: int) -> bytes:
    """Decompress one zstd frame [RFC 8878] that says itself that it holds `length` bytes, and no more than these."""
    try:
        parameters = zstandard.get_frame_parameters(carried)
    except zstandard.ZstdError as error:
        raise _bad_compression(str(error)) from error
    if parameters.content_size != length:
        raise BodyMismatchError(
            f"compressed body says {parameters.content_size} bytes, signed {length}", where=_WHERE, code="CG-BAT-010"
        )
    if parameters.window_size > 2 * MAX_BODY_BYTES or parameters.dict_id:
        raise _bad_compression("window too large or a dictionary needed")
    try:
        # The buffer has the size that the frame states, and zstd does not write beyond it.
        return zstandard.ZstdDecompressor().decompress(carried, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise _bad_compression(str(error)) from error


def _bad_compression(what: str) -> MalformedError:
    return MalformedError(f"body does not decompress: {what}", where=_WHERE, code="CG-BAT-009")


def _header(payload: bytes) -> Header:
    match payload_of(payload, where=_WHERE, kind=Kind.BATCH):
        case [
            _,
            int(version),
            bytes(gateway_eui),
            bytes(stream_id),
            int(number),
            int(first_seq),
            int(frame_count),
            bytes(previous_hash),
            bytes(body_sha256),
            int(body_length),
            int(filter_version),
        ]:
            header = Header(
                gateway_eui,
                stream_id,
                number,
                first_seq,
                frame_count,
                previous_hash,
                body_sha256,
                body_length,
                filter_version,
                version,
            )
        case _:
            raise MalformedError("header has other members than version 1", where=_WHERE, code="CG-BAT-008")
    problem = _problem(header)
    if problem is not None:
        raise MalformedError(problem, where=_name(header), code="CG-BAT-008")
    return header


def _problem(header: Header) -> str | None:
    """Say what is wrong with a header of version 1; None when nothing is."""
    for name, value, low, high in (
        ("number", header.number, 1, MAX_NUMBER),
        ("first sequence", header.first_seq, 1, MAX_NUMBER - MAX_FRAMES),
        ("frame count", header.frame_count, 0, MAX_FRAMES),
        ("body length", header.body_length, 1, MAX_BODY_BYTES),
        ("filter version", header.filter_version, 0, MAX_NUMBER),
    ):
        if not low <= value <= high:
            return f"{name} {value}, must be {low} to {high}"
    for name, data, size in (
        ("gateway EUI", header.gateway_eui, EUI_BYTES),
        ("stream id", header.stream_id, STREAM_BYTES),
        ("previous hash", header.previous_hash, HASH_BYTES),
        ("body hash", header.body_sha256, HASH_BYTES),
    ):
        if len(data) != size:
            return f"{name} of {len(data)} bytes, must have {size}"
    if (header.number == 1) != (header.previous_hash == bytes(HASH_BYTES)):
        return f"batch {header.number} with previous hash {header.previous_hash.hex()}"
    return None


def _name(header: Header) -> str:
    return f"batch {header.number} of stream {header.stream_id.hex()}"
