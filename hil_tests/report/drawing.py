# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Small drawings for the pages, as SVG: where a value lies between its limits, a line over another, a QR code."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Final

import segno

from agent.certificate import Value

BAR_WIDTH: Final = 120
COLOURS: Final = ("#1b4f8f", "#b35c00")
_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 640, 200, 46, 24

Line = tuple[str, tuple[tuple[float, float], ...]]


def margin(value: Value) -> float | None:
    """Return how far a value is from its nearest limit, as a share of the room: 1 in the middle, 0 at it, below beyond.

    None where there is no limit, or one alone from which nothing can be told (zero).
    """
    low, high, at = value.low, value.high, value.value
    if low is not None and high is not None:
        half = (high - low) / 2
        return (1.0 if at == low else -1.0) if half == 0 else 1 - abs(at - (low + half)) / half
    if high is not None:
        return (1.0 if at <= 0 else -1.0) if high == 0 else (high - at) / abs(high)
    if low is not None:
        return (1.0 if at >= 0 else -1.0) if low == 0 else (at - low) / abs(low)
    return None


def bar(value: Value) -> str:
    """Draw it: the more of the bar is filled, the farther is the value from its limit."""
    room = margin(value)
    if room is None:
        return ""
    share = min(max(room, 0.0), 1.0)
    colour = "#a8201a" if room < 0 else "#8a5a00" if room < 0.1 and not _exact(value) else "#17693a"
    filled = BAR_WIDTH if room < 0 or _exact(value) else max(share * BAR_WIDTH, 2)
    words = "beyond its limit" if room < 0 else "exact" if _exact(value) else f"{min(room, 1):.0%} of the room left"
    return (
        f'<svg class="bar" viewBox="0 0 {BAR_WIDTH} 10" role="img" aria-label="{words}"><title>{words}</title>'
        f'<rect width="{BAR_WIDTH}" height="10" fill="#e4e7ec"/>'
        f'<rect width="{filled:.1f}" height="10" fill="{colour}"/></svg>'
    )


def _exact(value: Value) -> bool:
    """Say whether it must be, and is, exactly at its limit, so that no margin could be left: a count of errors."""
    return value.value in {value.low, value.high} and value.high in {0, value.low, None}


def chart(lines: Sequence[Line]) -> str:
    """Draw lines over each other, with the ends of both axes and a key."""
    points = [point for _, line in lines for point in line]
    if not points:
        return ""
    (x0, x1), (y0, y1) = ((min(axis), max(axis)) for axis in zip(*points, strict=True))
    spread = max(y1 - y0, 2.0)
    y0, y1 = y0 - spread * 0.1, y1 + spread * 0.1

    def place(point: tuple[float, float]) -> str:
        x = _LEFT + (point[0] - x0) / ((x1 - x0) or 1) * (_WIDTH - _LEFT - 10)
        y = (_HEIGHT - _BOTTOM) - (point[1] - y0) / (y1 - y0) * (_HEIGHT - _BOTTOM - 10)
        return f"{x:.1f},{y:.1f}"

    drawn = [
        f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT + 16 * len(lines)}" role="img">',
        f'<path d="M{_LEFT} 4V{_HEIGHT - _BOTTOM}H{_WIDTH - 6}" fill="none" stroke="#5c6370"/>',
        *(f'<text x="{x}" y="{_HEIGHT - 8}" text-anchor="{where}">{at:g}</text>' for x, at, where in _ends(x0, x1)),
        f'<text x="{_LEFT - 5}" y="14" text-anchor="end">{y1:.0f}</text>',
        f'<text x="{_LEFT - 5}" y="{_HEIGHT - _BOTTOM}" text-anchor="end">{y0:.0f}</text>',
    ]
    for index, (name, line) in enumerate(lines):
        colour = COLOURS[index % len(COLOURS)]
        drawn.append(
            f'<polyline points="{" ".join(map(place, line))}" fill="none" stroke="{colour}" stroke-width="2"/>'
        )
        drawn += [
            f'<circle cx="{xy[0]}" cy="{xy[1]}" r="2.5" fill="{colour}"/>' for xy in (place(p).split(",") for p in line)
        ]
        y = _HEIGHT + 12 + 16 * index
        drawn.append(f'<rect x="{_LEFT}" y="{y - 8}" width="12" height="4" fill="{colour}"/>')
        drawn.append(f'<text x="{_LEFT + 18}" y="{y}">{escape(name)}</text>')
    return "".join([*drawn, "</svg>"])


def _ends(low: float, high: float) -> tuple[tuple[float, float, str], ...]:
    return ((_LEFT, low, "start"), (_WIDTH - 8, high, "end"))


def code(text: str) -> str:
    """Draw a QR code."""
    drawn: str = segno.make(text, error="m", micro=False).svg_inline(border=4, omitsize=True)
    return drawn
