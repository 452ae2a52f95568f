# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What was sent is known to the next process, and after a power cut; who does not know does not send."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from drivers.plans import load_plan
from drivers.sx1302 import remembrance
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
    kept = memory(tmp_path)
    assert kept.ledger(EU868, 300 * S, fresh=False).used_us(BAND_M, 300 * S) == 3_000_000
    assert kept.flush()
    kept = memory(tmp_path)
    kept.ledger(EU868, 300 * S, fresh=False)
    assert kept.flush()
    (tmp_path / "ram").write_bytes(damage)
    (tmp_path / "card").write_bytes(damage)
    assert memory(tmp_path).ledger(EU868, 300 * S, fresh=False).used_us(BAND_M, 300 * S) == 36_000_000


def test_a_gateway_that_never_ran_has_sent_nothing(tmp_path: Path) -> None:
    assert memory(tmp_path / "new").ledger(EU868, 0, fresh=True).used_us(BAND_M, 0) == 0
    assert memory(tmp_path / "old").ledger(EU868, 0, fresh=False).used_us(BAND_M, 0) == 36_000_000


def test_a_gateway_that_sent_nothing_knows_that_after_a_restart(tmp_path: Path) -> None:
    first = memory(tmp_path)
    first.ledger(EU868, 0, fresh=True)
    assert first.flush()
    assert memory(tmp_path).ledger(EU868, 50 * S, fresh=False).used_us(BAND_M, 50 * S) == 0


def test_what_is_old_is_not_new_again_after_each_power_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remembrance, "QUIET_S", 0.01)
    ledger = memory(tmp_path).ledger(EU868, 30 * S, fresh=False)
    ledger.charge(868_037_500, 868_162_500, 30 * S, 31 * S, 1_000_000)
    until(lambda: card_says(tmp_path, 0))
    (tmp_path / "ram").unlink()
    after = memory(tmp_path, NEXT_BOOT).ledger(EU868, 30 * S, fresh=False)
    assert after.used_us(BAND_M, 30 * S) == REBOOT_US


def card_says(folder: Path, used_us: int) -> bool:
    """Say whether the file on the card has so much airtime."""
    told = json.loads((folder / "card").read_text()) if (folder / "card").exists() else {"memory": "{}"}
    ranges = json.loads(told["memory"]).get("ranges", ())
    return bool(ranges) and sum(us for _, _, account in ranges for _, us in account) == used_us


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "waited 30 seconds in vain"
        time.sleep(0.002)


def test_what_is_assumed_is_not_assumed_anew_with_each_restart(tmp_path: Path) -> None:
    for now_s in (0, 1000, 2000):
        ledger = memory(tmp_path).ledger(EU868, now_s * S, fresh=False)
        assert ledger.used_us(BAND_M, now_s * S) == 36_000_000
    assert ledger.used_us(BAND_M, 3661 * S) == 0


def test_a_folder_that_cannot_be_written_ends_nothing(tmp_path: Path) -> None:
    (tmp_path / "no").write_text("a file where a folder should be")
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
