# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Make the test vectors of the batch format: `python -m tests.agent.batch.make_vectors FILE`.

The file in tests/data/batch was made once and is frozen: it says what version 1 is. A change of the program that needs
new vectors is a change of the format. ECDSA signatures differ from run to run, so a second run gives another file.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TypeAlias

import cbor2

from agent.batch import body as bodies
from agent.batch import codec, cose, receipt, succession
from agent.batch.errors import MalformedError
from agent.batch.keys import Ed25519Signer, ES256Signer, Signer
from agent.batch.model import (
    GENESIS_HASH,
    HOUR_US,
    MAX_NUMBER,
    Account,
    Anchor,
    Body,
    HourAccount,
    Loss,
    Predecessor,
    Reason,
    Receipt,
    Refusal,
    TimeSource,
    Tombstone,
)
from agent.frame import CrcStatus, Frame, Modulation, Session
from tests.agent.batch import damage
from tests.agent.batch.samples import BOOT, ED25519, ES256, GATEWAY, SIGNERS, STREAM, ordinary

Value: TypeAlias = "int | str | list[Value] | dict[str, Value] | None"

NOW = 1_767_225_600_000_000
_LONGEST_BYTES = 10_000
"""Longer messages are tested, but not published."""

_SESSION = Session(BOOT, 1)
_FRAME = Frame(
    session=_SESSION,
    boottime_us=73_512_345_678,
    counter_us=73_498_112_233,
    frequency_hz=868_100_000,
    modulation=Modulation.LORA,
    bandwidth_hz=125_000,
    datarate=7,
    coding_rate=1,
    crc=CrcStatus.OK,
    rssi_ddbm=-982,
    rssis_ddbm=-992,
    snr_qdb=37,
    frequency_offset_hz=-412,
    if_chain=2,
    rf_chain=1,
    phy_payload=bytes.fromhex("40d3c20b26803f0002a3b1c7d95e6f0102a4"),
)


def everything() -> Body:
    """Make a body in which each member and each form of a column stands."""
    fsk = replace(
        _FRAME,
        modulation=Modulation.FSK,
        frequency_hz=868_800_000,
        datarate=50_000,
        coding_rate=0,
        rssis_ddbm=None,
        snr_qdb=None,
        if_chain=9,
        phy_payload=b"\x01\x02\x03",
    )
    second = Session(BOOT, 2)
    other = Session(bytes.fromhex("a1b2c3d4e5f60718293a4b5c6d7e8f90"), 3)
    frames = (
        _FRAME,
        replace(
            _FRAME, boottime_us=73_513_000_000, counter_us=73_498_766_560, crc=CrcStatus.BAD, phy_payload=bytes(255)
        ),
        replace(_FRAME, boottime_us=73_512_900_000, counter_us=73_498_666_550, crc=CrcStatus.NONE, phy_payload=b""),
        replace(fsk, session=second, boottime_us=73_600_000_000, counter_us=(1 << 32) - 1),
        replace(fsk, session=second, boottime_us=73_600_000_009, counter_us=(1 << 32) + 8, phy_payload=bytes(range(8))),
        replace(_FRAME, session=second, boottime_us=73_600_100_000, counter_us=3, phy_payload=bytes(range(9))),
        replace(
            _FRAME,
            session=other,
            boottime_us=17,
            counter_us=0,
            fine_timestamp_ns=999_999_999,
            frequency_offset_hz=31_250,
        ),
        replace(
            _FRAME,
            session=other,
            boottime_us=1_000_017,
            counter_us=1_000_001,
            fine_timestamp_ns=0,
            datarate=12,
            bandwidth_hz=250_000,
            snr_qdb=-80,
            rssi_ddbm=-1207,
            phy_payload=bytes.fromhex("00070000d07ed5b370de3a02000ba304007fe0e1a90b29"),
        ),
    )
    return Body(
        frames,
        Account(
            heard=90, bad_crc=21, filtered=50, duplicate=1, spooled=18, evicted=10, expired=1, quarantined=2, overrun=3
        ),
        (
            Anchor(BOOT, 73_500_000_000, NOW - 100_000_000, 20_000, TimeSource.KERNEL),
            Anchor(other.boot_id, 1_000_000, NOW, 1, TimeSource.GNSS),
            Anchor(b"\x5a" * 16, 5, NOW + 7, 250_000, TimeSource.PLATFORM),
        ),
        (
            Tombstone(10, 1_000_000, 2_000_000, Loss.EVICTED, BOOT, BOOT),
            Tombstone(1, 3_000_000, 3_000_000, Loss.EXPIRED),
            Tombstone(8, 1, 2, Loss.DAMAGED, BOOT, other.boot_id, 5, 6, b"\x77" * 32),
        ),
        {"uptime_s": 86_400, "temperature_mcelsius": -1500, "gänge": 3},
        (
            HourAccount(bytes(16), 0, Account(evicted=10, expired=1)),
            HourAccount(BOOT, 20, Account(heard=80, bad_crc=20, filtered=45, duplicate=1, spooled=14, overrun=3)),
            HourAccount(other.boot_id, 0, Account(heard=10, bad_crc=1, filtered=5, spooled=4, quarantined=2)),
        ),
        predecessor=Predecessor(b"\x66" * 16, 12, b"\x55" * 32),
    )


def limits() -> Body:
    """Make a body of the largest and smallest numbers."""
    low = Frame(
        Session(bytes(16), 0),
        0,
        0,
        0,
        Modulation.LORA,
        0,
        0,
        0,
        CrcStatus.OK,
        -32768,
        -32768,
        -32768,
        -(1 << 31),
        0,
        0,
        b"",
        0,
    )
    high = Frame(
        Session(bytes(16), 0),
        MAX_NUMBER,
        MAX_NUMBER,
        (1 << 32) - 1,
        Modulation.FSK,
        (1 << 32) - 1,
        (1 << 32) - 1,
        255,
        CrcStatus.NONE,
        32767,
        32767,
        32767,
        (1 << 31) - 1,
        255,
        255,
        b"\xff" * 255,
        (1 << 32) - 1,
    )
    crossed = replace(low, boottime_us=MAX_NUMBER, rssi_ddbm=32767)
    return Body(
        (low, high, low, crossed, replace(low, counter_us=MAX_NUMBER)),
        Account(*[MAX_NUMBER] * 9),
        health={"x": -MAX_NUMBER},
        hours=(HourAccount(bytes(16), MAX_NUMBER // HOUR_US, Account(*[MAX_NUMBER] * 9)),),
    )


def with_later_members(body: bytes) -> bytes:
    """Add members that version 1 does not know and may ignore."""
    item = cbor2.loads(body)
    item[32] = {"later": [1, b"\x02"]}
    item[5][33] = [0, 1, 1, b"\x80"]
    return cbor2.dumps(item, canonical=True)


def plain(value: object) -> Value:
    """Turn values into what JSON can say: bytes as hex, enumerations as numbers."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    if isinstance(value, int):
        return int(value)
    if value is None or isinstance(value, str):
        return value
    raise TypeError(type(value).__name__)


def batches() -> list[Value]:
    """Seal a stream of seven batches, of which two are withdrawn, signed by two keys one after the other."""
    contents: list[tuple[str, Signer, Body, Callable[[bytes], bytes] | None]] = [
        ("one frame", ED25519, Body((_FRAME,), Account(heard=1, spooled=1)), None),
        ("twenty frames of a town, compressed; announces the gateway's next key", ED25519, ordinary(20), None),
        (
            "no frames, an account only, signed with the gateway's next key",
            ES256,
            Body((), Account(heard=7, filtered=7)),
            None,
        ),
        ("every member, every form of a column", ES256, everything(), None),
        ("(withdrawn)", ES256, ordinary(3), None),
        ("(withdrawn)", ES256, ordinary(4, seed=2), None),
        ("members that a reader of version 1 ignores", ES256, ordinary(5), with_later_members),
        ("the largest and smallest numbers", ES256, limits(), None),
    ]
    made: list[Value] = []
    previous, first_seq = GENESIS_HASH, 1
    for number, (name, signer, content, change) in enumerate(contents, 1):
        body = content
        if number == 2:
            body = replace(content, succession=_announced(ES256, ED25519.kid))
        if number == 7:
            gap = Tombstone(7, 5_000_000_000, 5_010_000_000, Loss.EVICTED, BOOT, BOOT, 5, 6, previous)
            body = replace(content, tombstones=(gap,))
        encoded = bodies.encode(body)
        sealed = codec.seal(
            body,
            signer,
            gateway_eui=GATEWAY,
            stream_id=STREAM,
            number=number,
            first_seq=first_seq,
            previous_hash=previous,
            filter_version=number // 3,
        )
        if change is not None:
            encoded = change(encoded)
            header = damage.header(
                encoded,
                number=number,
                first_seq=first_seq,
                frame_count=len(body.frames),
                previous_hash=previous,
                filter_version=number // 3,
            )
            signed_header = damage.sign(header, signer)
            sealed = codec.Sealed(
                codec.read_header(signed_header), signed_header, encoded, codec.header_hash(signed_header)
            )
        wire = codec.pack(sealed.signed_header, sealed.body)
        previous, first_seq = sealed.hash, first_seq + len(body.frames)
        if name == "(withdrawn)":
            continue
        made.append(
            {
                "name": name,
                "wire": wire.hex(),
                "signed_header": sealed.signed_header.hex(),
                "hash": sealed.hash.hex(),
                "kid": signer.kid.hex(),
                "body": sealed.body.hex(),
                "exact": change is None,
                "header": plain(asdict(sealed.header)),
                "content": plain(asdict(body)),
            }
        )
    return made


def answers() -> list[Value]:
    """Sign receipts and refusals."""
    made: list[Value] = []
    receipts: dict[str, tuple[Signer, Receipt]] = {
        "nothing committed yet": (ED25519, Receipt(STREAM, 0, GENESIS_HASH, NOW)),
        "up to a batch": (ED25519, Receipt(STREAM, 17, b"\x22" * 32, NOW)),
        "with ranges beyond it": (ES256, Receipt(STREAM, 17, b"\x22" * 32, NOW, ((19, 19), (25, 40)))),
    }
    for name, (signer, value) in receipts.items():
        made.append(_answer(name, "receipt", signer, receipt.sign_receipt(value, signer), asdict(value)))
    for reason in Reason:
        signer = SIGNERS[reason % 2]
        refusal = Refusal(STREAM, 18, b"\x33" * 32, reason, f"détail {reason.value}", NOW)
        name = reason.name.lower().replace("_", " ")
        made.append(_answer(name, "refusal", signer, receipt.sign_refusal(refusal, signer), asdict(refusal)))
    return made


def _answer(name: str, kind: str, signer: Signer, data: bytes, content: dict[str, object]) -> Value:
    return {"name": name, "data": data.hex(), "kid": signer.kid.hex(), "kind": kind, "content": plain(content)}


def refused() -> list[Value]:
    """List every kind of batch that is not accepted."""
    kinds: damage.Damaged = {**damage.ENVELOPES}
    kinds |= {f"header: {name}": (_wrapped(make), error, code) for name, (make, error, code) in damage.HEADERS.items()}
    kinds |= {
        f"compression: {name}": (_compressed(make), error, code)
        for name, (make, error, code) in damage.COMPRESSED.items()
    }
    kinds |= {f"body: {name}": (_damaged(name), MalformedError, "CG-BAT-011") for name in damage.BODIES}
    # The fault stands in a member that a reader may ignore, but not overlook.
    before = b"\xa2\x01\x89" + bytes(9) + b"\x18\x20"
    kinds |= {
        f"encoding: {name}: {data}": (_embedded(before + bytes.fromhex(data)), MalformedError, "CG-BAT-001")
        for data, name in damage.ENCODINGS.items()
    }
    made: list[Value] = []
    for name, (make, error, code) in kinds.items():
        wire = make()
        if len(wire) <= _LONGEST_BYTES:
            made.append({"name": name, "wire": wire.hex(), "code": code, "reason": int(error.reason)})
    strangers: tuple[Signer, ...] = (Ed25519Signer.generate(), ES256Signer.generate())
    for signer in strangers:
        wire = damage.envelope(damage.signed(signer), damage.PLAIN)
        made.append({"name": "a key that is not registered", "wire": wire.hex(), "code": "CG-BAT-004", "reason": 2})
    made.append(
        {
            "name": "the other ECDSA signature that anybody can make",
            "wire": damage.high_s(ES256).hex(),
            "code": "CG-BAT-005",
            "reason": 4,
        }
    )
    return made


def refused_answers() -> list[Value]:
    """List every kind of answer that is not accepted."""
    made: list[Value] = []
    for name, (make, code) in damage.ANSWERS.items():
        data = cose.sign(make(), ED25519)
        if len(data) <= _LONGEST_BYTES:
            made.append({"name": name, "data": data.hex(), "code": code})
    made.append({"name": "a batch's header", "data": damage.signed().hex(), "code": "CG-BAT-006"})
    return made


def _announced(signer: Signer, predecessor: bytes) -> bytes:
    return succession.announce(signer, gateway_eui=GATEWAY, predecessor=predecessor)


def successions() -> list[Value]:
    """Announce keys."""
    made: list[Value] = []
    for name, old, new in (("Ed25519 to ES256", ED25519, ES256), ("ES256 to Ed25519", ES256, ED25519)):
        data = _announced(new, old.kid)
        content = {"gateway_eui": GATEWAY, "predecessor": old.kid, "successor": new.kid}
        made.append({"name": name, "data": data.hex(), "content": plain(content)})
    return made


def refused_successions() -> list[Value]:
    """List every kind of announcement that has no effect."""
    return [{"name": name, "data": make().hex(), "code": code} for name, (make, code) in damage.SUCCESSIONS.items()]


def versions() -> list[Value]:
    """Make batches of later versions, and of this one with more in them."""
    headers: dict[str, tuple[dict[str, object], int | None]] = {
        "version 1": (damage.header(), None),
        "version 2, the same members": ({**damage.header(), "version": 2}, 9),
        "version 2, more members": ({**damage.header(), "version": 2, "more": [1, {"a": b"b"}], "text": "x"}, 9),
        "version 2, the first five members alone": (dict(list({**damage.header(), "version": 2}.items())[:5]), 9),
        "version 1000": ({**damage.header(), "version": 1000}, 9),
    }
    made: list[Value] = []
    for signer in SIGNERS:
        for name, (members, reason) in headers.items():
            signed_header = damage.sign(members, signer)
            made.append(_version(f"{name}, {signer.algorithm.name}", signed_header, damage.PLAIN, reason))
    more = with_later_members(damage.PLAIN)
    made.append(_version("version 1, members that may be ignored", damage.sign(damage.header(more)), more, None))
    item = cbor2.loads(damage.PLAIN)
    item[31] = 0
    more = cbor2.dumps(item, canonical=True)
    made.append(_version("version 1, a member that may not be ignored", damage.sign(damage.header(more)), more, 1))
    return made


def _version(name: str, signed_header: bytes, body: bytes, reason: int | None) -> Value:
    wire = damage.envelope(signed_header, body)
    return {
        "name": name,
        "wire": wire.hex(),
        "reason": reason,
        "stream_id": STREAM.hex(),
        "number": 1,
        "batch_hash": codec.header_hash(signed_header).hex(),
    }


def _wrapped(make: Callable[[], bytes]) -> Callable[[], bytes]:
    return lambda: damage.envelope(make(), damage.PLAIN)


def _compressed(make: Callable[[], bytes]) -> Callable[[], bytes]:
    return lambda: damage.envelope(damage.signed(body_length=damage.BOMB_LENGTH), make(), codec.CODEC_ZSTD)


def _damaged(name: str) -> Callable[[], bytes]:
    def make() -> bytes:
        item = cbor2.loads(damage.PLAIN)
        damage.BODIES[name](item)
        return _embedded(cbor2.dumps(item, canonical=True))()

    return make


def _embedded(body: bytes) -> Callable[[], bytes]:
    return lambda: damage.envelope(damage.sign(damage.header(body), ED25519), body)


def vectors() -> dict[str, Value]:
    """Make all of it."""
    return {
        "format": 1,
        "about": "docs/batch-format.md explains the members; bytes are in hexadecimal; the keys are for tests only",
        "keys": [
            {
                "algorithm": int(signer.algorithm),
                "text": signer.public.text,
                "cose_key": signer.public.cose_key.hex(),
                "kid": signer.kid.hex(),
                "private": private.hex(),
            }
            for signer, private in ((ED25519, bytes(range(32))), (ES256, bytes(range(1, 33))))
        ],
        "batches": batches(),
        "answers": answers(),
        "refused_batches": refused(),
        "refused_answers": refused_answers(),
        "successions": successions(),
        "refused_successions": refused_successions(),
        "versions": versions(),
    }


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(json.dumps(vectors(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
