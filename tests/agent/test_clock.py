# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
import time

import pytest

from agent.batch.model import Anchor, TimeSource
from agent.clock import SNTP_ALLOWANCE_US, HostClock, KernelState, _read_kernel, anchor_from

BOOT = bytes(range(16))
PLL, UNSYNC, NANO = 0x0001, 0x0040, 0x2000
GOOD = KernelState(state=0, status=PLL | NANO, offset_us=0, max_error_us=4000, esterror_us=12)


def test_the_clocks_of_this_machine() -> None:
    clock = HostClock()
    assert len(clock.boot_id) == 16
    assert clock.boot_id == HostClock().boot_id
    first = clock.boottime_us()
    assert first <= clock.boottime_us()
    assert abs(first - time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000) < 5_000_000 + first // 100
    assert clock.monotonic_ns() <= clock.monotonic_ns()


class Kernel:
    """Clocks of a kernel whose time daemon slews, on a machine that may sleep."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.raw_ns = self.slewed_ns = self.asleep_ns = 0
        self.interrupted_ns: list[int] = []
        monkeypatch.setattr(time, "clock_gettime_ns", self.read)

    def run(self, seconds: float, slewed_ppm: int = 0) -> None:
        self.raw_ns += round(seconds * 1e9)
        self.slewed_ns += round(seconds * (1e9 + slewed_ppm * 1e3))

    def read(self, clock: int) -> int:
        self.run(100e-9)
        if clock == time.CLOCK_BOOTTIME and self.interrupted_ns:
            self.run(self.interrupted_ns.pop() / 1e9)
        if clock == time.CLOCK_MONOTONIC_RAW:
            return self.raw_ns
        return self.slewed_ns + (self.asleep_ns if clock == time.CLOCK_BOOTTIME else 0)


def test_what_a_time_daemon_slews_does_not_bend_the_time_since_boot(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel, clock = Kernel(monkeypatch), HostClock()
    kernel.run(1000, slewed_ppm=500)
    assert clock.boottime_us() == pytest.approx(1e9, abs=10)
    assert abs(kernel.read(time.CLOCK_BOOTTIME) // 1000 - 1_000_000_000) > 400_000


def test_time_in_suspend_counts_and_an_interrupted_reading_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel, clock = Kernel(monkeypatch), HostClock()
    kernel.run(10)
    kernel.asleep_ns = 3600 * 10**9
    kernel.interrupted_ns = [50_000_000, 7_000_000]
    assert clock.boottime_us() == pytest.approx(3_610_000_000, abs=30)
    kernel.interrupted_ns = [50_000_000]
    again = HostClock()
    again.boottime_us()
    assert clock.boottime_us() == pytest.approx(again.boottime_us(), abs=30)


def test_this_kernel_answers() -> None:
    state = _read_kernel()
    assert 0 <= state.state <= 5
    assert 0 <= state.max_error_us <= 16_000_000
    anchor = HostClock().anchor()
    unsynchronised = state.state == 5 or state.status & UNSYNC
    assert (anchor is None) == bool(unsynchronised or state.max_error_us >= 16_000_000)


def test_an_anchor_holds_the_kernels_error_and_that_of_reading_it() -> None:
    anchor = anchor_from(GOOD, BOOT, 1_000_000, 1_767_225_600_000_000, 1_000_010)
    assert anchor == Anchor(BOOT, 1_000_005, 1_767_225_600_000_000, 4000 + 5 + 1, TimeSource.KERNEL)


def test_what_is_still_being_slewed_in_counts() -> None:
    anchor = anchor_from(GOOD._replace(offset_us=-300_000), BOOT, 5, 7, 5)
    assert anchor is not None
    assert anchor.uncertainty_us == 304_001


def test_a_daemon_that_tells_no_error_is_believed_less() -> None:
    anchor = anchor_from(GOOD._replace(esterror_us=0, max_error_us=0), BOOT, 5, 7, 5)
    assert anchor is not None
    assert anchor.uncertainty_us == SNTP_ALLOWANCE_US + 1


@pytest.mark.parametrize(
    "state",
    [
        GOOD._replace(state=5),
        GOOD._replace(status=PLL | UNSYNC),
        GOOD._replace(state=3),
        GOOD._replace(state=4),
        GOOD._replace(max_error_us=16_000_000),
    ],
)
def test_no_anchor_from_a_clock_that_is_not_synchronised(state: KernelState) -> None:
    assert anchor_from(state, BOOT, 5, 7, 5) is None
