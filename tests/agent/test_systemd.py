# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The unit under which the agent runs must allow what the agent does."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent import service
from agent.clock import HostClock
from agent.spool import writer

UNIT = Path(__file__).parents[2] / "packaging" / "systemd" / "civigate.service"
ASKING_THE_CLOCK = {"adjtimex", "clock_adjtime", "clock_adjtime64"}
"""What the C library's adjtimex() calls, depending on machine and version."""


@pytest.fixture
def settings() -> list[tuple[str, str]]:
    return _settings(UNIT)


def _settings(unit: Path) -> list[tuple[str, str]]:
    lines = [line for line in unit.read_text().splitlines() if "=" in line and not line.startswith("#")]
    return [(name, value) for name, _, value in (line.partition("=") for line in lines)]


def test_somebody_may_ask_whether_the_clock_is_right(settings: list[tuple[str, str]]) -> None:
    """Else no frame would get its UTC from the host's clock, however well that is synchronised."""
    assert ("ProtectClock", "yes") in settings, "the agent may not"
    assert ("SystemCallErrorNumber", "EPERM") in settings, "and it is not killed for asking"
    keeper = _settings(UNIT.with_name("civigate-clock.service"))
    assert "ProtectClock" not in dict(keeper)
    filters = [value for name, value in keeper if name == "SystemCallFilter"]
    assert set(filters[-1].split()) == ASKING_THE_CLOCK, "later filters win [systemd.exec(5)]"
    assert dict(keeper)["PrivateNetwork"] == "yes"
    assert f"/run/{dict(keeper)['RuntimeDirectory']}" == str(HostClock().note.parent)
    assert dict(keeper)["WantedBy"] == UNIT.name


def test_a_clean_end_fits_into_the_time_that_systemd_gives(settings: list[tuple[str, str]]) -> None:
    longest_s = service.RADIO_STOP_S + 2 * service.DRAIN_S + service.SENDER_STOP_S + writer.STOP_S
    assert longest_s < float(dict(settings)["TimeoutStopSec"])


def test_the_journal_outlives_a_stop(settings: list[tuple[str, str]]) -> None:
    """While the card does not write, what was heard is nowhere else."""
    assert dict(settings)["RuntimeDirectoryPreserve"] == "yes"


def test_systemd_waits_for_the_start_and_feeds_on_signs_of_life(settings: list[tuple[str, str]]) -> None:
    said = dict(settings)
    assert said["Type"] == "notify"
    assert said["NotifyAccess"] == "main"
    assert "AF_UNIX" in said["RestrictAddressFamilies"], "the socket on which systemd listens"
    assert float(said["WatchdogSec"]) > 0


def test_devices_whose_driver_comes_late_are_allowed_all_the_same(settings: list[tuple[str, str]]) -> None:
    """Groups that the kernel did not know at the start stayed forbidden for the life of the agent."""
    modules = {"char-spi": "spidev", "char-i2c": "i2c_dev", "char-ttyACM": "cdc_acm", "char-ttyUSB": "usbserial"}
    built_in = {"char-ttyAMA", "char-ttyS", "char-gpiochip"}
    allowed = {value.split()[0] for name, value in settings if name == "DeviceAllow"}
    wanted = {f"modprobe@{modules[group]}.service" for group in allowed - built_in}
    for relation in ("Wants", "After"):
        units = {unit for name, value in settings if name == relation for unit in value.split()}
        assert {unit for unit in units if unit.startswith("modprobe@")} == wanted


def test_provisioning_starts_on_a_card_that_takes_no_folder() -> None:
    """It says what is the matter, which it cannot when systemd refuses to start it."""
    said = dict(_settings(UNIT.with_name("civigate-provision.service")))
    assert not {"StateDirectory", "CacheDirectory", "LogsDirectory", "PrivateTmp"} & set(said)
