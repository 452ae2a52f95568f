# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Unwrapping of the counter: right for ever, and never fooled by a restart."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.sx1302.counter import (
    WRAP_US,
    CounterReading,
    CounterSample,
    before,
    first_sample,
    next_sample,
    read_counter,
)
from drivers.sx1302.spi import AddressSpace

if TYPE_CHECKING:
    from collections.abc import Sequence

HOUR_US = 3_600_000_000


def _reading(true_us: int, host_ns: int) -> CounterReading:
    return CounterReading(ticks=true_us * 32 % (1 << 32), pps_ticks=0, host_ns=host_ns, bracket_us=0)


@given(
    start_us=st.integers(0, WRAP_US - 1),
    steps_us=st.lists(st.integers(1, 24 * HOUR_US), min_size=1, max_size=30),
    ppm=st.integers(-60, 60),
    jitter_us=st.lists(st.integers(-20_000, 20_000), min_size=30, max_size=30),
)
def test_any_pause_and_any_crystal_are_unwrapped_exactly(
    start_us: int, steps_us: list[int], ppm: int, jitter_us: list[int]
) -> None:
    host_us, true_us = 10**9, start_us
    sample: CounterSample | None = first_sample(_reading(true_us, host_us * 1000))
    for step_us, jitter in zip(steps_us, jitter_us, strict=False):
        host_us += step_us
        true_us += step_us + step_us * ppm // 1_000_000
        assert sample is not None
        sample = next_sample(sample, _reading(true_us, (host_us + max(jitter, -step_us)) * 1000))
        assert sample is not None
        assert sample.counter_us == true_us
        # The next comparison starts from a clean host time; jitter does not add up in reality either.
        sample = CounterSample(sample.counter_us, host_us * 1000)


@given(
    counter_us=st.integers(WRAP_US, 100 * HOUR_US),
    elapsed_us=st.integers(0, HOUR_US),
    restarted_us=st.integers(0, WRAP_US - 1),
)
def test_a_restarted_chip_is_never_taken_for_a_wrap(counter_us: int, elapsed_us: int, restarted_us: int) -> None:
    expected_us = counter_us + elapsed_us
    distance_us = (restarted_us - expected_us + WRAP_US // 2) % WRAP_US - WRAP_US // 2
    sample = next_sample(CounterSample(counter_us, 0), _reading(restarted_us, elapsed_us * 1000))
    if abs(distance_us) > 50_000 + elapsed_us // 10_000 + 1:
        assert sample is None
    else:
        # Indistinguishable by this reading alone: one restart in a thousand; the health check sees the registers.
        assert sample is None or abs(sample.counter_us - expected_us) <= 50_001 + elapsed_us // 10_000


@given(now_us=st.integers(WRAP_US, 1 << 50), age_us=st.integers(0, WRAP_US - 1))
def test_a_stamp_of_the_last_wrap_is_placed_exactly(now_us: int, age_us: int) -> None:
    stamp_us = now_us - age_us
    assert before(CounterSample(now_us, 0), stamp_us * 32 % (1 << 32)) == stamp_us


@dataclass
class _Chip:
    """A bus that gives one prepared answer per reading of the counter."""

    answers: list[str]
    frames: list[bytes] = field(default_factory=list)

    def transfer(self, frame: bytes) -> bytes:
        self.frames.append(frame)
        return bytes(4) + bytes.fromhex(self.answers.pop(0))

    def transfer_all(self, frames: Sequence[bytes]) -> list[bytes]:
        return [self.transfer(frame) for frame in frames]

    def close(self) -> None:
        """Nothing to release."""


class _Clock:
    def monotonic_ns(self) -> int:
        return 5_000

    def sleep(self, seconds: float) -> None:
        raise AssertionError(seconds)


@pytest.mark.parametrize(
    ("answers", "ticks", "pps_ticks"),
    [
        (["0000000100ffffff", "0000000101000010"], 0x00FFFFFF, 1),
        (["0000000100ffffff", "0000000101000010", "0000000101000020"], 0x01000020, 1),
        (["00ffffff00000005", "0100000000000006", "0100000000000007"], 7, 0x01000000),
    ],
)
def test_a_torn_reading_is_decided_by_a_third(answers: list[str], ticks: int, pps_ticks: int) -> None:
    if len(answers) == 2:
        answers[1] = answers[0]
    chip = _Chip(list(answers))
    reading = read_counter(AddressSpace(chip), _Clock())
    assert (reading.ticks, reading.pps_ticks) == (ticks, pps_ticks)
    assert len(chip.frames) == len(answers)
    assert chip.frames[0] == bytes.fromhex("006101") + bytes(9)
