# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What Semtech's unmodified software once sent is accepted to the end, and answered as it was then.

The recorded answers come from an earlier emulator, independent of this one; where both agree, they agree on the same
description of the chip. Only time cannot repeat itself: counter, fill level and content of the FIFO are left out
of the comparison, as are the polls of a transmission that lie within a millisecond of a change of state.
"""

from __future__ import annotations

from itertools import pairwise

import pytest

from drivers.emulator.chip import Chip, Model
from tests.drivers.emulator.bench import EUI, Row, rows

COUNTERS, FILL_LEVEL, FIFO, VERSION = 0x6101, 0x58C8, 0x4000, 0x5606
TX_STATUS = (0x5211, 0x5411)


def address_of(row: Row) -> int | None:
    if row.mosi[0] != 0 or row.mosi[1] & 0x80:
        return None
    return row.mosi[1] << 8 | row.mosi[2]


def replay(trace: str, counter_start_us: int = 0, model: Model = Model.SX1302) -> tuple[Chip, list[tuple[Row, bytes]]]:
    chip = Chip(model=model, eui=EUI, counter_start_us=counter_start_us)
    return chip, [(row, chip.transfer(row.mosi, row.at_us * 1000)) for row in rows(trace)]


def replay_in_step(trace: str, model: Model = Model.SX1302) -> tuple[Chip, list[tuple[Row, bytes]]]:
    """Replay with the counter where it was then, so that time stamps of transmissions mean the same."""
    chip, answers = replay(trace, model=model)
    for row, answer in answers:
        if address_of(row) == COUNTERS and row.miso is not None:
            lag = int.from_bytes(row.miso[-4:], "big") - int.from_bytes(answer[-4:], "big")
            return replay(trace, lag // 32 % (1 << 27), model)
    return chip, answers


def differences(answers: list[tuple[Row, bytes]], but: set[int]) -> list[tuple[int, str, str]]:
    return [
        (row.number, row.mosi.hex()[:16], answer.hex()[-8:])
        for row, answer in answers
        if row.miso is not None and answer != row.miso and address_of(row) not in but
    ]


@pytest.mark.parametrize(
    "trace",
    [
        "hal_rx_sx1250",
        "hal_tx_cw",
        "hal_tx_fsk_timestamped",
        "hal_tx_lora",
        "pktfwd_eu868",
        "pktfwd_sx1303_ftime",
        "pktfwd_us915_start_stop",
    ],
)
def test_a_recorded_run_is_accepted_and_answered_alike(trace: str) -> None:
    """The runs with an SX1261 and over USB are replayed by the tests of these."""
    chip, answers = replay_in_step(trace, Model.SX1303 if "sx1303" in trace else Model.SX1302)
    assert not chip.complaints
    # The recorded SX1303 read 0x10 in its version register like an SX1302; users of boards with that chip report 0x12.
    version = {VERSION} if "sx1303" in trace else set()
    assert differences(answers, {COUNTERS, FILL_LEVEL, FIFO, *TX_STATUS} | version) == []


def test_a_replayed_chip_receives() -> None:
    chip, _ = replay_in_step("pktfwd_eu868")
    assert chip.gate.receiving


def test_listen_before_talk_reaches_the_agc() -> None:
    chip, _ = replay_in_step("pktfwd_lbt_sx1261")
    assert not chip.complaints
    assert chip.agc.lbt


def test_transmissions_leave_when_the_host_asked_for() -> None:
    chip, _ = replay_in_step("pktfwd_eu868")
    first, second, third = chip.emissions
    assert [emission.outcome for emission in chip.emissions] == ["sent", "sent", "sent"]
    assert (first.modulation, first.parameters["sf"], second.parameters["sf"]) == ("LORA", 9, 12)
    assert first.freq_hz == pytest.approx(868.1e6, abs=123)
    assert second.freq_hz == pytest.approx(869.525e6, abs=123)
    assert first.parameters["invert_iq"] is True
    assert first.payload == bytes(range(12))
    assert (third.modulation, third.payload, third.parameters["datarate"]) == ("FSK", b"hello", 50_000)
    for emission in chip.emissions:
        assert emission.start_ticks is not None
        # tmst is a whole microsecond
        assert emission.start_ticks % 32 == 0


@pytest.mark.parametrize("trace", ["hal_tx_lora", "hal_tx_fsk_timestamped", "pktfwd_eu868"])
def test_the_status_of_a_transmission_is_polled_through_the_same_states(trace: str) -> None:
    _, answers = replay_in_step(trace)
    for status in TX_STATUS:
        polls = [(row.miso[-1], answer[-1]) for row, answer in answers if row.miso and address_of(row) == status]
        for column in (0, 1):
            assert polls == [] or polls[-1][column] == 0x80
        then, now = (
            [polls[0][column], *(b[column] for a, b in pairwise(polls) if a[column] != b[column])] if polls else []
            for column in (0, 1)
        )
        assert now == then


def test_a_carrier_lasts_until_it_is_aborted() -> None:
    chip, _ = replay_in_step("hal_tx_cw")
    (carrier,) = chip.emissions
    assert carrier.modulation == "CW"
    assert carrier.airtime_us is not None
    assert carrier.outcome == "aborted"
