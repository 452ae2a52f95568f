# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""On a machine without the hardware, the real extensions say what is missing and what to do."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from drivers.boards import GpioLine
from drivers.errors import BusError
from drivers.linux.clock import SystemClock
from drivers.linux.gpio import HeaderLine
from drivers.linux.spi import SpidevBus

if TYPE_CHECKING:
    from drivers.bus import Clock, OutputLine, SpiBus


def test_a_missing_device_is_named_with_the_way_to_get_it() -> None:
    with pytest.raises(BusError, match=r"open: /dev/spidev99\.9: does not exist") as caught:
        SpidevBus("/dev/spidev99.9", 2_000_000)
    assert "dtparam=spi=on" in caught.value.hint
    assert (caught.value.code, caught.value.retryable) == ("CG-SPI-003", False)


@pytest.mark.parametrize("device", ["/dev/null", "spidev0.0", "/dev/spidev0", ""])
def test_what_is_no_spidev_path_is_refused(device: str) -> None:
    with pytest.raises(BusError, match="is no spidev device"):
        SpidevBus(device, 2_000_000)


@pytest.mark.skipif(bool(list(Path("/dev").glob("gpiochip*"))), reason="this machine has GPIO")
def test_a_machine_without_header_says_so_and_nothing_is_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    line = HeaderLine(GpioLine(23, active_high=True))
    with pytest.raises(BusError, match="no Raspberry Pi header") as caught:
        line.set(active=True)
    assert "pinctrl-rp1" in caught.value.hint
    line.close()
    line.close()
    assert list(tmp_path.iterdir()) == []
    assert Path.cwd() == tmp_path
    assert "LG_WD" not in os.environ


def test_the_clock_waits_no_less_than_asked() -> None:
    clock = SystemClock()
    begin_ns = clock.monotonic_ns()
    clock.sleep(0.001)
    assert clock.monotonic_ns() - begin_ns >= 1_000_000


def test_they_are_what_the_drivers_expect() -> None:
    line: type[OutputLine] = HeaderLine
    bus: type[SpiBus] = SpidevBus
    clock: type[Clock] = SystemClock
    assert {line, bus, clock} == {HeaderLine, SpidevBus, SystemClock}
