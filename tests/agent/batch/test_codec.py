# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
from __future__ import annotations

import hashlib
import resource
import zlib
from collections.abc import Callable
from dataclasses import replace
from random import Random

import cbor2
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from agent.batch import body as bodies
from agent.batch import codec, cose
from agent.batch.errors import (
    BadSignatureError,
    BodyMismatchError,
    MalformedError,
    RefusedError,
    RevokedKeyError,
    UnknownKeyError,
    UnsupportedVersionError,
    UnwritableError,
)
from agent.batch.keys import PublicKey, Signer, ring
from agent.batch.model import (
    GENESIS_HASH,
    MAX_ANCHORS,
    MAX_BODY_BYTES,
    MAX_FRAMES,
    MAX_HEALTH,
    MAX_NUMBER,
    MAX_TOMBSTONES,
    MAX_WIRE_BYTES,
    Account,
    Anchor,
    Body,
    Loss,
    Reason,
    TimeSource,
    Tombstone,
)
from agent.frame import Session
from tests.agent.batch.samples import (
    ED25519,
    ES256,
    GATEWAY,
    SIGNERS,
    STREAM,
    ordinary,
    seal,
    traffic,
    wire,
)
from tests.agent.batch.samples import bodies as arbitrary_bodies

RESOLVE = ring(ED25519.public, ES256.public)


def envelope(signed_header: bytes, carried: bytes, number: int = codec.CODEC_NONE) -> bytes:
    """Write a wire message as the document says, whatever it carries."""
    check = zlib.crc32(signed_header + bytes([number]) + carried).to_bytes(4, "big")
    return cbor2.dumps([signed_header, number, carried, check])


def header(**changes: object) -> dict[str, object]:
    """Name the members of a header that fits `ordinary()`."""
    body = bodies.encode(ordinary())
    members: dict[str, object] = {
        "kind": 1,
        "version": 1,
        "gateway_eui": GATEWAY,
        "stream_id": STREAM,
        "number": 1,
        "first_seq": 1,
        "frame_count": 20,
        "previous_hash": GENESIS_HASH,
        "body_sha256": hashlib.sha256(body).digest(),
        "body_length": len(body),
        "filter_version": 0,
    }
    return {**members, **changes}


def signed(signer: Signer = ED25519, **changes: object) -> bytes:
    return cose.sign(cbor2.dumps(list(header(**changes).values())), signer)


@pytest.mark.parametrize("signer", SIGNERS)
@given(body=arbitrary_bodies)
def test_any_batch_opens_as_it_was_sealed(signer: Signer, body: Body) -> None:
    sealed = seal(body, signer)
    opened = codec.open_wire(codec.pack(sealed.signed_header, sealed.body), RESOLVE)
    assert opened.body == body
    assert opened.header == sealed.header == codec.read_header(sealed.signed_header)
    assert opened.kid == signer.kid
    assert opened.hash == sealed.hash == codec.header_hash(sealed.signed_header)
    assert opened.signed_header == sealed.signed_header


def test_a_chain_of_batches_names_the_one_before() -> None:
    previous, first_seq = GENESIS_HASH, 1
    for number in range(1, 4):
        body = Body(traffic(number, seed=number), Account(heard=number, spooled=number))
        sealed = codec.seal(
            body,
            ED25519,
            gateway_eui=GATEWAY,
            stream_id=STREAM,
            number=number,
            first_seq=first_seq,
            previous_hash=previous,
        )
        opened = codec.open_wire(codec.pack(sealed.signed_header, sealed.body), RESOLVE)
        assert (opened.header.previous_hash, opened.header.first_seq) == (previous, first_seq)
        previous, first_seq = opened.hash, first_seq + len(body.frames)


def test_compression_is_used_only_where_it_helps() -> None:
    empty = seal(Body(()))
    assert cbor2.loads(codec.pack(empty.signed_header, empty.body))[1] == codec.CODEC_NONE
    large = seal(ordinary(200))
    packed = codec.pack(large.signed_header, large.body)
    assert cbor2.loads(packed)[1] == codec.CODEC_ZSTD
    assert len(packed) < len(large.signed_header) + len(large.body)


@pytest.mark.parametrize("signer", SIGNERS)
@pytest.mark.parametrize("count", [0, 3, 60])
def test_no_altered_bit_is_accepted(signer: Signer, count: int) -> None:
    """Every single bit of three messages: without frames, uncompressed or nearly so, and compressed."""
    message = wire(ordinary(count) if count else Body(()), signer)
    codec.open_wire(message, RESOLVE)
    for bit in range(len(message) * 8):
        altered = bytearray(message)
        altered[bit // 8] ^= 0x80 >> (bit % 8)
        with pytest.raises(RefusedError):
            codec.open_wire(bytes(altered), RESOLVE)


def test_no_altered_bit_of_header_or_body_is_accepted_under_a_right_check() -> None:
    """An attacker computes the CRC anew; only signature and hash remain."""
    sealed = seal(ordinary(3))
    for part, data in enumerate((sealed.signed_header, sealed.body)):
        for bit in range(len(data) * 8):
            altered = bytearray(data)
            altered[bit // 8] ^= 0x80 >> (bit % 8)
            parts = [sealed.signed_header, sealed.body]
            parts[part] = bytes(altered)
            with pytest.raises(RefusedError):
                codec.open_wire(envelope(parts[0], parts[1]), RESOLVE)


def test_no_shortened_or_lengthened_message_is_accepted() -> None:
    message = wire()
    for size in range(len(message)):
        with pytest.raises(MalformedError):
            codec.open_wire(message[:size], RESOLVE)
    with pytest.raises(MalformedError):
        codec.open_wire(message + b"\x00", RESOLVE)
    with pytest.raises(MalformedError):
        codec.open_wire(message + message, RESOLVE)


@given(st.binary(max_size=400))
def test_arbitrary_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(RefusedError):
        codec.open_wire(data, RESOLVE)
    codec.glimpse(data)


@given(st.data())
def test_arbitrary_changes_are_refused(data: st.DataObject) -> None:
    original = wire(ordinary(5))
    message = bytearray(original)
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(message)))
        message[start : start + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=4))
    if bytes(message) == original:
        return
    with pytest.raises(RefusedError):
        codec.open_wire(bytes(message), RESOLVE)
    codec.glimpse(bytes(message))


def test_keys_are_told_apart() -> None:
    with pytest.raises(UnknownKeyError) as unknown:
        codec.open_wire(wire(), ring(ES256.public))
    assert unknown.value.reason is Reason.UNKNOWN_KEY
    assert ED25519.kid.hex() in str(unknown.value)

    def revoked(kid: bytes) -> PublicKey | None:
        raise RevokedKeyError(f"key {kid.hex()} was revoked", where="registry", code="CG-TEST-1")

    with pytest.raises(RevokedKeyError) as refused:
        codec.open_wire(wire(), revoked)
    assert refused.value.reason is Reason.REVOKED_KEY
    with pytest.raises(BadSignatureError) as bad:
        codec.open_wire(wire(), lambda _: ES256.public)
    assert (bad.value.code, bad.value.reason) == ("CG-BAT-003", Reason.BAD_SIGNATURE)
    with pytest.raises(BadSignatureError) as bad:
        codec.open_wire(wire(), lambda _: PublicKey(ED25519.algorithm, bytes(range(32))))
    assert bad.value.code == "CG-BAT-005"


_PLAIN = bodies.encode(ordinary())
_WRONG: dict[str, tuple[Callable[[], bytes], type[RefusedError], str]] = {
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
    "a shorter body": (lambda: signed(body_length=len(_PLAIN) + 1), BodyMismatchError, "CG-BAT-010"),
    "a longer body": (lambda: signed(body_length=len(_PLAIN) - 1), BodyMismatchError, "CG-BAT-010"),
    "frames missing": (lambda: signed(frame_count=21), BodyMismatchError, "CG-BAT-010"),
}


@pytest.mark.parametrize("what", _WRONG)
def test_a_signed_header_that_is_wrong_is_refused_for_what_it_is(what: str) -> None:
    make, error, code = _WRONG[what]
    with pytest.raises(error) as caught:
        codec.open_wire(envelope(make(), _PLAIN), RESOLVE)
    assert caught.value.code == code
    assert "\n" not in str(caught.value)


def sign1(protected: object = None, unprotected: object = None, signature: bytes | None = None) -> bytes:
    """Write a COSE_Sign1 that deviates in one thing, signed rightly for what it is."""
    payload = cbor2.dumps(list(header().values()))
    encoded = protected if isinstance(protected, bytes) else cbor2.dumps(protected or {1: -8, 4: ED25519.kid})
    made = ED25519.sign(cbor2.dumps(["Signature1", encoded, b"", payload]))
    return cbor2.dumps(
        cbor2.CBORTag(18, [encoded, unprotected or {}, payload, made if signature is None else signature])
    )


_ENVELOPES: dict[str, tuple[Callable[[], bytes], type[RefusedError], str]] = {
    "nothing": (lambda: b"", MalformedError, "CG-BAT-001"),
    "JSON": (lambda: b'{"rxpk":[]}', MalformedError, "CG-BAT-001"),
    "too long": (lambda: bytes(MAX_WIRE_BYTES + 1), MalformedError, "CG-BAT-001"),
    "a map": (lambda: b"\xa0", MalformedError, "CG-BAT-009"),
    "three parts": (lambda: cbor2.dumps([b"", 0, b""]), MalformedError, "CG-BAT-009"),
    "wrong check": (lambda: cbor2.dumps([signed(), 0, _PLAIN, bytes(4)]), MalformedError, "CG-BAT-009"),
    "short check": (lambda: cbor2.dumps([signed(), 0, _PLAIN, bytes(3)]), MalformedError, "CG-BAT-009"),
    "codec 2": (lambda: envelope(signed(), _PLAIN, 2), UnsupportedVersionError, "CG-BAT-007"),
    "no tag": (lambda: envelope(signed()[1:], _PLAIN), MalformedError, "CG-BAT-002"),
    "another tag": (lambda: envelope(b"\xd1" + signed()[1:], _PLAIN), MalformedError, "CG-BAT-002"),
    "empty header": (lambda: envelope(b"", _PLAIN), MalformedError, "CG-BAT-002"),
    "huge header": (lambda: envelope(b"\xd2" + bytes(1024), _PLAIN), MalformedError, "CG-BAT-001"),
    "four numbers": (lambda: envelope(bytes.fromhex("d28400000000"), _PLAIN), MalformedError, "CG-BAT-002"),
    "unprotected members": (lambda: envelope(sign1(unprotected={4: b"x"}), _PLAIN), MalformedError, "CG-BAT-002"),
    "no kid": (lambda: envelope(sign1({1: -8}), _PLAIN), MalformedError, "CG-BAT-002"),
    "short kid": (lambda: envelope(sign1({1: -8, 4: b"me"}), _PLAIN), MalformedError, "CG-BAT-002"),
    "no algorithm": (lambda: envelope(sign1({4: ED25519.kid}), _PLAIN), MalformedError, "CG-BAT-002"),
    "critical member": (
        lambda: envelope(sign1({1: -8, 2: [9], 4: ED25519.kid, 9: 1}), _PLAIN),
        MalformedError,
        "CG-BAT-002",
    ),
    "algorithm of another key": (
        lambda: envelope(sign1({1: -7, 4: ED25519.kid}), _PLAIN),
        BadSignatureError,
        "CG-BAT-003",
    ),
    "unknown algorithm": (
        lambda: envelope(sign1({1: -65_535, 4: ED25519.kid}), _PLAIN),
        BadSignatureError,
        "CG-BAT-003",
    ),
    "protected header empty": (lambda: envelope(sign1(b""), _PLAIN), MalformedError, "CG-BAT-001"),
    "short signature": (lambda: envelope(sign1(signature=bytes(63)), _PLAIN), MalformedError, "CG-BAT-002"),
    "no signature": (lambda: envelope(sign1(signature=b""), _PLAIN), MalformedError, "CG-BAT-002"),
    "zero signature": (lambda: envelope(sign1(signature=bytes(64)), _PLAIN), BadSignatureError, "CG-BAT-005"),
}


@pytest.mark.parametrize("what", _ENVELOPES)
def test_an_envelope_that_is_wrong_is_refused_for_what_it_is(what: str) -> None:
    make, error, code = _ENVELOPES[what]
    with pytest.raises(error) as caught:
        codec.open_wire(make(), RESOLVE)
    assert caught.value.code == code


def test_the_deviating_message_is_good_but_for_the_deviation() -> None:
    assert codec.open_wire(envelope(sign1(), _PLAIN), RESOLVE).body == ordinary()


def rle_frame(stated: int, blocks: int) -> bytes:
    """Make a zstd frame of `blocks` times 128 KiB of one byte, that states another size [RFC 8878 §3.1.1]."""
    head = bytes.fromhex("28b52ffd") + bytes([0b1010_0000]) + stated.to_bytes(4, "little")
    block = ((128 * 1024) << 3) | (1 << 1)
    return head + b"".join((block | (index == blocks - 1)).to_bytes(3, "little") + b"\x00" for index in range(blocks))


_BOMB_LENGTH = 1000
_COMPRESSED: dict[str, tuple[Callable[[], bytes], type[RefusedError], str]] = {
    "nothing": (lambda: b"", MalformedError, "CG-BAT-009"),
    "not zstd": (lambda: b"\x1f\x8b" + bytes(20), MalformedError, "CG-BAT-009"),
    "cut": (lambda: zstandard.compress(bytes(_BOMB_LENGTH))[:-1], MalformedError, "CG-BAT-009"),
    "more behind": (lambda: zstandard.compress(bytes(_BOMB_LENGTH)) + b"\x00", MalformedError, "CG-BAT-009"),
    "two frames": (lambda: zstandard.compress(bytes(_BOMB_LENGTH)) * 2, MalformedError, "CG-BAT-009"),
    "states another size": (lambda: zstandard.compress(bytes(999)), BodyMismatchError, "CG-BAT-010"),
    "states no size": (
        lambda: zstandard.ZstdCompressor(write_content_size=False).compress(bytes(_BOMB_LENGTH)),
        BodyMismatchError,
        "CG-BAT-010",
    ),
    "a bomb that states its size": (lambda: rle_frame(1 << 31, 16_384), BodyMismatchError, "CG-BAT-010"),
    "a bomb that lies": (lambda: rle_frame(_BOMB_LENGTH, 16_384), MalformedError, "CG-BAT-009"),
    "another body of the right size": (
        lambda: zstandard.compress(bytes(_BOMB_LENGTH)),
        BodyMismatchError,
        "CG-BAT-010",
    ),
}


@pytest.mark.parametrize("what", _COMPRESSED)
def test_compression_that_is_wrong_is_refused_within_bounds(what: str) -> None:
    make, error, code = _COMPRESSED[what]
    message = envelope(signed(body_length=_BOMB_LENGTH), make(), codec.CODEC_ZSTD)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(error) as caught:
        codec.open_wire(message, RESOLVE)
    assert caught.value.code == code
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 32 * 1024  # KiB; the bombs hold 2 GiB


def test_nothing_is_decompressed_for_a_stranger(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object) -> bytes:
        raise AssertionError

    monkeypatch.setattr(codec, "_decompress", forbidden)
    with pytest.raises(UnknownKeyError):
        codec.open_wire(wire(ordinary(200)), ring())


def test_a_glimpse_names_what_can_be_named() -> None:
    sealed = seal(number=7)
    seen = codec.glimpse(codec.pack(sealed.signed_header, sealed.body))
    assert (seen.stream_id, seen.number, seen.gateway_eui) == (STREAM, 7, GATEWAY)
    assert (seen.kid, seen.batch_hash) == (ED25519.kid, sealed.hash)
    later = codec.glimpse(envelope(signed(version=2, more=[1]), b"what a later version carries"))
    assert (later.stream_id, later.number) == (STREAM, 1)
    nothing = codec.glimpse(b"\x00")
    assert (nothing.stream_id, nothing.number, nothing.kid) == (bytes(16), 0, b"")
    assert nothing.batch_hash == hashlib.sha256(b"\x00").digest()


@pytest.mark.parametrize(
    "change",
    [
        {"gateway_eui": bytes(7)},
        {"stream_id": bytes(17)},
        {"number": 0},
        {"number": 1 << 53},
        {"first_seq": 0},
        {"previous_hash": b""},
        {"previous_hash": b"\x01" * 32},
        {"filter_version": -1},
    ],
)
def test_a_header_that_would_be_refused_is_not_signed(change: dict[str, object]) -> None:
    members: dict[str, object] = {
        "gateway_eui": GATEWAY,
        "stream_id": STREAM,
        "number": 1,
        "first_seq": 1,
        "previous_hash": GENESIS_HASH,
        "filter_version": 0,
        **change,
    }
    with pytest.raises(UnwritableError):
        codec.seal(ordinary(), ED25519, **members)  # type: ignore[arg-type]  # the faults that are tested


def test_the_largest_batch_fits_the_wire_even_when_it_does_not_compress() -> None:
    rng = Random(1)
    frames = tuple(
        replace(
            frame,
            session=Session(rng.randbytes(16), rng.randrange(1 << 53)),
            boottime_us=rng.randrange(1 << 53),
            counter_us=rng.randrange(1 << 53),
            frequency_hz=rng.randrange(1 << 32),
            bandwidth_hz=rng.randrange(1 << 32),
            datarate=rng.randrange(1 << 32),
            fine_timestamp_ns=rng.randrange(1 << 32),
            phy_payload=rng.randbytes(255),
        )
        for frame in traffic(MAX_FRAMES)
    )
    anchors = tuple(
        Anchor(rng.randbytes(16), MAX_NUMBER, rng.randrange(1 << 53), rng.randrange(1 << 53), TimeSource.GNSS)
        for _ in range(MAX_ANCHORS)
    )
    tombstones = tuple(
        Tombstone(
            1 << 52,
            1 << 52,
            1 << 52,
            Loss.DAMAGED,
            rng.randbytes(16),
            rng.randbytes(16),
            1 << 51,
            1 << 52,
            rng.randbytes(32),
        )
        for _ in range(MAX_TOMBSTONES)
    )
    health = {f"{index:032}": MAX_NUMBER for index in range(MAX_HEALTH)}
    body = Body(frames, Account(*[MAX_NUMBER] * 9), anchors, tombstones, health)
    assert codec.open_wire(wire(body), RESOLVE).body == body
