# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""A transmission starts on a rising trigger, when its target comes, and deafens the receiver meanwhile."""

from __future__ import annotations

import pytest

from tests.drivers.emulator.bench import Bench, uplink

FREE, WAITING, EMITTING = 0x80, 0x91, 0x60
TRIGGER, TARGET, STATUS = 0x00, 0x01, 0x11
BASES = (0x5200, 0x5400)


def program(bench: Bench, base: int = 0x5200, *, payload: bytes = bytes(range(20))) -> None:
    """An SF7 downlink at 869.525 MHz."""
    bench.write(base + 0x20, 0x0D)
    bench.write(base + 0x25, *(869_525_000 * (1 << 18) // 32_000_000).to_bytes(3, "big"))
    bench.write(base + 0x0D, 0x4E)
    bench.write(base + 0x60, 0x47)
    bench.write(base + 0x61, 0x01)
    bench.write(base + 0x62, 0x60)
    bench.write(base + 0x63, len(payload))
    bench.write(base + 0x66, 8, 0)
    bench.write(base + 0x69, 0x62)
    bench.write(base + 0x6D, 6, 8)
    bench.write(base + 0x05, *(47413).to_bytes(2, "big"))
    bench.write(base + 0x07, 1)
    bench.write(base + 0x100, *payload)
    bench.write(base + 0x07, 0)


def status(bench: Bench, base: int = 0x5200) -> int:
    return bench.read(base + STATUS)[0]


@pytest.mark.parametrize("base", BASES)
def test_an_immediate_transmission_is_emitted_and_ends(receiving: Bench, base: int) -> None:
    program(receiving, base)
    begin = receiving.counter()
    receiving.write(base + TRIGGER, 0)
    receiving.write(base + TRIGGER, 1)
    assert status(receiving, base) == WAITING
    receiving.wait_us(2_000)
    assert status(receiving, base) == EMITTING
    (emission,) = receiving.chip.emissions
    assert emission.chain == BASES.index(base)
    assert emission.start_ticks == begin + 47413
    assert emission.airtime_us == 51_456
    assert emission.payload == bytes(range(20))
    assert emission.freq_hz == pytest.approx(869_525_000, abs=123)
    assert emission.power == (0x4E, 0)
    assert emission.parameters["invert_iq"] is True
    assert emission.parameters["sync_word"] == 0x34
    receiving.wait_us(51_500)
    assert status(receiving, base) == FREE
    assert emission.outcome == "sent"
    assert receiving.read(base + 0x0B)[0] & 1
    assert receiving.read(0x5651)[0] & (0x04, 0x08)[BASES.index(base)]


def schedule(bench: Bench, target: int) -> None:
    bench.write(0x5200 + TARGET, *(target % (1 << 32)).to_bytes(4, "big"))
    bench.write(0x5200 + TRIGGER, 0)
    bench.write(0x5200 + TRIGGER, 2)


def test_a_timestamped_transmission_leaves_at_its_target(receiving: Bench) -> None:
    program(receiving)
    leave = receiving.counter() + 50_000 * 32
    schedule(receiving, leave - 47413)
    receiving.wait_us(49_999)
    assert status(receiving) == WAITING
    receiving.wait_us(1)
    assert status(receiving) == EMITTING
    assert receiving.chip.emissions[0].start_ticks == leave


def test_a_target_in_the_past_fires_when_the_counter_comes_round(receiving: Bench) -> None:
    program(receiving)
    schedule(receiving, receiving.counter() - 1)
    receiving.wait_us(134_000_000)
    assert status(receiving) == WAITING
    receiving.wait_us(300_000)
    assert status(receiving) == FREE
    assert receiving.chip.emissions[0].outcome == "sent"


def test_a_transmission_on_pps_leaves_with_the_next_second(receiving: Bench) -> None:
    program(receiving)
    receiving.write(0x5200, 0)
    receiving.write(0x5200, 4)
    until_pps_us = 1_000_000 - receiving.now_us % 1_000_000
    start = receiving.chip.emissions[0].start_ticks
    assert start == receiving.counter() + until_pps_us * 32 + 47413


def test_clearing_the_triggers_aborts(receiving: Bench) -> None:
    program(receiving)
    schedule(receiving, receiving.counter() + 32_000_000)
    receiving.write(0x5200, 0)
    assert status(receiving) == FREE
    assert receiving.chip.emissions[0].outcome == "aborted"


def test_the_trigger_bit_stays_and_does_not_fire_twice(receiving: Bench) -> None:
    program(receiving)
    receiving.write(0x5200, 1)
    receiving.wait_us(100_000)
    receiving.write(0x5200, 1)
    assert len(receiving.chip.emissions) == 1
    assert status(receiving) == FREE


def test_what_is_programmed_later_does_not_change_what_is_on_the_air(receiving: Bench) -> None:
    program(receiving, payload=b"first")
    receiving.write(0x5200, 1)
    program(receiving, payload=b"second")
    assert receiving.chip.emissions[0].payload == b"first"


def test_the_payload_buffer_is_closed_without_write_buffer(receiving: Bench) -> None:
    receiving.write(0x5300, 1, 2, 3)
    assert "WRITE_BUFFER" in receiving.chip.complaints[-1]
    assert receiving.chip.tx[0].buffer[:3] == bytes(3)


def test_without_agc_nothing_leaves(bench: Bench) -> None:
    program(bench)
    bench.write(0x5200, 1)
    bench.wait_us(10_000_000)
    assert status(bench) == WAITING


@pytest.mark.parametrize(
    ("end_us", "heard"),
    [(-10_000, True), (1_400, True), (1_600, False), (60_000, False), (95_000, False), (100_000, True)],
    ids=["before", "just before", "into the start", "during", "out of the end", "after"],
)
def test_what_overlaps_an_own_transmission_is_lost(receiving: Bench, end_us: int, heard: bool) -> None:
    program(receiving)
    packet = uplink()
    begin_us = receiving.now_us + 100_000
    receiving.wait_us(100_000)
    receiving.write(0x5200, 1)
    receiving.wait_us(200_000)
    reception = receiving.chip.receive(packet, (begin_us + end_us + packet.readable_after_us) * 1000, receiving.now_ns)
    assert (reception.outcome == "fifo") is heard, reception.outcome


def test_an_aborted_transmission_blocks_only_what_it_overlapped(receiving: Bench) -> None:
    program(receiving)
    receiving.write(0x5200, 1)
    receiving.wait_us(10_000)
    receiving.write(0x5200, 0)
    receiving.wait_us(100_000)
    assert receiving.hear(uplink()).outcome == "fifo"


def test_a_transmission_deafens_whatever_was_triggered_after_it(receiving: Bench) -> None:
    program(receiving)
    program(receiving, BASES[1])
    schedule(receiving, receiving.counter() + 500_000 * 32)
    receiving.write(BASES[1] + TRIGGER, 1)
    receiving.wait_us(520_000)
    assert (status(receiving), status(receiving, BASES[1])) == (EMITTING, FREE)
    assert receiving.hear(uplink()).outcome == "not_received: the gateway was transmitting"


def test_what_is_aborted_before_it_leaves_deafens_nobody(receiving: Bench) -> None:
    program(receiving)
    schedule(receiving, receiving.counter() + 100_000 * 32)
    receiving.write(0x5200, 0)
    receiving.wait_us(120_000)
    assert receiving.hear(uplink()).outcome == "fifo"
    (emission,) = receiving.chip.emissions
    assert (emission.outcome, emission.start_ticks, emission.start_ns) == ("aborted", None, None)
