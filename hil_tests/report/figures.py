# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Measured values and their limits in words, the same on every page."""

from __future__ import annotations

from typing import Final

from agent.certificate import Value

_UNITS: Final = {"us": "µs", "degC": "°C"}


def figure(value: float) -> str:
    """Write a number with four figures, large ones whole."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def measured(value: Value) -> str:
    """Write what was measured, with its unit."""
    return f"{figure(value.value)} {_unit(value)}".strip()


def allowed(value: Value) -> str:
    """Write what it may be, with its unit; empty where there is no limit."""
    low, high = value.low, value.high
    if low is not None and high is not None:
        said = figure(low) if low == high else f"{figure(low)} to {figure(high)}"
    elif high is not None:
        said = "none" if high == 0 else f"at most {figure(high)}"
    elif low is not None:
        said = f"at least {figure(low)}"
    else:
        return ""
    return f"{said} {_unit(value)}".strip()


def within(value: Value) -> bool:
    """Say whether it is within its limits."""
    return (value.low is None or value.value >= value.low) and (value.high is None or value.value <= value.high)


def _unit(value: Value) -> str:
    return _UNITS.get(value.unit, value.unit)
