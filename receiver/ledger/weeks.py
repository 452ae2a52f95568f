# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Weeks, in which frames are kept and forgotten together: from Monday 00:00 UTC, by when they were received here."""

from __future__ import annotations

from datetime import UTC, datetime

DAY_US = 86_400_000_000
WEEK_US = 7 * DAY_US
_FIRST_MONDAY_US = 4 * DAY_US
"""1970-01-05; the days before belong to a week of which the most lies in 1969."""


def begin_of_week(at_us: int) -> int:
    """Return the begin of the week of a moment, microseconds since 1970-01-01 UTC."""
    return at_us - (at_us - _FIRST_MONDAY_US) % WEEK_US


def partition(begin_us: int) -> str:
    """Name the table with the frames of a week."""
    return f"frame_{datetime.fromtimestamp(begin_us / 1e6, UTC):%Y%m%d}"
