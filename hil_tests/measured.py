# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Measured values with their limits: a test states both at once, and the report shows both."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Final

VALUE: Final = "hil-value"
"""Name of the properties that carry them from a test to the report."""
FACT: Final = "hil-fact"
"""The same for what is found out about the board."""
EMULATED: Final = "emulated chip"
"""The fact that makes a run a simulated one."""

LINE: Final = "hil-line"
"""The same for a line to be drawn."""


@dataclass(frozen=True, slots=True)
class Value:
    """One measured value.

    Attributes:
        name: what was measured, e.g. "RSSI error, worst".
        value: how much.
        unit: of it, and of the limits; empty for a count.
        low, high: limits, both inclusive; None where there is none.
    """

    name: str
    value: float
    unit: str
    low: float | None
    high: float | None

    @property
    def within(self) -> bool:
        """Say whether it is within its limits."""
        return (self.low is None or self.value >= self.low) and (self.high is None or self.value <= self.high)

    def __str__(self) -> str:
        if self.low is not None and self.high is not None:
            allowed = f"{self.low:g} to {self.high:g}"
        elif self.high is not None:
            allowed = f"at most {self.high:g}"
        else:
            allowed = "anything" if self.low is None else f"at least {self.low:g}"
        return f"{self.name}: {f'{self.value:g} {self.unit}'.strip()}, allowed {f'{allowed} {self.unit}'.strip()}"


class Measure:
    """Holds values against their limits, and keeps them.

    Args:
        keep: takes a name and a text, as pytest's `record_property`.
    """

    def __init__(self, keep: Callable[[str, object], None]) -> None:
        self._keep = keep

    def __call__(
        self, name: str, value: float, unit: str = "", *, low: float | None = None, high: float | None = None
    ) -> None:
        """Keep a value, then see that it is within its limits.

        Raises:
            AssertionError: it is not.
        """
        one = Value(name, round(float(value), 6), unit, low, high)
        self._keep(VALUE, json.dumps(asdict(one)))
        assert one.within, str(one)

    def line(self, name: str, points: Sequence[tuple[float, float]]) -> None:
        """Keep a line to be drawn: pairs of x and y."""
        self._keep(LINE, json.dumps([name, [[float(x), round(float(y), 3)] for x, y in points]]))

    def fact(self, name: str, value: str) -> None:
        """Keep something that was found out about the board, such as its EUI."""
        self._keep(FACT, json.dumps([name, value]))
