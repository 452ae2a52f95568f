# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Packets that waited in the chip while nobody looked: dated exactly or not at all."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.batch.model import UNKNOWN_BOOT, Account, Anchor, TimeSource
from agent.frame import Session
from agent.rescue import SURE_US, UNDATED, Look, LookNote, date, same_run
from drivers.sx1302.counter import WRAP_US
from drivers.sx1302.packet import CrcStatus, Modulation, RxPacket
from receiver.intake import Intake
from receiver.ledger.sqlite import SqliteLedger
from tests.agent.spool.gateway import EUI, POLICY, SIGNER, frame, heard, writer
from tests.agent.test_radio import BOOT, Killed, Play
from tests.receiver.gateway import Gateway

SECOND = 1_000_000
DAY_US = 86_400 * SECOND


@pytest.fixture
def play(tmp_path: Path) -> Play:
    return Play(tmp_path)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[SqliteLedger]:
    with closing(SqliteLedger(tmp_path / "data")) as opened:
        yield opened


def packet(number: int, counter_us: int) -> RxPacket:
    return RxPacket(
        payload=number.to_bytes(4, "big"),
        frequency_hz=868_100_000,
        modulation=Modulation.LORA,
        bandwidth_hz=125_000,
        datarate=7,
        coding_rate=1,
        crc=CrcStatus.OK,
        rssi_channel_dbm=-90.0,
        rssi_signal_dbm=-90.0,
        snr_db=5.0,
        frequency_offset_hz=0,
        if_chain=0,
        rf_chain=0,
        modem=0,
        counter_us=counter_us,
    )


def killed_when_it_keeps(play: Play, number: int) -> None:
    play.keeper.dies_at = len(play.keeper.frames)
    with pytest.raises(Killed):
        play.run(lambda: None, lambda: play.inject(number))


@pytest.mark.parametrize("dead_s", [1.0, 40.0, 110.0])
def test_after_a_short_pause_each_packet_has_its_time(play: Play, dead_s: float) -> None:
    killed_when_it_keeps(play, 1)
    play.clock.sleep(dead_s / 2)
    play.inject(2)
    at_us = play.clock.boottime_us()
    play.clock.sleep(dead_s / 2)
    play.run(lambda: play.inject(3))
    assert play.keeper.frames == [1, 2, 3]
    times = {routed.frame.phy_payload[1]: routed.frame for heard in play.keeper.heard for routed in heard.frames}
    assert abs(times[2].boottime_us - at_us) < SECOND
    assert times[2].session.boot_id == BOOT


@pytest.mark.parametrize("dead_s", [150.0, 400.0, 3 * 86_400.0])
def test_after_a_long_pause_no_time_is_stated_that_may_be_wrong(play: Play, dead_s: float) -> None:
    killed_when_it_keeps(play, 1)
    play.clock.sleep(10.0)
    play.inject(2)
    play.clock.sleep(dead_s - 10.0)
    play.run(lambda: play.inject(3))
    assert play.keeper.frames == [1, 2, 3]
    frames = {routed.frame.phy_payload[1]: routed.frame for heard in play.keeper.heard for routed in heard.frames}
    assert frames[2].session == UNDATED
    assert frames[2].boottime_us == 0
    assert frames[3].session.boot_id == BOOT
    assert play.keeper.account() == Account(heard=3, spooled=3)
    assert play.keeper.sessions[-1].boot_id == BOOT, "the next process could not rescue"


def test_without_a_note_nothing_is_guessed(play: Play, tmp_path: Path) -> None:
    killed_when_it_keeps(play, 1)
    (tmp_path / "radio-look.json").write_bytes(b'{"boot_id": 7')
    play.run(lambda: play.inject(2))
    assert play.keeper.frames == [1, 2]
    assert play.keeper.heard[0].frames[0].frame.session == UNDATED


def test_a_process_that_stood_still_dates_nothing_by_guess(play: Play) -> None:
    def stands() -> None:
        play.inject(1)
        play.clock.sleep(500.0)

    play.run(lambda: None, stands, lambda: play.inject(2))
    assert play.keeper.frames == [1, 2]
    sessions = [routed.frame.session.boot_id for heard in play.keeper.heard for routed in heard.frames]
    assert sessions == [UNKNOWN_BOOT, BOOT]


def test_a_chip_that_was_reset_in_between_is_noticed() -> None:
    before, zero_us = 1000 * SECOND, 123 * SECOND
    for elapsed_us in (SECOND, 100 * SECOND, DAY_US):
        drift_us = elapsed_us * 50 // 1_000_000
        now_us = before + elapsed_us
        assert same_run(Look(before, zero_us), Look(now_us, zero_us + 3 * WRAP_US + drift_us))
        assert not same_run(Look(before, zero_us), Look(now_us, zero_us + 40 * SECOND))
        found = date([packet(1, 5 * SECOND)], 6 * SECOND, Look(now_us, zero_us + 40 * SECOND), Look(before, zero_us))
        assert found == ([], [packet(1, 5 * SECOND)])


@settings(max_examples=200, deadline=None)
@given(
    pause_us=st.one_of(st.integers(0, SURE_US), st.integers(0, 6 * WRAP_US), st.integers(0, 7 * DAY_US)),
    parts=st.lists(st.floats(0, 1), min_size=1, max_size=12),
    ppm=st.integers(-90, 90),
    seed=st.integers(0, 1 << 30),
)
def test_what_is_dated_is_right(pause_us: int, parts: list[float], ppm: int, seed: int) -> None:
    chance = random.Random(seed)
    # by the chip's counter; the host's clock runs apart from it by ppm
    now_us = 20 * DAY_US + chance.randrange(WRAP_US)
    chip_pause_us = pause_us + pause_us * ppm // 1_000_000
    entries = sorted(now_us - chip_pause_us + round(chip_pause_us * part) for part in parts)
    truth = [max(entry - chance.choice((0, 0, chance.randrange(4 * SECOND))), 0) for entry in entries]
    packets = [packet(i, at_us + chance.randrange(-3, 4) * WRAP_US) for i, at_us in enumerate(truth)]
    # the driver dates what nobody had read to after the look
    low_us = now_us - pause_us - 5 * SECOND
    packets = [replace(one, counter_us=low_us + (one.counter_us - low_us) % WRAP_US) for one in packets]
    host_us = 30 * DAY_US
    sure, unsure = date(packets, now_us, Look(host_us, 0), Look(host_us - pause_us, None))
    assert len(sure) + len(unsure) == len(packets)
    for one in sure:
        assert one.counter_us == truth[int.from_bytes(one.payload, "big")]
    if pause_us <= SURE_US:
        assert not unsure


def test_the_note_is_of_this_boot_alone(tmp_path: Path) -> None:
    note = LookNote(tmp_path, BOOT)
    assert note.read() is None
    note.write(Look(5, None))
    note.write(Look(7, -9))
    assert LookNote(tmp_path, BOOT).read() == Look(7, -9)
    assert LookNote(tmp_path, bytes(16)).read() is None
    for content in (
        b"",
        b"[]",
        b'{"boot_id": null}',
        b"\xff",
        b'{"boot_id": "%s", "at_us": "x"}' % BOOT.hex().encode(),
    ):
        (tmp_path / "radio-look.json").write_bytes(content)
        assert note.read() is None
    LookNote(tmp_path / "gone", BOOT).write(Look(1))


def test_the_receiver_states_no_time_of_what_has_none_and_the_sums_match(ledger: SqliteLedger, tmp_path: Path) -> None:
    """Boots with anchors lie on both sides in the stream, and the one that is running goes on behind."""
    utc_us = 1_790_000_000 * SECOND
    boots = [bytes([number]) * 16 for number in (1, 2)]
    ledger.add_key(Gateway(eui=EUI, signer=SIGNER).registration)
    with writer(tmp_path, policy=POLICY) as spool:
        for number, boot_id in enumerate(boots):
            spool.anchor(Anchor(boot_id, 5 * SECOND, utc_us + number * 3600 * SECOND, 1000, TimeSource.KERNEL))
            session = spool.begin_session(boot_id)
            spool.offer(heard([frame(10 * number + index, session) for index in range(5)]))
            spool.offer(
                heard([replace(frame(100 + 10 * number + index, UNDATED), boottime_us=0) for index in range(3)])
            )
            spool.offer(heard([frame(50 + 10 * number, session)]))
            assert spool.flush()
    intake = Intake(ledger, SIGNER, utc_us=lambda: utc_us + 90_000 * SECOND)
    with writer(tmp_path, policy=POLICY) as spool, spool.reader() as reader:
        assert reader.check() == []
        assert spool.recovered.session == Session(boots[1], 2)
        for sealed in reader.unacknowledged("city", 0, 100):
            assert intake.submit(reader.wire(sealed), sender="test").refusal is None
    while ledger.revise(10):
        pass
    rows = list(ledger.frames(0, 100))
    assert len(rows) == 18
    assert {row["utc_us"] for row in rows if row["boot"] == UNKNOWN_BOOT.hex()} == {None}
    assert all(row["utc_us"] is not None for row in rows if row["boot"] != UNKNOWN_BOOT.hex())
