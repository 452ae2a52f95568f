# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What is left of a request on the boot partition, seen by somebody who reads its sectors."""

from __future__ import annotations

from pathlib import Path

from agent.provisioning.boot import BootPartition


def test_nothing_of_the_secrets_stays_where_the_file_lay(tmp_path: Path) -> None:
    """A second name shows what a name that is gone would hide: it is FAT, and freed sectors can be read."""
    boot, sectors = tmp_path / "boot", tmp_path / "sectors"
    boot.mkdir()
    asked = boot / "civigate.toml"
    asked.write_text('claim = "7K9Q-2MXT-04BV-H3R2"\n')
    sectors.hardlink_to(asked)
    BootPartition(boot).publish("# WORKING\n")
    assert asked.read_bytes() == b"# WORKING\r\n"
    assert set(sectors.read_bytes()) == {0}


def test_a_new_file_beside_the_outcome_of_the_last_is_read_and_leaves(tmp_path: Path) -> None:
    """A laptop that hides the ends of names puts the second try beside the first."""
    boot, sectors = tmp_path / "boot", tmp_path / "sectors"
    boot.mkdir()
    (boot / "civigate.toml").write_text('[result]\nstage = "refused"\n')
    again = boot / "civigate.toml.txt"
    again.write_text('[provision]\nclaim = "7K9Q-2MXT-04BV-H3R2"\n')
    sectors.hardlink_to(again)
    partition = BootPartition(boot)
    assert partition.request() == again
    partition.publish("# WORKING\n")
    assert [path.name for path in boot.iterdir()] == ["civigate.toml"]
    assert (boot / "civigate.toml").read_bytes() == b"# WORKING\r\n"
    assert set(sectors.read_bytes()) == {0}


def test_a_file_with_a_hidden_end_is_answered_under_its_name(tmp_path: Path) -> None:
    (tmp_path / "Civigate.toml.txt").write_text("[provision]\n")
    BootPartition(tmp_path).publish("# WORKING\n")
    assert [path.name for path in tmp_path.iterdir()] == ["Civigate.toml.txt"]
