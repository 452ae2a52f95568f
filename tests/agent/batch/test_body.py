# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
from __future__ import annotations

import hashlib
import subprocess
import sys
from dataclasses import replace

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.batch import body as bodies
from agent.batch.errors import MalformedError, UnwritableError
from agent.batch.model import MAX_FRAMES, MAX_NUMBER, Account, Anchor, Body, Loss, TimeSource, Tombstone
from agent.frame import CrcStatus, Frame, Modulation, Session
from tests.agent.batch.damage import BODIES, PLAIN
from tests.agent.batch.samples import BOOT, ordinary, traffic
from tests.agent.batch.samples import bodies as arbitrary_bodies


@given(arbitrary_bodies)
def test_any_body_comes_back_bit_for_bit(body: Body) -> None:
    data = bodies.encode(body)
    assert bodies.decode(data) == body
    assert bodies.encode(bodies.decode(data)) == data


FSK = Frame(
    Session(BOOT, 1),
    10,
    20,
    868_800_000,
    Modulation.FSK,
    125_000,
    50_000,
    0,
    CrcStatus.OK,
    -905,
    None,
    None,
    0,
    9,
    0,
    b"\x01\x02",
)
LORA = replace(FSK, modulation=Modulation.LORA, datarate=12, coding_rate=1, rssis_ddbm=-1000, snr_qdb=-78, if_chain=3)


@pytest.mark.parametrize(
    "frames",
    [
        [FSK],
        [LORA],
        [FSK, LORA, FSK],
        [replace(LORA, phy_payload=b"")],
        [replace(LORA, phy_payload=bytes(range(255)))],
        [replace(LORA, phy_payload=bytes(size)) for size in (0, 8, 9, 10, 255)],
        [replace(LORA, phy_payload=bytes(8))],
        [replace(LORA, crc=crc) for crc in CrcStatus],
        [replace(LORA, fine_timestamp_ns=value) for value in (None, 0, 999_999_999)],
        [replace(LORA, fine_timestamp_ns=5), replace(LORA, fine_timestamp_ns=5)],
        [replace(LORA, frequency_offset_hz=value) for value in (-31_250, 0, 31_250)],
        # the counter starts again within a session, and host time stands still or goes back
        [replace(LORA, counter_us=value) for value in ((1 << 32) - 1, 0, (1 << 32) + 7)],
        [replace(LORA, boottime_us=value) for value in (MAX_NUMBER, 0, MAX_NUMBER)],
        [replace(LORA, counter_us=0, boottime_us=MAX_NUMBER), replace(LORA, counter_us=MAX_NUMBER, boottime_us=0)],
        # sessions that alternate, in two boots
        [replace(LORA, session=Session(boot, number)) for boot in (BOOT, bytes(16)) for number in (1, 2, 1)],
        [replace(LORA, frequency_hz=value, if_chain=chain) for value in (867_100_000, 868_500_000) for chain in (0, 7)],
    ],
)
def test_what_a_radio_can_hand_up_comes_back(frames: list[Frame]) -> None:
    body = Body(tuple(frames))
    assert bodies.decode(bodies.encode(body)) == body


def test_the_largest_batch_comes_back() -> None:
    frames = tuple(replace(frame, phy_payload=bytes(255)) for frame in traffic(MAX_FRAMES))
    assert bodies.decode(bodies.encode(Body(frames))).frames == frames
    with pytest.raises(UnwritableError, match="4097 frames"):
        bodies.encode(Body((*frames, LORA)))


def test_the_bytes_are_the_same_in_every_process() -> None:
    program = (
        "import hashlib; from agent.batch import body; from tests.agent.batch.samples import ordinary;"
        "print(hashlib.sha256(body.encode(ordinary(200))).hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("0", "1")
    }
    assert digests == {hashlib.sha256(bodies.encode(ordinary(200))).hexdigest()}


def test_the_order_in_which_health_was_noted_does_not_matter() -> None:
    one, two = Body((), health={"b": 1, "aa": 2, "a": 3}), Body((), health={"a": 3, "aa": 2, "b": 1})
    assert bodies.encode(one) == bodies.encode(two)


@pytest.mark.parametrize(
    "frame",
    [
        replace(LORA, boottime_us=-1),
        replace(LORA, boottime_us=MAX_NUMBER + 1),
        replace(LORA, counter_us=MAX_NUMBER + 1),
        replace(LORA, frequency_hz=1 << 32),
        replace(LORA, coding_rate=256),
        replace(LORA, rssi_ddbm=1 << 15),
        replace(LORA, rssis_ddbm=-(1 << 15) - 1),
        replace(LORA, snr_qdb=1 << 15),
        replace(LORA, if_chain=-1),
        replace(LORA, phy_payload=bytes(256)),
        replace(LORA, fine_timestamp_ns=-1),
        replace(LORA, session=Session(bytes(15), 1)),
        replace(LORA, session=Session(BOOT, -1)),
    ],
)
def test_a_value_without_a_place_is_named_before_anything_is_signed(frame: Frame) -> None:
    with pytest.raises(UnwritableError) as caught:
        bodies.encode(Body((LORA, frame)))
    assert caught.value.code == "CG-BAT-020"


@pytest.mark.parametrize(
    "body",
    [
        Body((), Account(heard=-1)),
        Body((), Account(heard=MAX_NUMBER + 1)),
        Body((), anchors=(Anchor(BOOT, -1, 0, 0, TimeSource.GNSS),)),
        Body((), anchors=(Anchor(b"", 0, 0, 0, TimeSource.GNSS),)),
        Body((), tombstones=(Tombstone(1, 0, 0, Loss.EVICTED, first_number=3, last_number=2),)),
        Body((), tombstones=(Tombstone(1, 0, 0, Loss.EVICTED, first_number=0, last_number=2),)),
        Body((), tombstones=(Tombstone(1, 0, 0, Loss.EVICTED, first_number=1, last_number=2, last_hash=b""),)),
        Body((), health={"": 1}),
        Body((), health={"x" * 33: 1}),
        Body((), health={"x": 1 << 53}),
        Body((), health={f"x{index}": 1 for index in range(65)}),
    ],
)
def test_other_values_without_a_place_are_named_too(body: Body) -> None:
    with pytest.raises(UnwritableError):
        bodies.encode(body)


@pytest.mark.parametrize("damage", BODIES)
def test_what_is_not_a_body_is_refused(damage: str) -> None:
    item = cbor2.loads(PLAIN)
    BODIES[damage](item)
    with pytest.raises(MalformedError) as caught:
        bodies.decode(cbor2.dumps(item, canonical=True))
    assert caught.value.code == "CG-BAT-011"
    assert caught.value.where.startswith("batch body")


def test_members_for_later_are_ignored() -> None:
    body = ordinary(20)
    item = cbor2.loads(bodies.encode(body))
    item[32] = ["anything", {1: b""}]
    item[5][40] = [0, 1, 1, b"\x00"]
    assert bodies.decode(cbor2.dumps(item, canonical=True)) == body


@given(st.data())
def test_arbitrary_changes_of_a_body_give_a_body_or_are_refused(data: st.DataObject) -> None:
    encoded = bytearray(bodies.encode(ordinary(5)))
    for _ in range(data.draw(st.integers(1, 3))):
        encoded[data.draw(st.integers(0, len(encoded) - 1))] = data.draw(st.integers(0, 255))
    try:
        body = bodies.decode(bytes(encoded))
    except MalformedError:
        return
    assert bodies.decode(bodies.encode(body)) == body
