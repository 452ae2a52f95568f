# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Access to recorded data of Semtech's software: vectors, traces, register states (tests/data/sx1302)."""

from __future__ import annotations

import csv
import json
import lzma
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "data" / "sx1302"


@dataclass(frozen=True, slots=True)
class SpiFrame:
    """One recorded chip select."""

    mosi: bytes
    miso: bytes


def _text(name: str) -> str:
    return lzma.decompress((FOLDER / f"{name}.xz").read_bytes()).decode()


def vectors(name: str) -> list[dict[str, str]]:
    """Rows of a table of inputs and outputs."""
    return list(csv.DictReader(_text(name).splitlines()))


@cache
def trace(name: str, device: str = "spidev0.0") -> tuple[SpiFrame, ...]:
    """SPI frames to the concentrator (or spidev0.1, the SX1261) in a recorded run, without the firmware bodies."""
    rows = map(json.loads, _text(f"hal_trace_{name}.jsonl").splitlines())
    return tuple(
        SpiFrame(bytes.fromhex(row["mosi"]), bytes.fromhex(row["miso"]))
        for row in rows
        if row.get("dev") == device and "mosi" in row and "miso" in row
    )


@cache
def registers_after_start(configuration: str) -> dict[int, int]:
    """Register bytes that differ from reset right after the vendor's software has started the chip."""
    state = json.loads(_text("register_state_after_start.json"))["states"][configuration]
    return {int(a, 16): byte for a, byte in state["registers_different_from_reset"].items()}
