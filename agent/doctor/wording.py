# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Numbers as a person says them."""

from __future__ import annotations

from typing import Final

_SPANS: Final = ((86_400, "days"), (3600, "hours"), (60, "minutes"))


def span(seconds: float) -> str:
    """Return a time, such as "3 hours"; below two minutes in seconds."""
    seconds = abs(seconds)
    for unit, name in _SPANS:
        if seconds >= 2 * unit:
            return f"{seconds / unit:,.0f} {name}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"


def room(count: float) -> str:
    """Return a number of bytes, such as "512 MB"."""
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.0f} MB"
