# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What was sent is known to the next process, and after a power cut; who does not know does not send."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from drivers.plans import load_plan
from drivers.sx1302.ledger import REBOOT_US
from drivers.sx1302.remembrance import AirtimeMemory

S = 1_000_000_000
EU868 = load_plan("eu868").transmit
BAND_M = next(band for band in EU868 if band.name == "M")
BOOT, NEXT_BOOT = bytes(16), bytes(15) + b"\1"


def memory(folder: Path, boot: bytes = BOOT) -> AirtimeMemory:
    return AirtimeMemory(folder / "ram", folder / "card", boot)


def charged(folder: Path) -> None:
    kept = memory(folder)
    ledger = kept.ledger(EU868, 100 * S, fresh=True)
    ledger.charge(868_037_500, 868_162_500, 100 * S, 101 * S, 1_000_000)
    ledger.charge(868_037_500, 868_162_500, 200 * S, 202 * S, 2_000_000)
    assert kept.flush()


@pytest.mark.parametrize("lost", ["ram", "card", None])
def test_the_next_process_knows(tmp_path: Path, lost: str | None) -> None:
    charged(tmp_path)
    if lost:
        (tmp_path / lost).unlink()
    assert memory(tmp_path).ledger(EU868, 300 * S, fresh=False).used_us(BAND_M, 300 * S) == 3_000_000


def test_the_next_boot_knows(tmp_path: Path) -> None:
    charged(tmp_path)
    (tmp_path / "ram").unlink()
    ledger = memory(tmp_path, NEXT_BOOT).ledger(EU868, 30 * S, fresh=False)
    assert ledger.used_us(BAND_M, 30 * S) == 3_000_000 + REBOOT_US
    assert ledger.used_us(BAND_M, 3661 * S) == 0


@pytest.mark.parametrize(
    "damage", [b"", b"{", b"\xff\xfe", b'{"boot":1}', b'{"boot":"00","memory":"{"}', b"[" * 99_999]
)
def test_damage_is_no_licence_to_send(tmp_path: Path, damage: bytes) -> None:
    charged(tmp_path)
    (tmp_path / "ram").write_bytes(damage)
    assert memory(tmp_path).ledger(EU868, 300 * S, fresh=False).used_us(BAND_M, 300 * S) == 3_000_000
    (tmp_path / "card").write_bytes(damage)
    assert memory(tmp_path).ledger(EU868, 300 * S, fresh=False).used_us(BAND_M, 300 * S) == 36_000_000


def test_a_gateway_that_never_ran_has_sent_nothing(tmp_path: Path) -> None:
    assert memory(tmp_path).ledger(EU868, 0, fresh=True).used_us(BAND_M, 0) == 0
    assert memory(tmp_path).ledger(EU868, 0, fresh=False).used_us(BAND_M, 0) == 36_000_000


def test_a_folder_that_cannot_be_written_ends_nothing(tmp_path: Path) -> None:
    kept = AirtimeMemory(tmp_path / "no" / "ram", tmp_path / "no" / "card", BOOT)
    ledger = kept.ledger(EU868, 0, fresh=True)
    ledger.charge(868_037_500, 868_162_500, 0, S, 1_000_000)
    assert kept.flush()
    assert ledger.used_us(BAND_M, S) == 1_000_000


def test_a_killed_process_has_written_down_what_it_was_about_to_send(tmp_path: Path) -> None:
    program = f"""
import os, signal
from pathlib import Path
from drivers.plans import load_plan
from drivers.sx1302.remembrance import AirtimeMemory
folder = Path({str(tmp_path)!r})
ledger = AirtimeMemory(folder / "ram", folder / "card", bytes(16)).ledger(load_plan("eu868").transmit, 0, fresh=True)
ledger.charge(868_037_500, 868_162_500, 0, 1_000_000_000, 1_000_000)
os.kill(os.getpid(), signal.SIGKILL)
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    done = subprocess.run([sys.executable, "-c", program], env=environment, timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert memory(tmp_path).ledger(EU868, S, fresh=False).used_us(BAND_M, S) == 1_000_000
