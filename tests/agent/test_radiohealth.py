# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
from agent.batch.model import MAX_HEALTH
from agent.radio import RadioStatus
from agent.radiohealth import LISTENED_INTERVAL_US, RadioHealth
from drivers.sx1302.statistics import ARBITER_COUNTERS, PACKET_COUNTERS, ChannelStatistics, Listened

MINUTE_US = 60_000_000
LISTENED = Listened(
    {0: ChannelStatistics(7, 1, -101.6, -3.4, -112.0), 9: ChannelStatistics(noise_dbm=-110.4)}, {"multi_sf_good": 6}
)
ALWAYS = {"radio_starts": 2, "radio_failures": 1, "radio_heard": 7, "radio_lost": 3, "radio_repair_reload": 1}
STATUS = RadioStatus(starts=2, failures=1, heard=7, lost=3, repairs={"reload": 1}, listened=LISTENED)


def test_the_record_tells_of_faults_and_of_what_was_listened_to() -> None:
    assert RadioHealth().record(STATUS, 5) == ALWAYS | {
        "ch0_frames": 7,
        "ch0_bad_crc": 1,
        "ch0_rssi_dbm": -102,
        "ch0_snr_db": -3,
        "ch0_noise_dbm": -112,
        "ch9_noise_dbm": -110,
        "chip_multi_sf_good": 6,
    }


def test_what_was_listened_to_travels_four_times_an_hour() -> None:
    health = RadioHealth()
    told = [len(health.record(STATUS, minute * MINUTE_US + 1)) > len(ALWAYS) for minute in range(61)]
    assert [minute for minute, whether in enumerate(told) if whether] == [0, 15, 30, 45, 60]
    assert LISTENED_INTERVAL_US == 15 * MINUTE_US


def test_names_are_short_enough_and_a_common_record_fits() -> None:
    everything = Listened(
        {if_chain: ChannelStatistics(1, 0, -100.0, 5.0) for if_chain in range(10)},
        dict.fromkeys((*PACKET_COUNTERS, *ARBITER_COUNTERS), 1),
    )
    record = RadioHealth().record(RadioStatus(listened=everything, repairs={"power_cycle": 1}), 0)
    assert max(map(len, record)) <= 32
    assert len(record) <= MAX_HEALTH - 10
