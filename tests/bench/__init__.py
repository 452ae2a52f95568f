# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Measurements: each module measures one part and returns rows. Nothing here asserts; `make bench` prints."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """One measured value.

    Attributes:
        part: what was measured: "path", "spool", "format", "radio", "gnss", "emulator", "local".
        name: of the value.
        value: measured, in `unit`.
        unit: "frames/s", "bytes/frame", "MB", ...
        against: the peer or limit it is compared with, measured in the same run where it can run here; "" for none.
        against_value: its value in the same unit, None for none.
    """

    part: str
    name: str
    value: float
    unit: str
    against: str = ""
    against_value: float | None = None

    @property
    def ratio(self) -> float | None:
        """Value divided by what it is compared with."""
        return self.value / self.against_value if self.against_value else None
