# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The body of a batch, by column: equal values give equal bytes, in any process and with any version of any library.

A body is rebuilt from the spool's rows long after it was signed, perhaps by a newer program. So what `encode` writes
for version 1 never changes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from agent.batch import cbor
from agent.batch.fields import bad_field, byte_string, member, members_of, natural, number, sequence, unwritable
from agent.batch.frames import decode_frames, encode_frames
from agent.batch.model import (
    BUCKETS,
    HOUR_US,
    MAX_ANCHORS,
    MAX_BODY_BYTES,
    MAX_FRAMES,
    MAX_HEALTH,
    MAX_HOURS,
    MAX_NUMBER,
    MAX_SUCCESSION_BYTES,
    MAX_TOMBSTONES,
    Account,
    Anchor,
    Body,
    HourAccount,
    Loss,
    Predecessor,
    TimeSource,
    Tombstone,
)

# Members of the body.
BOOTS: Final = 0
ACCOUNT: Final = 1
ANCHORS: Final = 2
TOMBSTONES: Final = 3
HEALTH: Final = 4
FRAMES: Final = 5
SUCCESSION: Final = 34
PREDECESSOR: Final = 35
HOURS: Final = 36
"""These came later, so readers may ignore them. 32 and 33 stand for any such in the test vectors and stay free."""

_BOOT_BYTES = 16
_HASH_BYTES = 32
_STREAM_BYTES = 16
_MAX_NAME_BYTES = 32
_MAX_HOUR = MAX_NUMBER // HOUR_US


def encode(body: Body) -> bytes:
    """Return the bytes of a body, version 1.

    Raises:
        UnwritableError: CG-BAT-020, a value that is out of range, or too many of something.
    """
    _check_counts(body)
    boots: dict[bytes, int] = {}

    def boot(boot_id: bytes) -> int:
        if len(boot_id) != _BOOT_BYTES:
            raise unwritable(f"boot id of {len(boot_id)} bytes")
        return boots.setdefault(boot_id, len(boots))

    frames = encode_frames(body.frames, boot) if body.frames else None
    anchors: list[cbor.Item] = [
        [
            boot(anchor.boot_id),
            natural(anchor.boottime_us, "anchor boottime"),
            natural(anchor.utc_us, "anchor UTC"),
            natural(anchor.uncertainty_us, "anchor uncertainty"),
            int(anchor.source),
        ]
        for anchor in body.anchors
    ]
    tombstones: list[cbor.Item] = [_encode_tombstone(tombstone, boot) for tombstone in body.tombstones]
    hours: list[cbor.Item] = [_encode_hour(part, boot) for part in body.hours]
    item: dict[int | str, cbor.Item] = {}
    if boots:
        item[BOOTS] = list(boots)
    item[ACCOUNT] = _encode_account(body.account)
    if anchors:
        item[ANCHORS] = anchors
    if tombstones:
        item[TOMBSTONES] = tombstones
    if body.health:
        item[HEALTH] = {name: _health_value(name, value) for name, value in body.health.items()}
    if frames is not None:
        item[FRAMES] = frames
    if body.succession:
        item[SUCCESSION] = body.succession
    if body.predecessor is not None:
        item[PREDECESSOR] = _encode_predecessor(body.predecessor)
    if hours:
        item[HOURS] = hours
    return cbor.encode(item, where="batch body", max_bytes=MAX_BODY_BYTES)


def decode(data: bytes) -> Body:
    """Read a body.

    Raises:
        MalformedError: CG-BAT-001 for the encoding, CG-BAT-011 for the content.
    """
    item = cbor.decode(data, where="batch body", max_bytes=MAX_BODY_BYTES)
    members = members_of(item, FRAMES, "members", (SUCCESSION, PREDECESSOR, HOURS))
    boots = [
        byte_string(boot, _BOOT_BYTES, "boots") for boot in sequence(members.get(BOOTS, []), MAX_FRAMES * 4, "boots")
    ]
    account = _decode_account(sequence(members.get(ACCOUNT), len(BUCKETS), "account"))
    anchors = tuple(
        _decode_anchor(anchor, boots) for anchor in sequence(members.get(ANCHORS, []), MAX_ANCHORS, "anchors")
    )
    tombstones = tuple(
        _decode_tombstone(tombstone, boots)
        for tombstone in sequence(members.get(TOMBSTONES, []), MAX_TOMBSTONES, "tombstones")
    )
    frames = decode_frames(members[FRAMES], boots) if FRAMES in members else ()
    hours = tuple(_decode_hour(part, boots) for part in sequence(members.get(HOURS, []), MAX_HOURS, "hours"))
    if len({(part.boot_id, part.hour) for part in hours}) != len(hours):
        raise bad_field("an hour comes twice", "hours")
    health = _decode_health(members.get(HEALTH, {}))
    return Body(
        frames, account, anchors, tombstones, health, hours, _decode_succession(members), _decode_predecessor(members)
    )


def _decode_succession(members: dict[int, cbor.Item]) -> bytes:
    match members.get(SUCCESSION, b""):
        case bytes(data) if SUCCESSION not in members or 0 < len(data) <= MAX_SUCCESSION_BYTES:
            return data
        case _:
            raise bad_field(f"not a byte string of 1 to {MAX_SUCCESSION_BYTES} bytes", "succession")


def _encode_predecessor(predecessor: Predecessor) -> cbor.Item:
    if len(predecessor.stream_id) != _STREAM_BYTES or len(predecessor.hash) != _HASH_BYTES:
        raise unwritable("predecessor whose stream id or hash has a wrong length")
    if (predecessor.through == 0) != (predecessor.hash == bytes(_HASH_BYTES)):
        raise unwritable(f"predecessor through {predecessor.through} with hash {predecessor.hash.hex()}")
    return [predecessor.stream_id, natural(predecessor.through, "predecessor through"), predecessor.hash]


def _decode_predecessor(members: dict[int, cbor.Item]) -> Predecessor | None:
    if PREDECESSOR not in members:
        return None
    match members[PREDECESSOR]:
        case [bytes(stream_id), through, bytes(digest)] if (
            len(stream_id) == _STREAM_BYTES and len(digest) == _HASH_BYTES
        ):
            found = Predecessor(stream_id, number(through, MAX_NUMBER, "predecessor"), digest)
        case _:
            raise bad_field("not [stream id, through, hash]", "predecessor")
    if (found.through == 0) != (digest == bytes(_HASH_BYTES)):
        raise bad_field(f"through {found.through} with hash {digest.hex()}", "predecessor")
    return found


def _check_counts(body: Body) -> None:
    if len(body.succession) > MAX_SUCCESSION_BYTES:
        raise unwritable(f"succession of {len(body.succession)} bytes, at most {MAX_SUCCESSION_BYTES}")
    for name, items, limit in (
        ("frames", body.frames, MAX_FRAMES),
        ("anchors", body.anchors, MAX_ANCHORS),
        ("tombstones", body.tombstones, MAX_TOMBSTONES),
        ("health entries", body.health, MAX_HEALTH),
        ("hours", body.hours, MAX_HOURS),
    ):
        if len(items) > limit:
            raise unwritable(f"{len(items)} {name}, at most {limit}")


def _encode_account(account: Account) -> list[cbor.Item]:
    return [natural(getattr(account, name), f"account {name}") for name in BUCKETS]


def _decode_account(counts: list[cbor.Item]) -> Account:
    if len(counts) != len(BUCKETS):
        raise bad_field(f"not {len(BUCKETS)} counts", "account")
    return Account(*(number(count, MAX_NUMBER, "account") for count in counts))


def _encode_hour(part: HourAccount, boot: Callable[[bytes], int]) -> cbor.Item:
    if not 0 <= part.hour <= _MAX_HOUR:
        raise unwritable(f"hour {part.hour}, must be 0 to {_MAX_HOUR}")
    return [boot(part.boot_id), part.hour, *_encode_account(part.account)]


def _decode_hour(item: cbor.Item, boots: list[bytes]) -> HourAccount:
    match item:
        case [boot, hour, *counts]:
            return HourAccount(
                boots[number(boot, len(boots) - 1, "hours")], number(hour, _MAX_HOUR, "hours"), _decode_account(counts)
            )
        case _:
            raise bad_field("not an hour with its account", "hours")


def _encode_tombstone(tombstone: Tombstone, boot: Callable[[bytes], int]) -> cbor.Item:
    row: list[cbor.Item] = [
        natural(tombstone.count, "tombstone count"),
        int(tombstone.reason),
        boot(tombstone.first_boot_id),
        natural(tombstone.first_boottime_us, "tombstone boottime"),
        boot(tombstone.last_boot_id),
        natural(tombstone.last_boottime_us, "tombstone boottime"),
    ]
    if tombstone.first_number == tombstone.last_number == 0:
        return row
    if not 0 < tombstone.first_number <= tombstone.last_number:
        raise unwritable(f"tombstone for batches {tombstone.first_number} to {tombstone.last_number}")
    if len(tombstone.last_hash) != _HASH_BYTES:
        raise unwritable(f"tombstone hash of {len(tombstone.last_hash)} bytes")
    return [
        *row,
        tombstone.first_number,
        natural(tombstone.last_number, "tombstone batch"),
        tombstone.last_hash,
    ]


def _decode_tombstone(item: cbor.Item, boots: list[bytes]) -> Tombstone:
    where = "tombstones"
    match item:
        case [count, reason, first_boot, first_us, last_boot, last_us, *batches]:
            pass
        case _:
            raise bad_field("not a tombstone", where)
    first_number, last_number, last_hash = 0, 0, bytes(_HASH_BYTES)
    match batches:
        case []:
            pass
        case [int(first_number), int(last_number), bytes(last_hash)]:
            if not 0 < first_number <= last_number <= MAX_NUMBER or len(last_hash) != _HASH_BYTES:
                raise bad_field("not a range of batches with a hash", where)
        case _:
            raise bad_field("not a tombstone", where)
    return Tombstone(
        number(count, MAX_NUMBER, where),
        number(first_us, MAX_NUMBER, where),
        number(last_us, MAX_NUMBER, where),
        Loss(member(reason, {int(loss) for loss in Loss}, where)),
        boots[number(first_boot, len(boots) - 1, where)],
        boots[number(last_boot, len(boots) - 1, where)],
        first_number,
        last_number,
        last_hash,
    )


def _decode_anchor(item: cbor.Item, boots: list[bytes]) -> Anchor:
    match item:
        case [boot, boottime_us, utc_us, uncertainty_us, source]:
            return Anchor(
                boots[number(boot, len(boots) - 1, "anchors")],
                number(boottime_us, MAX_NUMBER, "anchors"),
                number(utc_us, MAX_NUMBER, "anchors"),
                number(uncertainty_us, MAX_NUMBER, "anchors"),
                TimeSource(member(source, {int(known) for known in TimeSource}, "anchors")),
            )
        case _:
            raise bad_field("not an anchor", "anchors")


def _decode_health(item: cbor.Item) -> dict[str, int]:
    if not isinstance(item, dict) or len(item) > MAX_HEALTH:
        raise bad_field(f"not a map with at most {MAX_HEALTH} entries", "health")
    health: dict[str, int] = {}
    for name, value in item.items():
        if not isinstance(name, str) or not 0 < len(name.encode()) <= _MAX_NAME_BYTES:
            raise bad_field("name is not text of 1 to 32 bytes", "health")
        if not isinstance(value, int) or abs(value) > MAX_NUMBER:
            raise bad_field(f"{name} is not an integer within 53 bits", "health")
        health[name] = value
    return health


def _health_value(name: str, value: int) -> int:
    if not 0 < len(name.encode()) <= _MAX_NAME_BYTES:
        raise unwritable(f"health name {name!r}, must have 1 to {_MAX_NAME_BYTES} bytes")
    if abs(value) > MAX_NUMBER:
        raise unwritable(f"health {name} {value}, must be within 53 bits")
    return int(value)
