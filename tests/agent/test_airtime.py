# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What the agent gives the driver for the limits of transmission: a memory, and the antenna's gain."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.clock import HostClock
from agent.config import load
from agent.hardware import concentrator_opener
from drivers.emulator import Emulator
from drivers.emulator.remote import Server
from drivers.errors import ForbiddenTransmissionError
from drivers.sx1302.concentrator import Concentrator
from drivers.sx1302.transmission import LoraTransmission, Trigger

DOWNLINK = LoraTransmission(868_100_000, 14, 125_000, 9, 1, bytes(20))


def opened(folder: Path, spi: Path, more: str = "") -> Concentrator:
    """Open the concentrator as a new process of the agent does, which then has a spool."""
    path = folder / "gateway.toml"
    path.write_text(
        f'[gateway]\nstate_dir = "{folder}/state"\nruntime_dir = "{folder}/run"\n'
        f'[concentrator]\nboard = "semtech_corecell_eu868"\nbus = "emulator:{spi}"\n{more}'
    )
    config = load(path)
    concentrator = concentrator_opener(config, HostClock())()
    concentrator.start()
    config.spool_path.parent.mkdir(exist_ok=True)
    config.spool_path.touch()
    return concentrator


def used_us(concentrator: Concentrator) -> int:
    return sum(use.used_us for use in concentrator.airtime())


def test_airtime_is_known_to_the_next_process_also_if_there_was_none(tmp_path: Path) -> None:
    spi = tmp_path / "spi"
    with Server(Emulator(), spi, tmp_path / "control"):
        first = opened(tmp_path, spi)
        assert used_us(first) == 0
        first.close()
        second = opened(tmp_path, spi)
        assert used_us(second) == 0, "a gateway that sent nothing may send after a restart"
        second.transmit(DOWNLINK, Trigger.IMMEDIATE)
        assert (used := used_us(second)) > 0
        second.close()
        third = opened(tmp_path, spi)
        assert used_us(third) == used
        third.close()


def test_the_antenna_counts(tmp_path: Path) -> None:
    spi = tmp_path / "spi"
    with Server(Emulator(), spi, tmp_path / "control"):
        concentrator = opened(tmp_path, spi, "antenna_gain_dbi = 6.0\n")
        with pytest.raises(ForbiddenTransmissionError, match=r"the lowest step radiates 18 dBm where 16\.15"):
            concentrator.transmit(DOWNLINK, Trigger.IMMEDIATE)
        concentrator.close()
