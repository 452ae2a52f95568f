# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The short form of the fleet; `make soak` has the long one."""

from __future__ import annotations

import pytest

from tests.e2e.fleet import fleet


@pytest.mark.timeout(600)
def test_fifty_gateways_three_receivers_one_database_and_kills() -> None:
    with fleet(gateways=50, tell=print) as made:
        report = made.run(kills=2, server_kills=1, batches=180)
    assert report.good, report
    assert report.batches >= 150
    assert (report.kills, report.server_kills) == (2, 1)
    assert report.sent >= report.batches, "what was on its way at a kill is sent again"
