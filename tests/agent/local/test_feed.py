# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What people see of receptions: ours in full, of others a level; counts by hour and day; a ring that never waits."""

from __future__ import annotations

import logging
import threading
from collections import Counter

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from agent.filter import Filter, FilterRules, parse_dev_addrs
from agent.frame import Session
from agent.local import desk as desks
from agent.local.desk import Desk
from agent.local.feed import KEPT, Feed
from agent.local.sighting import Fate, Sighting, sightings
from agent.local.tally import DAY_SLOTS, HOUR_SLOTS, MOST_ROWS, SLOT_US, Heard, Tally
from agent.reception import Reception
from drivers.sx1302.packet import CrcStatus, Modulation, RxPacket
from tests.agent.local.gateway import FOREIGN, OWN, uplink

OURS = Filter(FilterRules(dev_addr=(parse_dev_addrs("26000000/8"),)))
ZERO_US = 5_000_000_123
SESSION = Session(bytes(16), 1)


def packet(payload: bytes, counter_us: int = 1_234_567, crc: CrcStatus = CrcStatus.OK) -> RxPacket:
    return RxPacket(
        payload, 868_100_000, Modulation.LORA, 125_000, 9, 1, crc, -97.3, -98.0, 6.25, 0, 2, 0, 3, counter_us
    )


def seen(*packets: RxPacket) -> list[Sighting]:
    heard = Reception([OURS]).sort(packets, session=SESSION, zero_us=ZERO_US)
    return list(sightings(packets, heard.frames, ZERO_US, 1))


def sighting(
    number: int = 1, *, frequency_hz: int = 868_100_000, datarate: int = 7, fate: Fate = Fate.KEPT
) -> Sighting:
    return Sighting(number, 0, fate, 0, frequency_hz, "lora", datarate, 125_000, -90, 5)


def test_of_ones_own_frame_everything_but_the_content_is_seen() -> None:
    (one,) = seen(packet(uplink(OWN, 4711, b"very secret")))
    assert (one.fate, one.device, one.f_cnt, one.kind) == (Fate.KEPT, "26011bda", 4711, "data")
    assert (one.rssi_dbm, one.snr_db, one.boottime_us) == (-97.3, 6.25, ZERO_US + 1_234_567)
    assert "secret" not in repr(one)


@given(st.binary(max_size=255), st.sampled_from(CrcStatus))
def test_of_what_nobody_keeps_nothing_is_seen_by_which_it_could_be_told(payload: bytes, crc: CrcStatus) -> None:
    (one,) = seen(packet(payload, crc=crc))
    assume(one.fate is not Fate.KEPT)
    (other,) = seen(packet(uplink(FOREIGN, 9), counter_us=1_000_001))
    assert {name: getattr(one, name) for name in ("size_bytes", "kind", "device", "f_cnt")} == dict.fromkeys(
        ("size_bytes", "kind", "device", "f_cnt")
    )
    assert one.boottime_us % 1_000_000 == 0
    assert (one.rssi_dbm, one.snr_db) == (-97, 6)
    # two of them that came on the same channel in the same second cannot be told apart but for their fate
    if one.fate is other.fate:
        assert one == other


@given(
    st.lists(
        st.tuples(st.sampled_from((OWN, FOREIGN)), st.sampled_from(CrcStatus), st.integers(0, 3)),
        min_size=1,
        max_size=20,
    )
)
def test_each_packet_is_seen_once_with_its_own_fate(air: list[tuple[int, CrcStatus, int]]) -> None:
    shared = {(address, f_cnt): uplink(address, f_cnt) for address, _, f_cnt in air}
    packets = [packet(shared[address, f_cnt], at, crc) for at, (address, crc, f_cnt) in enumerate(air)]
    found = seen(*packets)
    assert [one.number for one in found] == list(range(1, len(air) + 1))
    for one, (address, crc, f_cnt) in zip(found, air, strict=True):
        kept = address == OWN and crc is CrcStatus.OK
        assert one.fate is (Fate.KEPT if kept else Fate.BAD_CRC if crc is CrcStatus.BAD else Fate.FILTERED)
        assert one.f_cnt == (f_cnt if kept else None)


def totals(heard: Heard) -> tuple[Counter[str], Counter[str]]:
    def of(counts: object) -> Counter[str]:
        total: Counter[str] = Counter()
        for one in counts:  # type: ignore[attr-defined]
            total.update({fate.value: getattr(one, fate.value) for fate in Fate})
        return +total

    return of(heard.hour), of(heard.day)


@given(st.lists(st.tuples(st.integers(0, 200 * SLOT_US), st.sampled_from(Fate), st.integers(7, 12)), max_size=60))
def test_counts_are_those_of_the_last_hour_and_day(events: list[tuple[int, Fate, int]]) -> None:
    tally, now_us = Tally(0), 0
    past: list[tuple[int, Fate]] = []
    for after_us, fate, datarate in events:
        now_us += after_us // 10
        tally.take(sighting(datarate=datarate, fate=fate), now_us)
        past.append((now_us, fate))
        for look_us in (now_us, now_us + SLOT_US, now_us + 7 * SLOT_US):
            slot = look_us // SLOT_US
            hour, day = totals(tally.heard(look_us))
            assert hour == Counter(fate for at, fate in past if at // SLOT_US > slot - HOUR_SLOTS)
            assert day == Counter(fate for at, fate in past if at // SLOT_US > slot - DAY_SLOTS)


def test_an_air_of_a_thousand_channels_takes_no_more_room() -> None:
    tally = Tally(0)
    for frequency_hz in range(1000):
        tally.take(sighting(frequency_hz=frequency_hz), 0)
    heard = tally.heard(0)
    assert len(heard.day) <= MOST_ROWS + 1
    assert sum(one.kept for one in heard.day) == 1000
    assert heard.day[0].frequency_hz == 0


@given(st.integers(0, 3 * KEPT), st.integers(0, 3 * KEPT), st.integers(1, 100))
def test_a_reader_gets_all_in_order_or_learns_what_it_missed(added: int, known: int, most: int) -> None:
    feed = Feed()
    try:
        feed.add(sighting(number) for number in range(1, added + 1))
        missed, found = feed.since(known, most)
        assert [one.number for one in found] == list(range(known + missed + 1, known + missed + 1 + len(found)))
        assert missed == max(added - KEPT - known, 0)
        assert len(found) == min(most, max(added - known - missed, 0))
    finally:
        feed.close()


def test_reading_while_the_radio_adds_never_fails() -> None:
    feed, ended = Feed(), threading.Event()

    def add() -> None:
        number = 0
        while not ended.is_set():
            feed.add(sighting(number := number + 1) for _ in range(7))

    radio = threading.Thread(target=add)
    radio.start()
    known = got = lost = 0
    while got < 20_000:
        missed, found = feed.since(known, 64)
        assert all(one.number == known + missed + at for at, one in enumerate(found, 1))
        lost, got = lost + missed, got + len(found)
        known += missed + len(found)
    ended.set()
    radio.join()
    feed.close()
    assert known == got + lost


def test_a_defect_of_the_desk_costs_the_radio_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(desks, "sightings", broken)
    desk = Desk(lambda: 0)
    with caplog.at_level(logging.ERROR):
        desk.take([packet(b"")], [], 0)
        desk.take([packet(b"")], [], 0)
    assert len([record for record in caplog.records if "event=desk_defect" in record.message]) == 1
    desk.feed.close()
