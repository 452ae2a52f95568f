# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Bodies, frames and keys for the tests of the format: arbitrary ones, and ordinary ones."""

from __future__ import annotations

import random

from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from hypothesis import strategies as st

from agent.batch import codec
from agent.batch.keys import Ed25519Signer, ES256Signer, Signer
from agent.batch.model import (
    GENESIS_HASH,
    HOUR_US,
    MAX_NUMBER,
    MAX_SUCCESSION_BYTES,
    Account,
    Anchor,
    Body,
    HourAccount,
    Loss,
    Predecessor,
    TimeSource,
    Tombstone,
)
from agent.frame import CrcStatus, Frame, Modulation, Session

GATEWAY = bytes.fromhex("0016c001f1500812")
STREAM = bytes.fromhex("6b1f3c5a9e0d47b2a1c8e4f7035d9b26")
BOOT = bytes.fromhex("3f2a9c1e5b7d4f60918273645a4b3c2d")

ED25519 = Ed25519Signer(ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
ES256 = ES256Signer(ec.derive_private_key(int.from_bytes(bytes(range(1, 33)), "big"), ec.SECP256R1()))
SIGNERS: tuple[Signer, ...] = (ED25519, ES256)

_times = st.one_of(
    st.integers(0, MAX_NUMBER),
    st.integers(0, 1 << 20),
    # Around the wraps of a 32-bit microsecond counter.
    st.integers((1 << 32) - 5, (1 << 32) + 5),
    st.just(MAX_NUMBER),
)
_boots = st.sampled_from([BOOT, bytes(16), b"\xff" * 16])
sessions = st.builds(Session, boot_id=_boots, number=st.integers(0, 3) | st.integers(0, MAX_NUMBER))
_payloads = st.one_of(
    st.binary(max_size=255),
    st.sampled_from([b"", bytes(255), b"\x40\x01\x02\x03\x26", b"\x40\x01\x02\x03\x26\x80\x07\x00", bytes(9)]),
    st.builds(
        lambda address, rest: b"\x40" + address + rest,
        st.sampled_from([b"\x01\x02\x03\x26", b"\x11\x12\x13\x26"]),
        st.binary(min_size=7, max_size=40),
    ),
)
_uint32 = st.sampled_from([0, 125_000, 868_100_000, (1 << 32) - 1]) | st.integers(0, (1 << 32) - 1)
_int16 = st.integers(-(1 << 15), (1 << 15) - 1)
frames = st.builds(
    Frame,
    session=sessions,
    boottime_us=_times,
    counter_us=_times,
    frequency_hz=_uint32,
    modulation=st.sampled_from(Modulation),
    bandwidth_hz=_uint32,
    datarate=_uint32,
    coding_rate=st.integers(0, 255),
    crc=st.sampled_from(CrcStatus),
    rssi_ddbm=_int16,
    rssis_ddbm=st.none() | _int16,
    snr_qdb=st.none() | _int16,
    frequency_offset_hz=st.integers(-(1 << 31), (1 << 31) - 1),
    if_chain=st.integers(0, 255),
    rf_chain=st.integers(0, 255),
    phy_payload=_payloads,
    fine_timestamp_ns=st.none() | st.integers(0, (1 << 32) - 1),
)
_naturals = st.integers(0, MAX_NUMBER)
accounts = st.builds(Account, *([_naturals] * 9))
anchors = st.builds(
    Anchor,
    boot_id=_boots,
    boottime_us=_naturals,
    utc_us=_naturals,
    uncertainty_us=_naturals,
    source=st.sampled_from(TimeSource),
)


@st.composite
def tombstones(draw: st.DrawFn) -> Tombstone:
    """Draw a tombstone, with or without batches."""
    first_number, last_number, last_hash = 0, 0, GENESIS_HASH
    if draw(st.booleans()):
        first_number, last_number = sorted((draw(st.integers(1, MAX_NUMBER)), draw(st.integers(1, MAX_NUMBER))))
        last_hash = draw(st.binary(min_size=32, max_size=32))
    return Tombstone(
        draw(_naturals),
        draw(_naturals),
        draw(_naturals),
        draw(st.sampled_from(Loss)),
        draw(_boots),
        draw(_boots),
        first_number,
        last_number,
        last_hash,
    )


healths = st.dictionaries(
    st.text(min_size=1, max_size=32)
    .filter(lambda name: len(name.encode("utf-8", "replace")) <= 32)
    .filter(str.isprintable),
    st.integers(-MAX_NUMBER, MAX_NUMBER),
    max_size=5,
)
hours = st.builds(HourAccount, boot_id=_boots, hour=st.integers(0, MAX_NUMBER // HOUR_US), account=accounts)
bodies = st.builds(
    Body,
    frames=st.lists(frames, max_size=12).map(tuple),
    account=accounts,
    anchors=st.lists(anchors, max_size=3).map(tuple),
    tombstones=st.lists(tombstones(), max_size=3).map(tuple),
    health=healths,
    hours=st.lists(hours, max_size=3, unique_by=lambda part: (part.boot_id, part.hour)).map(tuple),
    predecessor=st.none()
    | st.builds(Predecessor, st.binary(min_size=16, max_size=16), st.integers(1, MAX_NUMBER), st.just(b"\x01" * 32))
    | st.just(Predecessor(bytes(16), 0, bytes(32))),
    succession=st.just(b"") | st.binary(max_size=MAX_SUCCESSION_BYTES),
)


def traffic(count: int, seed: int = 1, longest: int = 39) -> tuple[Frame, ...]:
    """Make frames as a gateway in a town hears them: 60 devices, eight channels, about one frame a second.

    Behind nine bytes of LoRaWAN header stand 20 to `longest` random bytes: encrypted payload and MIC.
    """
    rng = random.Random(seed)
    devices = [(rng.getrandbits(24).to_bytes(3, "little") + b"\x26", rng.randrange(20, longest + 1)) for _ in range(60)]
    counts = [rng.randrange(60_000) for _ in devices]
    session = Session(BOOT, 3)
    boottime_us = 5_000_000_000
    made: list[Frame] = []
    for _ in range(count):
        boottime_us += int(rng.expovariate(1) * 1e6)
        device = rng.randrange(len(devices))
        address, size = devices[device]
        counts[device] += 1
        channel = rng.randrange(8)
        snr_qdb = rng.randrange(-80, 56)
        rssi_ddbm = -10 * rng.randrange(70, 125) - 2
        made.append(
            Frame(
                session=session,
                boottime_us=boottime_us,
                counter_us=boottime_us - 4_990_000_000 + rng.randrange(-20, 20),
                frequency_hz=867_100_000 + 200_000 * channel,
                modulation=Modulation.LORA,
                bandwidth_hz=125_000,
                datarate=rng.choice((7, 7, 7, 8, 9, 10, 12)),
                coding_rate=1,
                crc=CrcStatus.OK,
                rssi_ddbm=rssi_ddbm,
                rssis_ddbm=rssi_ddbm + 10 * min(0, snr_qdb // 4),
                snr_qdb=snr_qdb,
                frequency_offset_hz=rng.randrange(-2000, 2000),
                if_chain=channel,
                rf_chain=int(channel < 5),
                phy_payload=b"\x40"
                + address
                + b"\x80"
                + counts[device].to_bytes(2, "little")
                + b"\x02"
                + rng.randbytes(size),
            )
        )
    return tuple(made)


def ordinary(count: int = 20, seed: int = 1) -> Body:
    """Make an ordinary body."""
    frames = traffic(count, seed)
    account = Account(heard=3 * count, bad_crc=count, filtered=count, spooled=count)
    anchor = Anchor(BOOT, 5_000_000_000, 1_767_225_600_000_000, 15_000, TimeSource.PLATFORM)
    return Body(frames, account, (anchor,), (), {"uptime_s": 86_400, "concentrator_starts": 3})


def seal(body: Body | None = None, signer: Signer = ED25519, number: int = 1) -> codec.Sealed:
    """Seal a body as batch `number`."""
    return codec.seal(
        ordinary() if body is None else body,
        signer,
        gateway_eui=GATEWAY,
        stream_id=STREAM,
        number=number,
        first_seq=1,
        previous_hash=GENESIS_HASH if number == 1 else b"\x11" * 32,
        filter_version=1,
    )


def wire(body: Body | None = None, signer: Signer = ED25519) -> bytes:
    """Seal and pack."""
    sealed = seal(body, signer)
    return codec.pack(sealed.signed_header, sealed.body)
