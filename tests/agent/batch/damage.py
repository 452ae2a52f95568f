# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Every kind of message that is not accepted, each wrong in the one thing that its name says.

Written with cbor2 and zstandard from the document, not with the writers of the project, which refuse to make them.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable
from typing import Any, TypeAlias

import cbor2
import zstandard

from agent.batch import body as bodies
from agent.batch import codec, cose
from agent.batch.errors import (
    BadSignatureError,
    BodyMismatchError,
    MalformedError,
    RefusedError,
    UnsupportedVersionError,
)
from agent.batch.keys import Signer
from agent.batch.model import GENESIS_HASH, MAX_BODY_BYTES, MAX_DETAIL_BYTES, MAX_RANGES, MAX_WIRE_BYTES
from tests.agent.batch.samples import ED25519, ES256, GATEWAY, STREAM, ordinary

Damaged: TypeAlias = dict[str, tuple[Callable[[], bytes], type[RefusedError], str]]
"""By name: what makes it, the error and its code."""

FRAMES = 6
PLAIN = bodies.encode(ordinary(FRAMES))
"""A body in which nothing is wrong."""

ENCODINGS = {
    "": "ends too early",
    "18": "ends too early",
    "1817": "shortest",
    "190017": "shortest",
    "1a0000ffff": "shortest",
    "1b00000000ffffffff": "shortest",
    "3817": "shortest",
    "5800": "shortest",
    "1c": "indefinite or reserved",
    "5f4101ff": "indefinite or reserved",
    "9f01ff": "indefinite or reserved",
    "bf0102ff": "indefinite or reserved",
    "420a": "beyond the end",
    "8201": "beyond the end",
    "9bffffffffffffffff": "beyond the end",
    "bb0000000100000000": "beyond the end",
    "5bffffffffffffffff00": "beyond the end",
    "62c328": "UTF-8",
    "61ff": "UTF-8",
    "c101": "tag",
    "c249010000000000000000": "tag",
    "f4": "tag, float or simple",
    "f6": "tag, float or simple",
    "f7": "tag, float or simple",
    "f93c00": "tag, float or simple",
    "fb3ff0000000000000": "tag, float or simple",
    "ff": "tag, float or simple",
    "a201020103": "out of order or repeated",
    "a202000100": "out of order or repeated",
    "a2616200616100": "out of order or repeated",
    "a1410100": "neither integer nor text",
    "a1800000": "nested",
    "0000": "more bytes",
    "81818181818181818100": "nested too deeply",
}
"""Bytes that are not one item in deterministic encoding, and a part of what is said about them."""


def envelope(signed_header: bytes, carried: bytes, number: int = codec.CODEC_NONE) -> bytes:
    """Write a wire message as the document says, whatever it carries."""
    check = zlib.crc32(signed_header + bytes([number]) + carried).to_bytes(4, "big")
    return cbor2.dumps([signed_header, number, carried, check])


def header(body: bytes | None = None, **changes: object) -> dict[str, object]:
    """Name the members of a header that fits `body`, which is `PLAIN` unless given."""
    data = PLAIN if body is None else body
    members: dict[str, object] = {
        "kind": 1,
        "version": 1,
        "gateway_eui": GATEWAY,
        "stream_id": STREAM,
        "number": 1,
        "first_seq": 1,
        "frame_count": FRAMES,
        "previous_hash": GENESIS_HASH,
        "body_sha256": hashlib.sha256(data).digest(),
        "body_length": len(data),
        "filter_version": 0,
    }
    return {**members, **changes}


def sign(members: dict[str, object], signer: Signer = ED25519) -> bytes:
    """Sign a header, whatever it says."""
    return cose.sign(cbor2.dumps(list(members.values())), signer)


def signed(signer: Signer = ED25519, **changes: object) -> bytes:
    """Sign a header with changed members."""
    return sign({**header(), **changes}, signer)


def high_s(signer: Signer) -> bytes:
    """Sign with ES256, and turn the signature into the other one that verifies by ECDSA alone."""
    message = cbor2.loads(signed(signer))
    s = int.from_bytes(message.value[3][32:], "big")
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    message.value[3] = message.value[3][:32] + (order - s).to_bytes(32, "big")
    return envelope(cbor2.dumps(message), PLAIN)


HEADERS: Damaged = {
    "a receipt": (lambda: signed(kind=2), MalformedError, "CG-BAT-006"),
    "no kind": (lambda: cose.sign(b"\x80", ED25519), MalformedError, "CG-BAT-006"),
    "a map": (lambda: cose.sign(b"\xa0", ED25519), MalformedError, "CG-BAT-006"),
    "not CBOR": (lambda: cose.sign(b"\xff", ED25519), MalformedError, "CG-BAT-001"),
    "version 2": (lambda: signed(version=2), UnsupportedVersionError, "CG-BAT-007"),
    "version 0": (lambda: signed(version=0), UnsupportedVersionError, "CG-BAT-007"),
    "a member more": (lambda: signed(more=0), MalformedError, "CG-BAT-008"),
    "number 0": (lambda: signed(number=0), MalformedError, "CG-BAT-008"),
    "number of 2^53": (lambda: signed(number=1 << 53, previous_hash=b"\x01" * 32), MalformedError, "CG-BAT-008"),
    "negative number": (lambda: signed(number=-1), MalformedError, "CG-BAT-008"),
    "number as text": (lambda: signed(number="1"), MalformedError, "CG-BAT-008"),
    "sequence 0": (lambda: signed(first_seq=0), MalformedError, "CG-BAT-008"),
    "negative count": (lambda: signed(frame_count=-1), MalformedError, "CG-BAT-008"),
    "4097 frames": (lambda: signed(frame_count=4097), MalformedError, "CG-BAT-008"),
    "no body length": (lambda: signed(body_length=0), MalformedError, "CG-BAT-008"),
    "body too long": (lambda: signed(body_length=MAX_BODY_BYTES + 1), MalformedError, "CG-BAT-008"),
    "short EUI": (lambda: signed(gateway_eui=bytes(7)), MalformedError, "CG-BAT-008"),
    "short stream": (lambda: signed(stream_id=bytes(15)), MalformedError, "CG-BAT-008"),
    "short hash": (lambda: signed(body_sha256=bytes(31)), MalformedError, "CG-BAT-008"),
    "short previous hash": (lambda: signed(number=2, previous_hash=bytes(31)), MalformedError, "CG-BAT-008"),
    "batch 1 with a previous": (lambda: signed(previous_hash=b"\x01" * 32), MalformedError, "CG-BAT-008"),
    "batch 2 without": (lambda: signed(number=2), MalformedError, "CG-BAT-008"),
    "another body": (lambda: signed(body_sha256=bytes(32)), BodyMismatchError, "CG-BAT-010"),
    "a shorter body": (lambda: signed(body_length=len(PLAIN) + 1), BodyMismatchError, "CG-BAT-010"),
    "a longer body": (lambda: signed(body_length=len(PLAIN) - 1), BodyMismatchError, "CG-BAT-010"),
    "frames missing": (lambda: signed(frame_count=FRAMES + 1), BodyMismatchError, "CG-BAT-010"),
}


def sign1(protected: object = None, unprotected: object = None, signature: bytes | None = None) -> bytes:
    """Write a COSE_Sign1 that deviates in one thing, signed rightly for what it is."""
    payload = cbor2.dumps(list(header().values()))
    encoded = protected if isinstance(protected, bytes) else cbor2.dumps(protected or {1: -8, 4: ED25519.kid})
    made = ED25519.sign(cbor2.dumps(["Signature1", encoded, b"", payload]))
    return cbor2.dumps(
        cbor2.CBORTag(18, [encoded, unprotected or {}, payload, made if signature is None else signature])
    )


ENVELOPES: Damaged = {
    "nothing": (lambda: b"", MalformedError, "CG-BAT-001"),
    "JSON": (lambda: b'{"rxpk":[]}', MalformedError, "CG-BAT-001"),
    "too long": (lambda: bytes(MAX_WIRE_BYTES + 1), MalformedError, "CG-BAT-001"),
    "a map": (lambda: b"\xa0", MalformedError, "CG-BAT-009"),
    "three parts": (lambda: cbor2.dumps([b"", 0, b""]), MalformedError, "CG-BAT-009"),
    "wrong check": (lambda: cbor2.dumps([signed(), 0, PLAIN, bytes(4)]), MalformedError, "CG-BAT-009"),
    "short check": (lambda: cbor2.dumps([signed(), 0, PLAIN, bytes(3)]), MalformedError, "CG-BAT-009"),
    "codec 2": (lambda: envelope(signed(), PLAIN, 2), UnsupportedVersionError, "CG-BAT-007"),
    "no tag": (lambda: envelope(signed()[1:], PLAIN), MalformedError, "CG-BAT-002"),
    "another tag": (lambda: envelope(b"\xd1" + signed()[1:], PLAIN), MalformedError, "CG-BAT-002"),
    "empty header": (lambda: envelope(b"", PLAIN), MalformedError, "CG-BAT-002"),
    "huge header": (lambda: envelope(b"\xd2" + bytes(1024), PLAIN), MalformedError, "CG-BAT-001"),
    "four numbers": (lambda: envelope(bytes.fromhex("d28400000000"), PLAIN), MalformedError, "CG-BAT-002"),
    "unprotected members": (lambda: envelope(sign1(unprotected={4: b"x"}), PLAIN), MalformedError, "CG-BAT-002"),
    "no kid": (lambda: envelope(sign1({1: -8}), PLAIN), MalformedError, "CG-BAT-002"),
    "short kid": (lambda: envelope(sign1({1: -8, 4: b"me"}), PLAIN), MalformedError, "CG-BAT-002"),
    "no algorithm": (lambda: envelope(sign1({4: ED25519.kid}), PLAIN), MalformedError, "CG-BAT-002"),
    "critical member": (
        lambda: envelope(sign1({1: -8, 2: [9], 4: ED25519.kid, 9: 1}), PLAIN),
        MalformedError,
        "CG-BAT-002",
    ),
    "algorithm of another key": (
        lambda: envelope(sign1({1: -7, 4: ED25519.kid}), PLAIN),
        BadSignatureError,
        "CG-BAT-003",
    ),
    "unknown algorithm": (
        lambda: envelope(sign1({1: -65_535, 4: ED25519.kid}), PLAIN),
        BadSignatureError,
        "CG-BAT-003",
    ),
    "protected header empty": (lambda: envelope(sign1(b""), PLAIN), MalformedError, "CG-BAT-001"),
    "short signature": (lambda: envelope(sign1(signature=bytes(63)), PLAIN), MalformedError, "CG-BAT-002"),
    "no signature": (lambda: envelope(sign1(signature=b""), PLAIN), MalformedError, "CG-BAT-002"),
    "zero signature": (lambda: envelope(sign1(signature=bytes(64)), PLAIN), BadSignatureError, "CG-BAT-005"),
}


def rle_frame(stated: int, blocks: int) -> bytes:
    """Make a zstd frame of `blocks` times 128 KiB of one byte, that states another size [RFC 8878 §3.1.1]."""
    head = bytes.fromhex("28b52ffd") + bytes([0b1010_0000]) + stated.to_bytes(4, "little")
    block = ((128 * 1024) << 3) | (1 << 1)
    return head + b"".join((block | (index == blocks - 1)).to_bytes(3, "little") + b"\x00" for index in range(blocks))


BOMB_LENGTH = 1000
COMPRESSED: Damaged = {
    "nothing": (lambda: b"", MalformedError, "CG-BAT-009"),
    "not zstd": (lambda: b"\x1f\x8b" + bytes(20), MalformedError, "CG-BAT-009"),
    "cut": (lambda: zstandard.compress(bytes(BOMB_LENGTH))[:-1], MalformedError, "CG-BAT-009"),
    "more behind": (lambda: zstandard.compress(bytes(BOMB_LENGTH)) + b"\x00", MalformedError, "CG-BAT-009"),
    "two frames": (lambda: zstandard.compress(bytes(BOMB_LENGTH)) * 2, MalformedError, "CG-BAT-009"),
    "states another size": (lambda: zstandard.compress(bytes(999)), BodyMismatchError, "CG-BAT-010"),
    "states no size": (
        lambda: zstandard.ZstdCompressor(write_content_size=False).compress(bytes(BOMB_LENGTH)),
        BodyMismatchError,
        "CG-BAT-010",
    ),
    "a bomb that states its size": (lambda: rle_frame(1 << 31, 1024), BodyMismatchError, "CG-BAT-010"),
    "a bomb that lies": (lambda: rle_frame(BOMB_LENGTH, 1024), MalformedError, "CG-BAT-009"),
    "another body of the right size": (
        lambda: zstandard.compress(bytes(BOMB_LENGTH)),
        BodyMismatchError,
        "CG-BAT-010",
    ),
}


Change = Callable[[dict[Any, Any]], object]
# `Any` stands for a body taken apart by cbor2, to be damaged at will.
BODIES: dict[str, Change] = {
    "unknown member": lambda body: body.update({6: 0}),
    "text member": lambda body: body.update({"x": 0}),
    "negative member": lambda body: body.update({-1: 0}),
    "no account": lambda body: body.pop(1),
    "short account": lambda body: body[1].pop(),
    "negative account": lambda body: body[1].__setitem__(0, -1),
    "large account": lambda body: body[1].__setitem__(0, 1 << 53),
    "no boots": lambda body: body.pop(0),
    "short boot": lambda body: body[0].__setitem__(0, bytes(15)),
    "boots not an array": lambda body: body.__setitem__(0, b""),
    "anchor of no boot": lambda body: body[2][0].__setitem__(0, 1),
    "anchor of unknown source": lambda body: body[2][0].__setitem__(4, 4),
    "anchor with a member more": lambda body: body[2][0].append(0),
    "anchors not an array": lambda body: body.__setitem__(2, 0),
    "too many anchors": lambda body: body.__setitem__(2, body[2] * 1025),
    "tombstone not one": lambda body: body.__setitem__(3, [[1, 1, 0, 0, 0]]),
    "tombstone of unknown reason": lambda body: body.__setitem__(3, [[1, 9, 0, 0, 0, 0]]),
    "tombstone of no boot": lambda body: body.__setitem__(3, [[1, 1, 7, 0, 0, 0]]),
    "tombstone without hash": lambda body: body.__setitem__(3, [[1, 1, 0, 0, 0, 0, 1, 2]]),
    "tombstone of batch 0": lambda body: body.__setitem__(3, [[1, 1, 0, 0, 0, 0, 0, 2, bytes(32)]]),
    "tombstone backwards": lambda body: body.__setitem__(3, [[1, 1, 0, 0, 0, 0, 3, 2, bytes(32)]]),
    "health not a map": lambda body: body.__setitem__(4, []),
    "health not text": lambda body: body.__setitem__(4, {1: 1}),
    "health without name": lambda body: body.__setitem__(4, {"": 1}),
    "health not a number": lambda body: body.__setitem__(4, {"x": b""}),
    "health too large": lambda body: body.__setitem__(4, {"x": 1 << 53}),
    "hours not an array": lambda body: body.__setitem__(36, {}),
    "hour of no boot": lambda body: body.__setitem__(36, [[1, 0, *[0] * 9]]),
    "hour too late": lambda body: body.__setitem__(36, [[0, 2_502_000, *[0] * 9]]),
    "hour without a count": lambda body: body.__setitem__(36, [[0, 0, *[0] * 8]]),
    "hour twice": lambda body: body.__setitem__(36, [[0, 3, *[0] * 9], [0, 3, *[1] * 9]]),
    "succession not bytes": lambda body: body.__setitem__(34, "x"),
    "succession empty": lambda body: body.__setitem__(34, b""),
    "succession too long": lambda body: body.__setitem__(34, bytes(513)),
    "predecessor not an array": lambda body: body.__setitem__(35, b""),
    "predecessor of a short stream": lambda body: body.__setitem__(35, [bytes(15), 1, b"\x01" * 32]),
    "predecessor without a hash": lambda body: body.__setitem__(35, [bytes(16), 1, bytes(32)]),
    "predecessor of nothing with a hash": lambda body: body.__setitem__(35, [bytes(16), 0, b"\x01" * 32]),
    "predecessor beyond all numbers": lambda body: body.__setitem__(35, [bytes(16), 1 << 53, b"\x01" * 32]),
    "frames not a map": lambda body: body.__setitem__(5, []),
    "unknown member of frames": lambda body: body[5].update({18: 0}),
    "no runs": lambda body: body[5].pop(0),
    "runs empty": lambda body: body[5].__setitem__(0, []),
    "run of no frames": lambda body: body[5][0].append([0, 1, 0, 0, 0]),
    "run of no boot": lambda body: body[5][0][0].__setitem__(0, 1),
    "run too long": lambda body: body[5][0][0].__setitem__(2, FRAMES + 1),
    "run far too long": lambda body: body[5][0][0].__setitem__(2, 1 << 40),
    "runs too long together": lambda body: body[5].__setitem__(0, body[5][0] * 4096),
    "run with a member more": lambda body: body[5][0][0].append(0),
    "run at the end of time": lambda body: body[5][0][0].__setitem__(3, (1 << 53) - 1),
    "counter at the end of time": lambda body: body[5][0][0].__setitem__(4, (1 << 53) - 1),
    "no channels": lambda body: body[5].pop(1),
    "channels empty": lambda body: body[5].__setitem__(1, [0, 0, 0, 0]),
    "channels without a column": lambda body: body[5][1].pop(),
    "too few channels": lambda body: body[5].__setitem__(1, [1, 868_100_000, 0, 0]),
    "too many channels": lambda body: body[5].__setitem__(1, [4097, 868_100_000, 0, 0]),
    "no such modulation": lambda body: body[5][3].__setitem__(1, 2),
    "first time not of the run": lambda body: body[5].__setitem__(5, 1),
    "first counter not of the run": lambda body: body[5].__setitem__(6, 1),
    "no such crc state": lambda body: body[5].__setitem__(7, 3),
    "rssi out of range": lambda body: body[5].__setitem__(8, 1 << 15),
    "rssis out of range": lambda body: body[5].__setitem__(9, -32_700),
    "no offset": lambda body: body[5].pop(11),
    "length out of range": lambda body: body[5].__setitem__(13, 256),
    "lengths of other payloads": lambda body: body[5].__setitem__(13, 20),
    "heads cut": lambda body: body[5].__setitem__(14, body[5][14][:-1]),
    "heads empty": lambda body: body[5].__setitem__(14, b""),
    "too few heads": lambda body: body[5].__setitem__(14, body[5][14][:5]),
    "no heads": lambda body: body[5].pop(14),
    "necks cut": lambda body: body[5].__setitem__(16, body[5][16][:-1]),
    "tails cut": lambda body: body[5].__setitem__(17, body[5][17][:-1]),
    "tails too long": lambda body: body[5].__setitem__(17, body[5][17] + b"\x00"),
    "no tails": lambda body: body[5].pop(17),
    "heads of short payloads": lambda body: body[5].update({13: 8, 17: bytes(8 * FRAMES)}),
}


def succession_of(signer: Signer = ES256, **changes: object) -> bytes:
    """Announce a key with changed members."""
    members = {
        "kind": 4,
        "version": 1,
        "gateway": GATEWAY,
        "predecessor": ED25519.kid,
        "successor": ES256.public.cose_key,
    }
    return cose.sign(cbor2.dumps(list({**members, **changes}.values())), signer)


def flipped(data: bytes) -> bytes:
    """Turn the last bit."""
    return data[:-1] + bytes([data[-1] ^ 1])


SUCCESSIONS: dict[str, tuple[Callable[[], bytes], str]] = {
    "nothing": (lambda: b"", "CG-BAT-002"),
    "a batch's header": (signed, "CG-BAT-006"),
    "a receipt": (lambda: succession_of(kind=2), "CG-BAT-006"),
    "version 2": (lambda: succession_of(version=2), "CG-BAT-007"),
    "a member more": (lambda: succession_of(more=0), "CG-BAT-013"),
    "short EUI": (lambda: succession_of(gateway=bytes(7)), "CG-BAT-013"),
    "short predecessor": (lambda: succession_of(predecessor=bytes(31)), "CG-BAT-013"),
    "not a key": (lambda: succession_of(successor=b"\xa0"), "CG-BAT-013"),
    "a point that is not on the curve": (
        lambda: succession_of(successor=cbor2.dumps({1: 2, -1: 1, -2: bytes(32), -3: bytes(32)}, canonical=True)),
        "CG-BAT-013",
    ),
    "follows itself": (lambda: succession_of(predecessor=ES256.kid), "CG-BAT-013"),
    "signed by another key than the announced one": (lambda: succession_of(ED25519), "CG-BAT-004"),
    "altered": (lambda: flipped(succession_of()), "CG-BAT-005"),
    "too long": (lambda: succession_of(more=bytes(512)), "CG-BAT-001"),
}


def receipt_item(**changes: object) -> bytes:
    members = {
        "kind": 2,
        "version": 1,
        "stream": STREAM,
        "through": 17,
        "hash": b"\x22" * 32,
        "utc": 1_767_225_600_000_000,
        "beyond": [],
    }
    return cbor2.dumps(list({**members, **changes}.values()))


def refusal_item(**changes: object) -> bytes:
    members = {
        "kind": 3,
        "version": 1,
        "stream": STREAM,
        "number": 17,
        "hash": b"\x22" * 32,
        "reason": 6,
        "detail": "",
        "utc": 1_767_225_600_000_000,
    }
    return cbor2.dumps(list({**members, **changes}.values()))


ANSWERS: dict[str, tuple[Callable[[], bytes], str]] = {
    "kind 4": (lambda: receipt_item(kind=4), "CG-BAT-006"),
    "no array": (lambda: b"\x02", "CG-BAT-006"),
    "empty": (lambda: b"\x80", "CG-BAT-006"),
    "a member more": (lambda: receipt_item(more=0), "CG-BAT-012"),
    "short stream": (lambda: receipt_item(stream=bytes(15)), "CG-BAT-012"),
    "short hash": (lambda: receipt_item(hash=bytes(31)), "CG-BAT-012"),
    "number of 2^53": (lambda: receipt_item(through=1 << 53), "CG-BAT-012"),
    "through 0 with a hash": (lambda: receipt_item(through=0), "CG-BAT-012"),
    "through 17 without": (lambda: receipt_item(hash=bytes(32)), "CG-BAT-012"),
    "time of 2^53": (lambda: receipt_item(utc=1 << 53), "CG-BAT-012"),
    "range before through": (lambda: receipt_item(beyond=[[17, 18]]), "CG-BAT-012"),
    "range backwards": (lambda: receipt_item(beyond=[[21, 20]]), "CG-BAT-012"),
    "ranges that overlap": (lambda: receipt_item(beyond=[[20, 22], [22, 23]]), "CG-BAT-012"),
    "no range": (lambda: receipt_item(beyond=[20]), "CG-BAT-012"),
    "half a range": (lambda: receipt_item(beyond=[[20]]), "CG-BAT-012"),
    "too many ranges": (
        lambda: receipt_item(beyond=[[20 + 2 * index, 20 + 2 * index] for index in range(MAX_RANGES + 1)]),
        "CG-BAT-012",
    ),
    "unknown reason": (lambda: refusal_item(reason=999), "CG-BAT-012"),
    "long detail": (lambda: refusal_item(detail="x" * (MAX_DETAIL_BYTES + 1)), "CG-BAT-012"),
    "detail in bytes": (lambda: refusal_item(detail=b"x"), "CG-BAT-012"),
    "negative number": (lambda: refusal_item(number=-1), "CG-BAT-012"),
    "refusal with a short hash": (lambda: refusal_item(hash=b""), "CG-BAT-012"),
    "refusal with a member more": (lambda: refusal_item(more=0), "CG-BAT-012"),
}
