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


def test_of_ghosts_the_strongest_is_kept() -> None:
    packets = [
        replace(PACKET, rssi_channel_dbm=-110.0, frequency_hz=868_300_000, counter_us=5_000_003),
        PACKET,
        replace(PACKET, rssi_channel_dbm=-120.0, frequency_hz=868_500_000, counter_us=4_999_990),
    ]
    heard = Reception([TOWN]).sort(packets, session=SESSION, zero_us=0)
    assert [routed.frame.frequency_hz for routed in heard.frames] == [868_100_000]
    assert heard.tallies == (Account(heard=3, duplicate=2, spooled=1),)


def test_a_ghost_may_come_a_look_later() -> None:
    reception = Reception([TOWN])
    reception.sort([PACKET], session=SESSION, zero_us=0)
    for _ in range(2):
        ghost = replace(PACKET, rssi_channel_dbm=-60.0, counter_us=5_000_049)
        heard = reception.sort([ghost], session=SESSION, zero_us=0)
        assert heard.tallies == (Account(heard=1, duplicate=1),)


def test_a_repetition_of_the_device_is_no_ghost() -> None:
    packets = [PACKET, replace(PACKET, counter_us=5_000_050), replace(PACKET, counter_us=5_000_000, datarate=8)]
    heard = Reception([TOWN]).sort(packets, session=SESSION, zero_us=0)
    assert heard.tallies == (Account(heard=3, spooled=3),)


def test_a_damaged_copy_does_not_hide_the_intact_one() -> None:
    damaged = replace(PACKET, crc=drivers_packet.CrcStatus.BAD, rssi_channel_dbm=-20.0)
    heard = Reception([TOWN]).sort([damaged, PACKET], session=SESSION, zero_us=0)
    assert heard.tallies == (Account(heard=2, bad_crc=1, spooled=1),)


def test_packets_from_before_the_boot_have_no_time_and_are_counted_as_lost() -> None:
    packets = [replace(PACKET, counter_us=1_000_000), replace(PACKET, counter_us=9_000_000)]
    heard = Reception([TOWN]).sort(packets, session=SESSION, zero_us=-5_000_000)
    assert [routed.frame.boottime_us for routed in heard.frames] == [4_000_000]
    assert heard.tallies == (Account(heard=1, spooled=1, overrun=1),)
    assert len(heard.seen) == 2


packets = st.builds(
    lambda payload, at, datarate, crc, rssi: replace(
        PACKET, payload=payload, counter_us=at, datarate=datarate, crc=crc, rssi_channel_dbm=rssi
    ),
    st.sampled_from([OURS, THEIRS, b"", b"12345678"]),
    st.integers(0, 300),
    st.sampled_from([7, 12]),
    st.sampled_from(drivers_packet.CrcStatus),
    st.integers(-130, -20).map(float),
)


@given(st.lists(st.lists(packets, max_size=8), max_size=4))
def test_every_packet_ends_in_exactly_one_bucket(looks: list[list[RxPacket]]) -> None:
    filters = [TOWN, NOBODY, WORLD]
    reception = Reception(filters)
    for look in looks:
        heard = reception.sort(look, session=SESSION, zero_us=0)
        for index, tally in enumerate(heard.tallies):
            assert tally.balanced
            assert tally.heard == len(look)
            assert tally.spooled == sum(routed.route >> index & 1 for routed in heard.frames)
        kept = [routed.frame for routed in heard.frames]
        for i, one in enumerate(kept):
            for other in kept[:i]:
                same = (one.phy_payload, one.datarate) == (other.phy_payload, other.datarate)
                assert not (same and abs(one.counter_us - other.counter_us) < 50)
        assert all(routed.route for routed in heard.frames)
