# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""On the medium the strong survive, the weak and the late do not, and the answer does not depend on when one asks."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.emulator.air import AirPacket
from drivers.emulator.medium import (
    DEMODULATORS,
    SNR_FLOOR_DB,
    Arrival,
    Crystal,
    Medium,
    PathLoss,
    Signal,
    noise_dbm,
    power_sum_dbm,
)
from drivers.sx1302.packet import CrcStatus

FAR_US = 100_000_000


def signal(start_us: int = 0, level_dbm: float = -90.0, *, sf: int = 7, freq_hz: int = 868_100_000) -> Signal:
    packet = AirPacket(freq_hz, bytes(20), sf=sf, identifier=f"{start_us}/{level_dbm}/{sf}/{freq_hz}")
    return Signal(packet, start_us, level_dbm)


def heard(*signals: Signal, medium: Medium | None = None) -> dict[str | None, str]:
    """What becomes of signals, by their identifier: "ok", "damaged" or the reason of the loss."""
    medium = medium or Medium()
    for one in signals:
        medium.begin(one)
    return {a.packet.identifier: fate(a) for a in medium.advance(FAR_US)}


def fate(arrival: Arrival) -> str:
    if arrival.packet.lost is not None:
        return arrival.packet.lost
    return "ok" if arrival.packet.crc is CrcStatus.OK else "damaged"


def test_a_signal_alone_arrives_with_level_and_snr() -> None:
    medium = Medium()
    sent = signal(1_000, -110.0, sf=9)
    medium.begin(sent)
    assert medium.advance(sent.end_us - 1) == []
    (arrival,) = medium.advance(sent.end_us)
    assert arrival.end_us == sent.end_us
    assert arrival.packet.lost is None
    assert arrival.packet.snr_db == pytest.approx(-110 - noise_dbm(125_000))
    assert arrival.packet.rssi_dbm == pytest.approx(power_sum_dbm((-110, noise_dbm(125_000))))
    assert arrival.packet.payload == sent.packet.payload


@pytest.mark.parametrize("sf", range(5, 13))
def test_each_spreading_factor_has_its_floor(sf: int) -> None:
    floor_dbm = noise_dbm(125_000) + SNR_FLOOR_DB[sf]
    assert list(heard(signal(level_dbm=floor_dbm + 0.1, sf=sf)).values()) == ["ok"]
    (why,) = heard(signal(level_dbm=floor_dbm - 0.1, sf=sf)).values()
    assert why.startswith("too weak")


def test_sensitivities_are_those_of_the_application_note() -> None:
    # [AN1200.22] rounds to -123 dBm for SF7 and -137 dBm for SF12 at 125 kHz and 6 dB of noise figure.
    assert noise_dbm(125_000) + SNR_FLOOR_DB[7] == pytest.approx(-124.5, abs=0.1)
    assert noise_dbm(125_000) + SNR_FLOOR_DB[12] == pytest.approx(-137, abs=0.1)


def test_the_stronger_captures_the_channel_and_the_weaker_is_lost() -> None:
    fates = heard(signal(0, -90), signal(5_000, -96.1))
    assert sorted(fates.values()) == ["collided with 1 of the same spreading factor", "ok"]
    assert fates[signal(0, -90).packet.identifier] == "ok"


def test_equals_kill_each_other() -> None:
    fates = heard(signal(0, -90), signal(5_000, -94))
    assert list(fates.values()) == ["collided with 1 of the same spreading factor"] * 2


def test_a_disturbance_behind_the_header_leaves_a_bad_crc() -> None:
    first = signal(0, -90)
    late = signal(first.payload_us + 100, -90)
    assert heard(first, late)[first.packet.identifier] == "damaged"
    medium = Medium()
    medium.begin(first)
    medium.begin(late)
    payload = medium.advance(FAR_US)[0].packet.payload
    assert payload != first.packet.payload
    assert len(payload) == len(first.packet.payload)


def test_the_beginning_of_a_preamble_may_be_disturbed() -> None:
    early = signal(0, -90)
    spare_us = 3 * early.packet.shape.symbol_us
    assert (
        heard(early, signal(early.end_us - spare_us, -90.5))[signal(early.end_us - spare_us, -90.5).packet.identifier]
        == "ok"
    )


def test_other_channels_do_not_disturb_and_offsets_do_not_help() -> None:
    assert set(heard(signal(), signal(100, freq_hz=868_300_000)).values()) == {"ok"}
    assert "ok" not in heard(signal(), signal(100, freq_hz=868_110_000)).values()


def test_other_spreading_factors_disturb_only_when_much_stronger() -> None:
    assert set(heard(signal(), signal(100, sf=9)).values()) == {"ok"}
    fates = heard(signal(0, -110), signal(100, -101, sf=9))
    assert fates[signal(0, -110).packet.identifier] == "collided with 1 of other spreading factors"
    assert fates[signal(100, -101, sf=9).packet.identifier] == "ok"


def test_many_weak_ones_disturb_together() -> None:
    weak = [signal(100 + index, -99) for index in range(3)]
    assert heard(signal(0), weak[0])[signal(0).packet.identifier] == "ok"
    assert heard(signal(0), *weak)[signal(0).packet.identifier] == "collided with 3 of the same spreading factor"


def test_the_seventeenth_packet_finds_no_demodulator() -> None:
    crowd = [signal(index, sf=7, freq_hz=863_100_000 + 200_000 * index) for index in range(DEMODULATORS + 1)]
    fates = heard(*crowd)
    assert list(fates.values()).count("ok") == DEMODULATORS
    assert fates[crowd[-1].packet.identifier] == f"all {DEMODULATORS} demodulators are busy"


def test_weak_packets_and_other_bandwidths_take_no_demodulator_and_ends_release_one() -> None:
    first = signal(0)
    weak = signal(10, -140, freq_hz=868_300_000)
    wide = replace(signal(20, freq_hz=868_900_000), packet=AirPacket(868_900_000, bytes(20), bw_hz=250_000))
    after = signal(first.end_us - first.packet.shape.symbol_us * 8, freq_hz=868_500_000)
    assert after.locked_us == first.end_us
    fates = heard(first, weak, wide, after, medium=Medium(demodulators=1))
    assert sorted(fate for fate in fates.values() if not fate.startswith("too weak")) == ["ok"] * 3


def test_nobody_comes_late() -> None:
    medium = Medium()
    medium.advance(1_000)
    with pytest.raises(ValueError, match="has been judged until 1000 us"):
        medium.begin(signal(999))


bursts = st.lists(
    st.builds(
        signal,
        st.integers(0, 2_000_000),
        st.floats(-140, -60),
        sf=st.integers(7, 10),
        freq_hz=st.sampled_from([868_100_000, 868_300_000]),
    ),
    max_size=12,
)


@settings(deadline=None)
@given(bursts, st.integers(20_000, 500_000))
def test_the_verdicts_do_not_depend_on_when_one_asks(signals: list[Signal], step_us: int) -> None:
    together = Medium(demodulators=2)
    ordered = sorted(signals, key=lambda one: one.start_us)
    for one in ordered:
        together.begin(one)
    at_once = together.advance(FAR_US)
    stepwise, piecemeal = Medium(demodulators=2), []
    for now_us in range(step_us, 10_000_000, step_us):
        while ordered and ordered[0].start_us <= now_us:
            stepwise.begin(ordered.pop(0))
        piecemeal += stepwise.advance(now_us)
    assert piecemeal == at_once
    assert len(at_once) == len(signals)


def test_losses_grow_with_distance() -> None:
    law = PathLoss()
    assert law.db((0, 0), (0, 1000)) == pytest.approx(128.95)
    assert law.db((0, 0), (10_000, 0)) == pytest.approx(128.95 + 23.2)
    assert law.db((5, 5), (5, 5)) == law.db((0, 0), (0, 10))


def test_crystals_swing_with_the_day() -> None:
    crystal = Crystal(offset_ppm=10, drift_ppm=2)
    assert crystal.frequency_hz(868_100_000, 0) == 868_100_000 + 8681
    assert crystal.error_ppm(21_600_000_000) == pytest.approx(12)
    assert crystal.error_ppm(64_800_000_000) == pytest.approx(8)
