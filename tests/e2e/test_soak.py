# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The short form of `make soak`."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from tests.e2e.soak import soak

KILLS = 10


@pytest.mark.timeout(900)
def test_ten_kills_anywhere_lose_and_double_nothing() -> None:
    with tempfile.TemporaryDirectory(prefix="cg-") as folder:
        report = soak(Path(folder), kills=KILLS, rate_hz=8.0, seed=3, tell=print)

    assert report.good, report
    assert report.kills == KILLS
    assert report.while_starting
    assert report.while_receiving
    assert report.verdict.delivered > KILLS
