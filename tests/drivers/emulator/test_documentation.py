# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The page on the emulator names every request, every key, every fault and every option there is."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from agent.cli import emulate
from drivers.emulator import control
from drivers.emulator.faults import KINDS

PAGE = (Path(__file__).parents[3] / "docs" / "emulator.md").read_text(encoding="utf-8")
CODE = set(re.findall(r"`([^`]+)`", re.sub(r"(?ms)^```.*?^```$", "", PAGE)))


def test_every_request_is_described() -> None:
    assert set(re.findall(r'"cmd":"(\w+)"', PAGE)) == set(control.COMMANDS)


def test_every_key_of_a_packet_is_described() -> None:
    assert control.PACKET_KEYS - {"cmd"} <= CODE


def test_every_fault_is_described_with_its_parameters_and_defaults() -> None:
    section = PAGE[PAGE.index("### Faults") : PAGE.index("## How honest")]
    rows = [line.split("|") for line in section.splitlines() if line.startswith("| `")]
    described: dict[str, set[str]] = {}
    for row in rows:
        for kind in re.findall(r"`(\w+)`", row[1]):
            described[kind] = set(re.findall(r"`(\w+)` \(", row[2]))
    assert described == {kind: set(entry.parameters) for kind, entry in KINDS.items()}


def test_every_option_is_described() -> None:
    subparsers = argparse.ArgumentParser().add_subparsers()
    emulate.add_parser(subparsers)
    options = set(re.findall(r"--[a-z0-9-]+", subparsers.choices["emulate"].format_help()))
    assert options - {"--help"} <= set(re.findall(r"--[a-z0-9-]+", PAGE))
