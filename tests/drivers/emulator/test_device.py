# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""An emulated device joins and is answered through the real driver, and hears only what it really would."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from drivers.emulator.device import ACK_TIMEOUT_US, TRANSMISSIONS, Device, DeviceProfile, State
from drivers.emulator.lorawan import JoinAccept, Session
from drivers.emulator.medium import Crystal
from drivers.plans import load_plan
from tests.drivers.emulator.network import METER, SESSION, City, Network

ABP = replace(METER, activation=SESSION)


def the(city: City) -> Device:
    assert city.device is not None
    return city.device


def last_windows(city: City) -> list[tuple[str, str]]:
    return [(report.name, report.outcome) for report in the(city).windows]


@pytest.mark.parametrize("sf", [7, 9, 12])
@pytest.mark.parametrize("rx2", [False, True])
def test_a_device_joins_and_its_confirmed_frame_is_acknowledged(sf: int, rx2: bool) -> None:
    accept = JoinAccept(1, 0x13, 0x26012345, rx1_dr_offset=1, rx2_data_rate=3, rx_delay_s=2)
    city = City(replace(METER, sf=sf, confirmed=True), network=Network(rx2=rx2, accept=accept)).run(18)
    device = the(city)
    assert device.session == city.network.session
    assert device.counts.joins == 1
    assert device.counts.acknowledged == 1
    assert [downlink.payload for downlink in device.downlinks] == [b"down"]
    window = ("RX2" if rx2 else "RX1", "heard")
    assert [pair for pair in last_windows(city) if pair[1] == "heard"] == [window, window]
    assert [fcnt for fcnt, _ in city.network.frames] == [0]


def test_the_next_frame_acknowledges_a_confirmed_downlink() -> None:
    city = City(replace(METER, confirmed=True)).run(32)
    assert [fcnt for fcnt, _ in city.network.frames] == [0, 1]
    assert city.network.acks == 1


def test_an_unanswered_join_is_repeated_with_a_new_nonce_and_patience() -> None:
    city = City(METER, network=Network(silent_for=1)).run(25)
    device = the(city)
    assert device.counts.joins == 2
    assert device.session == city.network.session
    assert [name for name, _ in last_windows(city)[:3]] == ["RX1", "RX2", "RX1"]
    joins = [entry for entry in city.bench.emulator.rxlog()[0] if str(entry.identifier).startswith("meter join")]
    assert [entry.identifier for entry in joins] == ["meter join 7", "meter join 8"]
    airtime_us = 61_696
    assert joins[1].end_us - joins[0].end_us >= 99 * airtime_us


def test_what_is_not_acknowledged_is_repeated_and_then_abandoned() -> None:
    network = Network(silent_for=TRANSMISSIONS, session=SESSION)
    city = City(replace(ABP, confirmed=True, interval_us=60_000_000), network=network).run(62)
    device = the(city)
    assert (device.counts.abandoned, device.counts.acknowledged) == (1, 1)
    assert device.counts.transmissions == TRANSMISSIONS + 1
    sent = [(entry.identifier, entry.end_us) for entry in city.bench.emulator.rxlog()[0]]
    assert [name for name, _ in sent] == [f"meter 0.{n + 1}" for n in range(TRANSMISSIONS)] + ["meter 1.1"]
    assert [fcnt for fcnt, _ in network.frames] == [1]
    for (_, before), (_, after) in pairwise(sent[:TRANSMISSIONS]):
        least, most = ACK_TIMEOUT_US
        assert least <= after - before - 2_000_000 - 50_000 <= most + 100_000


def test_unconfirmed_frames_are_periodic_and_counted() -> None:
    city = City(replace(ABP, interval_us=5_000_000, first_us=1_000_000), network=Network(session=SESSION)).run(28)
    assert [fcnt for fcnt, _ in city.network.frames] == [0, 1, 2, 3, 4, 5]
    ends = [entry.end_us for entry in city.bench.emulator.rxlog()[0]]
    assert {b - a for a, b in pairwise(ends)} == {5_000_000}
    assert set(last_windows(city)) == {("RX1", "nothing sent"), ("RX2", "nothing sent")}


def test_a_frequency_list_adds_channels() -> None:
    accept = JoinAccept(1, 0x13, 1, frequencies_hz=(867_100_000, 867_300_000, 867_500_000, 867_700_000, 0))
    city = City(replace(METER, interval_us=4_000_000), network=Network(accept=accept)).run(90)
    heard = city.network.frames
    assert len(heard) > 15
    assert the(city)._frequencies_hz[3:] == [867_100_000, 867_300_000, 867_500_000, 867_700_000]


@pytest.mark.parametrize(
    ("change", "shift_us", "outcome"),
    [
        ({}, 0, "heard"),
        ({}, 9_000, "heard"),
        ({}, -9_000, "heard"),
        ({}, 15_000, "15000 us late"),
        ({}, -15_000, "15000 us early"),
        ({}, 1_000_000, "nothing sent"),
        ({"frequency_hz": 868_350_000}, 0, "Hz off"),
        ({"frequency_hz": 868_520_000}, 0, "Hz off"),
        ({"spreading_factor": 8}, 0, "SF8 BW125 instead of SF7 BW125"),
        ({"bandwidth_hz": 250_000}, 0, "SF7 BW250 instead of SF7 BW125"),
        ({"invert_polarity": False}, 0, "its polarity is not inverted"),
        ({"implicit_header": True}, 0, "it has no header"),
        ({"payload": b"\x60 not authentic at all"}, 0, "for another address"),
        ({"preamble_symbols": 6}, 13_000, "late"),
        ({"crc": True}, 0, "heard"),
        ({"coding_rate": 4}, 0, "heard"),
    ],
)
def test_what_a_device_hears(change: dict[str, object], shift_us: int, outcome: str) -> None:
    network = Network(session=SESSION, change=change, shift_us=shift_us)
    profile = replace(ABP, confirmed=True, frequencies_hz=(868_300_000,))
    city = City(profile, network=network).run(1.9)
    name, found = last_windows(city)[0]
    assert name == "RX1"
    assert outcome in found
    assert the(city).counts.downlinks == (outcome == "heard")


def answered(profile: DeviceProfile) -> str:
    city = City(replace(profile, confirmed=True), network=Network(session=SESSION)).run(2.5)
    return the(city).windows[0].outcome


def test_power_decides_in_both_directions() -> None:
    # SF7 needs -124.5 dBm: the device's 20 dBm arrive, the gateway's 14 do not.
    assert answered(replace(ABP, path_loss_db=138)) == "heard"
    assert answered(replace(ABP, path_loss_db=142, power_dbm=20)).startswith("too weak: SNR -1")
    assert answered(replace(ABP, path_loss_db=142, power_dbm=20, noise_figure_db=2)) == "heard"
    city = City(replace(ABP, path_loss_db=142)).run(1)
    (entry,) = city.bench.emulator.rxlog()[0]
    assert entry.outcome.startswith("not_received: too weak")


def test_a_crystal_may_be_off_by_a_quarter_of_the_bandwidth() -> None:
    assert answered(replace(ABP, crystal=Crystal(20))) == "heard"
    assert answered(replace(ABP, crystal=Crystal(-30))) == "heard"
    city = City(replace(ABP, crystal=Crystal(40))).run(1)
    (entry,) = city.bench.emulator.rxlog()[0]
    assert entry.outcome.startswith("not_received: no channel at")


def test_a_private_network_is_not_heard() -> None:
    city = City(replace(ABP, confirmed=True), network=Network(session=SESSION))
    private = replace(load_plan("eu868"), public=False)
    city.concentrator._transmitter._plan = private
    city.run(2)
    assert the(city).windows[0].outcome == "sync word 0x12"


def test_an_aborted_downlink_is_not_heard() -> None:
    city = City(replace(ABP, confirmed=True), network=Network(session=SESSION))
    while not city.bench.emulator.txlog():
        city.run(0.02)
    while city.bench.emulator.txlog()[0].outcome == "waiting":
        city.run(0.02)
    city.concentrator.abort_transmission()
    city.run(1)
    assert the(city).windows[0].outcome == "broken off (aborted)"


def test_a_downlink_that_was_taken_back_before_it_left_is_not_heard() -> None:
    city = City(replace(ABP, confirmed=True), network=Network(session=SESSION))
    while not city.bench.emulator.txlog():
        city.run(0.02)
    assert city.bench.emulator.txlog()[0].outcome == "waiting"
    city.concentrator.abort_transmission()
    city.run(1)
    assert the(city).windows[0].outcome == "nothing sent"


def test_one_that_is_taken_back_while_the_device_waits_for_its_end_is_not_heard() -> None:
    """The gateway's counter is not the device's clock: what it has caught may still be waiting for its moment."""
    city = City(replace(ABP, confirmed=True), network=Network(session=SESSION))
    while not city.bench.emulator.txlog():
        city.run(0.02)
    device, (emission,) = the(city), city.bench.emulator.txlog()
    device._caught, device.state, device.wake_us = emission, State.RECEIVING, city.bench.emulator.now_us()
    city.concentrator.abort_transmission()
    city.run(2)
    assert device.windows[0].outcome == "broken off (aborted)"


def test_a_repetition_is_not_accepted_twice() -> None:
    city = City(replace(ABP, confirmed=True, interval_us=5_000_000), network=Network(session=SESSION)).run(3)
    city.network._fcnt_down = 0
    city.run(5)
    assert the(city).counts.downlinks == 1
    assert "a wrong MIC, or a repetition" in [outcome for _, outcome in last_windows(city)]


def test_the_same_seed_makes_the_same_air() -> None:
    crowd = [
        replace(
            ABP,
            name=f"m{n}",
            activation=Session(n, bytes(16), bytes(16)),
            interval_us=2_000_000,
            poisson=True,
            fading_db=6,
            path_loss_db=125,
        )
        for n in range(20)
    ]

    def logged(seed: int, step_s: float) -> list[tuple[str | None, str, int]]:
        city = City(*crowd, network=Network(session=SESSION), seed=seed)
        for _ in range(round(20 / step_s)):
            city.air.advance()
            city.bench.clock.sleep(step_s)
        return [(entry.identifier, entry.outcome, entry.end_us) for entry in city.bench.emulator.rxlog()[0]]

    first, other = logged(1, 0.05), logged(2, 0.05)
    again = logged(1, 0.13)
    assert first[: len(again)] == again[: len(first)]
    assert first[:20] != other[:20]
    outcomes = {outcome.split(":")[1].split()[0] if ":" in outcome else outcome for _, outcome, _ in first}
    assert {"fifo", "collided"} <= outcomes
