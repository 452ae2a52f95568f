# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
from __future__ import annotations

import hashlib
import resource
from dataclasses import replace
from random import Random

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.batch import codec
from agent.batch.errors import (
    BadSignatureError,
    MalformedError,
    RefusedError,
    RevokedKeyError,
    UnknownKeyError,
    UnwritableError,
)
from agent.batch.keys import PublicKey, Signer, ring
from agent.batch.model import (
    GENESIS_HASH,
    MAX_ANCHORS,
    MAX_FRAMES,
    MAX_HEALTH,
    MAX_HOURS,
    MAX_NUMBER,
    MAX_TOMBSTONES,
    Account,
    Anchor,
    Body,
    HourAccount,
    Loss,
    Reason,
    TimeSource,
    Tombstone,
)
from agent.frame import Session
from tests.agent.batch.damage import BOMB_LENGTH, COMPRESSED, ENVELOPES, FRAMES, HEADERS, PLAIN, envelope, sign1, signed
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


@pytest.mark.parametrize(("count", "most"), [(100, 48), (1000, 45)])
def test_a_frame_costs_little_on_the_wire(count: int, most: float) -> None:
    """All included, at a mean PHYPayload of 36.5 bytes of which 27.5 are random."""
    frames = traffic(1000, longest=35)
    assert sum(len(frame.phy_payload) for frame in frames) / 1000 == pytest.approx(36.5, abs=0.5)
    total = 0
    for start in range(0, 1000, count):
        body = replace(ordinary(0), frames=frames[start : start + count])
        total += len(wire(body))
    assert total / 1000 <= most


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


@pytest.mark.parametrize("what", HEADERS)
def test_a_signed_header_that_is_wrong_is_refused_for_what_it_is(what: str) -> None:
    make, error, code = HEADERS[what]
    with pytest.raises(error) as caught:
        codec.open_wire(envelope(make(), PLAIN), RESOLVE)
    assert caught.value.code == code
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("what", ENVELOPES)
def test_an_envelope_that_is_wrong_is_refused_for_what_it_is(what: str) -> None:
    make, error, code = ENVELOPES[what]
    with pytest.raises(error) as caught:
        codec.open_wire(make(), RESOLVE)
    assert caught.value.code == code


def test_the_deviating_message_is_good_but_for_the_deviation() -> None:
    assert codec.open_wire(envelope(sign1(), PLAIN), RESOLVE).body == ordinary(FRAMES)


@pytest.mark.parametrize("what", COMPRESSED)
def test_compression_that_is_wrong_is_refused_within_bounds(what: str) -> None:
    make, error, code = COMPRESSED[what]
    message = envelope(signed(body_length=BOMB_LENGTH), make(), codec.CODEC_ZSTD)
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
    hours = tuple(HourAccount(rng.randbytes(16), 1 << 21, Account(*[1 << 52] * 9)) for _ in range(MAX_HOURS))
    body = Body(frames, Account(*[MAX_NUMBER] * 9), anchors, tombstones, health, hours)
    assert codec.open_wire(wire(body), RESOLVE).body == body
