# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from agent.batch.model import Account
from agent.filter import Filter, FilterRules, parse_dev_addrs
from agent.frame import CrcStatus, Frame, Modulation, Session
from agent.reception import Reception
from agent.spool.intake import fingerprint
from drivers.sx1302 import packet as drivers_packet
from drivers.sx1302.packet import RxPacket

SESSION = Session(bytes(16), 3)
OURS = bytes.fromhex("40da1b012600020001954378762b11ff0d")
THEIRS = bytes.fromhex("40f17dbe4900020001954378762b11ff0d")

PACKET = RxPacket(
    payload=OURS,
    frequency_hz=868_100_000,
    modulation=drivers_packet.Modulation.LORA,
    bandwidth_hz=125_000,
    datarate=7,
    coding_rate=1,
    crc=drivers_packet.CrcStatus.OK,
    rssi_channel_dbm=-80.04,
    rssi_signal_dbm=-81.55,
    snr_db=9.25,
    frequency_offset_hz=-350,
    if_chain=2,
    rf_chain=1,
    modem=4,
    counter_us=5_000_000,
)
TOWN = Filter(FilterRules(dev_addr=(parse_dev_addrs("26000000/7"),)))
WORLD = Filter(FilterRules(dev_addr=(parse_dev_addrs("00000000/0"),), non_lorawan=True, no_crc=True))
NOBODY = Filter(FilterRules())


def test_a_packet_becomes_a_frame() -> None:
    heard = Reception([TOWN]).sort([PACKET], session=SESSION, zero_us=1_000_000)
    assert [routed.frame for routed in heard.frames] == [
        Frame(
            session=SESSION,
            boottime_us=6_000_000,
            counter_us=5_000_000,
            frequency_hz=868_100_000,
            modulation=Modulation.LORA,
            bandwidth_hz=125_000,
            datarate=7,
            coding_rate=1,
            crc=CrcStatus.OK,
            rssi_ddbm=-800,
            rssis_ddbm=-816,
            snr_qdb=37,
            frequency_offset_hz=-350,
            if_chain=2,
            rf_chain=1,
            phy_payload=OURS,
        )
    ]
    frame = heard.frames[0].frame
    assert type(frame.crc) is CrcStatus
    assert type(frame.modulation) is Modulation
    assert heard.tallies == (Account(heard=1, spooled=1),)
    assert heard.seen == (fingerprint(5_000_000, OURS),)


def test_fsk_has_neither_snr_nor_signal_rssi() -> None:
    fsk = replace(
        PACKET,
        modulation=drivers_packet.Modulation.FSK,
        datarate=50_000,
        coding_rate=0,
        snr_db=None,
        rssi_signal_dbm=None,
    )
    frame = Reception([TOWN]).sort([fsk], session=SESSION, zero_us=0).frames[0].frame
    assert (frame.modulation, frame.snr_qdb, frame.rssis_ddbm) == (Modulation.FSK, None, None)


def test_each_destination_has_a_route_and_an_account_of_its_own() -> None:
    packets = [
        PACKET,
        replace(PACKET, payload=THEIRS, counter_us=6_000_000),
        replace(PACKET, payload=b"12345678", counter_us=7_000_000),
        replace(PACKET, payload=THEIRS, counter_us=8_000_000, crc=drivers_packet.CrcStatus.BAD),
        replace(PACKET, payload=OURS, counter_us=9_000_000, crc=drivers_packet.CrcStatus.NONE),
    ]
    heard = Reception([TOWN, NOBODY, WORLD]).sort(packets, session=SESSION, zero_us=0, lost=2)
    assert [(routed.frame.counter_us // 1_000_000, routed.route) for routed in heard.frames] == [
        (5, 0b101),
        (6, 0b100),
        (7, 0b100),
        (9, 0b100),
    ]
    assert heard.tallies == (
        Account(heard=5, bad_crc=1, filtered=3, spooled=1, overrun=2),
        Account(heard=5, bad_crc=1, filtered=4, spooled=0, overrun=2),
        Account(heard=5, bad_crc=1, filtered=0, spooled=4, overrun=2),
    )
    assert len(heard.seen) == 5


def test_without_destinations_nothing_is_kept() -> None:
    heard = Reception([]).sort([PACKET], session=SESSION, zero_us=0)
    assert (heard.frames, heard.tallies) == ((), ())


def test_copies_are_heard_and_counted_as_duplicates_whatever_becomes_of_their_packet() -> None:
    packets = [
        replace(PACKET, copies=(5_000_003, 4_999_990)),
        replace(PACKET, payload=THEIRS, counter_us=6_000_000, copies=(6_000_001,)),
        replace(PACKET, counter_us=7_000_000, crc=drivers_packet.CrcStatus.BAD, copies=(7_000_001,)),
    ]
    heard = Reception([TOWN]).sort(packets, session=SESSION, zero_us=0, late_copies=3)
    assert heard.tallies == (Account(heard=10, bad_crc=1, filtered=1, duplicate=7, spooled=1),)
    assert fingerprint(4_999_990, OURS) in heard.seen
    assert len(heard.seen) == 7


def test_packets_from_before_the_boot_have_no_time_and_are_counted_as_lost() -> None:
    packets = [replace(PACKET, counter_us=1_000_000), replace(PACKET, counter_us=9_000_000)]
    heard = Reception([TOWN]).sort(packets, session=SESSION, zero_us=-5_000_000)
    assert [routed.frame.boottime_us for routed in heard.frames] == [4_000_000]
    assert heard.tallies == (Account(heard=1, spooled=1, overrun=1),)
    assert len(heard.seen) == 2


packets = st.builds(
    lambda payload, at, datarate, crc, copies: replace(
        PACKET, payload=payload, counter_us=at, datarate=datarate, crc=crc, copies=tuple(copies)
    ),
    st.sampled_from([OURS, THEIRS, b"", b"12345678"]),
    st.integers(0, 300),
    st.sampled_from([7, 12]),
    st.sampled_from(drivers_packet.CrcStatus),
    st.lists(st.integers(0, 300), max_size=3),
)


@given(st.lists(packets, max_size=8), st.integers(0, 3))
def test_every_packet_ends_in_exactly_one_bucket(look: list[RxPacket], late: int) -> None:
    heard = Reception([TOWN, NOBODY, WORLD]).sort(look, session=SESSION, zero_us=0, late_copies=late)
    copies = sum(len(packet.copies) for packet in look)
    for index, tally in enumerate(heard.tallies):
        assert tally.balanced
        assert (tally.heard, tally.duplicate) == (len(look) + copies + late, copies + late)
        assert tally.spooled == sum(routed.route >> index & 1 for routed in heard.frames)
    assert all(routed.route for routed in heard.frames)
    assert len(heard.seen) == len(look) + copies
